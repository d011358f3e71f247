/*
 * Shrink and Defragment: move the grains of a sparse extent together and cut its file.
 *
 *    places   | . 7 . 2 9 . |  ->  | 2 7 9 |      grains in the order of the disk, then cut short
 *
 * Each step copies one grain to an unused place and then changes its entries. So a process that
 * ends between two steps leaves a whole disk.
 */
#include "api/create.h"
#include "api/disk.h"
#include "api/progress.h"
#include "formats/sparse.h"
#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>

#define FREE UINT32_MAX
#define FIXED (UINT32_MAX - 1) /* tables that were added among the grains */

typedef struct {
   vr_extent *e;
   vr_sparse *s;
   uint64_t base;    /* sector of place 0 */
   uint32_t *owner;  /* of each place: a grain, FREE or FIXED */
   uint32_t places;
   uint32_t room;
   uint8_t *buffer;
} compactor;

static VixError entries_of(compactor *c, uint64_t grain, uint8_t **entries)
{
   pthread_mutex_lock(&c->s->lock);
   VixError err = vr_sparse_table(c->e, grain / c->s->header.gt_entries, entries);
   pthread_mutex_unlock(&c->s->lock);
   return err;
}

static VixError set_entry(compactor *c, uint64_t grain, uint32_t entry)
{
   uint8_t *entries;
   uint64_t per_table = c->s->header.gt_entries;
   VixError err = entries_of(c, grain, &entries);
   if (err == VIX_OK) {
      vr_put32(entries + grain % per_table * 4, entry);
      err = vr_sparse_store_entries(c->e, grain / per_table, entries, grain % per_table, 1);
   }
   return err;
}

static uint32_t sector_of(const compactor *c, uint32_t place)
{
   return (uint32_t)(c->base + (uint64_t)place * c->s->header.grain);
}

static VixError claim(compactor *c, uint64_t sector, uint64_t sectors, uint32_t owner)
{
   if (sector + sectors <= c->base) {
      return VIX_OK; /* tables in front of the grains */
   }
   uint64_t first = sector < c->base ? 0 : (sector - c->base) / c->s->header.grain;
   uint64_t last = (sector + sectors - 1 - c->base) / c->s->header.grain;
   for (uint64_t place = first; place <= last; place++) {
      bool shared = owner == FIXED && place < c->places && c->owner[place] == FIXED;
      if (!shared && (place >= c->places || c->owner[place] != FREE)) {
         return VIX_E_DISK_NEEDSREPAIR; /* past the end, or used twice */
      }
      c->owner[place] = owner;
   }
   return VIX_OK;
}

/* Fills `owner` from the tables. Grains off the common raster are not moved. */
static VixError survey(compactor *c)
{
   vr_sparse *s = c->s;
   VixError err = VIX_OK;
   for (uint64_t table = 0; err == VIX_OK && table < s->tables; table++) {
      uint8_t *entries;
      err = entries_of(c, table * s->header.gt_entries, &entries);
      for (uint32_t i = 0; err == VIX_OK && entries && i < s->header.gt_entries; i++) {
         uint32_t entry = vr_le32(entries + i * 4);
         if (!entry || (entry == 1 && s->zero_grains)) {
            continue;
         }
         if (entry < c->base || (entry - c->base) % s->header.grain) {
            return VIX_E_DISK_NOTSUPPORTED;
         }
         err = claim(c, entry, s->header.grain, (uint32_t)(table * s->header.gt_entries + i));
      }
      for (int which = 0; err == VIX_OK && which <= s->redundant; which++) {
         uint64_t at;
         pthread_mutex_lock(&s->lock);
         err = vr_sparse_table_at(c->e, which, table, &at);
         pthread_mutex_unlock(&s->lock);
         uint64_t sector = at / VIXDISKLIB_SECTOR_SIZE;
         if (err == VIX_OK && at) {
            err = claim(c, sector, vr_ceil_div(s->table_bytes, VIXDISKLIB_SECTOR_SIZE), FIXED);
         }
      }
   }
   for (int which = 0; err == VIX_OK && which <= s->redundant; which++) { /* grown disks */
      uint64_t gd = which ? s->header.redundant_gd : s->header.gd;
      uint64_t sectors = vr_ceil_div(s->tables * 4, VIXDISKLIB_SECTOR_SIZE);
      err = claim(c, gd, sectors, FIXED);
   }
   if (err == VIX_OK) { /* where the header says that grains begin at once */
      err = claim(c, 0, s->first_grain, FIXED);
   }
   return err;
}

