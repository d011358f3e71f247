/*
 * Writing behind: large writes are stored while the writing goes on, and leave the page cache. For
 * kernels and file systems without RWF_DONTCACHE, which does the same.
 *
 *    file   | dropped | stored? | being stored | ... | being written |  not yet written
 *             ^ once older than VR_WRITE_BEHIND_WINDOWS windows of 4 MiB: waited for, then dropped
 *
 * A sync at the end finds the last few MiB only, and a copy of any size takes 64 MiB of the cache:
 * its pages are used again while they are warm, and what others have in the cache stays there.
 */
#ifndef VR_WRITE_BEHIND_H
#define VR_WRITE_BEHIND_H

#include "vixDiskLib.h"

#include <stddef.h>
#include <stdint.h>

#define VR_WRITE_BEHIND_WINDOWS 16u

/* A stretch of the file in which 4 MiB were written. */
typedef struct {
   uint64_t from;
   uint64_t to; /* 0: nothing */
} vr_window;

/* Of one file; one thread at a time. */
typedef struct {
   vr_window writing;
   size_t bytes;                       /* written in `writing` */
   vr_window sent[VR_WRITE_BEHIND_WINDOWS]; /* being stored; a ring */
   unsigned oldest;
} vr_write_behind;

/* Tells what was just written. An error is of an earlier write that could not be stored; the kernel
 * reports it once, so the file's syncs have to fail from then on. */
VixError vr_write_behind_note(vr_write_behind *behind, int fd, uint64_t offset, size_t bytes);

#endif
