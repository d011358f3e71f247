/*
 * The handle of an open disk, and what a kind of disk has to do.
 *
 *    calls of VixDiskLib    disk.c, async_io.c, allocated.c, info.c: check the arguments
 *          |
 *        vr_disk_ops
 *        |         |
 *    local_disk.c  remote_disk.c
 *    a chain here  a disk at an ESXi host (nfc/)
 */
#ifndef VR_DISK_H
#define VR_DISK_H

#include "api/block_list.h"
#include "api/connection.h"
#include "chain/link.h"
#include "lab/host.h"
#include "nfc/nfc_disk.h"
#include "os/request_threads.h"

#include <pthread.h>

typedef struct VixDiskLibHandleStruct vr_disk;

/* Arguments are checked before: ranges are within the disk, only a writable one is written. */
typedef struct {
   /* Reads or writes pieces in their order. *done: the first pieces that are done. */
   VixError (*move)(vr_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
      size_t *done);
   /* VIX_ASYNC: the callback comes exactly once, from a thread of the library. */
   VixError (*submit)(vr_disk *disk, bool write, const vreplica_Piece *piece,
      VixDiskLibCompletionCB callback, void *data);
   void (*wait)(vr_disk *disk);
   VixError (*flush)(vr_disk *disk);
   VixError (*allocated)(vr_disk *disk, uint64_t sector, uint64_t sectors, vr_block_list *blocks);
   VixError (*info)(vr_disk *disk, VixDiskLibInfo **info);
   /* VIX_E_DISK_KEY_NOTFOUND for a missing key. The value is the caller's to free. */
   VixError (*metadata)(vr_disk *disk, const char *key, char **value);
   VixError (*set_metadata)(vr_disk *disk, const char *key, const char *value);
   /* All keys, each with its NUL, and a last NUL: *bytes in all. The caller's to free. */
   VixError (*metadata_keys)(vr_disk *disk, char **keys, size_t *bytes);
   /* Waits for requests, closes, frees all but the handle itself. */
   VixError (*close)(vr_disk *disk);
} vr_disk_ops;

struct VixDiskLibHandleStruct {
   uint32_t magic;
   bool writable;
   bool attached;  /* a child took its links and keeps it in `attached_parents` */
   const char *mode;
   uint64_t capacity; /* in sectors */
   const vr_disk_ops *ops;

   /* A disk here. */
   vr_link *leaf; /* NULL for a disk at a host */
   vr_lab_host *host; /* for a disk of the lab that is open for writing; else NULL */
   pthread_rwlock_t use; /* readers share it, a writer has it alone */
   struct VixDiskLibHandleStruct *attached_parents; /* a list of parents that Attach put below */
   vr_request_owner requests; /* in flight; a read shares, a write does not */

   /* A disk at a host. */
   vr_nfc_disk *remote;
   struct VixDiskLibConnectParam *connection; /* held for new tickets */
};

/* VIX_E_INVALID_HANDLE unless it is an open disk. */
VixError vr_disk_check(const vr_disk *disk);
/* The same, and VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT for a disk at a host. */
VixError vr_disk_check_here(const vr_disk *disk);
/* Checks the handle, the range, the buffer and the right to write. */
VixError vr_disk_check_request(const vr_disk *disk, bool write, const vreplica_Piece *piece);

/* Open a disk into a handle that has `writable` and `mode`, and set its `ops`. On failure nothing
 * but the handle itself is left. */
VixError vr_local_disk_open(vr_disk *disk, VixDiskLibConnection connection, const char *path,
   uint32_t flags);
VixError vr_remote_disk_open(vr_disk *disk, VixDiskLibConnection connection, const char *path,
   uint32_t flags);
/* Frees the handle of a local disk whose chain belongs to another now. */
void vr_local_disk_free(vr_disk *disk);

/* The descriptors of a chain as information about its disk: the operations of a local disk. */
VixError vr_chain_info(vr_disk *disk, VixDiskLibInfo **info);
VixError vr_chain_metadata(vr_disk *disk, const char *key, char **value);
VixError vr_chain_set_metadata(vr_disk *disk, const char *key, const char *value);
VixError vr_chain_metadata_keys(vr_disk *disk, char **keys, size_t *bytes);

/* For GetInfo: the type of adapter that a name of the disk's database means. */
VixDiskLibAdapterType vr_adapter_type(const char *name);

#endif