static VixError move(compactor *c, uint32_t from, uint32_t to)
{
   size_t bytes = c->s->header.grain * VIXDISKLIB_SECTOR_SIZE;
   uint32_t grain = c->owner[from];
   VixError err = vr_file_read_padded(c->e->file, (uint64_t)sector_of(c, from) * 512, c->buffer,
      bytes);
   if (err == VIX_OK) {
      err = vr_file_write(c->e->file, (uint64_t)sector_of(c, to) * 512, c->buffer, bytes);
   }
   if (err == VIX_OK) {
      uint64_t end = ((uint64_t)sector_of(c, to) + c->s->header.grain) * 512;
      c->s->file_size = end > c->s->file_size ? end : c->s->file_size;
      err = set_entry(c, grain, sector_of(c, to));
   }
   if (err == VIX_OK) {
      c->owner[to] = grain;
      c->owner[from] = FREE;
   }
   return err;
}

static VixError move_to_end(compactor *c, uint32_t from)
{
   if (c->places == c->room) {
      uint32_t *grown = realloc(c->owner, ((size_t)c->room + 1024) * sizeof *grown);
      if (!grown || c->room > FIXED - 2048) {
         c->owner = grown ? grown : c->owner;
         return VIX_E_OUT_OF_MEMORY;
      }
      c->owner = grown;
      c->room += 1024;
   }
   if ((uint64_t)sector_of(c, 0) + ((uint64_t)c->places + 1) * c->s->header.grain > UINT32_MAX) {
      return VIX_E_FILE_TOO_BIG;
   }
   c->owner[c->places++] = FREE;
   return move(c, from, c->places - 1);
}

/* The present place of grain number `grain`, or FREE. */
static VixError place_of(compactor *c, uint64_t grain, uint32_t *place)
{
   uint8_t *entries;
   VixError err = entries_of(c, grain, &entries);
   uint32_t entry = err == VIX_OK && entries ? vr_le32(entries + grain % c->s->header.gt_entries * 4)
                                             : 0;
   *place = !entry || (entry == 1 && c->s->zero_grains)
      ? FREE
      : (uint32_t)((entry - c->base) / c->s->header.grain);
   return err;
}

static VixError arrange(compactor *c)
{
   vr_sparse *s = c->s;
   uint64_t grains = vr_ceil_div(s->header.capacity, s->header.grain);
   uint32_t next = 0;
   VixError err = VIX_OK;
   for (uint64_t grain = 0; err == VIX_OK && grain < grains; grain++) {
      uint8_t *entries;
      err = entries_of(c, grain, &entries);
      if (err == VIX_OK && !entries) { /* an empty table: skip it */
         grain += s->header.gt_entries - grain % s->header.gt_entries - 1;
         continue;
      }
      uint32_t place = FREE;
      if (err == VIX_OK) {
         err = place_of(c, grain, &place);
      }
      if (err != VIX_OK || place == FREE) {
         continue;
      }
      while (next < c->places && c->owner[next] == FIXED) {
         next++;
      }
      if (place != next) {
         if (next < c->places && c->owner[next] != FREE) {
            err = move_to_end(c, next);
         }
         if (err == VIX_OK) {
            err = move(c, place, next);
         }
      }
      next++;
   }
   while (err == VIX_OK && c->places && c->owner[c->places - 1] == FREE) {
      c->places--;
   }
   if (err == VIX_OK) {
      s->file_size = s->next_free = (uint64_t)sector_of(c, c->places) * VIXDISKLIB_SECTOR_SIZE;
      err = vr_file_truncate(c->e->file, s->file_size);
   }
   return err;
}

