#include "formats/sparse_places.h"

#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>

#define SECTORS_MAX (1ull << 32) /* entries are 32 bits of sectors */

/* Tables mostly lie in a row, so that they become one area. */
static VixError add_area(vr_places *p, uint64_t start, uint64_t sectors)
{
   if (!sectors) {
      return VIX_OK;
   }
   if (p->count && p->areas[p->count - 1].end == start) {
      p->areas[p->count - 1].end += sectors;
      return VIX_OK;
   }
   if (p->count == p->room) {
      size_t room = p->room ? p->room * 2 : 16;
      vr_area *grown = realloc(p->areas, room * sizeof *grown);
      if (!grown) {
         return VIX_E_OUT_OF_MEMORY;
      }
      p->areas = grown;
      p->room = room;
   }
   p->areas[p->count++] = (vr_area){start, start + sectors};
   return VIX_OK;
}

/* A redundant table in the place of the primary one is the same bytes twice, which does no harm. */
static VixError add_tables(vr_places *p, vr_extent *e, int which)
{
   const vr_sparse *s = p->s;
   uint64_t sectors = vr_ceil_div(s->table_bytes, VIXDISKLIB_SECTOR_SIZE);
   VixError err = VIX_OK;
   for (uint64_t table = 0; err == VIX_OK && table < s->tables; table++) {
      uint64_t at = 0;
      uint64_t primary = 0;
      err = vr_sparse_table_at(e, which, table, &at);
      if (err == VIX_OK && which == VR_REDUNDANT) {
         err = vr_sparse_table_at(e, VR_PRIMARY, table, &primary);
      }
      if (err == VIX_OK && at && at != primary) {
         err = add_area(p, at / VIXDISKLIB_SECTOR_SIZE, sectors);
      }
   }
   return err;
}

VixError vr_places_begin(vr_places *p, vr_extent *e)
{
   const vr_sparse *s = e->state;
   const vr_sparse_header *h = &s->header;
   uint64_t directory = vr_ceil_div(s->tables * 4, VIXDISKLIB_SECTOR_SIZE);
   *p = (vr_places){.s = s, .raster = UINT64_MAX};
   VixError err = add_area(p, 0, s->cowd ? VR_COWD_HEADER_SECTORS : 1);
   if (err == VIX_OK && vr_fits(h->descriptor, 0, s->file_size)
      && h->descriptor_size <= s->file_size) {
      err = add_area(p, h->descriptor, h->descriptor_size);
   }
   for (int which = VR_PRIMARY; err == VIX_OK && which <= (int)s->redundant; which++) {
      uint64_t at = which == VR_PRIMARY ? h->gd : h->redundant_gd;
      if (which == VR_PRIMARY || at != h->gd) {
         err = add_area(p, at, directory);
      }
      if (err == VIX_OK) {
         err = add_tables(p, e, which);
      }
   }
   if (err == VIX_OK) {
      uint64_t sectors = vr_min(vr_ceil_div(s->file_size, VIXDISKLIB_SECTOR_SIZE), SECTORS_MAX);
      p->places = sectors / h->grain + 1;
      p->grains = calloc(p->places / 8 + 1, 1); /* the kernel gives memory where bits are set */
      err = p->grains ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   return err;
}

static bool is_used(const vr_places *p, uint64_t place)
{
   return p->grains[place / 8] & 1u << place % 8;
}

VixError vr_places_add_grain(vr_places *p, uint32_t sector)
{
   uint64_t grain = p->s->header.grain;
   if (p->raster == UINT64_MAX) {
      p->raster = sector % grain;
   }
   if (sector < p->raster || (sector - p->raster) % grain) {
      return add_area(p, sector, grain);
   }
   uint64_t place = (sector - p->raster) / grain;
   p->twice |= is_used(p, place);
   p->grains[place / 8] |= (uint8_t)(1u << place % 8);
   return VIX_OK;
}

static int by_start(const void *a, const void *b)
{
   const vr_area *x = a;
   const vr_area *y = b;
   return x->start < y->start ? -1 : x->start > y->start;
}

static bool has_grain(const vr_places *p, const vr_area *area)
{
   if (p->raster == UINT64_MAX || area->end <= p->raster) {
      return false;
   }
   uint64_t grain = p->s->header.grain;
   uint64_t last = (area->end - 1 - p->raster) / grain;
   for (uint64_t place = area->start < p->raster ? 0 : (area->start - p->raster) / grain;
        place <= last && place < p->places; place++) {
      if (is_used(p, place)) {
         return true;
      }
   }
   return false;
}

bool vr_places_are_apart(vr_places *p)
{
   bool apart = !p->twice;
   qsort(p->areas, p->count, sizeof *p->areas, by_start);
   for (size_t i = 0; apart && i < p->count; i++) {
      apart = (!i || p->areas[i - 1].end <= p->areas[i].start) && !has_grain(p, &p->areas[i]);
   }
   return apart;
}

void vr_places_free(vr_places *p)
{
   free(p->areas);
   free(p->grains);
   *p = (vr_places){0};
}

/* Adds the grains of one table. An entry that leads into header or descriptor is damage of its own,
 * and is_grain_place refuses it where it is used. */
static VixError add_grains(vr_places *p, vr_extent *e, const uint8_t *entries)
{
   const vr_sparse *s = p->s;
   VixError err = VIX_OK;
   for (uint32_t i = 0; err == VIX_OK && entries && i < s->header.gt_entries; i++) {
      uint32_t entry = vr_le32(entries + i * 4);
      uint64_t at = (uint64_t)entry * VIXDISKLIB_SECTOR_SIZE;
      if (!entry || (entry == 1 && s->zero_grains) || entry < s->first_grain) {
         continue;
      }
      if (at >= s->file_size || at + s->header.grain * VIXDISKLIB_SECTOR_SIZE > s->next_free) {
         vr_warn("%s: cut short, it has grains past its end\n", e->file->path);
         return VIX_E_DISK_NEEDSREPAIR;
      }
      err = vr_places_add_grain(p, entry);
   }
   return err;
}

VixError vr_sparse_check_writable(vr_extent *e)
{
   vr_sparse *s = e->state;
   vr_places places;
   if (s->lost_primary || s->lost_redundant) {
      vr_warn("%s: lost a grain directory\n", e->file->path);
      return VIX_E_DISK_NEEDSREPAIR;
   }
   VixError err = vr_places_begin(&places, e);
   for (uint64_t table = 0; err == VIX_OK && table < s->tables; table++) {
      uint8_t *entries;
      err = vr_sparse_table(e, table, &entries);
      if (err == VIX_OK) {
         err = add_grains(&places, e, entries);
      }
   }
   if (err == VIX_OK && !vr_places_are_apart(&places)) {
      vr_warn("%s: two of its tables or grains have one place\n", e->file->path);
      err = VIX_E_DISK_NEEDSREPAIR;
   }
   vr_places_free(&places);
   return err;
}
