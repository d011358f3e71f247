/* Opens and closes a sparse extent. */
#include "formats/sparse.h"
#include "formats/stream.h"
#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>

#define PAGES_CACHED 64u
#define TABLES_CACHED (4u << 20) /* bytes of grain tables: 64 GiB of disk */

VixError vr_sparse_close(vr_extent *e)
{
   vr_sparse *s = e->state;
   VixError err = VIX_OK;
   if (s->stream) {
      err = vr_streamed_finish(e);
   }
   /* An older mark says that a writer died; a mark that stays says that something was not stored.
    * Only CheckRepair removes those. */
   if (s->marked_unclean && !s->header.unclean && !atomic_load(&e->file->broken)) {
      VixError marked = vr_sparse_mark(e, false);
      err = err == VIX_OK ? marked : err;
   }
   pthread_mutex_destroy(&s->lock);
   vr_cache_free(&s->directory[VR_PRIMARY]);
   vr_cache_free(&s->directory[VR_REDUNDANT]);
   vr_cache_free(&s->grain_tables);
   free(s->fill);
   free(s);
   e->state = NULL;
   return err;
}

const vr_extent_ops vr_sparse_ops = {
   .map = vr_sparse_map,
   .check = vr_sparse_check,
   .write = vr_sparse_write,
   .flush = vr_extent_flush,
   .close = vr_sparse_close,
};

/* Uses the redundant directory if the primary one cannot lie in the file. */
static VixError choose_directories(vr_sparse *s, const char *path)
{
   uint64_t bytes = s->tables * 4;
   vr_sparse_header *h = &s->header;
   bool primary = h->gd && vr_fits(h->gd, bytes, s->file_size);
   s->redundant = (h->flags & VR_SPARSE_FLAG_REDUNDANT) && h->redundant_gd
      && vr_fits(h->redundant_gd, bytes, s->file_size);
   s->lost_redundant = (h->flags & VR_SPARSE_FLAG_REDUNDANT) && !s->redundant;
   if (!primary && s->redundant) {
      vr_warn("%s: the grain directory is lost, using the redundant one\n", path);
      h->gd = h->redundant_gd;
      s->redundant = false;
      s->lost_primary = true;
      primary = true;
   }
   return primary ? VIX_OK : VIX_E_DISK_NEEDSREPAIR;
}

VixError vr_sparse_prepare(vr_extent *e)
{
   vr_sparse *s = e->state;
   const vr_sparse_header *h = &s->header;
   if (h->capacity < e->sectors) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (!vr_fits(h->overhead, 0, s->file_size)) {
      vr_warn("%s: cut short\n", e->file->path);
      return VIX_E_DISK_NEEDSREPAIR;
   }
   s->tables = vr_sparse_table_count(h);
   s->table_bytes = h->gt_entries * 4;
   VixError err = choose_directories(s, e->file->path);
   if (err != VIX_OK) {
      return err;
   }
   uint64_t grain_bytes = h->grain * VIXDISKLIB_SECTOR_SIZE;
   s->next_free = vr_round_up(s->file_size, grain_bytes);
   uint64_t pages = vr_ceil_div(s->tables, VR_PAGE_ENTRIES);
   size_t tables = TABLES_CACHED / s->table_bytes;
   s->fill = malloc(grain_bytes * 2);
   return s->fill
         && vr_cache_init(&s->directory[VR_PRIMARY], VR_PAGE_ENTRIES * 4, pages, PAGES_CACHED)
         && vr_cache_init(&s->directory[VR_REDUNDANT], VR_PAGE_ENTRIES * 4, pages, PAGES_CACHED)
         && vr_cache_init(&s->grain_tables, s->table_bytes, s->tables, tables)
      ? VIX_OK
      : VIX_E_OUT_OF_MEMORY;
}

static VixError read_header(vr_extent *e)
{
   vr_sparse *s = e->state;
   uint8_t sector[512];
   VixError err = vr_file_read(e->file, 0, sector, sizeof sector);
   if (err == VIX_OK) {
      err = vr_sparse_decode(sector, &s->header);
   }
   if (err == VIX_OK) {
      err = vr_file_size(e->file, &s->file_size);
   }
   vr_sparse_header *h = &s->header;
   if (err != VIX_OK) {
      return err;
   }
   if (h->gd == VR_SPARSE_GD_AT_END) {
      err = vr_streamed_read_footer(e);
   }
   s->unclean_at = 72;
   if (__builtin_add_overflow(h->descriptor, h->descriptor_size, &s->first_grain)
      || __builtin_add_overflow(s->first_grain, (uint64_t)1, &s->first_grain)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (!h->descriptor_size) {
      s->first_grain = 1; /* an offset without a size is no place */
   } else if (s->first_grain - 1 > s->file_size / VIXDISKLIB_SECTOR_SIZE) {
      return VIX_E_DISK_INVALIDDISK; /* the file would grow over it */
   }
   s->zero_grains = h->version >= 2 && (h->flags & VR_SPARSE_FLAG_ZERO_GRAIN);
   s->compressed = h->flags & VR_SPARSE_FLAG_COMPRESSED;
   return err;
}

VixError vr_sparse_open(vr_extent *e)
{
   vr_sparse *s = calloc(1, sizeof *s);
   if (!s) {
      return VIX_E_OUT_OF_MEMORY;
   }
   pthread_mutex_init(&s->lock, NULL);
   e->state = s;
   VixError err = read_header(e);
   if (err == VIX_OK) {
      err = vr_sparse_prepare(e);
   }
   if (err == VIX_OK && s->compressed) {
      err = vr_streamed_prepare(e);
   }
   if (err != VIX_OK) {
      vr_sparse_close(e);
      return err;
   }
   e->ops = s->compressed ? &vr_streamed_ops : &vr_sparse_ops;
   return VIX_OK;
}
