/* Fuzzes the header and grain tables of a vmfsSparse extent. */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   return vr_fuzz_extent("VMFSSPARSE", data, bytes);
}
