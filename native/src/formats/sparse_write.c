/*
 * Writes into a sparse extent.
 *
 * The order makes sure that a process that dies at any moment leaves a disk without a fault: first
 * the content ID and the unclean mark, then the data of a grain (at the end of the file), then its
 * entry in the primary table, then its entry in the redundant one. A grain without an entry is only
 * lost space. A grain that becomes zeros loses its entry before its space is freed.
 */
#include "formats/sparse.h"
#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>

typedef enum {
   IN_PLACE, /* allocated: overwrite */
   ALLOCATE, /* append new grains; a part that is not written comes from below */
   MAKE_ZERO,
   SKIP /* zeros over what reads as zeros */
} action;

/* The part of a request that lies in one grain table. */
typedef struct {
   uint64_t table;
   uint64_t first; /* entry of the first grain */
   uint64_t skip;  /* sectors of the first grain before the request */
   uint64_t sectors;
   const uint8_t *buf;
} stretch;

VixError vr_sparse_mark(vr_extent *e, bool unclean)
{
   vr_sparse *s = e->state;
   uint8_t flag = unclean;
   VixError err = vr_file_write(e->file, s->unclean_at, &flag, 1);
   if (err == VIX_OK) {
      s->marked_unclean = unclean;
   }
   return err;
}

/* An entry that leads into the header, the descriptor or past the end is not used for writing. */
static bool is_grain_place(const vr_extent *e, uint32_t entry)
{
   const vr_sparse *s = e->state;
   bool good = (uint64_t)entry * VIXDISKLIB_SECTOR_SIZE < s->file_size
      && entry >= s->first_grain;
   if (!good) {
      vr_warn("%s: grain lies outside the data\n", e->file->path);
   }
   return good;
}

static vr_kind entry_kind(const vr_sparse *s, uint32_t entry)
{
   return !entry ? VR_HOLE : entry == 1 && s->zero_grains ? VR_ZERO : VR_DATA;
}

/* The sectors that the stretch writes of its grain `i`; *from is their start in the grain. */
static uint64_t part_of(const vr_sparse *s, const stretch *t, uint64_t i, uint64_t *from)
{
   uint64_t grain = s->header.grain;
   *from = i ? 0 : t->skip;
   return vr_min(grain - *from, t->skip + t->sectors - i * grain - (i ? 0 : t->skip));
}

static VixError choose(vr_extent *e, const stretch *t, uint64_t i, const uint8_t *entries,
   const vr_below *below, action *out)
{
   vr_sparse *s = e->state;
   uint64_t grain = s->header.grain;
   uint64_t from;
   uint64_t part = part_of(s, t, i, &from);
   uint64_t start = ((t->table * s->header.gt_entries) + t->first + i) * grain;
   bool whole = !from && (part == grain || start + part == e->sectors);
   const uint8_t *data = t->buf + (i ? i * grain - t->skip : 0) * VIXDISKLIB_SECTOR_SIZE;
   uint32_t entry = vr_le32(entries + (t->first + i) * 4);
   vr_kind kind = entry_kind(s, entry);

   *out = kind == VR_DATA ? IN_PLACE : ALLOCATE;
   if ((kind == VR_DATA && !whole) || !vr_is_zero(data, part * VIXDISKLIB_SECTOR_SIZE)) {
      return VIX_OK;
   }
   if (kind == VR_ZERO) {
      *out = SKIP;
      return VIX_OK;
   }
   bool hole = false;
   if (kind == VR_HOLE) {
      VixError err = below->is_hole(below, start, vr_min(grain, e->sectors - start), &hole);
      if (err != VIX_OK) {
         return err;
      }
   }
   if (hole) {
      *out = SKIP;
   } else if (whole && (s->zero_grains || kind == VR_DATA)) {
      *out = MAKE_ZERO;
   }
   return VIX_OK;
}

