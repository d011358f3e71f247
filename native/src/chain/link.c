/* Reads and writes through a chain of links. */
#include "chain/link.h"

#include "os/bytes.h"

#include <stdlib.h>
#include <sys/random.h>

static vr_extent *extent_of(const vr_link *link, uint64_t sector)
{
   size_t low = 0;
   size_t high = link->extent_count;
   while (high - low > 1) {
      size_t middle = low + (high - low) / 2;
      if (link->extents[middle].start <= sector) {
         low = middle;
      } else {
         high = middle;
      }
   }
   return &link->extents[low];
}

VixError vr_link_map(vr_link *link, uint64_t sector, uint64_t sectors, bool exact, vr_run *run)
{
   vr_extent *e = extent_of(link, sector);
   uint64_t own = sector - e->start;
   return e->ops->map(e, own, vr_min(sectors, e->sectors - own), exact, run);
}

static VixError read_run(vr_link *link, uint64_t sector, const vr_run *run, uint8_t *buf)
{
   vr_extent *e = extent_of(link, sector);
   size_t bytes = run->sectors * VIXDISKLIB_SECTOR_SIZE;
   switch (run->kind) {
   case VR_DATA:
      /* The last grain of a file may be short; a flat file that has shrunk is an error. */
      return e->type == VR_EXTENT_FLAT ? vr_file_read(e->file, run->offset, buf, bytes)
                                       : vr_file_read_padded(e->file, run->offset, buf, bytes);
   case VR_OPAQUE:
      return e->ops->read(e, sector - e->start, run->sectors, buf);
   case VR_HOLE:
      if (link->parent) {
         return vr_link_read(link->parent, sector, run->sectors, buf);
      }
      break;
   case VR_ZERO:
      break;
   }
   memset(buf, 0, bytes);
   return VIX_OK;
}

VixError vr_link_read(vr_link *link, uint64_t sector, uint64_t sectors, uint8_t *buf)
{
   while (sectors) {
      if (sector >= link->capacity) { /* a child may have grown past its parent */
         memset(buf, 0, sectors * VIXDISKLIB_SECTOR_SIZE);
         return VIX_OK;
      }
      vr_run run;
      VixError err = vr_link_map(link, sector, sectors, false, &run);
      if (err == VIX_OK) {
         err = read_run(link, sector, &run, buf);
      }
      if (err != VIX_OK) {
         return err;
      }
      sector += run.sectors;
      sectors -= run.sectors;
      buf += run.sectors * VIXDISKLIB_SECTOR_SIZE;
   }
   return VIX_OK;
}

VixError vr_link_is_hole(vr_link *link, uint64_t sector, uint64_t sectors, bool *hole)
{
   *hole = true;
   while (link && sectors && sector < link->capacity) {
      vr_run run;
      VixError err = vr_link_map(link, sector, sectors, true, &run);
      if (err != VIX_OK) {
         return err;
      }
      if (run.kind == VR_HOLE) {
         err = vr_link_is_hole(link->parent, sector, run.sectors, hole);
      } else {
         *hole = run.kind == VR_ZERO;
      }
      if (err != VIX_OK || !*hole) {
         return err;
      }
      sector += run.sectors;
      sectors -= run.sectors;
   }
   return VIX_OK;
}

static VixError below_read(const vr_below *below, uint64_t sector, uint64_t sectors, uint8_t *buf)
{
   if (below->unknown) {
      return VIX_E_DISK_PARTIALCHAIN;
   }
   if (below->parent) {
      return vr_link_read(below->parent, below->start + sector, sectors, buf);
   }
   memset(buf, 0, sectors * VIXDISKLIB_SECTOR_SIZE);
   return VIX_OK;
}

static VixError below_is_hole(const vr_below *below, uint64_t sector, uint64_t sectors, bool *hole)
{
   *hole = false;
   return below->unknown
      ? VIX_OK
      : vr_link_is_hole(below->parent, below->start + sector, sectors, hole);
}

static vr_below below_of(const vr_link *leaf, const vr_extent *e)
{
   return (vr_below){
      .read = below_read,
      .is_hole = below_is_hole,
      .parent = leaf->parent,
      .start = e->start,
      .unknown = leaf->single,
   };
}

/* Tells whether a write can be done, before the first byte of it and the content ID are changed. */
static VixError check_write(vr_link *leaf, uint64_t sector, uint64_t sectors)
{
   VixError err = VIX_OK;
   while (err == VIX_OK && sectors) {
      vr_extent *e = extent_of(leaf, sector);
      uint64_t own = sector - e->start;
      uint64_t part = vr_min(sectors, e->sectors - own);
      vr_below below = below_of(leaf, e);
      err = e->access != VR_ACCESS_RW ? VIX_E_DISK_NOIO
         : !e->ops->write             ? VIX_E_DISK_NOTSUPPORTED
         : e->ops->check              ? e->ops->check(e, own, part, &below)
                                      : VIX_OK;
      sector += part;
      sectors -= part;
   }
   return err;
}

VixError vr_link_write(vr_link *leaf, uint64_t sector, uint64_t sectors, const uint8_t *buf)
{
   VixError err = check_write(leaf, sector, sectors);
   if (err == VIX_OK && sectors) {
      err = vr_link_touch(leaf);
   }
   while (err == VIX_OK && sectors) {
      vr_extent *e = extent_of(leaf, sector);
      uint64_t own = sector - e->start;
      uint64_t part = vr_min(sectors, e->sectors - own);
      vr_below below = below_of(leaf, e);
      err = e->ops->write(e, own, part, buf, &below);
      sector += part;
      sectors -= part;
      buf += part * VIXDISKLIB_SECTOR_SIZE;
   }
   return err;
}

VixError vr_link_flush(vr_link *leaf)
{
   VixError result = VIX_OK;
   for (size_t i = 0; i < leaf->extent_count; i++) {
      VixError err = leaf->extents[i].ops->flush(&leaf->extents[i]);
      result = result == VIX_OK ? err : result;
   }
   VixError err = vr_file_sync(leaf->file);
   return result == VIX_OK ? err : result;
}

uint32_t vr_random_cid(uint32_t other_than)
{
   uint32_t cid = other_than;
   while (cid == other_than || cid >= VR_NO_PARENT - 1) {
      if (getrandom(&cid, sizeof cid, 0) != (ssize_t)sizeof cid) {
         cid = other_than + 1; /* cannot happen for 4 bytes once the system has started */
      }
   }
   return cid;
}

VixError vr_link_touch(vr_link *link)
{
   if (link->cid_fresh) {
      return VIX_OK;
   }
   vr_descriptor changed;
   VixError err = vr_descriptor_copy(&link->descriptor, &changed);
   if (err == VIX_OK) {
      err = vr_descriptor_set_cid(&changed, "CID", vr_random_cid(link->descriptor.cid));
      err = vr_link_change_descriptor(link, &changed, err);
   }
   link->cid_fresh = err == VIX_OK;
   return err;
}
