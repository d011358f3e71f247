/* A disk at an ESXi host: what the calls of VixDiskLib need of it. Offsets are in bytes here. */
#ifndef VR_NFC_DISK_H
#define VR_NFC_DISK_H

#include "nfc/host_link.h"

typedef struct vr_nfc_disk vr_nfc_disk;

VixError vr_nfc_open(const vr_nfc_target *target, vr_nfc_disk **out);
/* Waits for all requests, closes the disk and frees it. Returns an error only for a disk that was
 * written and that the host did not close. */
VixError vr_nfc_close(vr_nfc_disk *disk);
uint64_t vr_nfc_capacity(const vr_nfc_disk *disk);
/* Cylinders, heads and sectors as the host knows them; zeros where it does not. */
VixDiskLibGeometry vr_nfc_geometry(const vr_nfc_disk *disk);

/* Reads or writes pieces, several requests in flight. *done: the first pieces that are done. */
VixError vr_nfc_move(vr_nfc_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done);
/* VIX_ASYNC: the callback comes exactly once, from a thread of the library. */
VixError vr_nfc_submit(vr_nfc_disk *disk, bool write, const vreplica_Piece *piece,
   VixDiskLibCompletionCB callback, void *data);
/* Waits until every request is answered. An error: the connection was lost for good. */
VixError vr_nfc_wait(vr_nfc_disk *disk);

/* The values of keys of the disk's database, without `ddb.`; NULL for one that is missing. They
 * are the caller's to free. */
VixError vr_nfc_metadata(vr_nfc_disk *disk, const char *const *keys, size_t count, char **values);
/* A bit for each chunk of `chunk_bytes` from byte `start` on, least significant first: allocated,
 * or written by this handle. The caller's to free. */
VixError vr_nfc_allocated(vr_nfc_disk *disk, uint64_t start, uint64_t chunk_bytes, uint64_t chunks,
   uint8_t **bitmap);

/* `check` is called each time the disk was opened again after a loss, from a thread of the library
 * and before anything is sent. Where it does not give VIX_OK, every further call fails with what it
 * gave. NULL for no check. */
void vr_nfc_on_reopen(vr_nfc_disk *disk, VixError (*check)(void *data), void *data);

#endif
