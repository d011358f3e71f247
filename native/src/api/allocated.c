/* QueryAllocatedBlocks: lists the blocks that a chain holds, from its tables alone. */
#include "api/disk.h"
#include "os/bytes.h"

#include <stdlib.h>

typedef struct {
   VixDiskLibBlockList *list;
   size_t room;
   uint64_t chunk;
   uint64_t end; /* of the request */
} builder;

static VixDiskLibBlockList *sized(VixDiskLibBlockList *list, size_t room)
{
   return realloc(list, offsetof(VixDiskLibBlockList, blocks) + room * sizeof(VixDiskLibBlock));
}

/* Adds a stretch, rounded out to chunks and joined to the one before. Stretches come in order. */
static VixError add(builder *b, uint64_t sector, uint64_t sectors)
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

static VixError walk(vr_link *link, bool single, uint64_t sector, uint64_t sectors, builder *b)
{
   VixError err = VIX_OK;
   while (err == VIX_OK && link && sectors && sector < link->capacity) {
      vr_run run;
      err = vr_link_map(link, sector, sectors, true, &run);
      if (err != VIX_OK) {
         break;
      }
      if (run.kind == VR_HOLE) {
         err = walk(link->parent, false, sector, run.sectors, b);
      } else if (run.kind != VR_ZERO || single) {
         err = add(b, sector, run.sectors); /* in a link opened alone, zeros hide the parent */
      }
      sector += run.sectors;
      sectors -= run.sectors;
   }
   return err;
}

VixError VixDiskLib_QueryAllocatedBlocks(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors,
   VixDiskLibSectorType chunkSize, VixDiskLibBlockList **blockList)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK) {
      return err;
   }
   if (!blockList || chunkSize < VIXDISKLIB_MIN_CHUNK_SIZE || chunkSize > VIXDISKLIB_MAX_CHUNK_SIZE
      || startSector % chunkSize || numSectors % chunkSize || !numSectors
      || numSectors / chunkSize > VIXDISKLIB_MAX_CHUNK_NUMBER) {
      return VIX_E_INVALID_ARG;
   }
   *blockList = NULL;
   uint64_t capacity = diskHandle->leaf->capacity;
   if (startSector >= capacity) {
      return VIX_E_DISK_OUTOFRANGE;
   }
   uint64_t sectors = vr_min(numSectors, capacity - startSector); /* a last chunk may be short */
   builder b = {.room = 16, .chunk = chunkSize, .end = startSector + sectors};
   b.list = sized(NULL, b.room);
   if (!b.list) {
      return VIX_E_OUT_OF_MEMORY;
   }
   b.list->numBlocks = 0;
   pthread_rwlock_rdlock(&diskHandle->use);
   err = walk(diskHandle->leaf, diskHandle->leaf->single, startSector, sectors, &b);
   pthread_rwlock_unlock(&diskHandle->use);
   if (err != VIX_OK) {
      free(b.list);
      return err;
   }
   *blockList = b.list;
   return VIX_OK;
}

VixError VixDiskLib_FreeBlockList(VixDiskLibBlockList *blockList)
{
   free(blockList);
   return VIX_OK;
}
