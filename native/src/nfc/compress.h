/* Compressed fragments: zlib, and SkipZ, which leaves out zeros. Each fragment stands alone. */
#ifndef VR_NFC_COMPRESS_H
#define VR_NFC_COMPRESS_H

#include "vixDiskLib.h"

#include <stdbool.h>

/* The type on the wire for the flags of Open. VIX_E_INVALID_ARG for several of them,
 * VIX_E_NOT_SUPPORTED for FastLZ. */
VixError vr_compression_of(uint32_t flags, uint32_t *type);
/* Unpacks a fragment of exactly `bytes` bytes. False for bytes that are no such fragment. */
bool vr_unpack(uint32_t type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t bytes);
/* Packs `bytes` bytes into at most `bytes` - 1. Returns the packed bytes; 0: send it plain. */
size_t vr_pack(uint32_t type, const uint8_t *in, size_t bytes, uint8_t *out);

#endif
