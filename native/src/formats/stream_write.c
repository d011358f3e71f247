/* Writes streamOptimized extents, front to back. */
#include "formats/stream.h"
#include "os/bytes.h"
#include "os/deflate.h"
#include "os/log.h"

#include <stdlib.h>

#define MARKER_BYTES 12u
#define OVERHEAD_SECTORS 128u
#define LEVEL 6

enum { END = 0, GRAIN_TABLE = 1, GRAIN_DIRECTORY = 2, FOOTER = 3 };

typedef struct {
   vr_file *file;
   uint64_t at;
} appender;

static VixError append(appender *a, const void *data, size_t bytes)
{
   static const uint8_t zeros[512];
   VixError err = vr_file_write(a->file, a->at, data, bytes);
   size_t rest = -bytes % 512;
   if (err == VIX_OK && rest) {
      err = vr_file_write(a->file, a->at + bytes, zeros, rest);
   }
   if (err == VIX_OK) {
      a->at += bytes + rest;
   }
   return err;
}

static VixError append_marker(appender *a, uint64_t sectors, uint32_t type)
{
   uint8_t marker[512] = {0};
   vr_put64(marker, sectors);
   vr_put32(marker + 12, type);
   return append(a, marker, sizeof marker);
}

static VixError append_end(appender *a, const vr_sparse_header *h, const uint8_t *directory)
{
   uint64_t sectors = vr_ceil_div(vr_sparse_table_count(h) * 4, 512);
   VixError err = append_marker(a, sectors, GRAIN_DIRECTORY);
   vr_sparse_header footer = *h;
   footer.gd = a->at / VIXDISKLIB_SECTOR_SIZE;
   if (err == VIX_OK) {
      err = append(a, directory, sectors * 512);
   }
   if (err == VIX_OK) {
      err = append_marker(a, 1, FOOTER);
   }
   if (err == VIX_OK) {
      uint8_t sector[512];
      vr_sparse_encode(&footer, sector);
      err = append(a, sector, sizeof sector);
   }
   return err == VIX_OK ? append_marker(a, 0, END) : err;
}

static uint8_t *new_directory(const vr_sparse_header *h)
{
   return calloc(vr_ceil_div(vr_sparse_table_count(h) * 4, 512), 512);
}

VixError vr_streamed_format(vr_file *file, uint64_t capacity)
{
   vr_sparse_header h = {
      .version = 3,
      .flags = VR_SPARSE_FLAG_NEWLINES | VR_SPARSE_FLAG_COMPRESSED | VR_SPARSE_FLAG_MARKERS,
      .capacity = capacity,
      .grain = VR_GRAIN_SECTORS,
      .descriptor = 1,
      .descriptor_size = VR_EMBEDDED_DESCRIPTOR_SECTORS,
      .gt_entries = VR_GT_ENTRIES,
      .gd = VR_SPARSE_GD_AT_END,
      .overhead = OVERHEAD_SECTORS,
      .compression = VR_COMPRESSION_DEFLATE,
   };
   appender a = {file, OVERHEAD_SECTORS * VIXDISKLIB_SECTOR_SIZE};
   uint8_t *directory = new_directory(&h);
   VixError err = directory ? append_end(&a, &h, directory) : VIX_E_OUT_OF_MEMORY;
   free(directory);
   if (err == VIX_OK) {
      uint8_t sector[512];
      vr_sparse_encode(&h, sector);
      err = vr_file_write(file, 0, sector, sizeof sector);
   }
   return err;
}

/* An extent that is written must be empty and of the form made here. */
VixError vr_streamed_check(vr_extent *e, uint64_t sector, uint64_t sectors, const vr_below *below)
{
   const vr_sparse *s = e->state;
   (void)sectors;
   if (below->parent || below->unknown) {
      return VIX_E_DISK_PARENT_NOTALLOWED;
   }
   if (s->stream->writing) {
      bool back = sector / s->header.grain < s->stream->grain;
      if (back) {
         vr_warn("%s: a compressed disk is written front to back\n", e->file->path);
      }
      return back ? VIX_E_DISK_NOTSUPPORTED : VIX_OK;
   }
   vr_run run;
   VixError err = vr_sparse_map(e, 0, e->sectors, false, &run);
   if (err != VIX_OK) {
      return err;
   }
   if (run.kind != VR_HOLE || run.sectors != e->sectors || s->header.gt_entries != VR_GT_ENTRIES
      || s->header.overhead < s->first_grain) {
      vr_warn("%s: a compressed disk can be written only once\n", e->file->path);
      return VIX_E_DISK_NOTSUPPORTED;
   }
   return VIX_OK;
}

