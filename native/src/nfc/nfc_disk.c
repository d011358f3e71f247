#include "nfc/nfc_disk.h"

#include "nfc/flow.h"
#include "nfc/written.h"
#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR VIXDISKLIB_SECTOR_SIZE

struct vr_nfc_disk {
   vr_nfc_flow flow;
   vr_written written;
   uint64_t capacity; /* the flow's own copy changes its place at a reconnection */
   VixDiskLibGeometry geometry;
   char *path;
};

VixError vr_nfc_open(const vr_nfc_target *target, vr_nfc_disk **out)
{
   *out = NULL;
   vr_nfc_disk *disk = calloc(1, sizeof *disk);
   char *path = strdup(target->path);
   if (!disk || !path) {
      free(path);
      free(disk);
      return VIX_E_OUT_OF_MEMORY;
   }
   vr_nfc_target own = *target;
   own.path = disk->path = path;
   VixError err = vr_flow_start(&disk->flow, &own);
   if (err == VIX_OK) {
      const vr_nfc_opened *file = &disk->flow.link.session.file;
      disk->capacity = file->capacity_bytes;
      disk->geometry = (VixDiskLibGeometry){file->cylinders, file->heads, file->sectors};
      if (!target->read_only && !vr_written_init(&disk->written, disk->capacity)) {
         vr_flow_stop(&disk->flow);
         err = VIX_E_OUT_OF_MEMORY;
      }
   }
   if (err != VIX_OK) {
      free(path);
      free(disk);
      return err;
   }
   *out = disk;
   return VIX_OK;
}

VixError vr_nfc_close(vr_nfc_disk *disk)
{
   VixError err = vr_flow_stop(&disk->flow);
   if (!disk->written.any) {
      err = VIX_OK; /* nothing is lost; the reason was logged */
   }
   vr_written_free(&disk->written);
   free(disk->path);
   free(disk);
   return err;
}

uint64_t vr_nfc_capacity(const vr_nfc_disk *disk)
{
   return disk->capacity;
}

VixDiskLibGeometry vr_nfc_geometry(const vr_nfc_disk *disk)
{
   return disk->geometry;
}

void vr_nfc_on_reopen(vr_nfc_disk *disk, VixError (*check)(void *data), void *data)
{
   pthread_mutex_lock(&disk->flow.lock);
   disk->flow.on_reopen = check;
   disk->flow.on_reopen_data = data;
   pthread_mutex_unlock(&disk->flow.lock);
}

/* -- reads and writes -- */

static void free_requests(vr_nfc_request *list)
{
   while (list) {
      vr_nfc_request *next = list->next;
      free(list);
      list = next;
   }
}

/* Cuts pieces into requests of at most `most` bytes; NULL without memory, or without a sector. */
static vr_nfc_request *cut(bool write, const vreplica_Piece *pieces, size_t count, uint32_t most)
{
   vr_nfc_request *list = NULL;
   vr_nfc_request **end = &list;
   for (size_t i = 0; i < count; i++) {
      uint64_t bytes = pieces[i].numSectors * SECTOR;
      for (uint64_t at = 0; at < bytes; at += most) {
         vr_nfc_request *r = vr_flow_request(write ? VR_NFC_WRITE : VR_NFC_READ,
            pieces[i].startSector * SECTOR + at, (uint32_t)vr_min(most, bytes - at),
            pieces[i].buffer + at);
         if (!r) {
            free_requests(list);
            return NULL;
         }
         r->piece = i;
         *end = r;
         end = &r->next;
      }
   }
   return list;
}

static VixError start(vr_nfc_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   vr_nfc_job *job)
{
   pthread_mutex_lock(&disk->flow.lock);
   uint32_t most = disk->flow.request_bytes;
   bool good = true;
   for (size_t i = 0; write && good && i < count; i++) {
      /* Before the write, since one that fails may have reached the disk. */
      good = vr_written_mark(&disk->written, pieces[i].startSector * SECTOR,
         pieces[i].numSectors * SECTOR);
   }
   pthread_mutex_unlock(&disk->flow.lock);
   vr_nfc_request *requests = good ? cut(write, pieces, count, most) : NULL;
   if (!requests) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = vr_flow_submit(&disk->flow, job, requests);
   if (err != VIX_OK) {
      free_requests(requests);
   }
   return err;
}

