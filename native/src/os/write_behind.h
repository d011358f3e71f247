/*
 * Stores large writes while the writing goes on, and drops them from the page cache. For kernels
 * and file systems without RWF_DONTCACHE, which does the same.
 *
 *    file   | dropped | stored? | being stored | ... | being written |  not yet written
 *             ^ once older than VR_WRITE_BEHIND_WINDOWS windows of 4 MiB: waited for, then dropped
 *
 * A sync at the end has only the last few MiB to store, and a copy of any size takes 64 MiB of the
 * cache: it uses warm pages again, and pages of other programs stay in the cache.
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

/* The state of one file; one thread at a time. */
typedef struct {
   vr_window writing;
   size_t bytes;                       /* written in `writing` */
   vr_window sent[VR_WRITE_BEHIND_WINDOWS]; /* being stored; a ring */
   unsigned oldest;
} vr_write_behind;

/* Notes a write that was just made. An error belongs to an earlier write that could not be stored.
 * The kernel reports it once, so from then on the syncs of the file have to fail. */
VixError vr_write_behind_note(vr_write_behind *behind, int fd, uint64_t offset, size_t bytes);

#endif
