/* Compresses and decompresses by zlib. zlib is loaded at the first call, because building the
 * library needs a C compiler and nothing else. Without zlib they give VIX_E_NOT_SUPPORTED. */
#ifndef VR_DEFLATE_H
#define VR_DEFLATE_H

#include "vixDiskLib.h"

#include <stdbool.h>

/* True where zlib is there. */
bool vr_deflate_available(void);
/* *bytes: room in `out` before, what was filled after. Damaged input: VIX_E_DISK_NEEDSREPAIR. */
VixError vr_inflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes);
/* `level`: 1 is fast, 6 is zlib's default, 9 is small. */
VixError vr_deflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes,
   int level);
/* The most bytes that the deflated form of so many bytes takes. */
size_t vr_deflate_bound(size_t bytes);

#endif
