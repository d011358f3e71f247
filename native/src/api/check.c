/*
 * CheckRepair: checks that every table and grain of a sparse extent lies in the file, that no two of
 * them share a place, and that the redundant tables equal the primary ones.
 *
 * Repair copies the good copy of a table entry over the bad one. A grain that both copies have lost
 * stays an error, because its content is unknown. Where two things share a place, nothing is written,
 * because no one knows which copy is right.
 */
#include "api/connection.h"
#include "api/settings.h"
#include "chain/link.h"
#include "formats/sparse_places.h"
#include "os/bytes.h"
#include "os/log.h"

#include <stdlib.h>

typedef struct {
   vr_extent *e;
   vr_sparse *s;
   bool repair;
   vr_places places; /* of a file that is not compressed */
   uint8_t primary[VR_GT_ENTRIES_MAX * 4];
   uint8_t redundant[VR_GT_ENTRIES_MAX * 4];
   uint64_t faults;
   uint64_t repairable;
   bool apart; /* nothing shares a place */
} checker;

static bool is_good(checker *c, uint32_t entry)
{
   const vr_sparse *s = c->s;
   return !entry || (entry == 1 && s->zero_grains)
      || (entry >= s->first_grain && (uint64_t)entry * VIXDISKLIB_SECTOR_SIZE < s->file_size);
}

static VixError load(checker *c, int which, uint64_t table, uint8_t *entries, uint64_t *at)
{
   vr_sparse *s = c->s;
   memset(entries, 0, s->table_bytes);
   pthread_mutex_lock(&s->lock);
   VixError err = vr_sparse_table_at(c->e, which, table, at);
   pthread_mutex_unlock(&s->lock);
   if (err == VIX_OK && *at) {
      err = vr_file_read(c->e->file, *at, entries, s->table_bytes);
   }
   return err;
}

static VixError check_table(checker *c, uint64_t table)
{
   vr_sparse *s = c->s;
   uint64_t at[2] = {0, 0};
   VixError err = load(c, VR_PRIMARY, table, c->primary, &at[VR_PRIMARY]);
   VixError other = s->redundant ? load(c, VR_REDUNDANT, table, c->redundant, &at[VR_REDUNDANT])
                                 : VIX_OK;
   if (err != VIX_OK || other != VIX_OK) {
      c->faults++; /* a directory entry leads out of the file: which copy is right is unknown */
      return err == VIX_E_DISK_NEEDSREPAIR || other == VIX_E_DISK_NEEDSREPAIR ? VIX_OK
         : err != VIX_OK                                                      ? err
                                                                              : other;
   }
   bool both = s->redundant && at[VR_REDUNDANT];
   bool changed = false;
   if (!at[VR_PRIMARY]) { /* the directory has lost the table: there is no place to copy to */
      c->faults += both && !vr_is_zero(c->redundant, s->table_bytes);
      return VIX_OK;
   }
   for (uint32_t i = 0; err == VIX_OK && i < s->header.gt_entries; i++) {
      uint32_t mine = vr_le32(c->primary + i * 4);
      uint32_t its = both ? vr_le32(c->redundant + i * 4) : mine;
      uint32_t right = is_good(c, mine) ? mine : its;
      if (!is_good(c, right)) {
         c->faults++;
         continue;
      }
      if (!c->repair && !s->compressed && right && !(right == 1 && s->zero_grains)) {
         err = vr_places_add_grain(&c->places, right);
      }
      if (mine != right || its != right) {
         c->faults++;
         c->repairable++;
         changed = true;
         vr_put32(c->primary + i * 4, right);
         vr_put32(c->redundant + i * 4, right);
      }
   }
   if (err == VIX_OK && changed && c->repair) {
      err = vr_file_write(c->e->file, at[VR_PRIMARY], c->primary, s->table_bytes);
      if (err == VIX_OK && both) {
         err = vr_file_write(c->e->file, at[VR_REDUNDANT], c->redundant, s->table_bytes);
      }
   }
   return err;
}

