#include "nfc/compress.h"

#include "nfc/wire.h"
#include "os/bytes.h"
#include "os/deflate.h"

#include <string.h>

/* SkipZ: u32 bytes of the fragment | u32 0 | runs of (u32 offset | u32 bytes | data); what no run
 * covers is zero. Source: hystax/OpenVixDiskLib. */
#define SKIPZ_HEAD 8u
#define ZERO_MIN 64u /* a run has a head of 8 bytes, so short stretches of zeros stay in it */
#define LEVEL 1      /* the wire is faster than higher levels */

VixError vr_compression_of(uint32_t flags, uint32_t *type)
{
   switch (flags & VIXDISKLIB_FLAG_OPEN_COMPRESSION_MASK) {
   case 0:
      *type = VR_NFC_PLAIN;
      return VIX_OK;
   case VIXDISKLIB_FLAG_OPEN_COMPRESSION_ZLIB:
      *type = VR_NFC_ZLIB;
      return vr_deflate_available() ? VIX_OK : VIX_E_NOT_SUPPORTED;
   case VIXDISKLIB_FLAG_OPEN_COMPRESSION_SKIPZ:
      *type = VR_NFC_SKIPZ;
      return VIX_OK;
   case VIXDISKLIB_FLAG_OPEN_COMPRESSION_FASTLZ:
      return VIX_E_NOT_SUPPORTED;
   default:
      return VIX_E_INVALID_ARG;
   }
}

static bool unpack_skipz(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t bytes)
{
   if (in_bytes < SKIPZ_HEAD || vr_le32(in) != bytes) {
      return false;
   }
   memset(out, 0, bytes);
   for (size_t at = SKIPZ_HEAD; at < in_bytes;) {
      if (in_bytes - at < SKIPZ_HEAD) {
         return false;
      }
      size_t offset = vr_le32(in + at);
      size_t length = vr_le32(in + at + 4);
      at += SKIPZ_HEAD;
      if (offset > bytes || length > bytes - offset || length > in_bytes - at) {
         return false;
      }
      memcpy(out + offset, in + at, length);
      at += length;
   }
   return true;
}

/* The next stretch that is not zero, from `at` on; it ends before ZERO_MIN zeros or at the end. */
static bool next_run(const uint8_t *in, size_t bytes, size_t at, size_t *start, size_t *end)
{
   while (at + ZERO_MIN <= bytes && vr_is_zero(in + at, ZERO_MIN)) {
      at += ZERO_MIN;
   }
   *start = at;
   while (at < bytes
      && (at + ZERO_MIN > bytes ? !vr_is_zero(in + at, bytes - at)
                                : !vr_is_zero(in + at, ZERO_MIN))) {
      at += vr_min(ZERO_MIN, bytes - at);
   }
   *end = at;
   return *end > *start;
}

static size_t pack_skipz(const uint8_t *in, size_t bytes, uint8_t *out)
{
   size_t filled = SKIPZ_HEAD;
   if (bytes <= SKIPZ_HEAD) {
      return 0;
   }
   vr_put32(out, (uint32_t)bytes);
   vr_put32(out + 4, 0);
   size_t start;
   size_t end = 0;
   while (next_run(in, bytes, end, &start, &end)) {
      if (filled + SKIPZ_HEAD + (end - start) >= bytes) {
         return 0;
      }
      vr_put32(out + filled, (uint32_t)start);
      vr_put32(out + filled + 4, (uint32_t)(end - start));
      memcpy(out + filled + SKIPZ_HEAD, in + start, end - start);
      filled += SKIPZ_HEAD + (end - start);
   }
   return filled;
}

bool vr_unpack(uint32_t type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t bytes)
{
   size_t filled = bytes;
   switch (type) {
   case VR_NFC_ZLIB:
      return vr_inflate(in, in_bytes, out, &filled) == VIX_OK && filled == bytes;
   case VR_NFC_SKIPZ:
      return unpack_skipz(in, in_bytes, out, bytes);
   default:
      return false;
   }
}

size_t vr_pack(uint32_t type, const uint8_t *in, size_t bytes, uint8_t *out)
{
   size_t filled = bytes - 1; /* more would not be worth it: deflate then stops with an error */
   switch (type) {
   case VR_NFC_ZLIB:
      return bytes && vr_deflate(in, bytes, out, &filled, LEVEL) == VIX_OK ? filled : 0;
   case VR_NFC_SKIPZ:
      return pack_skipz(in, bytes, out);
   default:
      return 0;
   }
}
