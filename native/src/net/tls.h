/*
 * One TLS session over a non-blocking socket.
 *
 *    SSL_read/SSL_write  <->  records  <->  a BIO of ours  <->  vr_socket
 *
 * The BIO of OpenSSL's own would raise SIGPIPE in the program, and reads a record in two calls.
 * An SSL object is not for two threads at once: the caller locks round each call, and waits
 * outside of the lock.
 */
#ifndef VR_TLS_H
#define VR_TLS_H

#include "net/peer.h"
#include "net/socket.h"

typedef struct vr_tls vr_tls;

/* Results of a call that moved nothing. */
#define VR_TLS_WANTS_READ (-1)
#define VR_TLS_WANTS_WRITE (-2)
#define VR_TLS_FAILED (-3) /* *why tells, valid until the next call */

/* `name` goes to the server as SNI unless it is NULL or an address. `legacy`: OpenSSL's security
 * level 1. NULL without OpenSSL or memory. The socket stays the caller's. */
vr_tls *vr_tls_new(vr_socket *socket, const char *name, bool legacy);
/* Goes on with the handshake; 1 when it is done. */
int vr_tls_handshake(vr_tls *t);
/* At most `bytes`, at least 1 unless negative. A write moves one record at most. */
long vr_tls_read(vr_tls *t, void *buf, size_t bytes);
long vr_tls_write(vr_tls *t, const void *buf, size_t bytes);
/* The text of the last failure. */
const char *vr_tls_why(const vr_tls *t);
/* The digests of the peer's certificate, after the handshake. */
bool vr_tls_peer(const vr_tls *t, vr_peer *peer);
/* Verifies the chain by the system's CA store and that the certificate is for `host`. False: why. */
bool vr_tls_verify(vr_tls *t, const char *host);
/* Wipes decrypted bytes in OpenSSL's buffers once they are read. */
void vr_tls_cleanse(vr_tls *t);
/* Ends the session without a word to the peer. */
void vr_tls_free(vr_tls *t);

#endif
