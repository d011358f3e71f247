/* Builds the list that QueryAllocatedBlocks returns. */
#ifndef VR_BLOCK_LIST_H
#define VR_BLOCK_LIST_H

#include "vixDiskLib.h"

typedef struct {
   VixDiskLibBlockList *list; /* the caller's to free */
   size_t room;
   uint64_t chunk; /* in sectors */
   uint64_t end;   /* of the request */
} vr_block_list;

/* An empty list for a request up to sector `end`, in chunks of `chunk` sectors. */
VixError vr_block_list_init(vr_block_list *b, uint64_t chunk, uint64_t end);
/* Adds a stretch, rounded out to chunks and joined to the one before. Stretches come in order. */
VixError vr_block_list_add(vr_block_list *b, uint64_t sector, uint64_t sectors);

#endif
