/*
 * streamOptimized: sparse tables over deflated grains, written front to back once.
 *
 *    header | descriptor | grain | grain | GT marker, GT | grain ... | GD marker, GD | footer | end
 *
 *    grain marker  u64 first sector on the disk, u32 bytes, then the deflated bytes
 *    other marker  u64 sectors that follow, u32 0, u32 type (0 end, 1 GT, 2 GD, 3 footer)
 *
 * The header says that the directory is at the end; the footer is a header that says where.
 */
#ifndef VR_STREAMED_H
#define VR_STREAMED_H

#include "formats/sparse.h"

extern const vr_extent_ops vr_streamed_ops;

/* Takes the place of the directory from the footer. */
VixError vr_streamed_read_footer(vr_extent *e);
VixError vr_streamed_prepare(vr_extent *e);
/* Writes the pending grain and the end of the file; frees the stream. */
VixError vr_streamed_finish(vr_extent *e);
/* Formats an empty extent, whose descriptor is written already. */
VixError vr_streamed_format(vr_file *file, uint64_t capacity);

VixError vr_streamed_check(vr_extent *e, uint64_t sector, uint64_t sectors, const vr_below *below);
VixError vr_streamed_write(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
   const vr_below *below);

struct vr_streamed {
   uint8_t *packed; /* a grain with its marker, at its largest */
   size_t packed_room;
   uint64_t held; /* grain + 1 whose content is in `fill` */
   /* while writing */
   bool writing;
   uint64_t grain;     /* that `pending` collects */
   bool filled;        /* something is in it */
   uint8_t *pending;
   uint8_t *directory; /* whole, as it will be in the file */
   uint8_t table[VR_GT_ENTRIES * 4];
   bool table_used;
};

#endif