VixError vr_sparse_store_entries(vr_extent *e, uint64_t table, const uint8_t *entries, uint64_t first,
   uint64_t count)
{
   vr_sparse *s = e->state;
   s->hole_start = s->hole_end = 0;
   for (int which = VR_PRIMARY; which <= (s->redundant ? VR_REDUNDANT : VR_PRIMARY); which++) {
      uint64_t at;
      VixError err = vr_sparse_table_at(e, which, table, &at);
      /* After a writer has died, the redundant table may be behind: write all of it. */
      bool all = which == VR_REDUNDANT && s->header.unclean;
      uint64_t from = all ? 0 : first * 4;
      if (err == VIX_OK && at) {
         err = vr_file_write(e->file, at + from, entries + from, all ? s->table_bytes : count * 4);
      }
      if (err != VIX_OK) {
         vr_cache_drop(&s->grain_tables, table); /* the file counts, not the cache */
         s->header.unclean = true; /* the two copies may differ, as after a writer has died */
         return err;
      }
   }
   return VIX_OK;
}

/* Moves on the end that COWD's header names, before anything is put there. */
static VixError reserve(vr_extent *e, uint64_t end)
{
   vr_sparse *s = e->state;
   uint8_t sectors[4];
   if (end / VIXDISKLIB_SECTOR_SIZE > UINT32_MAX) {
      return VIX_E_FILE_TOO_BIG; /* entries are 32 bits of sectors */
   }
   vr_put32(sectors, (uint32_t)(end / VIXDISKLIB_SECTOR_SIZE));
   return s->cowd ? vr_file_write(e->file, VR_COWD_FREE_AT, sectors, 4) : VIX_OK;
}

/* Adds a table that the writer of the disk left out until it is needed. A redundant one gets the
 * entries of the primary one, which may be older. */
static VixError add_table(vr_extent *e, uint64_t table, const uint8_t *entries)
{
   vr_sparse *s = e->state;
   int copies = s->redundant ? 2 : 1;
   for (int which = copies - 1; which >= 0; which--) {
      uint64_t at;
      VixError err = vr_sparse_table_at(e, which, table, &at);
      if (err != VIX_OK) {
         return err;
      }
      if (at) {
         continue;
      }
      at = s->next_free;
      uint64_t room = vr_round_up(s->table_bytes, s->header.grain * VIXDISKLIB_SECTOR_SIZE);
      uint8_t entry[4];
      vr_put32(entry, (uint32_t)(at / VIXDISKLIB_SECTOR_SIZE));
      uint64_t directory = which == VR_PRIMARY ? s->header.gd : s->header.redundant_gd;
      err = reserve(e, at + room);
      if (err == VIX_OK) { /* remove what a failed write left there: a new table is zeros */
         err = vr_file_truncate(e->file, at);
      }
      if (err == VIX_OK) {
         err = vr_file_truncate(e->file, at + room);
      }
      if (err == VIX_OK && which == VR_REDUNDANT && !vr_is_zero(entries, s->table_bytes)) {
         err = vr_file_write(e->file, at, entries, s->table_bytes);
      }
      if (err == VIX_OK) {
         s->file_size = s->next_free = at + room;
         err = vr_file_write(e->file, directory * VIXDISKLIB_SECTOR_SIZE + table * 4, entry, 4);
      }
      vr_cache_drop(&s->directory[which], table / VR_PAGE_ENTRIES);
      if (err != VIX_OK) {
         return err;
      }
   }
   return VIX_OK;
}

/* Gives the cached entries of a table, to be changed. */
static VixError writable_table(vr_extent *e, uint64_t table, uint8_t **entries)
{
   vr_sparse *s = e->state;
   VixError err = vr_sparse_table(e, table, entries);
   if (err != VIX_OK || *entries) {
      return err;
   }
   *entries = vr_cache_claim(&s->grain_tables, table);
   memset(*entries, 0, s->table_bytes);
   return VIX_OK;
}

/* Fills the sectors of a new grain that the request does not cover. */
static VixError fill(vr_extent *e, const vr_below *below, vr_kind kind, uint64_t sector,
   uint64_t sectors, uint8_t *buf)
{
   uint64_t inside = sector < e->sectors ? vr_min(sectors, e->sectors - sector) : 0;
   memset(buf, 0, sectors * VIXDISKLIB_SECTOR_SIZE);
   return kind == VR_HOLE && inside ? below->read(below, sector, inside, buf) : VIX_OK;
}

