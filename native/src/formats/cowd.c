#include "formats/cowd.h"

#include "os/bytes.h"

#include <stdlib.h>

#define HEADER_BYTES 2048u
#define UNCLEAN_AT 1648u
#define FLAGS 3u
#define GRAIN_SECTORS_MAX 2048u

static const uint8_t magic[4] = {'C', 'O', 'W', 'D'};

VixError vr_cowd_decode(const uint8_t *header, vr_sparse_header *out, uint64_t *free_sector)
{
   vr_sparse_header h = {
      .version = vr_le32(header + 4),
      .capacity = vr_le32(header + 12),
      .grain = vr_le32(header + 16),
      .gd = vr_le32(header + 20),
      .gt_entries = VR_GT_ENTRIES_MAX,
      .unclean = header[UNCLEAN_AT] == 1,
   };
   uint64_t entries = vr_le32(header + 24);
   *free_sector = vr_le32(header + VR_COWD_FREE_AT);
   *out = h;
   if (memcmp(header, magic, sizeof magic)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (h.version != 1) {
      return VIX_E_DISK_UNSUPPORTEDDISKVERSION;
   }
   if (!h.capacity || !h.grain || h.grain > GRAIN_SECTORS_MAX || (h.grain & (h.grain - 1))
      || h.gd < VR_COWD_HEADER_SECTORS || entries < vr_sparse_table_count(&h)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   out->overhead = h.gd + vr_ceil_div(entries * 4, VIXDISKLIB_SECTOR_SIZE);
   return VIX_OK;
}

VixError vr_cowd_format(vr_file *file, uint64_t capacity)
{
   uint8_t header[HEADER_BYTES] = {0};
   if (capacity > VR_COWD_SECTORS_MAX) {
      return VIX_E_FILE_TOO_BIG;
   }
   uint64_t tables = vr_ceil_div(capacity, VR_GT_ENTRIES_MAX);
   uint64_t end = VR_COWD_HEADER_SECTORS + vr_ceil_div(tables * 4, VIXDISKLIB_SECTOR_SIZE);
   memcpy(header, magic, sizeof magic);
   vr_put32(header + 4, 1);
   vr_put32(header + 8, FLAGS);
   vr_put32(header + 12, (uint32_t)capacity);
   vr_put32(header + 16, 1);
   vr_put32(header + 20, VR_COWD_HEADER_SECTORS);
   vr_put32(header + 24, (uint32_t)tables);
   vr_put32(header + VR_COWD_FREE_AT, (uint32_t)end);
   VixError err = vr_file_truncate(file, end * VIXDISKLIB_SECTOR_SIZE);
   return err == VIX_OK ? vr_file_write(file, 0, header, sizeof header) : err;
}

static VixError prepare(vr_extent *e)
{
   vr_sparse *s = e->state;
   uint8_t header[HEADER_BYTES];
   uint64_t free_sector = 0;
   VixError err = vr_file_read(e->file, 0, header, sizeof header);
   if (err == VIX_OK) {
      err = vr_cowd_decode(header, &s->header, &free_sector);
   }
   if (err == VIX_OK) {
      err = vr_file_size(e->file, &s->file_size);
   }
   if (err == VIX_OK) {
      s->cowd = true;
      s->unclean_at = UNCLEAN_AT;
      s->first_grain = s->header.overhead;
      err = vr_sparse_prepare(e);
   }
   if (err == VIX_OK && free_sector * VIXDISKLIB_SECTOR_SIZE > s->next_free) {
      s->next_free = free_sector * VIXDISKLIB_SECTOR_SIZE;
   }
   return err;
}

VixError vr_cowd_open(vr_extent *e)
{
   vr_sparse *s = calloc(1, sizeof *s);
   if (!s) {
      return VIX_E_OUT_OF_MEMORY;
   }
   pthread_mutex_init(&s->lock, NULL);
   e->state = s;
   VixError err = prepare(e);
   if (err != VIX_OK) {
      vr_sparse_close(e);
      return err;
   }
   e->ops = &vr_sparse_ops;
   return VIX_OK;
}
