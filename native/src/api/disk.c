/* Open, Close, Read, Write and Flush: handles, and data in and out of them. */
#include "api/disk.h"

#include "api/connection.h"
#include "api/settings.h"
#include "chain/lock.h"
#include "lab/site_map.h"
#include "os/log.h"
#include "os/request_threads.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x56524431u /* VRD1 */

VixError vr_disk_check(const vr_disk *disk)
{
   return disk && disk->magic == MAGIC && !disk->attached ? VIX_OK : VIX_E_INVALID_HANDLE;
}

static VixError check_range(const vr_disk *disk, uint64_t sector, uint64_t sectors)
{
   uint64_t end;
   return __builtin_add_overflow(sector, sectors, &end) || end > disk->leaf->capacity
      ? VIX_E_DISK_OUTOFRANGE
      : VIX_OK;
}

VixError vr_disk_check_request(const vr_disk *disk, bool write, uint64_t sector, uint64_t sectors,
   const void *buf)
{
   VixError err = vr_disk_check(disk);
   if (err != VIX_OK) {
      return err;
   }
   if (!buf && sectors) {
      return VIX_E_INVALID_ARG;
   }
   err = check_range(disk, sector, sectors);
   return err == VIX_OK && write && !disk->writable ? VIX_E_FILE_READ_ONLY : err;
}

VixError vr_disk_read(vr_disk *disk, uint64_t sector, uint64_t sectors, uint8_t *buf)
{
   pthread_rwlock_rdlock(&disk->use);
   VixError err = vr_link_read(disk->leaf, sector, sectors, buf);
   pthread_rwlock_unlock(&disk->use);
   return err;
}

VixError vr_disk_write(vr_disk *disk, uint64_t sector, uint64_t sectors, const uint8_t *buf)
{
   pthread_rwlock_wrlock(&disk->use);
   VixError err = disk->host ? vr_lab_host_before_write(disk->host, disk->leaf, sector, sectors)
                             : VIX_OK;
   if (err == VIX_OK) {
      err = vr_link_write(disk->leaf, sector, sectors, buf);
   }
   pthread_rwlock_unlock(&disk->use);
   return err;
}

VixError vr_disk_path(VixDiskLibConnection connection, const char *path, char **local,
   char **beneath)
{
   *beneath = NULL;
   *local = NULL;
   if (!path || !*path) {
      return VIX_E_INVALID_ARG;
   }
   if (connection->vim) {
      return VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT;
   }
   if (connection->remote) {
      return vr_site_map_resolve(vr_settings_get()->lab_root, connection->server, connection->port,
         path, beneath, local);
   }
   *local = strdup(path);
   return *local ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

static void disk_free(vr_disk *disk)
{
   vr_lab_host_close(disk->host);
   pthread_rwlock_destroy(&disk->use);
   disk->magic = 0;
   free(disk);
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
   char *local;
   char *beneath;
   err = vr_disk_path(connection, path, &local, &beneath);
   if (err != VIX_OK) {
      return err;
   }
   vr_link_options options = {
      .writable = !connection->read_only && !(flags & VIXDISKLIB_FLAG_OPEN_READ_ONLY),
      .single = flags & VIXDISKLIB_FLAG_OPEN_SINGLE_LINK,
      .refuse_locked = connection->remote,
      .outside = vr_settings_get()->outside_extents,
      .beneath = beneath,
   };
   vr_disk *disk = calloc(1, sizeof *disk);
   if (!disk) {
      err = VIX_E_OUT_OF_MEMORY;
   } else {
      pthread_rwlock_init(&disk->use, NULL);
      disk->magic = MAGIC;
      disk->writable = options.writable;
      disk->mode = connection->mode;
      err = vr_link_open(local, &options, &disk->leaf);
      if (err == VIX_OK && beneath && options.writable) {
         disk->host = vr_lab_host_open(beneath, disk->leaf);
         err = disk->host ? VIX_OK : VIX_E_OUT_OF_MEMORY;
      }
      if (err == VIX_OK) {
         *diskHandle = disk;
      } else {
         vr_link_close(disk->leaf);
         vr_warn("%s cannot be opened: error %u\n", path, (unsigned)VIX_ERROR_CODE(err));
         disk_free(disk);
      }
   }
   free(local);
   free(beneath);
   return err;
}

VixError VixDiskLib_Close(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK) {
      return err;
   }
   vr_requests_wait(&diskHandle->requests);
   err = diskHandle->writable ? vr_link_flush(diskHandle->leaf) : VIX_OK;
   VixError closed = vr_link_close(diskHandle->leaf);
   for (vr_disk *parent = diskHandle->attached_parents; parent;) {
      vr_disk *next = parent->attached_parents;
      disk_free(parent);
      parent = next;
   }
   disk_free(diskHandle);
   return err != VIX_OK ? err : closed;
}

const char *VixDiskLib_GetTransportMode(VixDiskLibHandle diskHandle)
{
   return vr_disk_check(diskHandle) == VIX_OK ? diskHandle->mode : NULL;
}

VixError VixDiskLib_Read(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, uint8_t *readBuffer)
{
   VixError err = vr_disk_check_request(diskHandle, false, startSector, numSectors, readBuffer);
   return err == VIX_OK ? vr_disk_read(diskHandle, startSector, numSectors, readBuffer) : err;
}

VixError VixDiskLib_Write(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, const uint8_t *writeBuffer)
{
   VixError err = vr_disk_check_request(diskHandle, true, startSector, numSectors, writeBuffer);
   return err == VIX_OK && numSectors
      ? vr_disk_write(diskHandle, startSector, numSectors, writeBuffer)
      : err;
}

static VixError move_many(vr_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   VixError err = VIX_OK;
   for (*done = 0; *done < count; ++*done) {
      const vreplica_Piece *p = &pieces[*done];
      err = write ? VixDiskLib_Write(disk, p->startSector, p->numSectors, p->buffer)
                  : VixDiskLib_Read(disk, p->startSector, p->numSectors, p->buffer);
      if (err != VIX_OK) {
         break;
      }
   }
   return err;
}

VixError vreplica_ReadMany(VixDiskLibHandle diskHandle, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   return move_many(diskHandle, false, pieces, count, done);
}

VixError vreplica_WriteMany(VixDiskLibHandle diskHandle, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   return move_many(diskHandle, true, pieces, count, done);
}

VixError VixDiskLib_Flush(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK || !diskHandle->writable) {
      return err;
   }
   pthread_rwlock_rdlock(&diskHandle->use);
   err = vr_link_flush(diskHandle->leaf);
   pthread_rwlock_unlock(&diskHandle->use);
   return err;
}