/* True if both copies of the table are holes of the file, as most of a large disk is. */
static bool is_empty(checker *c, uint64_t table)
{
   vr_sparse *s = c->s;
   uint8_t *entries;
   pthread_mutex_lock(&s->lock);
   bool empty = vr_sparse_table(c->e, table, &entries) == VIX_OK && !entries;
   uint64_t at = 0;
   if (empty && s->redundant && vr_sparse_table_at(c->e, VR_REDUNDANT, table, &at) == VIX_OK && at) {
      uint64_t data;
      uint64_t hole;
      vr_file_next_data(c->e->file, at, at + s->table_bytes, &data, &hole);
      empty = data >= at + s->table_bytes;
   } else {
      empty = empty && !s->redundant;
   }
   pthread_mutex_unlock(&s->lock);
   return empty;
}

static VixError store_header(checker *c)
{
   vr_sparse *s = c->s;
   uint8_t sector[512];
   uint8_t clean = 0;
   if (s->lost_primary || s->lost_redundant) { /* the remaining directory becomes the only one */
      s->header.flags &= ~VR_SPARSE_FLAG_REDUNDANT;
      vr_sparse_encode(&s->header, sector);
      VixError err = vr_file_write(c->e->file, 0, sector, sizeof sector);
      if (err != VIX_OK) {
         return err;
      }
   }
   return s->compressed ? VIX_OK : vr_file_write(c->e->file, s->unclean_at, &clean, 1);
}

static VixError check_tables(checker *c)
{
   VixError err = VIX_OK;
   c->faults = c->repairable = c->s->lost_primary || c->s->lost_redundant;
   for (uint64_t table = 0; err == VIX_OK && table < c->s->tables; table++) {
      if (!is_empty(c, table)) {
         err = check_table(c, table);
      }
   }
   return err;
}

/* Counts what is wrong and changes nothing. */
static VixError look(checker *c)
{
   VixError err = VIX_OK;
   if (!c->s->compressed) {
      pthread_mutex_lock(&c->s->lock);
      err = vr_places_begin(&c->places, c->e);
      pthread_mutex_unlock(&c->s->lock);
   }
   if (err == VIX_OK) {
      err = check_tables(c);
   }
   c->apart = err == VIX_OK && (c->s->compressed || vr_places_are_apart(&c->places));
   if (err == VIX_OK && !c->apart) {
      vr_warn("%s: two of its tables or grains have one place\n", c->e->file->path);
      c->faults++;
   }
   vr_places_free(&c->places);
   return err;
}

static VixError check_extent(vr_extent *e, bool repair)
{
   checker *c = calloc(1, sizeof *c);
   if (!c) {
      return VIX_E_OUT_OF_MEMORY;
   }
   c->e = e;
   c->s = e->state;
   VixError err = look(c);
   uint64_t faults = c->faults;
   bool can = c->faults == c->repairable;
   if (err == VIX_OK && repair && c->apart) {
      c->repair = true;
      err = faults ? check_tables(c) : VIX_OK;
      if (err == VIX_OK && can) {
         err = store_header(c);
      }
   }
   if (err == VIX_OK && faults) {
      vr_warn("%s: %llu faults, %llu repaired\n", e->file->path, (unsigned long long)faults,
         (unsigned long long)(c->repair ? c->repairable : 0));
      err = !repair ? VIX_E_DISK_NEEDSREPAIR : can ? VIX_OK : VIX_E_DISK_CANTREPAIR;
   }
   free(c);
   return repair && err == VIX_E_DISK_NEEDSREPAIR ? VIX_E_DISK_CANTREPAIR : err;
}

VixError VixDiskLib_CheckRepair(const VixDiskLibConnection connection, const char *filename,
   Bool repair)
{
   VixError err = vr_connection_check_local(connection);
   if (err != VIX_OK) {
      return err;
   }
   if (!filename || !*filename) {
      return VIX_E_INVALID_ARG;
   }
   if (repair && connection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_link *link;
   vr_link_options options = {
      .writable = repair,
      .single = true,
      .outside = vr_settings_get()->outside_extents,
   };
   err = vr_link_open(filename, &options, &link);
   if (err != VIX_OK) {
      return repair && err == VIX_E_DISK_NEEDSREPAIR ? VIX_E_DISK_CANTREPAIR : err;
   }
   for (size_t i = 0; err == VIX_OK && i < link->extent_count; i++) {
      vr_extent *e = &link->extents[i];
      if (e->type == VR_EXTENT_SPARSE || e->type == VR_EXTENT_COWD) {
         err = check_extent(e, repair && e->file->writable);
      }
   }
   if (repair && err == VIX_OK) {
      err = vr_link_flush(link);
   }
   VixError closed = vr_link_close(link);
   return err != VIX_OK ? err : closed;
}
