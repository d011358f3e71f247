/* Finds the grains of a sparse extent through its directory and tables. */
#include "formats/sparse.h"
#include "os/bytes.h"
#include "os/log.h"

/* True if [at, at + bytes) of the file is a hole: a table there is all zeros without a read. */
static bool in_file_hole(vr_sparse *s, const vr_file *file, uint64_t at, uint64_t bytes)
{
   uint64_t end = at + bytes;
   if (at >= s->hole_start && end <= s->hole_end) {
      return true;
   }
   if (at >= s->data_start && at < s->data_end) {
      return false;
   }
   uint64_t data;
   uint64_t hole;
   vr_file_next_data(file, at, s->file_size, &data, &hole);
   if (data > at) {
      s->hole_start = at;
      s->hole_end = data;
   }
   s->data_start = data;
   s->data_end = hole;
   return end <= data;
}

VixError vr_sparse_table_at(const vr_extent *e, int which, uint64_t table, uint64_t *at)
{
   vr_sparse *s = e->state;
   uint64_t page = table / VR_PAGE_ENTRIES;
   uint8_t *entries = vr_cache_find(&s->directory[which], page);
   if (!entries) {
      uint64_t directory = which == VR_PRIMARY ? s->header.gd : s->header.redundant_gd;
      uint64_t first = page * VR_PAGE_ENTRIES;
      size_t bytes = (size_t)vr_min(VR_PAGE_ENTRIES, s->tables - first) * 4;
      entries = vr_cache_claim(&s->directory[which], page);
      VixError err = vr_file_read(e->file, directory * VIXDISKLIB_SECTOR_SIZE + first * 4, entries,
         bytes);
      if (err != VIX_OK) {
         vr_cache_drop(&s->directory[which], page);
         return err;
      }
   }
   uint32_t sector = vr_le32(entries + table % VR_PAGE_ENTRIES * 4);
   *at = (uint64_t)sector * VIXDISKLIB_SECTOR_SIZE;
   if (sector && !vr_fits(sector, s->table_bytes, s->file_size)) {
      vr_warn("%s: grain table %llu lies outside the file\n", e->file->path,
         (unsigned long long)table);
      return VIX_E_DISK_NEEDSREPAIR;
   }
   return VIX_OK;
}

VixError vr_sparse_table(const vr_extent *e, uint64_t table, uint8_t **entries)
{
   vr_sparse *s = e->state;
   *entries = vr_cache_find(&s->grain_tables, table);
   if (*entries) {
      return VIX_OK;
   }
   uint64_t at;
   VixError err = vr_sparse_table_at(e, VR_PRIMARY, table, &at);
   if (err != VIX_OK || !at || in_file_hole(s, e->file, at, s->table_bytes)) {
      return err;
   }
   uint8_t *slot = vr_cache_claim(&s->grain_tables, table);
   err = vr_file_read(e->file, at, slot, s->table_bytes);
   if (err != VIX_OK) {
      vr_cache_drop(&s->grain_tables, table);
      return err;
   }
   *entries = slot;
   return VIX_OK;
}

static vr_run grain_run(const vr_sparse *s, const uint8_t *entries, uint64_t index)
{
   uint32_t entry = entries ? vr_le32(entries + index * 4) : 0;
   if (!entry) {
      return (vr_run){.kind = VR_HOLE};
   }
   if (entry == 1 && s->zero_grains) {
      return (vr_run){.kind = VR_ZERO};
   }
   if (s->compressed) {
      return (vr_run){.kind = VR_OPAQUE};
   }
   return (vr_run){.kind = VR_DATA, .offset = (uint64_t)entry * VIXDISKLIB_SECTOR_SIZE};
}

VixError vr_sparse_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run)
{
   (void)exact;
   vr_sparse *s = e->state;
   uint64_t grain_sectors = s->header.grain;
   uint64_t per_table = s->header.gt_entries;
   uint64_t grain = sector / grain_sectors;
   uint64_t skip = sector % grain_sectors;
   uint64_t wanted = skip + sectors; /* from the start of the first grain */
   uint64_t covered = 0;
   VixError err = VIX_OK;

   pthread_mutex_lock(&s->lock);
   for (bool same = true; same && covered < wanted;) {
      uint8_t *entries;
      err = vr_sparse_table(e, grain / per_table, &entries);
      if (err != VIX_OK) {
         break;
      }
      if (!covered) {
         *run = grain_run(s, entries, grain % per_table);
      }
      if (!entries && run->kind == VR_HOLE) {
         uint64_t rest = per_table - grain % per_table; /* the table is empty: all of it at once */
         grain += rest;
         covered += rest * grain_sectors;
         continue;
      }
      do {
         vr_run next = grain_run(s, entries, grain % per_table);
         same = next.kind == run->kind
            && (next.kind != VR_DATA
               || next.offset == run->offset + covered * VIXDISKLIB_SECTOR_SIZE);
         if (same) {
            covered += grain_sectors;
            grain++;
         }
      } while (same && covered < wanted && grain % per_table);
   }
   pthread_mutex_unlock(&s->lock);
   if (err != VIX_OK && !covered) {
      return err; /* after a good part, the caller meets the error in its next step */
   }
   if (run->kind == VR_DATA) {
      uint64_t start = run->offset / VIXDISKLIB_SECTOR_SIZE;
      uint64_t end = s->file_size / VIXDISKLIB_SECTOR_SIZE;
      if (start >= end) {
         vr_warn("%s: grain lies outside the file\n", e->file->path);
         return VIX_E_DISK_NEEDSREPAIR;
      }
      /* The last grain may be short and ends in zeros; what lies further out fails by itself. */
      covered = vr_min(covered, vr_round_up(end - start, grain_sectors));
      run->offset += skip * VIXDISKLIB_SECTOR_SIZE;
   }
   run->sectors = vr_min(covered - skip, sectors);
   return VIX_OK;
}
