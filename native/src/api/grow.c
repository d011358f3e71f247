/*
 * Grow: gives a disk more capacity. New tables and extents are put in place first; then one write
 * of the header or the descriptor makes them part of the disk.
 */
#include "api/connection.h"
#include "api/create.h"
#include "api/progress.h"
#include "api/settings.h"
#include "chain/geometry.h"
#include "chain/link.h"
#include "formats/sparse.h"
#include "os/bytes.h"
#include "os/log.h"
#include "os/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

/* Copies one directory to `to`, with entries for the new tables, which begin at `first_table`. */
static VixError write_directory(vr_extent *e, int which, uint64_t to, uint64_t old, uint64_t all,
   uint64_t first_table)
{
   vr_sparse *s = e->state;
   uint8_t *entries = calloc(all, 4);
   VixError err = entries ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   for (uint64_t i = 0; err == VIX_OK && i < all; i++) {
      uint64_t at = (first_table + (i - old) * (s->table_bytes / VIXDISKLIB_SECTOR_SIZE)) * 512;
      if (i < old) {
         err = vr_sparse_table_at(e, which, i, &at);
      }
      vr_put32(entries + i * 4, (uint32_t)(at / VIXDISKLIB_SECTOR_SIZE));
   }
   if (err == VIX_OK) {
      err = vr_file_write(e->file, to * VIXDISKLIB_SECTOR_SIZE, entries, all * 4);
   }
   free(entries);
   return err;
}

static VixError nothing_below(const vr_below *below, uint64_t sector, uint64_t sectors, bool *hole)
{
   (void)below;
   (void)sector;
   (void)sectors;
   *hole = true;
   return VIX_OK;
}

/* Zeros what the grains hold past the end of the disk, which becomes part of it. */
static VixError clear_end(vr_extent *e, uint64_t capacity)
{
   static const uint8_t zeros[VIXDISKLIB_SECTOR_SIZE * 128];
   const vr_sparse *s = e->state;
   const vr_below below = {.is_hole = nothing_below};
   uint64_t at = e->sectors;
   uint64_t end = vr_min(capacity, vr_round_up(s->header.capacity, s->header.grain));
   VixError err = VIX_OK;
   e->sectors = vr_min(capacity, s->tables * s->header.gt_entries * s->header.grain);
   while (err == VIX_OK && at < end) {
      vr_run run;
      err = vr_sparse_map(e, at, end - at, true, &run);
      uint64_t part = err != VIX_OK ? 0 : run.kind == VR_DATA ? vr_min(run.sectors, 128) : run.sectors;
      if (err == VIX_OK && run.kind == VR_DATA) {
         err = vr_sparse_write(e, at, part, zeros, &below);
      }
      at += part;
   }
   return err;
}

/* New directories and tables go to the end of the file; grains stay where they are. */
static VixError grow_sparse(vr_extent *e, uint64_t capacity)
{
   vr_sparse *s = e->state;
   if (s->table_bytes % VIXDISKLIB_SECTOR_SIZE || s->compressed || s->cowd) {
      return VIX_E_DISK_NOTSUPPORTED;
   }
   VixError err = vr_sparse_check_writable(e); /* without the lock: no one else has the extent open */
   vr_sparse_header h = s->header;
   uint8_t sector[512];
   h.capacity = capacity > h.capacity ? capacity : h.capacity; /* it may have more than the disk uses */
   vr_sparse_encode(&h, sector);
   if (err == VIX_OK && vr_sparse_decode(sector, &h) != VIX_OK) {
      err = VIX_E_FILE_TOO_BIG; /* no one could open it */
   }
   if (err == VIX_OK) {
      err = clear_end(e, capacity);
   }
   uint64_t old = s->tables;
   uint64_t all = vr_sparse_table_count(&h);
   if (err == VIX_OK && all > old) {
      uint64_t directory = vr_ceil_div(all * 4, VIXDISKLIB_SECTOR_SIZE);
      uint64_t tables = (all - old) * (s->table_bytes / VIXDISKLIB_SECTOR_SIZE);
      uint64_t start = s->next_free / VIXDISKLIB_SECTOR_SIZE;
      uint64_t copies = s->redundant ? 2 : 1;
      uint64_t end = vr_round_up(start + copies * (directory + tables), h.grain);
      if (end > UINT32_MAX) {
         return VIX_E_FILE_TOO_BIG;
      }
      err = vr_file_truncate(e->file, end * VIXDISKLIB_SECTOR_SIZE);
      for (uint64_t copy = 0; err == VIX_OK && copy < copies; copy++) {
         uint64_t at = start + copy * (directory + tables);
         bool redundant = s->redundant && !copy;
         *(redundant ? &h.redundant_gd : &h.gd) = at;
         err = write_directory(e, redundant ? VR_REDUNDANT : VR_PRIMARY, at, old, all,
            at + directory);
      }
   }
   if (err == VIX_OK) {
      err = vr_file_sync(e->file);
   }
   if (err == VIX_OK) {
      vr_sparse_encode(&h, sector);
      err = vr_file_write(e->file, 0, sector, sizeof sector);
   }
   return err;
}

