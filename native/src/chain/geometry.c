#include "chain/geometry.h"

#include "os/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

VixDiskLibGeometry vr_geometry(uint64_t capacity, const char *adapter)
{
   VixDiskLibGeometry g = {.cylinders = 65535, .heads = 255, .sectors = 63};
   if (adapter && !strcasecmp(adapter, "ide")) {
      g.heads = 16;
      g.cylinders = 16383;
   } else if (capacity < 1ull << 21) {
      g.heads = 64;
      g.sectors = 32;
   } else if (capacity < 1ull << 22) {
      g.heads = 128;
      g.sectors = 32;
   }
   g.cylinders = (uint32_t)vr_min(vr_ceil_div(capacity, g.heads * g.sectors), g.cylinders);
   return g;
}

VixError vr_geometry_store(vr_descriptor *d, uint64_t capacity)
{
   char *adapter = vr_descriptor_get(d, "ddb.adapterType");
   VixDiskLibGeometry g = vr_geometry(capacity, adapter);
   free(adapter);
   const struct {
      const char *key;
      uint32_t value;
   } entries[] = {
      {"ddb.geometry.cylinders", g.cylinders},
      {"ddb.geometry.heads", g.heads},
      {"ddb.geometry.sectors", g.sectors},
   };
   for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
      char text[16];
      snprintf(text, sizeof text, "%u", entries[i].value);
      VixError err = vr_descriptor_set(d, entries[i].key, text, true);
      if (err != VIX_OK) {
         return err;
      }
   }
   return VIX_OK;
}
