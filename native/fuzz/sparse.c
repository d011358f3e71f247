/* Fuzzes the header, grain tables and markers of a sparse extent. */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   return vr_fuzz_extent("SPARSE", data, bytes);
}
