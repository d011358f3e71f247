#include "api/block_list.h"

#include "os/bytes.h"

#include <stdlib.h>

static VixDiskLibBlockList *sized(VixDiskLibBlockList *list, size_t room)
{
   return realloc(list, offsetof(VixDiskLibBlockList, blocks) + room * sizeof(VixDiskLibBlock));
}

VixError vr_block_list_init(vr_block_list *b, uint64_t chunk, uint64_t end)
{
   *b = (vr_block_list){.room = 16, .chunk = chunk, .end = end};
   b->list = sized(NULL, b->room);
   if (!b->list) {
      return VIX_E_OUT_OF_MEMORY;
   }
   b->list->numBlocks = 0;
   return VIX_OK;
}

VixError vr_block_list_add(vr_block_list *b, uint64_t sector, uint64_t sectors)
{
   uint64_t start = sector / b->chunk * b->chunk;
   uint64_t end = vr_min(vr_round_up(sector + sectors, b->chunk), b->end);
   uint32_t count = b->list->numBlocks;
   if (count) {
      VixDiskLibBlock *last = &b->list->blocks[count - 1];
      if (start <= last->offset + last->length) {
         if (end > last->offset + last->length) {
            last->length = end - last->offset;
         }
         return VIX_OK;
      }
   }
   if (count == b->room) {
      VixDiskLibBlockList *grown = sized(b->list, b->room * 2);
      if (!grown) {
         return VIX_E_OUT_OF_MEMORY;
      }
      b->list = grown;
      b->room *= 2;
   }
   b->list->blocks[count] = (VixDiskLibBlock){start, end - start};
   b->list->numBlocks = count + 1;
   return VIX_OK;
}
