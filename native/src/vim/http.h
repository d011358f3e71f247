/*
 * HTTP/1.1 to one server: a connection that is kept open, requests one after the other.
 *
 * An answer has a length or is chunked, and limits of size and time. No redirect is followed.
 */
#ifndef VR_HTTP_H
#define VR_HTTP_H

#include "vim/text.h"

#include "vixDiskLib.h"

#define VR_HTTP_ANSWER_MOST (16u << 20)
#define VR_HTTP_HEAD_MOST (64u << 10)

typedef struct {
   unsigned status;
   vr_text cookie; /* of Set-Cookie: name=value of the session; empty: none came */
   vr_text body;
   bool close;     /* the server closes the connection after this answer */
} vr_http_answer;

/* Wipes and frees. */
void vr_http_answer_free(vr_http_answer *a);

/* Where an answer comes from: gives at least 1 and at most `bytes` bytes. */
typedef VixError vr_http_read(void *data, void *buf, size_t bytes, size_t *got, int64_t deadline_ms);

/* Reads one answer. VIX_E_HOST_TCP_CONN_LOST for one that is not HTTP; *why tells (a literal, NULL
 * where `read` failed). *any: a byte has come. */
VixError vr_http_receive(vr_http_read *read, void *data, int64_t deadline_ms, vr_http_answer *out,
   bool *any, const char **why);

typedef struct vr_http vr_http;

typedef struct {
   const char *server;
   unsigned port;
   const char *thumbprint; /* NULL or "": the certificate is verified by authority and name */
   bool legacy_tls;
} vr_http_server;

/* Makes no connection yet. The strings of `server` are the caller's and stay. NULL: no memory. */
vr_http *vr_http_new(const vr_http_server *server);
/* Connects where there is no connection, checks the certificate, posts and reads the answer. Where
 * a connection that was kept proves closed, the request is sent once more on a new one. Errors are
 * logged. VIX_E_FAIL: the certificate is not the one expected, and nothing was sent. */
VixError vr_http_post(vr_http *h, const char *path, const char *action, const char *cookie,
   const vr_text *body, unsigned timeout_ms, vr_http_answer *out);
/* The SHA-256 thumbprint of the server's certificate, "" before the first connection. */
const char *vr_http_peer(const vr_http *h);
void vr_http_free(vr_http *h);

#endif
