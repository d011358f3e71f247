/* The identity of a TLS server: the digests of its own certificate, as thumbprints name them. */
#ifndef VR_PEER_H
#define VR_PEER_H

#include "vixDiskLib.h"

#include <stdbool.h>

#define VR_SHA1_BYTES 20u
#define VR_SHA256_BYTES 32u
#define VR_THUMBPRINT_ROOM (VR_SHA256_BYTES * 3)

typedef struct vr_peer {
   uint8_t sha1[VR_SHA1_BYTES]; /* of the leaf certificate's DER bytes */
   uint8_t sha256[VR_SHA256_BYTES];
} vr_peer;

/* Reads a thumbprint of exactly `bytes` bytes: hex in any case, with or without a colon between two
 * bytes. False for anything else. */
bool vr_thumbprint_parse(const char *text, uint8_t *out, size_t bytes);
/* True where `text` is the SHA-1 or the SHA-256 thumbprint of the peer. */
bool vr_thumbprint_is(const char *text, const vr_peer *peer);
/* Writes `bytes` bytes as AA:BB:CC into `out`, which has VR_THUMBPRINT_ROOM. */
void vr_thumbprint_text(const uint8_t *digest, size_t bytes, char *out);
/* False without OpenSSL. */
bool vr_sha256(const void *data, size_t bytes, uint8_t out[VR_SHA256_BYTES]);

#endif