static VixError compact(vr_extent *e)
{
   vr_sparse *s = e->state;
   compactor c = {.e = e, .s = s, .base = vr_round_up(s->header.overhead, s->header.grain)};
   uint64_t end = vr_ceil_div(s->file_size, VIXDISKLIB_SECTOR_SIZE);
   uint64_t places = end > c.base ? vr_ceil_div(end - c.base, s->header.grain) : 0;
   if (s->compressed || s->cowd || places >= FIXED || s->tables * s->header.gt_entries >= FIXED) {
      return VIX_E_DISK_NOTSUPPORTED;
   }
   if (e->access != VR_ACCESS_RW) {
      return VIX_E_DISK_NOIO;
   }
   VixError err = vr_sparse_check_writable(e); /* without the lock: the disk is in use here alone */
   if (err != VIX_OK) {
      return err;
   }
   c.places = c.room = (uint32_t)places;
   c.owner = malloc((places + 1) * sizeof *c.owner);
   c.buffer = malloc(s->header.grain * VIXDISKLIB_SECTOR_SIZE);
   err = c.owner && c.buffer ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      memset(c.owner, 0xff, (places + 1) * sizeof *c.owner);
      err = survey(&c);
   }
   if (err == VIX_OK && !s->marked_unclean) {
      err = vr_sparse_mark(e, true);
   }
   if (err == VIX_OK) {
      err = arrange(&c);
   }
   free(c.owner);
   free(c.buffer);
   return err;
}

/* Frees the places of grains that hold zeros, by writing zeros over them. */
static VixError drop_zeros(vr_link *link)
{
   enum { SECTORS = 4096 };
   uint8_t *buffer = malloc(SECTORS * VIXDISKLIB_SECTOR_SIZE);
   VixError err = buffer ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   for (uint64_t at = 0; err == VIX_OK && at < link->capacity;) {
      vr_run run;
      err = vr_link_map(link, at, link->capacity - at, true, &run);
      uint64_t part = err == VIX_OK && run.kind == VR_DATA ? vr_min(run.sectors, SECTORS)
                                                           : run.sectors;
      if (err == VIX_OK && run.kind == VR_DATA) {
         err = vr_link_read(link, at, part, buffer);
         for (uint64_t k = 0; err == VIX_OK && k < part; k += VR_GRAIN_SECTORS) {
            uint64_t here = vr_min(VR_GRAIN_SECTORS, part - k);
            if (vr_is_zero(buffer + k * VIXDISKLIB_SECTOR_SIZE, here * VIXDISKLIB_SECTOR_SIZE)) {
               err = vr_link_write(link, at + k, here, buffer + k * VIXDISKLIB_SECTOR_SIZE);
            }
         }
      }
      at += part;
   }
   free(buffer);
   return err;
}

static VixError remake(vr_disk *disk, bool zeros, VixDiskLibProgressFunc progress, void *data)
{
   VixError err = vr_disk_check_here(disk);
   if (err != VIX_OK) {
      return err;
   }
   if (!disk->writable) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_report(progress, data, 0);
   pthread_rwlock_wrlock(&disk->use);
   vr_link *leaf = disk->leaf;
   if (zeros) {
      err = leaf->descriptor.parent_cid != VR_NO_PARENT ? VIX_E_DISK_CANTSHRINK : drop_zeros(leaf);
   }
   for (size_t i = 0; err == VIX_OK && i < leaf->extent_count; i++) {
      if (leaf->extents[i].type == VR_EXTENT_SPARSE) {
         err = compact(&leaf->extents[i]);
      }
   }
   if (err == VIX_OK) {
      err = vr_link_flush(leaf);
   }
   pthread_rwlock_unlock(&disk->use);
   if (err == VIX_OK) {
      vr_report(progress, data, 100);
   }
   return err;
}

VixError VixDiskLib_Shrink(VixDiskLibHandle diskHandle, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData)
{
   return remake(diskHandle, true, progressFunc, progressCallbackData);
}

VixError VixDiskLib_Defragment(VixDiskLibHandle diskHandle, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData)
{
   return remake(diskHandle, false, progressFunc, progressCallbackData);
}
