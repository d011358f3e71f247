#include "nfc/written.h"

#include <stdlib.h>

#define BLOCK 65536u
#define BLOCKS_PER_PAGE 16384u
#define PAGE_BYTES ((uint64_t)BLOCK * BLOCKS_PER_PAGE)

bool vr_written_init(vr_written *w, uint64_t capacity_bytes)
{
   w->any = false;
   w->count = (size_t)(capacity_bytes / PAGE_BYTES + 1);
   w->pages = calloc(w->count, sizeof *w->pages);
   return w->pages;
}

void vr_written_free(vr_written *w)
{
   for (size_t i = 0; w->pages && i < w->count; i++) {
      free(w->pages[i]);
   }
   free(w->pages);
   w->pages = NULL;
}

bool vr_written_mark(vr_written *w, uint64_t offset, uint64_t bytes)
{
   for (uint64_t block = offset / BLOCK; bytes && block <= (offset + bytes - 1) / BLOCK; block++) {
      uint64_t **page = &w->pages[block / BLOCKS_PER_PAGE];
      if (!*page) {
         *page = calloc(BLOCKS_PER_PAGE / 64, sizeof **page);
         if (!*page) {
            return false;
         }
      }
      (*page)[block % BLOCKS_PER_PAGE / 64] |= (uint64_t)1 << block % 64;
      w->any = true;
   }
   return true;
}

bool vr_written_has(const vr_written *w, uint64_t offset, uint64_t bytes)
{
   for (uint64_t block = offset / BLOCK; bytes && block <= (offset + bytes - 1) / BLOCK; block++) {
      const uint64_t *page = w->pages[block / BLOCKS_PER_PAGE];
      if (page && page[block % BLOCKS_PER_PAGE / 64] >> block % 64 & 1) {
         return true;
      }
   }
   return false;
}