/* Starts to write an extent: cuts its end off. */
static VixError begin(vr_extent *e)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   stream->pending = malloc(s->header.grain * VIXDISKLIB_SECTOR_SIZE);
   stream->directory = new_directory(&s->header);
   if (!stream->pending || !stream->directory) {
      free(stream->pending);
      free(stream->directory);
      stream->pending = stream->directory = NULL;
      return VIX_E_OUT_OF_MEMORY;
   }
   s->next_free = s->header.overhead * VIXDISKLIB_SECTOR_SIZE;
   s->header.gd = VR_SPARSE_GD_AT_END;
   uint8_t sector[512];
   vr_sparse_encode(&s->header, sector);
   VixError err = vr_file_truncate(e->file, s->next_free);
   if (err == VIX_OK) {
      err = vr_file_write(e->file, 0, sector, sizeof sector);
   }
   stream->writing = true;
   return err;
}

static VixError end_table(vr_extent *e, uint64_t table)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   if (!stream->table_used) {
      return VIX_OK;
   }
   appender a = {e->file, s->next_free};
   VixError err = append_marker(&a, sizeof stream->table / 512, GRAIN_TABLE);
   uint64_t sector = a.at / VIXDISKLIB_SECTOR_SIZE;
   if (err == VIX_OK) {
      err = append(&a, stream->table, sizeof stream->table);
   }
   if (err == VIX_OK && sector > UINT32_MAX) {
      err = VIX_E_FILE_TOO_BIG;
   }
   if (err == VIX_OK) {
      vr_put32(stream->directory + table * 4, (uint32_t)sector);
      memset(stream->table, 0, sizeof stream->table);
      stream->table_used = false;
      s->next_free = a.at;
   }
   return err;
}

static VixError end_grain(vr_extent *e)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   size_t bytes = s->header.grain * VIXDISKLIB_SECTOR_SIZE;
   if (!stream->filled || vr_is_zero(stream->pending, bytes)) {
      stream->filled = false;
      return VIX_OK;
   }
   size_t packed = stream->packed_room - MARKER_BYTES;
   VixError err = vr_deflate(stream->pending, bytes, stream->packed + MARKER_BYTES, &packed,
      LEVEL);
   uint64_t sector = s->next_free / VIXDISKLIB_SECTOR_SIZE;
   if (err == VIX_OK && sector > UINT32_MAX) {
      err = VIX_E_FILE_TOO_BIG;
   }
   if (err == VIX_OK) {
      vr_put64(stream->packed, stream->grain * s->header.grain);
      vr_put32(stream->packed + 8, (uint32_t)packed);
      appender a = {e->file, s->next_free};
      err = append(&a, stream->packed, MARKER_BYTES + packed);
      if (err == VIX_OK) {
         s->next_free = a.at;
         vr_put32(stream->table + stream->grain % VR_GT_ENTRIES * 4, (uint32_t)sector);
         stream->table_used = true;
         stream->filled = false;
      }
   }
   return err;
}

static VixError move_to(vr_extent *e, uint64_t grain)
{
   vr_streamed *stream = ((vr_sparse *)e->state)->stream;
   if (grain == stream->grain) {
      return VIX_OK;
   }
   VixError err = end_grain(e);
   if (err == VIX_OK && grain / VR_GT_ENTRIES != stream->grain / VR_GT_ENTRIES) {
      err = end_table(e, stream->grain / VR_GT_ENTRIES);
   }
   if (err == VIX_OK) {
      stream->grain = grain;
   }
   return err;
}

VixError vr_streamed_write(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
   const vr_below *below)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   (void)below;
   VixError err = stream->writing ? VIX_OK : begin(e);
   while (err == VIX_OK && sectors) {
      uint64_t skip = sector % s->header.grain;
      uint64_t part = vr_min(sectors, s->header.grain - skip);
      err = move_to(e, sector / s->header.grain);
      if (err == VIX_OK) {
         if (!stream->filled) {
            memset(stream->pending, 0, s->header.grain * VIXDISKLIB_SECTOR_SIZE);
            stream->filled = true;
         }
         memcpy(stream->pending + skip * VIXDISKLIB_SECTOR_SIZE, buf, part * VIXDISKLIB_SECTOR_SIZE);
      }
      sector += part;
      sectors -= part;
      buf += part * VIXDISKLIB_SECTOR_SIZE;
   }
   return err;
}

VixError vr_streamed_finish(vr_extent *e)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   VixError err = VIX_OK;
   if (stream->writing) {
      err = end_grain(e);
      if (err == VIX_OK) {
         err = end_table(e, stream->grain / VR_GT_ENTRIES);
      }
      appender a = {e->file, s->next_free};
      if (err == VIX_OK) {
         err = append_end(&a, &s->header, stream->directory);
      }
      if (err == VIX_OK) {
         err = vr_file_sync(e->file);
      }
   }
   free(stream->packed);
   free(stream->pending);
   free(stream->directory);
   free(stream);
   s->stream = NULL;
   return err;
}
