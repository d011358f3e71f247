/* Caches fixed-size blocks by number, direct-mapped: a new block takes the slot of an older one.
 * The kernel gives memory as slots are used. Not thread-safe. */
#ifndef VR_CACHE_H
#define VR_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
   size_t block_bytes;
   size_t slots;
   uint64_t *tags; /* block number + 1, 0 for an empty slot */
   uint8_t *memory;
} vr_cache;

/* Makes room for up to `most` blocks, or for `blocks` if fewer. False when out of memory. */
bool vr_cache_init(vr_cache *cache, size_t block_bytes, uint64_t blocks, size_t most);
void vr_cache_free(vr_cache *cache);
/* The block, or NULL when it is not here. */
uint8_t *vr_cache_find(const vr_cache *cache, uint64_t number);
/* A slot for the block, for the caller to fill. */
uint8_t *vr_cache_claim(vr_cache *cache, uint64_t number);
void vr_cache_drop(vr_cache *cache, uint64_t number);

#endif
