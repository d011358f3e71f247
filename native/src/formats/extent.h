/*
 * Extents: an extent is a stretch of one link of a disk, in one file and one format.
 *
 *    disk    |<------ extent 0 ------>|<--- extent 1 --->|
 *    extent  | DATA | HOLE | DATA ... |
 *
 * `map` tells what a stretch is, in runs as long as possible. chain/link.c moves the data of DATA
 * runs directly between the file and the caller's buffer, and asks the parent about HOLE runs.
 */
#ifndef VR_EXTENT_H
#define VR_EXTENT_H

#include "formats/extent_type.h"
#include "os/file.h"

typedef enum {
   VR_DATA,  /* in the file at `offset`, contiguous */
   VR_HOLE,  /* not in this link: the parent's, or zeros */
   VR_ZERO,  /* zeros, whatever the parent has */
   VR_OPAQUE /* stored in another form: ask `read` */
} vr_kind;

typedef struct {
   vr_kind kind;
   uint64_t offset; /* bytes, DATA only */
   uint64_t sectors;
} vr_run;

/* The same sectors of the parents, below an extent that is being written. Sectors are the extent's
 * own. chain/link.c fills it in. */
typedef struct vr_below vr_below;

struct vr_below {
   VixError (*read)(const vr_below *below, uint64_t sector, uint64_t sectors, uint8_t *buf);
   /* *hole: no parent holds anything there, so it reads as zeros. */
   VixError (*is_hole)(const vr_below *below, uint64_t sector, uint64_t sectors, bool *hole);
   void *parent;   /* for `read` and `is_hole`; NULL: nothing, unless `unknown` */
   uint64_t start; /* of the extent on the disk, in sectors */
   bool unknown;   /* a child opened without its parents */
};

typedef struct vr_extent vr_extent;

typedef struct {
   /* Tells what `sector` is, and for how many of `sectors` (at least one). Sectors are the extent's
    * own. `exact` asks flat files for their holes too, which reading does not need. */
   VixError (*map)(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact, vr_run *run);
   /* Reads OPAQUE runs. */
   VixError (*read)(vr_extent *e, uint64_t sector, uint64_t sectors, uint8_t *buf);
   /* Tells whether a write of this part can be done, and changes nothing. NULL: it can. */
   VixError (*check)(vr_extent *e, uint64_t sector, uint64_t sectors, const vr_below *below);
   /* NULL: not writable. The caller makes sure that nothing else uses the link. */
   VixError (*write)(vr_extent *e, uint64_t sector, uint64_t sectors, const uint8_t *buf,
      const vr_below *below);
   /* Puts everything on stable storage. */
   VixError (*flush)(vr_extent *e);
   /* Marks the file clean and frees `state`; the caller closes the file. */
   VixError (*close)(vr_extent *e);
} vr_extent_ops;

struct vr_extent {
   const vr_extent_ops *ops;
   uint64_t start;   /* on the disk, in sectors */
   uint64_t sectors;
   vr_access access;
   vr_extent_type type;
   uint64_t offset; /* of flat data in its file, in bytes */
   vr_file *file;   /* NULL for ZERO; owned */
   void *state;     /* of the format; owned */
};

/* Open functions: each fills ops and state of an extent whose other members are set. */
VixError vr_flat_open(vr_extent *e);
VixError vr_zero_open(vr_extent *e);
VixError vr_sparse_open(vr_extent *e);
VixError vr_cowd_open(vr_extent *e);
VixError vr_sesparse_open(vr_extent *e);

/* Syncs the file, and closes nothing: for formats without a state of their own. */
VixError vr_extent_flush(vr_extent *e);
VixError vr_extent_close(vr_extent *e);

#endif
