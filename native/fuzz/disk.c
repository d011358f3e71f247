/* Fuzzes a whole disk in one file: header, descriptor and tables. */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   return vr_fuzz_disk(data, bytes);
}
