/*
 * Opens, reads, writes and syncs one file of a disk: whole requests at byte offsets, errors as
 * VixError. It remembers whether a sync is due, and a write that was not stored.
 */
#ifndef VR_FILE_H
#define VR_FILE_H

#include "os/write_behind.h"
#include "vixDiskLib.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

typedef struct vr_file {
   int fd;
   bool writable;
   atomic_bool dirty;  /* written since the last sync */
   atomic_bool broken; /* a write was not stored: the kernel has dropped it, so each sync fails */
   bool kept;          /* no RWF_DONTCACHE here: `behind` stores large writes instead */
   vr_write_behind behind;
   char path[];
} vr_file;

/* Opens a regular file; anything else at the path is VIX_E_INCORRECT_FILE_TYPE. */
VixError vr_file_open(const char *path, bool writable, vr_file **out);
/* Creates a file that does not exist yet. */
VixError vr_file_create(const char *path, vr_file **out);
void vr_file_close(vr_file *file);

VixError vr_file_size(const vr_file *file, uint64_t *bytes);
/* Fewer bytes in the file than asked for: VIX_E_HOST_FILE_ERROR_EOF. */
VixError vr_file_read(const vr_file *file, uint64_t offset, void *buf, size_t bytes);
/* Bytes past the end of the file read as zeros. */
VixError vr_file_read_padded(const vr_file *file, uint64_t offset, void *buf, size_t bytes);
VixError vr_file_write(vr_file *file, uint64_t offset, const void *buf, size_t bytes);
/* Changes `iov`. One writer of a file at a time. */
VixError vr_file_writev(vr_file *file, uint64_t offset, struct iovec *iov, int count);
VixError vr_file_truncate(vr_file *file, uint64_t bytes);
/* Gives the file a name, in place of a file that has it. `path` is not longer than the old name. */
VixError vr_file_rename(vr_file *file, const char *path);
/* True if its name still leads to it. */
bool vr_file_is_in_place(const vr_file *file);
bool vr_file_is_same(const vr_file *a, const vr_file *b);
/* Frees the space; it reads as zeros then. Writes zeros if the file system cannot punch holes. */
VixError vr_file_punch(vr_file *file, uint64_t offset, uint64_t bytes);
VixError vr_file_sync(vr_file *file);
/* Finds the next data at or after `offset`, and the hole after it; both are `limit` without data
 * before it. A file system that cannot tell says that all is data. */
void vr_file_next_data(const vr_file *file, uint64_t offset, uint64_t limit, uint64_t *data,
   uint64_t *hole);
/* Makes the names in the folder of `path` durable. */
VixError vr_sync_folder(const char *path);

#endif
