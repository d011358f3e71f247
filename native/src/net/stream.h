/*
 * A TCP connection, plain or under TLS.
 *
 *    connect -> plain -> start_tls -> TLS -> start_tls (another handshake on the same connection)
 *                                         -> drop_tls  (plain again)
 *
 * One thread may read while another one writes. start_tls, drop_tls and close are for one thread
 * alone. Deadlines are points in time of vr_now_ms(). After a failure the stream is good for
 * vr_stream_error and vr_stream_close.
 *
 * Errors
 *    VIX_E_HOST_SERVER_NOT_FOUND      no such name
 *    VIX_E_HOST_NETWORK_CONN_REFUSED  nobody listens
 *    VIX_E_CANNOT_CONNECT_TO_HOST     no way, or no answer in time; a failed TLS handshake
 *    VIX_E_HOST_TCP_CONN_LOST         closed or reset by the other side, or a TLS error
 *    VIX_E_HOST_TCP_SOCKET_ERROR      not done at the deadline
 *    VIX_E_NOT_SUPPORTED              no OpenSSL 3
 */
#ifndef VR_STREAM_H
#define VR_STREAM_H

#include "net/peer.h"

#include <sys/uio.h>

typedef struct vr_stream vr_stream;

/* All addresses of `host` share the time. A look-up of the name is not in it: the resolver has a
 * limit of its own. On failure *out is NULL, and the reason is in the log. */
VixError vr_stream_connect(const char *host, unsigned port, unsigned timeout_ms, vr_stream **out);
/* A handshake, within the time given to connect. A former session is dropped without shutdown.
 * `sni` may be NULL. The caller checks *peer (may be NULL) before anything secret is sent.
 * `legacy_seclevel1`: takes the weak keys and ciphers of old hosts too. */
VixError vr_stream_start_tls(vr_stream *s, const char *sni, vr_peer *peer, bool legacy_seclevel1);
/* For a connection without thumbprint: the peer's certificate is for `host`, and from an authority
 * that this machine trusts. VIX_E_CANNOT_CONNECT_TO_HOST where it is not. */
VixError vr_stream_verify_ca(vr_stream *s, const char *host);
/* Has OpenSSL wipe what it decrypted when it has been read: for answers with secrets. */
void vr_stream_cleanse(vr_stream *s);
/* Goes on in plain TCP. */
void vr_stream_drop_tls(vr_stream *s);

/* Exactly `bytes`. */
VixError vr_stream_read(vr_stream *s, void *buf, size_t bytes, int64_t deadline_ms);
/* At least 1, at most `bytes`. */
VixError vr_stream_read_some(vr_stream *s, void *buf, size_t bytes, size_t *got,
   int64_t deadline_ms);
VixError vr_stream_write(vr_stream *s, const void *buf, size_t bytes, int64_t deadline_ms);
/* Writes all parts; a short first part and what follows it share a TLS record. */
VixError vr_stream_writev(vr_stream *s, const struct iovec *parts, int count, int64_t deadline_ms);
/* Has every read and write end at once with VIX_E_HOST_TCP_CONN_LOST. From any thread. */
void vr_stream_interrupt(vr_stream *s);

int vr_stream_fd(const vr_stream *s);
/* The text of the first failure, for the log. No secret is in it. */
const char *vr_stream_error(const vr_stream *s);
/* NULL does nothing. */
void vr_stream_close(vr_stream *s);

#endif
