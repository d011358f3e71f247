/*
 * Clone: copies a whole chain into one new disk.
 *
 * A disk that is overwritten stays until the copy is whole: the copy is made beside it, then the names
 * change, each step with a way back, and the old disk is deleted last.
 */
#include "api/connection.h"
#include "api/create.h"
#include "api/disk.h"
#include "api/progress.h"
#include "api/remove.h"
#include "api/settings.h"
#include "chain/link_files.h"
#include "os/bytes.h"
#include "os/path.h"

#include <stdlib.h>
#include <unistd.h>

#define BUFFER_BYTES (2u << 20)

typedef VixError visitor(void *data, uint64_t sector, uint64_t sectors);

/* Calls `visit` with each run that the chain holds, in order. */
static VixError visit_held(vr_link *link, uint64_t sector, uint64_t sectors, visitor *visit,
   void *data)
{
   VixError err = VIX_OK;
   while (err == VIX_OK && link && sectors && sector < link->capacity) {
      vr_run run;
      err = vr_link_map(link, sector, sectors, true, &run);
      if (err != VIX_OK) {
         break;
      }
      if (run.kind == VR_HOLE) {
         err = visit_held(link->parent, sector, run.sectors, visit, data);
      } else if (run.kind != VR_ZERO) {
         err = visit(data, sector, run.sectors);
      }
      sector += run.sectors;
      sectors -= run.sectors;
   }
   return err;
}

/* Gathers runs that follow each other, so that the destination gets large writes. */
typedef struct {
   vr_link *from;
   vr_link *to;
   uint8_t *buffer;
   uint64_t start; /* of what is gathered, in sectors */
   uint64_t end;
   VixDiskLibProgressFunc progress;
   void *progress_data;
   int percent;
} copier;

static VixError copy_gathered(copier *c)
{
   VixError err = VIX_OK;
   while (err == VIX_OK && c->start < c->end) {
      uint64_t part = vr_min(BUFFER_BYTES / VIXDISKLIB_SECTOR_SIZE, c->end - c->start);
      err = vr_link_read(c->from, c->start, part, c->buffer);
      if (err == VIX_OK) {
         err = vr_link_write(c->to, c->start, part, c->buffer);
      }
      c->start += part;
      int percent = (int)(c->start * 99 / c->from->capacity);
      if (percent != c->percent) {
         c->percent = percent;
         vr_report(c->progress, c->progress_data, percent);
      }
   }
   return err;
}

static VixError gather(void *data, uint64_t sector, uint64_t sectors)
{
   copier *c = data;
   VixError err = VIX_OK;
   if (sector != c->end) {
      err = copy_gathered(c);
      c->start = sector;
   }
   c->end = sector + sectors;
   if (err == VIX_OK && c->end - c->start >= BUFFER_BYTES / VIXDISKLIB_SECTOR_SIZE) {
      err = copy_gathered(c);
   }
   return err;
}

static VixError copy(vr_link *from, vr_link *to, VixDiskLibProgressFunc progress, void *data)
{
   copier c = {.from = from, .to = to, .progress = progress, .progress_data = data};
   c.buffer = malloc(BUFFER_BYTES);
   if (!c.buffer) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = visit_held(from, 0, from->capacity, gather, &c);
   if (err == VIX_OK) {
      err = copy_gathered(&c);
   }
   if (err == VIX_OK) {
      err = vr_link_flush(to);
   }
   free(c.buffer);
   return err;
}

/* Deletes (without `dst`) or renames the disk at `path`. */
static VixError rename_or_remove(const char *path, const char *dst)
{
   vr_link *link;
   bool outside = vr_settings_get()->outside_extents;
   vr_link_options options = {.writable = true, .outside = outside};
   VixError err = vr_link_load(path, &options, &link);
   if (err == VIX_OK) {
      err = dst ? vr_link_rename(link, dst) : vr_link_remove(link, outside);
      vr_link_close(link);
   }
   return err;
}

/* Leaves nothing at `path` on failure. */
static VixError make_copy(vr_link *from, const char *path, const vr_create_plan *plan,
   VixDiskLibProgressFunc progress, void *data)
{
   VixError err = vr_create(path, plan);
   if (err != VIX_OK) {
      return err;
   }
   vr_link *to;
   vr_link_options options = {.writable = true};
   err = vr_link_open(path, &options, &to);
   if (err == VIX_OK) {
      err = copy(from, to, progress, data);
      VixError closed = vr_link_close(to);
      err = err != VIX_OK ? err : closed;
   }
   if (err != VIX_OK) {
      rename_or_remove(path, NULL);
   }
   return err;
}

