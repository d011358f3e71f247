/* Compression of grains. zlib is loaded when it is first needed: the library is built where there is
 * a C compiler and nothing else. Without it these calls are VIX_E_NOT_SUPPORTED. */
#ifndef VR_DEFLATE_H
#define VR_DEFLATE_H

#include "vixDiskLib.h"

/* *bytes: room in `out` before, what was filled after. Damaged input: VIX_E_DISK_NEEDSREPAIR. */
VixError vr_inflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes);
VixError vr_deflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes);
/* Room that the deflated form of so many bytes may need. */
size_t vr_deflate_bound(size_t bytes);

#endif
