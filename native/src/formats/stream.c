/* Reads streamOptimized extents. */
#include "formats/stream.h"

#include "os/bytes.h"
#include "os/deflate.h"
#include "os/log.h"

#include <stdlib.h>

#define MARKER_BYTES 12u
#define FOOTER_FROM_END 1024u

VixError vr_streamed_read_footer(vr_extent *e)
{
   vr_sparse *s = e->state;
   uint8_t sector[512];
   vr_sparse_header footer;
   if (s->file_size < FOOTER_FROM_END + 512) {
      return VIX_E_DISK_NEEDSREPAIR;
   }
   VixError err = vr_file_read(e->file, s->file_size - FOOTER_FROM_END, sector, sizeof sector);
   if (err == VIX_OK && !vr_sparse_is(sector)) {
      vr_warn("%s: no footer, it was not written to its end\n", e->file->path);
      err = VIX_E_DISK_NEEDSREPAIR;
   }
   if (err == VIX_OK) {
      err = vr_sparse_decode(sector, &footer);
   }
   if (err == VIX_OK
      && (footer.gd == VR_SPARSE_GD_AT_END || footer.capacity != s->header.capacity
         || footer.grain != s->header.grain || footer.gt_entries != s->header.gt_entries)) {
      err = VIX_E_DISK_INVALIDDISK;
   }
   if (err == VIX_OK) {
      s->header.gd = footer.gd;
      s->header.flags &= ~VR_SPARSE_FLAG_REDUNDANT;
   }
   return err;
}

VixError vr_streamed_prepare(vr_extent *e)
{
   vr_sparse *s = e->state;
   if (!(s->header.flags & VR_SPARSE_FLAG_MARKERS)
      || s->header.compression != VR_COMPRESSION_DEFLATE) {
      return VIX_E_DISK_NOTSUPPORTED;
   }
   s->stream = calloc(1, sizeof *s->stream);
   if (!s->stream) {
      return VIX_E_OUT_OF_MEMORY;
   }
   s->stream->packed_room = vr_round_up(
      MARKER_BYTES + vr_deflate_bound(s->header.grain * VIXDISKLIB_SECTOR_SIZE), 512);
   s->stream->packed = malloc(s->stream->packed_room);
   return s->stream->packed ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

/* Inflates a whole grain into `fill`. */
static VixError hold(vr_extent *e, uint64_t grain)
{
   vr_sparse *s = e->state;
   vr_streamed *stream = s->stream;
   if (stream->held == grain + 1) {
      return VIX_OK;
   }
   uint8_t *entries;
   VixError err = vr_sparse_table(e, grain / s->header.gt_entries, &entries);
   if (err != VIX_OK) {
      return err;
   }
   uint64_t sector = entries ? vr_le32(entries + grain % s->header.gt_entries * 4) : 0;
   if (!vr_fits(sector, MARKER_BYTES, s->file_size)) {
      return VIX_E_DISK_NEEDSREPAIR;
   }
   uint64_t at = sector * VIXDISKLIB_SECTOR_SIZE;
   size_t here = (size_t)vr_min(stream->packed_room, s->file_size - at);
   err = vr_file_read(e->file, at, stream->packed, here);
   if (err != VIX_OK) {
      return err;
   }
   uint64_t bytes = vr_le32(stream->packed + 8);
   if (vr_le64(stream->packed) != grain * s->header.grain || !bytes || bytes > here - MARKER_BYTES) {
      vr_warn("%s: the marker of grain %llu is not its own\n", e->file->path,
         (unsigned long long)grain);
      return VIX_E_DISK_NEEDSREPAIR;
   }
   size_t room = s->header.grain * VIXDISKLIB_SECTOR_SIZE;
   size_t filled = room;
   stream->held = 0;
   err = vr_inflate(stream->packed + MARKER_BYTES, bytes, s->fill, &filled);
   if (err == VIX_OK) {
      memset(s->fill + filled, 0, room - filled); /* the last grain may be short */
      stream->held = grain + 1;
   }
   return err;
}

static VixError stream_read(vr_extent *e, uint64_t sector, uint64_t sectors, uint8_t *buf)
{
   vr_sparse *s = e->state;
   VixError err = VIX_OK;
   pthread_mutex_lock(&s->lock);
   while (err == VIX_OK && sectors) {
      uint64_t skip = sector % s->header.grain;
      uint64_t part = vr_min(sectors, s->header.grain - skip);
      err = hold(e, sector / s->header.grain);
      if (err == VIX_OK) {
         memcpy(buf, s->fill + skip * VIXDISKLIB_SECTOR_SIZE, part * VIXDISKLIB_SECTOR_SIZE);
      }
      sector += part;
      sectors -= part;
      buf += part * VIXDISKLIB_SECTOR_SIZE;
   }
   pthread_mutex_unlock(&s->lock);
   return err;
}

static VixError stream_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run)
{
   const vr_sparse *s = e->state;
   if (s->stream->writing) {
      vr_warn("%s: cannot be read until it is closed\n", e->file->path);
      return VIX_E_DISK_NOIO;
   }
   return vr_sparse_map(e, sector, sectors, exact, run);
}

const vr_extent_ops vr_streamed_ops = {
   .map = stream_map,
   .read = stream_read,
   .check = vr_streamed_check,
   .write = vr_streamed_write,
   .flush = vr_extent_flush,
   .close = vr_sparse_close,
};
