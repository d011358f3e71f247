/* The handle of an open disk: its chain of links, the lock on it, its requests in flight. */
#ifndef VR_DISK_H
#define VR_DISK_H

#include "chain/link.h"
#include "lab/host.h"
#include "os/request_threads.h"

#include <pthread.h>

struct VixDiskLibHandleStruct {
   uint32_t magic;
   bool writable;
   bool attached;  /* a child took its links and keeps it in `attached_parents` */
   const char *mode;
   vr_link *leaf;
   vr_lab_host *host; /* for a disk of the lab that is open for writing; else NULL */
   pthread_rwlock_t use; /* readers share it, a writer has it alone */
   struct VixDiskLibHandleStruct *attached_parents; /* a list of parents that Attach put below */
   vr_request_owner requests; /* in flight; a read shares, a write does not */
};
typedef struct VixDiskLibHandleStruct vr_disk;

/* VIX_E_INVALID_HANDLE unless it is an open disk. */
VixError vr_disk_check(const vr_disk *disk);
/* Checks the handle, the range, the buffer and the right to write. */
VixError vr_disk_check_request(const vr_disk *disk, bool write, uint64_t sector, uint64_t sectors,
   const void *buf);
/* Read and write a checked request; they take `use`. */
VixError vr_disk_read(vr_disk *disk, uint64_t sector, uint64_t sectors, uint8_t *buf);
VixError vr_disk_write(vr_disk *disk, uint64_t sector, uint64_t sectors, const uint8_t *buf);
/* Resolves the path given to Open: *local is the path here, *beneath the folder of its datastore
 * (NULL for a local disk). Both are the caller's to free. */
VixError vr_disk_path(VixDiskLibConnection connection, const char *path, char **local,
   char **beneath);

#endif