static VixError allocate(vr_extent *e, const stretch *t, uint64_t i, uint64_t count,
   uint8_t *entries, const vr_below *below)
{
   vr_sparse *s = e->state;
   uint64_t grain = s->header.grain;
   uint64_t grain_bytes = grain * VIXDISKLIB_SECTOR_SIZE;
   uint64_t number = t->table * s->header.gt_entries + t->first + i;
   uint64_t at = s->next_free;
   uint64_t first_sector = at / VIXDISKLIB_SECTOR_SIZE;
   uint64_t head = i ? 0 : t->skip;
   uint64_t start = i * grain - (i ? t->skip : 0); /* in the request, in sectors */
   uint64_t written = vr_min(count * grain - head, t->sectors - start);
   uint64_t tail = count * grain - head - written;
   uint8_t *tail_fill = s->fill + grain_bytes;
   VixError err = VIX_OK;
   if (head) {
      vr_kind kind = entry_kind(s, vr_le32(entries + (t->first + i) * 4));
      err = fill(e, below, kind, number * grain, head, s->fill);
   }
   if (err == VIX_OK && tail) {
      vr_kind kind = entry_kind(s, vr_le32(entries + (t->first + i + count - 1) * 4));
      err = fill(e, below, kind, number * grain + head + written, tail, tail_fill);
   }
   if (err == VIX_OK) {
      err = reserve(e, at + count * grain_bytes);
   }
   if (err != VIX_OK) {
      return err;
   }
   struct iovec iov[3] = {
      {s->fill, head * VIXDISKLIB_SECTOR_SIZE},
      {(void *)(t->buf + start * VIXDISKLIB_SECTOR_SIZE), written * VIXDISKLIB_SECTOR_SIZE},
      {tail_fill, tail * VIXDISKLIB_SECTOR_SIZE},
   };
   err = vr_file_writev(e->file, at, iov, 3);
   if (err != VIX_OK) {
      return err; /* the next try overwrites it */
   }
   s->next_free = s->file_size = at + count * grain_bytes;
   for (uint64_t k = 0; k < count; k++) {
      vr_put32(entries + (t->first + i + k) * 4, (uint32_t)(first_sector + k * grain));
   }
   return vr_sparse_store_entries(e, t->table, entries, t->first + i, count);
}

static VixError make_zero(vr_extent *e, const stretch *t, uint64_t i, uint64_t count,
   uint8_t *entries)
{
   vr_sparse *s = e->state;
   uint64_t grain_bytes = s->header.grain * VIXDISKLIB_SECTOR_SIZE;
   uint32_t freed[VR_GT_ENTRIES_MAX];
   for (uint64_t k = 0; k < count; k++) {
      uint8_t *entry = entries + (t->first + i + k) * 4;
      freed[k] = entry_kind(s, vr_le32(entry)) == VR_DATA ? vr_le32(entry) : 0;
      if (freed[k] && !is_grain_place(e, freed[k])) {
         vr_cache_drop(&s->grain_tables, t->table); /* some of its entries are changed */
         return VIX_E_DISK_NEEDSREPAIR;
      }
      if (s->zero_grains) {
         vr_put32(entry, 1);
      }
   }
   VixError err = s->zero_grains ? vr_sparse_store_entries(e, t->table, entries, t->first + i, count) : VIX_OK;
   for (uint64_t k = 0; k < count && err == VIX_OK; k++) {
      if (!freed[k]) {
         continue;
      }
      uint64_t run = 1;
      while (k + run < count && freed[k + run] == freed[k] + run * s->header.grain) {
         run++;
      }
      err = vr_file_punch(e->file, (uint64_t)freed[k] * VIXDISKLIB_SECTOR_SIZE, run * grain_bytes);
      k += run - 1;
   }
   return err;
}

static VixError overwrite(vr_extent *e, const stretch *t, uint64_t i, uint64_t count,
   const uint8_t *entries)
{
   vr_sparse *s = e->state;
   uint64_t grain = s->header.grain;
   for (uint64_t done = 0; done < count;) {
      uint32_t entry = vr_le32(entries + (t->first + i + done) * 4);
      uint64_t run = 1;
      while (done + run < count
         && vr_le32(entries + (t->first + i + done + run) * 4) == entry + run * grain) {
         run++;
      }
      uint64_t from = i + done ? 0 : t->skip;
      uint64_t start = (i + done) * grain - (i + done ? t->skip : 0);
      uint64_t sectors = vr_min(run * grain - from, t->sectors - start);
      uint64_t at = ((uint64_t)entry + from) * VIXDISKLIB_SECTOR_SIZE;
      if (!is_grain_place(e, entry)) {
         return VIX_E_DISK_NEEDSREPAIR;
      }
      VixError err = vr_file_write(e->file, at, t->buf + start * VIXDISKLIB_SECTOR_SIZE,
         sectors * VIXDISKLIB_SECTOR_SIZE);
      if (err != VIX_OK) {
         return err;
      }
      done += run;
   }
   return VIX_OK;
}

