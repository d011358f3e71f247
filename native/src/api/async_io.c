/* ReadAsync, WriteAsync and Wait: reads and writes that the library's threads carry out. */
#include "api/disk.h"

static VixError submit(vr_disk *disk, bool write, const vreplica_Piece *piece,
   VixDiskLibCompletionCB callback, void *data)
{
   VixError err = vr_disk_check_request(disk, write, piece);
   if (err != VIX_OK || !callback) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   return disk->ops->submit(disk, write, piece, callback, data);
}

VixError VixDiskLib_ReadAsync(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, uint8_t *readBuffer, VixDiskLibCompletionCB callback,
   void *cbData)
{
   vreplica_Piece piece = {startSector, numSectors, readBuffer};
   return submit(diskHandle, false, &piece, callback, cbData);
}

VixError VixDiskLib_WriteAsync(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, const uint8_t *writeBuffer, VixDiskLibCompletionCB callback,
   void *cbData)
{
   vreplica_Piece piece = {startSector, numSectors, (uint8_t *)writeBuffer};
   return submit(diskHandle, true, &piece, callback, cbData);
}

VixError VixDiskLib_Wait(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   if (err == VIX_OK) {
      diskHandle->ops->wait(diskHandle);
   }
   return err;
}