/* *clear: nothing is in the file after `end`. */
static VixError is_clear_after(const vr_file *file, uint64_t end, bool *clear)
{
   uint64_t size = 0;
   VixError err = vr_file_size(file, &size);
   uint8_t buffer[4096];
   *clear = true;
   while (err == VIX_OK && *clear && end < size) {
      uint64_t data;
      uint64_t hole;
      vr_file_next_data(file, end, size, &data, &hole);
      for (end = data; err == VIX_OK && *clear && data < size && end < hole;) {
         size_t part = (size_t)vr_min(sizeof buffer, hole - end);
         err = vr_file_read(file, end, buffer, part);
         *clear = err == VIX_OK && vr_is_zero(buffer, part);
         end += part;
      }
   }
   return err;
}

/* The file may go on after the extent, with another extent or after a Grow that was interrupted. */
static VixError grow_flat(vr_link *link, vr_extent *e, uint64_t sectors)
{
   uint64_t end = e->offset + e->sectors * VIXDISKLIB_SECTOR_SIZE;
   uint64_t size = 0;
   bool clear = false;
   VixError err = is_clear_after(e->file, end, &clear);
   for (size_t i = 0; err == VIX_OK && clear && i < link->extent_count; i++) {
      const vr_extent *other = &link->extents[i];
      clear = other == e || !other->file || other->offset < e->offset
         || !vr_file_is_same(other->file, e->file);
   }
   if (err == VIX_OK && !clear) {
      vr_warn("%s: something follows the extent in %s\n", link->path, e->file->path);
      err = VIX_E_DISK_NOTSUPPORTED;
   }
   end = e->offset + sectors * VIXDISKLIB_SECTOR_SIZE;
   if (err == VIX_OK) {
      err = vr_file_size(e->file, &size);
   }
   return err == VIX_OK && end > size ? vr_file_truncate(e->file, end) : err;
}

static VixError grow_extent(vr_link *link, vr_extent *e, uint64_t sectors)
{
   if (e->access != VR_ACCESS_RW) {
      return VIX_E_DISK_NOIO;
   }
   switch (e->type) {
   case VR_EXTENT_FLAT:
      return grow_flat(link, e, sectors);
   case VR_EXTENT_SPARSE:
      return grow_sparse(e, sectors);
   case VR_EXTENT_ZERO:
      return VIX_OK; /* only its line tells how large it is */
   case VR_EXTENT_COWD:
   case VR_EXTENT_SESPARSE:
      break;
   }
   return VIX_E_DISK_NOTSUPPORTED;
}

/* Stores the new descriptor, which makes the new parts belong to the disk. */
static VixError finish(vr_link *link, uint64_t capacity, bool geometry)
{
   VixError err = geometry ? vr_geometry_store(&link->descriptor, capacity) : VIX_OK;
   if (err == VIX_OK) {
      err = vr_link_flush(link);
   }
   return err == VIX_OK ? vr_link_store_descriptor(link) : err;
}

static VixError grow_last(vr_link *link, uint64_t capacity, bool geometry)
{
   size_t last = link->extent_count - 1;
   vr_extent *e = &link->extents[last];
   uint64_t sectors = e->sectors + (capacity - link->capacity);
   VixError err = grow_extent(link, e, sectors);
   if (err == VIX_OK) {
      err = vr_descriptor_set_extent_sectors(&link->descriptor, last, sectors);
   }
   return err == VIX_OK ? finish(link, capacity, geometry) : err;
}

