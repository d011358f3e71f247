#include "formats/cache.h"

#include <stdlib.h>

bool vr_cache_init(vr_cache *cache, size_t block_bytes, uint64_t blocks, size_t most)
{
   size_t slots = 1;
   while (slots < most && slots < blocks) {
      slots *= 2;
   }
   *cache = (vr_cache){.block_bytes = block_bytes, .slots = slots};
   cache->tags = calloc(slots, sizeof *cache->tags);
   cache->memory = malloc(slots * block_bytes);
   if (!cache->tags || !cache->memory) {
      vr_cache_free(cache);
      return false;
   }
   return true;
}

void vr_cache_free(vr_cache *cache)
{
   free(cache->tags);
   free(cache->memory);
   *cache = (vr_cache){0};
}

uint8_t *vr_cache_find(const vr_cache *cache, uint64_t number)
{
   size_t slot = number & (cache->slots - 1);
   return cache->tags[slot] == number + 1 ? cache->memory + slot * cache->block_bytes : NULL;
}

uint8_t *vr_cache_claim(vr_cache *cache, uint64_t number)
{
   size_t slot = number & (cache->slots - 1);
   cache->tags[slot] = number + 1;
   return cache->memory + slot * cache->block_bytes;
}

void vr_cache_drop(vr_cache *cache, uint64_t number)
{
   size_t slot = number & (cache->slots - 1);
   if (cache->tags[slot] == number + 1) {
      cache->tags[slot] = 0;
   }
}