/* Puts the copy at `beside` in the place of the disk at `path`. */
static VixError take_place(const char *path, const char *beside)
{
   char *old = vr_path_with_suffix(path, "~old");
   VixError err = old ? rename_or_remove(path, old) : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      err = rename_or_remove(beside, path);
      if (err == VIX_OK) {
         err = rename_or_remove(old, NULL);
      } else {
         rename_or_remove(old, path);
      }
   }
   free(old);
   return err;
}

/* Refuses to overwrite what is open for writing, and what the source needs. */
static VixError check_old(const char *path, const vr_link *source)
{
   vr_link *old;
   bool shares = false;
   vr_link_options options = {
      .writable = true,
      .single = true,
      .outside = vr_settings_get()->outside_extents,
   };
   VixError err = vr_link_open(path, &options, &old);
   if (err == VIX_OK) {
      err = vr_link_shares_file(old, source, &shares);
   }
   vr_link_close(old);
   return shares ? VIX_E_INVALID_ARG : err;
}

static VixError overwrite(vr_link *from, const char *path, const vr_create_plan *plan,
   VixDiskLibProgressFunc progress, void *data)
{
   char *beside = vr_path_with_suffix(path, "~new");
   VixError err = beside ? check_old(path, from) : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      err = make_copy(from, beside, plan, progress, data);
   }
   if (err == VIX_OK) {
      err = take_place(path, beside);
      if (err != VIX_OK) {
         rename_or_remove(beside, NULL);
      }
   }
   free(beside);
   return err;
}

VixError VixDiskLib_Clone(const VixDiskLibConnection dstConnection, const char *dstPath,
   const VixDiskLibConnection srcConnection, const char *srcPath,
   const VixDiskLibCreateParams *createParams, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData, Bool overWrite)
{
   VixError err = vr_connection_check_local(dstConnection);
   if (err != VIX_OK) {
      return err;
   }
   if (!dstPath || !*dstPath || !createParams) {
      return VIX_E_INVALID_ARG;
   }
   if (dstConnection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   VixDiskLibHandle source;
   err = VixDiskLib_Open(srcConnection, srcPath, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &source);
   if (err != VIX_OK) {
      return err;
   }
   err = vr_disk_check_here(source);
   if (err != VIX_OK) {
      VixDiskLib_Close(source);
      return err;
   }
   vr_create_plan plan = {
      .type = createParams->diskType,
      .capacity = source->leaf->capacity,
      .adapter = vr_adapter_name(createParams->adapterType),
      .hw_version = createParams->hwVersion,
   };
   bool exists = access(dstPath, F_OK) == 0;
   err = exists && !overWrite ? VIX_E_FILE_ALREADY_EXISTS : vr_create_check(dstPath, &plan);
   if (err == VIX_OK) {
      vr_report(progressFunc, progressCallbackData, 0);
      err = (exists ? overwrite : make_copy)(source->leaf, dstPath, &plan, progressFunc,
         progressCallbackData);
   }
   if (err == VIX_OK) {
      vr_report(progressFunc, progressCallbackData, 100);
   }
   VixDiskLib_Close(source);
   return err;
}

static VixError add_grains(void *data, uint64_t sector, uint64_t sectors)
{
   (void)sector;
   *(uint64_t *)data += vr_round_up(sectors, 128) * VIXDISKLIB_SECTOR_SIZE;
   return VIX_OK;
}

VixError VixDiskLib_SpaceNeededForClone(VixDiskLibHandle diskHandle,
   VixDiskLibDiskType cloneDiskType, uint64_t *spaceNeeded)
{
   VixError err = vr_disk_check_here(diskHandle);
   if (err != VIX_OK || !spaceNeeded) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   uint64_t held = 0;
   uint64_t capacity = diskHandle->leaf->capacity;
   pthread_rwlock_rdlock(&diskHandle->use);
   err = visit_held(diskHandle->leaf, 0, capacity, add_grains, &held);
   pthread_rwlock_unlock(&diskHandle->use);
   if (err == VIX_OK) {
      err = vr_create_space(cloneDiskType, capacity, held, spaceNeeded);
   }
   return err;
}