static VixError write_stretch(vr_extent *e, const stretch *t, const vr_below *below)
{
   vr_sparse *s = e->state;
   uint64_t grains = vr_ceil_div(t->skip + t->sectors, s->header.grain);
   uint8_t *entries;
   VixError err = writable_table(e, t->table, &entries);
   for (uint64_t i = 0; err == VIX_OK && i < grains;) {
      action what;
      err = choose(e, t, i, entries, below, &what);
      uint64_t count = 1;
      for (action next; err == VIX_OK && i + count < grains; count++) {
         err = choose(e, t, i + count, entries, below, &next);
         if (next != what) {
            break;
         }
      }
      if (err != VIX_OK) {
         break;
      }
      if (what == ALLOCATE || (what == MAKE_ZERO && s->zero_grains)) {
         err = add_table(e, t->table, entries);
      }
      if (err != VIX_OK) {
         break;
      }
      switch (what) {
      case IN_PLACE:
         err = overwrite(e, t, i, count, entries);
         break;
      case ALLOCATE:
         err = allocate(e, t, i, count, entries, below);
         break;
      case MAKE_ZERO:
         err = make_zero(e, t, i, count, entries);
         break;
      case SKIP:
         break;
      }
      i += count;
   }
   return err;
}

/* True if a grain that the request covers in part would need the sectors of parents that are not here. */
static VixError needs_unknown(vr_extent *e, uint64_t sector, uint64_t sectors, bool *needs)
{
   uint64_t grain = ((const vr_sparse *)e->state)->header.grain;
   uint64_t ends[2] = {sector, sector + sectors};
   VixError err = VIX_OK;
   *needs = false;
   for (int i = 0; err == VIX_OK && i < 2 && !*needs; i++) {
      if (ends[i] % grain && ends[i] < e->sectors) {
         vr_run run;
         err = vr_sparse_map(e, ends[i] / grain * grain, 1, false, &run);
         *needs = err == VIX_OK && run.kind == VR_HOLE;
      }
   }
   return err;
}

VixError vr_sparse_check(vr_extent *e, uint64_t sector, uint64_t sectors, const vr_below *below)
{
   vr_sparse *s = e->state;
   VixError err = VIX_OK;
   if (!s->marked_unclean) {
      pthread_mutex_lock(&s->lock);
      err = vr_sparse_check_writable(e);
      pthread_mutex_unlock(&s->lock);
   }
   bool unknown = false;
   if (err == VIX_OK && below->unknown) {
      err = needs_unknown(e, sector, sectors, &unknown);
   }
   return unknown ? VIX_E_DISK_PARTIALCHAIN : err;
}

VixError vr_sparse_write(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
   const vr_below *below)
{
   vr_sparse *s = e->state;
   uint64_t grain = s->header.grain;
   uint64_t per_table = s->header.gt_entries;
   if (!s->marked_unclean) {
      VixError err = vr_sparse_mark(e, true);
      if (err != VIX_OK) {
         return err;
      }
   }
   while (sectors) {
      uint64_t number = sector / grain;
      stretch t = {
         .table = number / per_table,
         .first = number % per_table,
         .skip = sector % grain,
         .buf = buf,
      };
      t.sectors = vr_min(sectors, (per_table - t.first) * grain - t.skip);
      pthread_mutex_lock(&s->lock);
      VixError err = write_stretch(e, &t, below);
      pthread_mutex_unlock(&s->lock);
      if (err != VIX_OK) {
         return err;
      }
      sector += t.sectors;
      buf += t.sectors * VIXDISKLIB_SECTOR_SIZE;
      sectors -= t.sectors;
   }
   return VIX_OK;
}
