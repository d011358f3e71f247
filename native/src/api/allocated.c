/* QueryAllocatedBlocks: lists the blocks that a disk holds. */
#include "api/disk.h"
#include "os/bytes.h"

#include <stdlib.h>

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
   if (startSector >= diskHandle->capacity) {
      return VIX_E_DISK_OUTOFRANGE;
   }
   /* A last chunk may be short. */
   uint64_t sectors = vr_min(numSectors, diskHandle->capacity - startSector);
   vr_block_list b;
   err = vr_block_list_init(&b, chunkSize, startSector + sectors);
   if (err == VIX_OK) {
      err = diskHandle->ops->allocated(diskHandle, startSector, sectors, &b);
   }
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
