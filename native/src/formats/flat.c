/* Flat extents, where sector n lies at n x 512 in the file, and extents of zeros without a file. */
#include "formats/extent.h"
#include "os/bytes.h"

/* Whole blocks of zeros of this size become holes (replication hashes blocks of this size). */
#define PUNCH_BYTES 65536u

static VixError flat_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run)
{
   uint64_t offset = e->offset + sector * VIXDISKLIB_SECTOR_SIZE;
   *run = (vr_run){VR_DATA, offset, sectors};
   if (!exact) {
      return VIX_OK;
   }
   uint64_t limit = offset + sectors * VIXDISKLIB_SECTOR_SIZE;
   uint64_t data;
   uint64_t hole;
   vr_file_next_data(e->file, offset, limit, &data, &hole);
   /* Starts of data round down to sectors and holes round up; file systems use larger units. */
   uint64_t ahead = (data - offset) / VIXDISKLIB_SECTOR_SIZE;
   if (ahead) {
      *run = (vr_run){VR_HOLE, 0, ahead};
   } else {
      run->sectors = vr_ceil_div(hole - offset, VIXDISKLIB_SECTOR_SIZE);
   }
   return VIX_OK;
}

static VixError flat_write(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
   const vr_below *below)
{
   (void)below;
   uint64_t at = e->offset + sector * VIXDISKLIB_SECTOR_SIZE;
   uint64_t end = at + sectors * VIXDISKLIB_SECTOR_SIZE;
   while (at < end) {
      /* A run of blocks of zeros, or a run of other blocks. */
      bool zero = false;
      uint64_t stop = at;
      while (stop < end) {
         uint64_t next = vr_min(end, (stop / PUNCH_BYTES + 1) * PUNCH_BYTES);
         bool whole = next - stop == PUNCH_BYTES;
         bool zero_here = whole && vr_is_zero(buf + (stop - at), PUNCH_BYTES);
         if (stop == at) {
            zero = zero_here;
         } else if (zero != zero_here) {
            break;
         }
         stop = next;
      }
      VixError err = zero ? vr_file_punch(e->file, at, stop - at)
                          : vr_file_write(e->file, at, buf, (size_t)(stop - at));
      if (err != VIX_OK) {
         return err;
      }
      buf += stop - at;
      at = stop;
   }
   return VIX_OK;
}

static const vr_extent_ops flat_ops = {
   .map = flat_map,
   .write = flat_write,
   .flush = vr_extent_flush,
   .close = vr_extent_close,
};

VixError vr_flat_open(vr_extent *e)
{
   uint64_t size;
   uint64_t offset;
   uint64_t end;
   VixError err = vr_file_size(e->file, &size);
   if (err != VIX_OK) {
      return err;
   }
   if (__builtin_mul_overflow(e->offset, (uint64_t)VIXDISKLIB_SECTOR_SIZE, &offset)
      || __builtin_add_overflow(offset, e->sectors * VIXDISKLIB_SECTOR_SIZE, &end)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (end > size) {
      return VIX_E_HOST_FILE_ERROR_EOF; /* cut short */
   }
   e->offset = offset;
   e->ops = &flat_ops;
   return VIX_OK;
}

static VixError zero_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run)
{
   (void)e;
   (void)sector;
   (void)exact;
   *run = (vr_run){VR_ZERO, 0, sectors};
   return VIX_OK;
}

static const vr_extent_ops zero_ops = {
   .map = zero_map,
   .flush = vr_extent_flush,
   .close = vr_extent_close,
};

VixError vr_zero_open(vr_extent *e)
{
   e->ops = &zero_ops;
   return VIX_OK;
}

VixError vr_extent_flush(vr_extent *e)
{
   return e->file ? vr_file_sync(e->file) : VIX_OK;
}

VixError vr_extent_close(vr_extent *e)
{
   (void)e;
   return VIX_OK;
}
