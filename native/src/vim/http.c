#include "vim/http.h"

#include "net/stream.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/secret.h"

#define CONNECT_MS 20000

struct vr_http {
   vr_http_server server;
   vr_stream *stream; /* NULL: not connected */
   char peer[VR_THUMBPRINT_ROOM];
};

vr_http *vr_http_new(const vr_http_server *server)
{
   vr_http *h = calloc(1, sizeof *h);
   if (h) {
      h->server = *server;
   }
   return h;
}

static void disconnect(vr_http *h)
{
   vr_stream_close(h->stream);
   h->stream = NULL;
}

/* The text of the digest that the thumbprint names, for the log. */
static void shown(const char *thumbprint, const vr_peer *peer, char *out)
{
   uint8_t parsed[VR_SHA1_BYTES];
   if (vr_thumbprint_parse(thumbprint, parsed, sizeof parsed)) {
      vr_thumbprint_text(peer->sha1, VR_SHA1_BYTES, out);
   } else {
      vr_thumbprint_text(peer->sha256, VR_SHA256_BYTES, out);
   }
}

static VixError check(vr_http *h, const vr_peer *peer)
{
   const vr_http_server *s = &h->server;
   char has[VR_THUMBPRINT_ROOM];
   if (s->thumbprint && *s->thumbprint) {
      if (vr_thumbprint_is(s->thumbprint, peer)) {
         return VIX_OK;
      }
      shown(s->thumbprint, peer, has);
      vr_warn("%s:%u: thumbprint mismatch: expected %s, the server has %s\n", s->server, s->port,
         s->thumbprint, has);
      return VIX_E_FAIL;
   }
   if (vr_stream_verify_ca(h->stream, s->server) == VIX_OK) {
      return VIX_OK;
   }
   shown("", peer, has);
   vr_warn("%s:%u: no thumbprint was given, and the certificate cannot be trusted: %s; the server has "
      "the thumbprint %s\n", s->server, s->port, vr_stream_error(h->stream), has);
   return VIX_E_FAIL;
}

static VixError connect_and_check(vr_http *h)
{
   const vr_http_server *s = &h->server;
   vr_peer peer;
   VixError err = vr_stream_connect(s->server, s->port, CONNECT_MS, &h->stream);
   if (err != VIX_OK) {
      return err; /* which is logged */
   }
   err = vr_stream_start_tls(h->stream, s->server, &peer, s->legacy_tls);
   if (err != VIX_OK) {
      vr_warn("%s:%u: %s\n", s->server, s->port, vr_stream_error(h->stream));
   } else {
      vr_stream_cleanse(h->stream);
      err = check(h, &peer);
   }
   if (err != VIX_OK) {
      disconnect(h);
   } else {
      vr_thumbprint_text(peer.sha256, VR_SHA256_BYTES, h->peer);
   }
   return err;
}

static VixError read_stream(void *data, void *buf, size_t bytes, size_t *got, int64_t deadline_ms)
{
   return vr_stream_read_some(data, buf, bytes, got, deadline_ms);
}

static VixError exchange(vr_http *h, const vr_text *request, const vr_text *body, int64_t deadline_ms,
   vr_http_answer *out, bool *any)
{
   const struct iovec parts[] = {{request->at, request->length}, {body->at, body->length}};
   const char *why = NULL;
   *any = false;
   VixError err = vr_stream_writev(h->stream, parts, 2, deadline_ms);
   if (err == VIX_OK) {
      err = vr_http_receive(read_stream, h->stream, deadline_ms, out, any, &why);
   }
   if (err != VIX_OK && why) {
      vr_warn("%s:%u: %s\n", h->server.server, h->server.port, why);
      *any = true; /* not worth a second try */
   }
   return err;
}

static void write_request(const vr_http *h, const char *path, const char *action,
   const char *cookie, size_t bytes, vr_text *out)
{
   bool six = strchr(h->server.server, ':') != NULL;
   vr_text_addf(out, "POST %s HTTP/1.1\r\nHost: %s%s%s:%u\r\n", path, six ? "[" : "",
      h->server.server, six ? "]" : "", h->server.port);
   vr_text_addf(out, "User-Agent: vreplica-vixDiskLib\r\nContent-Type: text/xml; charset=utf-8\r\n"
      "SOAPAction: \"%s\"\r\nContent-Length: %zu\r\n", action, bytes);
   if (cookie && *cookie) {
      vr_text_addf(out, "Cookie: %s\r\n", cookie);
   }
   vr_text_add(out, "\r\n", 2);
}

VixError vr_http_post(vr_http *h, const char *path, const char *action, const char *cookie,
   const vr_text *body, unsigned timeout_ms, vr_http_answer *out)
{
   *out = (vr_http_answer){0};
   vr_text request = {0};
   write_request(h, path, action, cookie, body->length, &request);
   if (request.failed || body->failed || strpbrk(h->server.server, "\r\n/ ")) {
      vr_text_free(&request);
      return VIX_E_INVALID_ARG;
   }
   bool kept;
   bool any;
   VixError err;
   do {
      kept = h->stream != NULL;
      any = true;
      err = kept ? VIX_OK : connect_and_check(h);
      if (err == VIX_OK) {
         err = exchange(h, &request, body, vr_now_ms() + timeout_ms, out, &any);
         if (err != VIX_OK && (any || !kept)) {
            vr_warn("%s:%u: no answer: %s\n", h->server.server, h->server.port,
               vr_stream_error(h->stream));
         }
      }
      if (err != VIX_OK || out->close) {
         disconnect(h);
      }
   } while (kept && !any && err == VIX_E_HOST_TCP_CONN_LOST);
   vr_text_free(&request);
   return err;
}

const char *vr_http_peer(const vr_http *h)
{
   return h->peer;
}

void vr_http_free(vr_http *h)
{
   if (h) {
      disconnect(h);
      free(h);
   }
}
