/*
 * Sparse extents as VMware's "Virtual Disk Format 5.0" has them (magic KDMV).
 *
 *    header | descriptor | redundant GD, GTs | GD, GTs | grain | grain | ...
 *
 *    grain directory (GD)  one u32 sector number per grain table, 0: no table, all unallocated
 *    grain table (GT)      one u32 sector number per grain, 0: unallocated, 1: zeros (version 2)
 *    grain                 128 sectors as made here
 *
 * The redundant directory and tables are copies of the primary ones.
 */
#ifndef VR_SPARSE_H
#define VR_SPARSE_H

#include "formats/cache.h"
#include "formats/extent.h"

#include <pthread.h>

#define VR_SPARSE_FLAG_NEWLINES 1u
#define VR_SPARSE_FLAG_REDUNDANT 2u
#define VR_SPARSE_FLAG_ZERO_GRAIN 4u
#define VR_SPARSE_FLAG_COMPRESSED 0x10000u
#define VR_SPARSE_FLAG_MARKERS 0x20000u
#define VR_SPARSE_GD_AT_END UINT64_MAX

#define VR_COWD_HEADER_SECTORS 4u
#define VR_COWD_FREE_AT 28u /* byte in COWD's header */
#define VR_PAGE_ENTRIES 1024u /* of a directory, 4 KiB */

#define VR_COMPRESSION_DEFLATE 1u

#define VR_GRAIN_SECTORS 128u
#define VR_GT_ENTRIES 512u
#define VR_GT_ENTRIES_MAX 4096u /* COWD's */
#define VR_EMBEDDED_DESCRIPTOR_SECTORS 20u

typedef struct {
   uint32_t version;
   uint32_t flags;
   uint64_t capacity; /* this and all below in sectors */
   uint64_t grain;
   uint64_t descriptor;
   uint64_t descriptor_size;
   uint32_t gt_entries;
   uint64_t redundant_gd;
   uint64_t gd;
   uint64_t overhead; /* where grains begin */
   bool unclean;
   uint16_t compression;
} vr_sparse_header;

bool vr_sparse_is(const uint8_t sector[512]);
/* Decodes a header, and checks what can be checked without the file. Sizes that no reader could
 * handle are errors. */
VixError vr_sparse_decode(const uint8_t sector[512], vr_sparse_header *out);
void vr_sparse_encode(const vr_sparse_header *h, uint8_t sector[512]);
uint64_t vr_sparse_table_count(const vr_sparse_header *h);
/* Makes the header of a new extent, with every table in its place. */
vr_sparse_header vr_sparse_layout(uint64_t capacity, bool with_descriptor);
/* False for more tables than vr_sparse_decode accepts. */
bool vr_sparse_can_hold(uint64_t capacity);
/* Writes directories and header of a new extent into an empty file. */
VixError vr_sparse_format(vr_file *file, const vr_sparse_header *h);

typedef struct vr_streamed vr_streamed; /* stream.c */

typedef struct {
   vr_sparse_header header;
   bool cowd;          /* cowd.c: the same tables behind another header */
   bool compressed;    /* stream.c: grains are deflated */
   vr_streamed *stream;  /* of a compressed extent */
   uint64_t unclean_at; /* byte of the mark in the header */
   uint64_t first_grain; /* sector before which no grain can be */
   uint64_t tables; /* grain tables */
   size_t table_bytes;
   uint64_t file_size;
   uint64_t next_free; /* byte where the next grain goes */
   bool redundant;
   bool lost_primary; /* the redundant directory is used in its place */
   bool lost_redundant; /* the header names one that is not in the file */
   bool zero_grains;
   bool marked_unclean;
   uint8_t *fill; /* two grains, to complete a grain that is written in part */

   pthread_mutex_t lock; /* of all below: several readers share an extent */
   vr_cache directory[2]; /* pages of primary and redundant GD */
   vr_cache grain_tables; /* primary, as in the file */
   uint64_t hole_start;   /* [hole_start, hole_end) is a hole of the file: tables there are empty */
   uint64_t hole_end;
   uint64_t data_start; /* and this is data */
   uint64_t data_end;
} vr_sparse;

enum { VR_PRIMARY, VR_REDUNDANT };

/* Sets up tables and caches; the header is decoded already. */
VixError vr_sparse_prepare(vr_extent *e);
/* Frees the state and removes the unclean mark. */
VixError vr_sparse_close(vr_extent *e);
extern const vr_extent_ops vr_sparse_ops;

/* Finds the byte in the file where table `table` lies, 0 for none. Hold `lock`. */
VixError vr_sparse_table_at(const vr_extent *e, int which, uint64_t table, uint64_t *at);
/* Gives the entries of the primary table, NULL when it holds nothing. Hold `lock`. */
VixError vr_sparse_table(const vr_extent *e, uint64_t table, uint8_t **entries);
VixError vr_sparse_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run);
VixError vr_sparse_check(vr_extent *e, uint64_t sector, uint64_t sectors, const vr_below *below);
VixError vr_sparse_write(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
   const vr_below *below);
/* Writes entries [first, first + count) of the cached table, to the primary table first. */
VixError vr_sparse_store_entries(vr_extent *e, uint64_t table, const uint8_t *entries,
   uint64_t first, uint64_t count);
VixError vr_sparse_mark(vr_extent *e, bool unclean);
/* VIX_E_DISK_NEEDSREPAIR when something must not be added to the file, because a power failure or a
 * copy has cut it short, or because two entries lead to one place. Changes nothing. Hold `lock`. */
VixError vr_sparse_check_writable(vr_extent *e);

#endif
