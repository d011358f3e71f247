/* What a handle is: a chain of links, who may use it now, and its requests in flight. */
#ifndef VR_DISK_H
#define VR_DISK_H

#include "chain/link.h"
#include "lab/host.h"

#include <pthread.h>

struct VixDiskLibHandleStruct {
   uint32_t magic;
   bool writable;
   bool attached;  /* its links went to a child, which keeps it in `husks` */
   const char *mode;
   vr_link *leaf;
   vr_labhost *host; /* of a disk of the lab that is written; NULL else */
   pthread_rwlock_t use; /* readers together, a writer alone */
   struct VixDiskLibHandleStruct *husks; /* parents that were attached below, as a list */
   struct {                              /* kept by async.c under its lock */
      unsigned pending; /* queued or running, callbacks included */
      unsigned readers;
      bool writing;
   } async;
};
typedef struct VixDiskLibHandleStruct vr_disk;

/* VIX_E_INVALID_HANDLE unless it is an open disk. */
VixError vr_disk_check(const vr_disk *disk);
VixError vr_disk_check_range(const vr_disk *disk, uint64_t sector, uint64_t sectors);
/* Range and rights are checked; these take `use`. */
VixError vr_disk_read(vr_disk *disk, uint64_t sector, uint64_t sectors, uint8_t *buf);
VixError vr_disk_write(vr_disk *disk, uint64_t sector, uint64_t sectors, const uint8_t *buf);
/* The local path of what Open was given; *beneath is set for a datastore. Both are to be freed. */
VixError vr_disk_path(VixDiskLibConnection connection, const char *path, char **local,
   char **beneath);

#endif
