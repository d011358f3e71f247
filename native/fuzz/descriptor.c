/* Fuzzes descriptors: one that parses can be changed and rendered, and parses to the same again. */
#include "chain/descriptor.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   vr_descriptor first;
   vr_descriptor second;
   if (vr_descriptor_parse((const char *)data, bytes, &first) != VIX_OK) {
      return 0;
   }
   free(vr_descriptor_get(&first, "ddb.adapterType"));
   size_t extents = first.extent_count;
   uint64_t capacity = first.capacity;
   if (vr_descriptor_set_cid(&first, "CID", 0x12345678) != VIX_OK
      || vr_descriptor_set(&first, "ddb.fuzz", "value", true) != VIX_OK) {
      abort();
   }
   size_t length;
   char *text = vr_descriptor_text(&first, &length);
   if (!text || vr_descriptor_parse(text, length, &second) != VIX_OK) {
      abort();
   }
   if (second.cid != 0x12345678 || second.extent_count != extents || second.capacity != capacity
      || second.parent_cid != first.parent_cid) {
      abort();
   }
   free(text);
   vr_descriptor_free(&first);
   vr_descriptor_free(&second);
   return 0;
}
