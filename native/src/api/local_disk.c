/* A disk here: a chain of VMDK files, read and written through its links. */
#include "api/disk.h"

#include "api/settings.h"
#include "lab/site_map.h"
#include "os/bytes.h"

#include <stdlib.h>
#include <string.h>

static VixError read_link(vr_disk *disk, const vreplica_Piece *piece)
{
   pthread_rwlock_rdlock(&disk->use);
   VixError err = vr_link_read(disk->leaf, piece->startSector, piece->numSectors, piece->buffer);
   pthread_rwlock_unlock(&disk->use);
   return err;
}

static VixError write_link(vr_disk *disk, const vreplica_Piece *piece)
{
   pthread_rwlock_wrlock(&disk->use);
   VixError err = disk->host
      ? vr_lab_host_before_write(disk->host, disk->leaf, piece->startSector, piece->numSectors)
      : VIX_OK;
   if (err == VIX_OK) {
      err = vr_link_write(disk->leaf, piece->startSector, piece->numSectors, piece->buffer);
   }
   pthread_rwlock_unlock(&disk->use);
   return err;
}

static VixError move_piece(vr_disk *disk, bool write, const vreplica_Piece *piece)
{
   return !write ? read_link(disk, piece) : piece->numSectors ? write_link(disk, piece) : VIX_OK;
}

static VixError move(vr_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   VixError err = VIX_OK;
   for (*done = 0; *done < count; ++*done) {
      err = move_piece(disk, write, &pieces[*done]);
      if (err != VIX_OK) {
         break;
      }
   }
   return err;
}

/* -- asynchronous: on the library's threads -- */

typedef struct {
   vr_request base; /* first: the threads know this part only */
   vr_disk *disk;
   bool write;
   vreplica_Piece piece;
   VixDiskLibCompletionCB callback;
   void *data;
   VixError result;
} io_request;

static void run(vr_request *request)
{
   io_request *io = (io_request *)request;
   io->result = move_piece(io->disk, io->write, &io->piece);
}

static void complete(vr_request *request)
{
   io_request *io = (io_request *)request;
   io->callback(io->data, io->result);
   free(io);
}

/* Reads of one handle run together; a write runs alone. */
static VixError submit(vr_disk *disk, bool write, const vreplica_Piece *piece,
   VixDiskLibCompletionCB callback, void *data)
{
   io_request *io = malloc(sizeof *io);
   if (!io) {
      return VIX_E_OUT_OF_MEMORY;
   }
   *io = (io_request){
      .base = {.owner = &disk->requests, .shares = !write, .run = run, .ended = complete},
      .disk = disk,
      .write = write,
      .piece = *piece,
      .callback = callback,
      .data = data,
   };
   VixError err = vr_requests_submit(&io->base);
   if (err != VIX_ASYNC) {
      free(io);
   }
   return err;
}

static void wait_for_requests(vr_disk *disk)
{
   vr_requests_wait(&disk->requests);
}

/* -- the rest -- */

static VixError flush(vr_disk *disk)
{
   pthread_rwlock_rdlock(&disk->use);
   VixError err = vr_link_flush(disk->leaf);
   pthread_rwlock_unlock(&disk->use);
   return err;
}

static VixError walk(vr_link *link, bool single, uint64_t sector, uint64_t sectors,
   vr_block_list *b)
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
         /* In a link opened alone, zeros hide the parent. */
         err = vr_block_list_add(b, sector, run.sectors);
      }
      sector += run.sectors;
      sectors -= run.sectors;
   }
   return err;
}

static VixError allocated(vr_disk *disk, uint64_t sector, uint64_t sectors, vr_block_list *blocks)
{
   pthread_rwlock_rdlock(&disk->use);
   VixError err = walk(disk->leaf, disk->leaf->single, sector, sectors, blocks);
   pthread_rwlock_unlock(&disk->use);
   return err;
}

static void release(vr_disk *disk)
{
   vr_lab_host_close(disk->host);
   pthread_rwlock_destroy(&disk->use);
}

void vr_local_disk_free(vr_disk *disk)
{
   release(disk);
   disk->magic = 0;
   free(disk);
}

static VixError close_disk(vr_disk *disk)
{
   vr_requests_wait(&disk->requests);
   VixError err = disk->writable ? vr_link_flush(disk->leaf) : VIX_OK;
   VixError closed = vr_link_close(disk->leaf);
   for (vr_disk *parent = disk->attached_parents; parent;) {
      vr_disk *next = parent->attached_parents;
      vr_local_disk_free(parent);
      parent = next;
   }
   release(disk);
   return err != VIX_OK ? err : closed;
}

static const vr_disk_ops local_ops = {
   .move = move,
   .submit = submit,
   .wait = wait_for_requests,
   .flush = flush,
   .allocated = allocated,
   .info = vr_chain_info,
   .metadata = vr_chain_metadata,
   .set_metadata = vr_chain_set_metadata,
   .metadata_keys = vr_chain_metadata_keys,
   .close = close_disk,
};

/* *local is the path here, *beneath the folder of its datastore (NULL for a local disk). Both are
 * the caller's to free. */
static VixError find_path(VixDiskLibConnection connection, const char *path, char **local,
   char **beneath)
{
   *beneath = NULL;
   *local = NULL;
   if (connection->remote) {
      return vr_site_map_resolve(vr_settings_get()->lab_root, connection->server, connection->port,
         path, beneath, local);
   }
   *local = strdup(path);
   return *local ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

VixError vr_local_disk_open(vr_disk *disk, VixDiskLibConnection connection, const char *path,
   uint32_t flags)
{
   char *local;
   char *beneath;
   VixError err = find_path(connection, path, &local, &beneath);
   if (err != VIX_OK) {
      return err;
   }
   vr_link_options options = {
      .writable = disk->writable,
      .single = flags & VIXDISKLIB_FLAG_OPEN_SINGLE_LINK,
      .refuse_locked = connection->remote,
      .outside = vr_settings_get()->outside_extents,
      .beneath = beneath,
   };
   pthread_rwlock_init(&disk->use, NULL);
   err = vr_link_open(local, &options, &disk->leaf);
   if (err == VIX_OK && beneath && options.writable) {
      disk->host = vr_lab_host_open(beneath, disk->leaf);
      err = disk->host ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   if (err == VIX_OK) {
      disk->ops = &local_ops;
      disk->capacity = disk->leaf->capacity;
   } else {
      vr_link_close(disk->leaf);
      release(disk);
   }
   free(local);
   free(beneath);
   return err;
}
