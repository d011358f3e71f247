/* Open, Close, Read, Write and Flush: handles, and data in and out of them. */
#include "api/disk.h"

#include "os/log.h"

#include <stdlib.h>

#define MAGIC 0x56524431u /* VRD1 */

VixError vr_disk_check(const vr_disk *disk)
{
   return disk && disk->magic == MAGIC && !disk->attached ? VIX_OK : VIX_E_INVALID_HANDLE;
}

VixError vr_disk_check_here(const vr_disk *disk)
{
   VixError err = vr_disk_check(disk);
   return err == VIX_OK && !disk->leaf ? VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT : err;
}

VixError vr_disk_check_request(const vr_disk *disk, bool write, const vreplica_Piece *piece)
{
   uint64_t end;
   VixError err = vr_disk_check(disk);
   if (err != VIX_OK) {
      return err;
   }
   if (!piece->buffer && piece->numSectors) {
      return VIX_E_INVALID_ARG;
   }
   if (__builtin_add_overflow(piece->startSector, piece->numSectors, &end)
      || end > disk->capacity) {
      return VIX_E_DISK_OUTOFRANGE;
   }
   return write && !disk->writable ? VIX_E_FILE_READ_ONLY : VIX_OK;
}

VixError VixDiskLib_Open(const VixDiskLibConnection connection, const char *path, uint32_t flags,
   VixDiskLibHandle *diskHandle)
{
   VixError err = vr_connection_check(connection);
   if (err != VIX_OK || !diskHandle) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   *diskHandle = NULL;
   if (!connection->trusted) {
      vr_warn("%s: the server's certificate is not the one expected\n", connection->server);
      return VIX_E_FAIL;
   }
   if (!path || !*path) {
      return VIX_E_INVALID_ARG;
   }
   vr_disk *disk = calloc(1, sizeof *disk);
   if (!disk) {
      return VIX_E_OUT_OF_MEMORY;
   }
   disk->magic = MAGIC;
   disk->writable = !connection->read_only && !(flags & VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   disk->mode = connection->mode;
   err = vr_connection_has_hosts(connection)
      ? vr_remote_disk_open(disk, connection, path, flags)
      : vr_local_disk_open(disk, connection, path, flags);
   if (err != VIX_OK) {
      vr_warn("%s cannot be opened: error %u\n", path, (unsigned)VIX_ERROR_CODE(err));
      free(disk);
      return err;
   }
   *diskHandle = disk;
   return VIX_OK;
}

VixError VixDiskLib_Close(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   if (err == VIX_OK) {
      err = diskHandle->ops->close(diskHandle);
      diskHandle->magic = 0;
      free(diskHandle);
   }
   return err;
}

const char *VixDiskLib_GetTransportMode(VixDiskLibHandle diskHandle)
{
   return vr_disk_check(diskHandle) == VIX_OK ? diskHandle->mode : NULL;
}

/* Moves the pieces before the first one that cannot be. */
static VixError move(vr_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   VixError wrong = VIX_OK;
   size_t good = 0;
   while (good < count && wrong == VIX_OK) {
      wrong = vr_disk_check_request(disk, write, &pieces[good]);
      good += wrong == VIX_OK;
   }
   *done = 0;
   VixError err = good ? disk->ops->move(disk, write, pieces, good, done) : VIX_OK;
   return err != VIX_OK ? err : wrong;
}

VixError VixDiskLib_Read(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, uint8_t *readBuffer)
{
   size_t done;
   return move(diskHandle, false, &(vreplica_Piece){startSector, numSectors, readBuffer}, 1, &done);
}

VixError VixDiskLib_Write(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, const uint8_t *writeBuffer)
{
   size_t done;
   vreplica_Piece piece = {startSector, numSectors, (uint8_t *)writeBuffer};
   return move(diskHandle, true, &piece, 1, &done);
}

VixError vreplica_ReadMany(VixDiskLibHandle diskHandle, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   return move(diskHandle, false, pieces, count, done);
}

VixError vreplica_WriteMany(VixDiskLibHandle diskHandle, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   return move(diskHandle, true, pieces, count, done);
}

VixError VixDiskLib_Flush(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   return err == VIX_OK && diskHandle->writable ? diskHandle->ops->flush(diskHandle) : err;
}
