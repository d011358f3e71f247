/* Decodes and encodes the header of a sparse extent, and formats new extents. */
#include "formats/sparse.h"
#include "os/bytes.h"

#include <stdlib.h>

/* Readers keep one directory entry per 32 MiB; 32 Mi of them describe 1 PiB (qemu's limit too). */
#define TABLES_MAX (32u << 20)
#define GRAIN_SECTORS_MAX 32768u

static const uint8_t magic[4] = {'K', 'D', 'M', 'V'};
static const uint8_t newlines[4] = {'\n', ' ', '\r', '\n'};

bool vr_sparse_is(const uint8_t sector[512])
{
   return !memcmp(sector, magic, sizeof magic);
}

VixError vr_sparse_decode(const uint8_t sector[512], vr_sparse_header *out)
{
   vr_sparse_header h = {
      .version = vr_le32(sector + 4),
      .flags = vr_le32(sector + 8),
      .capacity = vr_le64(sector + 12),
      .grain = vr_le64(sector + 20),
      .descriptor = vr_le64(sector + 28),
      .descriptor_size = vr_le64(sector + 36),
      .gt_entries = vr_le32(sector + 44),
      .redundant_gd = vr_le64(sector + 48),
      .gd = vr_le64(sector + 56),
      .overhead = vr_le64(sector + 64),
      .unclean = sector[72] == 1,
      .compression = vr_le16(sector + 77),
   };
   *out = h;
   if (!vr_sparse_is(sector)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (h.version < 1 || h.version > 3) {
      return VIX_E_DISK_UNSUPPORTEDDISKVERSION;
   }
   if ((h.flags & VR_SPARSE_FLAG_NEWLINES) && memcmp(sector + 73, newlines, sizeof newlines)) {
      return VIX_E_DISK_INVALIDDISK; /* a transfer has treated it as text */
   }
   if (!h.capacity || h.capacity > INT64_MAX / VIXDISKLIB_SECTOR_SIZE || !h.grain
      || h.grain > GRAIN_SECTORS_MAX || (h.grain & (h.grain - 1)) || !h.gt_entries
      || h.gt_entries > VR_GT_ENTRIES || vr_sparse_table_count(&h) > TABLES_MAX) {
      return VIX_E_DISK_INVALIDDISK;
   }
   return VIX_OK;
}

void vr_sparse_encode(const vr_sparse_header *h, uint8_t sector[512])
{
   memset(sector, 0, 512);
   memcpy(sector, magic, sizeof magic);
   vr_put32(sector + 4, h->version);
   vr_put32(sector + 8, h->flags);
   vr_put64(sector + 12, h->capacity);
   vr_put64(sector + 20, h->grain);
   vr_put64(sector + 28, h->descriptor);
   vr_put64(sector + 36, h->descriptor_size);
   vr_put32(sector + 44, h->gt_entries);
   vr_put64(sector + 48, h->redundant_gd);
   vr_put64(sector + 56, h->gd);
   vr_put64(sector + 64, h->overhead);
   sector[72] = h->unclean;
   memcpy(sector + 73, newlines, sizeof newlines);
   vr_put16(sector + 77, h->compression);
}

uint64_t vr_sparse_table_count(const vr_sparse_header *h)
{
   return vr_ceil_div(h->capacity, h->grain * h->gt_entries);
}

vr_sparse_header vr_sparse_layout(uint64_t capacity, bool with_descriptor)
{
   vr_sparse_header h = {
      .version = 2,
      .flags = VR_SPARSE_FLAG_NEWLINES | VR_SPARSE_FLAG_REDUNDANT | VR_SPARSE_FLAG_ZERO_GRAIN,
      .capacity = capacity,
      .grain = VR_GRAIN_SECTORS,
      .descriptor = with_descriptor ? 1 : 0,
      .descriptor_size = with_descriptor ? VR_EMBEDDED_DESCRIPTOR_SECTORS : 0,
      .gt_entries = VR_GT_ENTRIES,
   };
   uint64_t tables = vr_sparse_table_count(&h);
   uint64_t directory = vr_ceil_div(tables * 4, VIXDISKLIB_SECTOR_SIZE);
   uint64_t all_tables = tables * (VR_GT_ENTRIES * 4 / VIXDISKLIB_SECTOR_SIZE);
   h.redundant_gd = 1 + h.descriptor_size;
   h.gd = h.redundant_gd + directory + all_tables;
   h.overhead = vr_round_up(h.gd + directory + all_tables, h.grain);
   return h;
}

bool vr_sparse_can_hold(uint64_t capacity)
{
   return vr_ceil_div(capacity, (uint64_t)VR_GRAIN_SECTORS * VR_GT_ENTRIES) <= TABLES_MAX;
}

static VixError write_directory(vr_file *file, uint64_t directory, uint64_t tables)
{
   enum { CHUNK = 1 << 18 };
   uint64_t first = directory + vr_ceil_div(tables * 4, VIXDISKLIB_SECTOR_SIZE);
   uint8_t *buf = malloc((size_t)vr_min(tables, CHUNK) * 4);
   VixError err = buf ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   for (uint64_t done = 0; err == VIX_OK && done < tables;) {
      uint64_t count = vr_min(CHUNK, tables - done);
      for (uint64_t i = 0; i < count; i++) {
         vr_put32(buf + i * 4, (uint32_t)(first + (done + i) * (VR_GT_ENTRIES * 4 / 512)));
      }
      err = vr_file_write(file, directory * VIXDISKLIB_SECTOR_SIZE + done * 4, buf, count * 4);
      done += count;
   }
   free(buf);
   return err;
}

VixError vr_sparse_format(vr_file *file, const vr_sparse_header *h)
{
   uint64_t tables = vr_sparse_table_count(h);
   /* The tables stay a hole of the file, which says that all grains are unallocated. */
   VixError err = vr_file_truncate(file, h->overhead * VIXDISKLIB_SECTOR_SIZE);
   if (err == VIX_OK) {
      err = write_directory(file, h->redundant_gd, tables);
   }
   if (err == VIX_OK) {
      err = write_directory(file, h->gd, tables);
   }
   if (err == VIX_OK) {
      uint8_t sector[512];
      vr_sparse_encode(h, sector);
      err = vr_file_write(file, 0, sector, sizeof sector);
   }
   return err;
}