/* Other readers (qemu) read extents in whole grains, so only the last one may end within a grain. */
static VixError fill_last_grain(vr_link *link, uint64_t *more)
{
   size_t last = link->extent_count - 1;
   vr_extent *e = &link->extents[last];
   if (e->type != VR_EXTENT_SPARSE) {
      return VIX_OK;
   }
   const vr_sparse *s = e->state;
   uint64_t sectors = vr_min(vr_round_up(e->sectors, s->header.grain), e->sectors + *more);
   uint64_t old = e->sectors;
   VixError err = sectors > old ? grow_extent(link, e, sectors) : VIX_OK;
   if (err == VIX_OK && sectors > old) {
      *more -= sectors - old;
      err = vr_descriptor_set_extent_sectors(&link->descriptor, last, sectors);
   }
   return err;
}

/* Adds one extent or several to a split disk; removes them again on an error. */
static VixError grow_split(vr_link *link, VixDiskLibDiskType type, uint64_t capacity, bool geometry)
{
   if (link->descriptor_room) {
      return VIX_E_DISK_NOTSUPPORTED; /* one file with descriptor and data has one extent */
   }
   uint64_t index = link->extent_count;
   uint64_t more = capacity - link->capacity;
   VixError err = vr_check_extents(index + vr_split_extents(more));
   if (err == VIX_OK) {
      err = vr_descriptor_make_utf8(&link->descriptor); /* new names are in UTF-8 */
   }
   if (err == VIX_OK) {
      err = fill_last_grain(link, &more);
   }
   while (err == VIX_OK && more) {
      uint64_t sectors;
      char *line;
      err = vr_create_split_extent(link->path, type, index, more, &sectors, &line);
      if (err == VIX_OK) {
         index++;
         err = vr_descriptor_add_extent(&link->descriptor, line, sectors);
      }
      more -= sectors;
   }
   if (err == VIX_OK) {
      err = vr_sync_folder(link->path);
   }
   if (err == VIX_OK) {
      err = finish(link, capacity, geometry);
   }
   while (err != VIX_OK && index > link->extent_count) {
      vr_remove_split_extent(link->path, type, --index);
   }
   return err;
}

static VixError grow_link(vr_link *link, uint64_t capacity, bool geometry)
{
   const char *type = link->descriptor.create_type;
   if (link->descriptor.parent_cid != VR_NO_PARENT) {
      return VIX_E_DISK_NOTNORMAL; /* snapshots depend on its size */
   }
   if (!strcasecmp(type, "twoGbMaxExtentSparse")) {
      return grow_split(link, VIXDISKLIB_DISK_SPLIT_SPARSE, capacity, geometry);
   }
   if (!strcasecmp(type, "twoGbMaxExtentFlat")) {
      return grow_split(link, VIXDISKLIB_DISK_SPLIT_FLAT, capacity, geometry);
   }
   return !strcasecmp(type, "monolithicSparse") || !strcasecmp(type, "monolithicFlat")
         || !strcasecmp(type, "vmfs")
      ? grow_last(link, capacity, geometry)
      : VIX_E_DISK_NOTSUPPORTED;
}

VixError VixDiskLib_Grow(VixDiskLibConnection connection, const char *path,
   VixDiskLibSectorType capacity, Bool updateGeometry, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData)
{
   VixError err = vr_connection_check_local(connection);
   if (err != VIX_OK) {
      return err;
   }
   if (!path || !*path || capacity > INT64_MAX / VIXDISKLIB_SECTOR_SIZE) {
      return VIX_E_INVALID_ARG;
   }
   if (connection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_link *link;
   vr_link_options options = {
      .writable = true,
      .single = true,
      .outside = vr_settings_get()->outside_extents,
   };
   err = vr_link_open(path, &options, &link);
   if (err != VIX_OK) {
      return err;
   }
   if (capacity <= link->capacity) {
      err = capacity < link->capacity ? VIX_E_INVALID_ARG : VIX_OK;
   } else {
      vr_report(progressFunc, progressCallbackData, 0);
      err = grow_link(link, capacity, updateGeometry);
      if (err == VIX_OK) {
         err = vr_link_flush(link);
      }
   }
   VixError closed = vr_link_close(link);
   err = err != VIX_OK ? err : closed;
   if (err == VIX_OK) {
      vr_report(progressFunc, progressCallbackData, 100);
   }
   return err;
}
