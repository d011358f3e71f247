/* ReadAsync, WriteAsync and Wait: reads and writes that the library's threads carry out. */
#include "api/disk.h"
#include "os/request_threads.h"

#include <stdlib.h>

typedef struct {
   vr_request base; /* first: the threads know this part only */
   vr_disk *disk;
   uint64_t sector;
   uint64_t sectors;
   uint8_t *buf; /* read from by a write */
   VixDiskLibCompletionCB callback;
   void *data;
   VixError result;
} io_request;

static void run_read(vr_request *request)
{
   io_request *io = (io_request *)request;
   io->result = vr_disk_read(io->disk, io->sector, io->sectors, io->buf);
}

static void run_write(vr_request *request)
{
   io_request *io = (io_request *)request;
   io->result = vr_disk_write(io->disk, io->sector, io->sectors, io->buf);
}

static void complete(vr_request *request)
{
   io_request *io = (io_request *)request;
   io->callback(io->data, io->result);
   free(io);
}

/* Reads of one handle run together; a write runs alone. */
static VixError submit(const io_request *io, bool write)
{
   VixError err = vr_disk_check_request(io->disk, write, io->sector, io->sectors, io->buf);
   if (err != VIX_OK || !io->callback) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   io_request *queued = malloc(sizeof *queued);
   if (!queued) {
      return VIX_E_OUT_OF_MEMORY;
   }
   *queued = *io;
   queued->base = (vr_request){
      .owner = &io->disk->requests,
      .shares = !write,
      .run = write ? run_write : run_read,
      .ended = complete,
   };
   err = vr_requests_submit(&queued->base);
   if (err != VIX_ASYNC) {
      free(queued);
   }
   return err;
}

VixError VixDiskLib_ReadAsync(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, uint8_t *readBuffer, VixDiskLibCompletionCB callback,
   void *cbData)
{
   io_request io = {
      .disk = diskHandle,
      .sector = startSector,
      .sectors = numSectors,
      .buf = readBuffer,
      .callback = callback,
      .data = cbData,
   };
   return submit(&io, false);
}

VixError VixDiskLib_WriteAsync(VixDiskLibHandle diskHandle, VixDiskLibSectorType startSector,
   VixDiskLibSectorType numSectors, const uint8_t *writeBuffer, VixDiskLibCompletionCB callback,
   void *cbData)
{
   io_request io = {
      .disk = diskHandle,
      .sector = startSector,
      .sectors = numSectors,
      .buf = (uint8_t *)writeBuffer,
      .callback = callback,
      .data = cbData,
   };
   return submit(&io, true);
}

VixError VixDiskLib_Wait(VixDiskLibHandle diskHandle)
{
   VixError err = vr_disk_check(diskHandle);
   if (err == VIX_OK) {
      vr_requests_wait(&diskHandle->requests);
   }
   return err;
}
