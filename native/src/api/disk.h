/* What a handle is: a chain of links, who may use it now, and its requests in flight. */
#ifndef VR_DISK_H
#define VR_DISK_H

#include "chain/link.h"
#include "lab/host.h"
#include "os/request_threads.h"

#include <pthread.h>

struct VixDiskLibHandleStruct {
   uint32_t magic;
   bool writable;
   bool attached;  /* its links went to a child, which keeps it in `attached_parents` */
   const char *mode;
   vr_link *leaf;
   vr_lab_host *host; /* of a disk of the lab that is written; NULL else */
   pthread_rwlock_t use; /* readers together, a writer alone */
   struct VixDiskLibHandleStruct *attached_parents; /* parents that were attached below, as a list */
   vr_request_owner requests; /* in flight; a read shares, a write does not */
};
typedef struct VixDiskLibHandleStruct vr_disk;

/* VIX_E_INVALID_HANDLE unless it is an open disk. */
VixError vr_disk_check(const vr_disk *disk);
/* The handle, the range, the buffer and the right to write. */
VixError vr_disk_check_request(const vr_disk *disk, bool write, uint64_t sector, uint64_t sectors,
   const void *buf);
/* The caller has checked the request; these take `use`. */
VixError vr_disk_read(vr_disk *disk, uint64_t sector, uint64_t sectors, uint8_t *buf);
VixError vr_disk_write(vr_disk *disk, uint64_t sector, uint64_t sectors, const uint8_t *buf);
/* The local path of what Open was given; *beneath is set for a datastore. Both are to be freed. */
VixError vr_disk_path(VixDiskLibConnection connection, const char *path, char **local,
   char **beneath);

#endif
