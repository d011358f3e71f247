/* Fuzzes packed fragments. The first two bytes of the input are the type and the size of what it
 * should hold; and what is packed here is the same when unpacked. */
#include "nfc/compress.h"
#include "nfc/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   if (bytes < 3) {
      return 0;
   }
   uint32_t type = data[0] % 5;
   size_t size = (data[1] % 8u + 1) * 512;
   uint8_t *out = malloc(size);
   uint8_t *copy = malloc(bytes - 2);
   if (out && copy) {
      memcpy(copy, data + 2, bytes - 2); /* so that reading beyond the end is seen */
      vr_unpack(type, copy, bytes - 2, out, size);
      uint8_t *packed = malloc(bytes);
      size_t filled = packed ? vr_pack(type, copy, bytes - 2, packed) : 0;
      if (filled) {
         uint8_t *back = malloc(bytes - 2);
         if (filled >= bytes - 2
            || (back && (!vr_unpack(type, packed, filled, back, bytes - 2)
                     || memcmp(back, copy, bytes - 2)))) {
            abort();
         }
         free(back);
      }
      free(packed);
   }
   free(copy);
   free(out);
   return 0;
}
