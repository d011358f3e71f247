#include "net/peer.h"

#include "net/openssl.h"

#include <string.h>

static int nibble(char c)
{
   return c >= '0' && c <= '9' ? c - '0'
      : c >= 'a' && c <= 'f'   ? c - 'a' + 10
      : c >= 'A' && c <= 'F'   ? c - 'A' + 10
                               : -1;
}

bool vr_thumbprint_parse(const char *text, uint8_t *out, size_t bytes)
{
   for (size_t i = 0; text && i < bytes; i++) {
      text += i && *text == ':';
      int high = nibble(*text);
      int low = high < 0 ? -1 : nibble(text[1]);
      if (low < 0) {
         return false;
      }
      out[i] = (uint8_t)(high << 4 | low);
      text += 2;
   }
   return text && !*text;
}

bool vr_thumbprint_is(const char *text, const vr_peer *peer)
{
   uint8_t digest[VR_SHA256_BYTES];
   if (vr_thumbprint_parse(text, digest, VR_SHA1_BYTES)) {
      return !memcmp(digest, peer->sha1, VR_SHA1_BYTES);
   }
   return vr_thumbprint_parse(text, digest, VR_SHA256_BYTES)
      && !memcmp(digest, peer->sha256, VR_SHA256_BYTES);
}

void vr_thumbprint_text(const uint8_t *digest, size_t bytes, char *out)
{
   static const char hex[] = "0123456789ABCDEF";
   for (size_t i = 0; i < bytes; i++) {
      *out++ = hex[digest[i] >> 4];
      *out++ = hex[digest[i] & 15];
      *out++ = i + 1 < bytes ? ':' : 0;
   }
}

bool vr_sha256(const void *data, size_t bytes, uint8_t out[VR_SHA256_BYTES])
{
   const vr_openssl *o = vr_openssl_get();
   unsigned got = 0;
   return o && o->EVP_Digest(data, bytes, out, &got, o->EVP_sha256(), NULL) == 1
      && got == VR_SHA256_BYTES;
}