VixError vr_nfc_move(vr_nfc_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   bool any = false;
   for (size_t i = 0; i < count && !any; i++) {
      any = pieces[i].numSectors != 0;
   }
   *done = any ? 0 : count;
   if (!any) {
      return VIX_OK;
   }
   vr_nfc_job job = {0};
   VixError err = start(disk, write, pieces, count, &job);
   if (err == VIX_OK) {
      vr_flow_wait(&disk->flow, &job);
      err = job.result;
      *done = err == VIX_OK ? count : job.failed_piece;
   }
   return err;
}

typedef struct {
   vr_nfc_job job; /* first: the flow knows this part only */
   VixDiskLibCompletionCB callback;
   void *data;
} async_job;

static void complete(vr_nfc_job *job)
{
   async_job *a = (async_job *)job;
   a->callback(a->data, job->result);
   free(a);
}

VixError vr_nfc_submit(vr_nfc_disk *disk, bool write, const vreplica_Piece *piece,
   VixDiskLibCompletionCB callback, void *data)
{
   async_job *a = calloc(1, sizeof *a);
   if (!a) {
      return VIX_E_OUT_OF_MEMORY;
   }
   *a = (async_job){.job.ended = complete, .callback = callback, .data = data};
   VixError err = start(disk, write, piece, 1, &a->job);
   if (err != VIX_OK) {
      free(a);
      return err;
   }
   return VIX_ASYNC;
}

VixError vr_nfc_wait(vr_nfc_disk *disk)
{
   vr_flow_wait_all(&disk->flow);
   pthread_mutex_lock(&disk->flow.lock);
   VixError dead = disk->flow.dead;
   pthread_mutex_unlock(&disk->flow.lock);
   return dead;
}

/* -- what the host knows of the disk -- */

/* Does requests of the caller's array, all of one job. */
static VixError ask(vr_nfc_disk *disk, vr_nfc_request *requests, size_t count)
{
   vr_nfc_job job = {.keeps_requests = true};
   for (size_t i = 0; i < count; i++) {
      requests[i].next = i + 1 < count ? &requests[i + 1] : NULL;
   }
   VixError err = vr_flow_submit(&disk->flow, &job, requests);
   if (err == VIX_OK) {
      vr_flow_wait(&disk->flow, &job);
      err = job.result;
   }
   return err;
}

VixError vr_nfc_metadata(vr_nfc_disk *disk, const char *const *keys, size_t count, char **values)
{
   vr_nfc_request *requests = calloc(count, sizeof *requests);
   if (!requests) {
      return VIX_E_OUT_OF_MEMORY;
   }
   for (size_t i = 0; i < count; i++) {
      requests[i] = (vr_nfc_request){.kind = VR_NFC_DDB, .key = keys[i]};
      values[i] = NULL;
   }
   VixError err = ask(disk, requests, count);
   for (size_t i = 0; i < count; i++) {
      if (err == VIX_OK && requests[i].extra_bytes) {
         values[i] = (char *)requests[i].extra;
         requests[i].extra = NULL;
      }
      vr_request_forget(&requests[i]);
   }
   free(requests);
   return err;
}

VixError vr_nfc_allocated(vr_nfc_disk *disk, uint64_t start, uint64_t chunk_bytes, uint64_t chunks,
   uint8_t **bitmap)
{
   vr_nfc_request request = {
      .kind = VR_NFC_BLOCKS,
      .offset = start,
      .chunk_bytes = chunk_bytes,
      .chunks = chunks,
   };
   *bitmap = NULL;
   VixError err = ask(disk, &request, 1);
   if (err == VIX_OK) {
      *bitmap = request.extra;
      request.extra = NULL;
   }
   vr_request_forget(&request);
   pthread_mutex_lock(&disk->flow.lock);
   for (uint64_t i = 0; *bitmap && disk->written.any && i < chunks; i++) {
      if (vr_written_has(&disk->written, start + i * chunk_bytes, chunk_bytes)) {
         (*bitmap)[i / 8] |= (uint8_t)(1u << i % 8);
      }
   }
   pthread_mutex_unlock(&disk->flow.lock);
   return err;
}
