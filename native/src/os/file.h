/*
 * One open file of a disk: whole reads and writes at byte offsets, errors as VixError, and the
 * memory of whether it has to be synced.
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
   atomic_bool broken; /* a write was not stored: what the kernel dropped stays lost, so each sync fails */
   bool kept;          /* RWF_DONTCACHE is not known here: `behind` sees to large writes instead */
   vr_write_behind behind;
   char path[];
} vr_file;

/* Regular files only; whatever else lies at the path is VIX_E_INCORRECT_FILE_TYPE. */
VixError vr_file_open(const char *path, bool writable, vr_file **out);
/* The file must not exist yet. */
VixError vr_file_create(const char *path, vr_file **out);
void vr_file_close(vr_file *file);

VixError vr_file_size(const vr_file *file, uint64_t *bytes);
/* Fewer bytes in the file than asked for: VIX_E_HOST_FILE_ERROR_EOF. */
VixError vr_file_read(const vr_file *file, uint64_t offset, void *buf, size_t bytes);
/* What lies past the end of the file reads as zeros. */
VixError vr_file_read_padded(const vr_file *file, uint64_t offset, void *buf, size_t bytes);
VixError vr_file_write(vr_file *file, uint64_t offset, const void *buf, size_t bytes);
/* `iov` is used up. One writer of a file at a time. */
VixError vr_file_writev(vr_file *file, uint64_t offset, struct iovec *iov, int count);
VixError vr_file_truncate(vr_file *file, uint64_t bytes);
/* In place of what has that name. `path` is not longer than the file's own. */
VixError vr_file_rename(vr_file *file, const char *path);
/* Whether its name still leads to it. */
bool vr_file_is_in_place(const vr_file *file);
bool vr_file_is_same(const vr_file *a, const vr_file *b);
/* Gives the space back; reads as zeros after. Writes zeros where the file system cannot. */
VixError vr_file_punch(vr_file *file, uint64_t offset, uint64_t bytes);
VixError vr_file_sync(vr_file *file);
/* The next data and the hole after it at or after `offset`; both `limit` when there is none before
 * it. A file system that does not know says that all is data. */
void vr_file_next_data(const vr_file *file, uint64_t offset, uint64_t limit, uint64_t *data,
   uint64_t *hole);
/* Make the names in the folder of `path` durable. */
VixError vr_sync_folder(const char *path);

#endif
