/*
 * Does what a host of the lab does at a write besides writing: checks the room, marks the change
 * map.
 *
 *    FOLDER.host     one line beside the datastore's folder: "capacity BYTES track 0|1"
 *    x-ctk.vmdk      the change map of the link x.vmdk, marked when `track` is 1
 *
 *    map:  0 "VRLABCTK", u64 bytes a block, u64 capacity, uuid, u64 epoch
 *          4096 u32 for each block: the epoch in which it was written last
 *
 * The lab (vreplica/lab/storage/space.py, change_map.py) does the same for writes over NFC.
 */
#ifndef VR_LAB_HOST_H
#define VR_LAB_HOST_H

#include "chain/link.h"

typedef struct {
   char *folder;    /* of the datastore */
   char *map;       /* path of the link's change map */
   bool grows;      /* false for a thick base disk, which has all its room */
   bool track;
   uint64_t capacity;
   uint64_t used;   /* the last sum over the files of the folder, plus the bytes written since */
   int64_t summed;  /* time of the last sum in ms; 0: never */
} vr_lab_host;

/* NULL when out of memory. */
vr_lab_host *vr_lab_host_open(const char *folder, const vr_link *leaf);
/* VIX_E_DISK_FULL when the datastore has no room; marks the map otherwise. */
VixError vr_lab_host_before_write(vr_lab_host *host, vr_link *leaf, uint64_t sector, uint64_t sectors);
void vr_lab_host_close(vr_lab_host *host);

#endif
