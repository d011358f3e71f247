#include "net/stream.h"

#include "net/openssl.h"
#include "net/tls.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/secret.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RECORD_BYTES 16384u /* of content, at most, in one TLS record */

struct vr_stream {
   vr_socket socket;
   vr_tls *tls; /* NULL: plain */
   unsigned timeout_ms;
   pthread_mutex_t lock; /* round each call of `tls` */
   pthread_mutex_t failing;
   atomic_bool failed;
   char error[320];
};

/* Keeps the first failure: a later one only follows from it. */
static VixError fail(vr_stream *s, VixError err, const char *doing, const char *why)
{
   pthread_mutex_lock(&s->failing);
   if (!atomic_load(&s->failed)) {
      snprintf(s->error, sizeof s->error, "%s: %s", doing, why);
      atomic_store(&s->failed, true);
   }
   pthread_mutex_unlock(&s->failing);
   return err;
}

const char *vr_stream_error(const vr_stream *s)
{
   return s && atomic_load(&s->failed) ? s->error : "";
}

VixError vr_stream_connect(const char *host, unsigned port, unsigned timeout_ms, vr_stream **out)
{
   const char *why = "";
   *out = NULL;
   vr_stream *s = calloc(1, sizeof *s);
   if (!s) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = vr_socket_connect(host, port, vr_now_ms() + timeout_ms, &s->socket, &why);
   if (err != VIX_OK) {
      vr_warn("%s port %u: no connection: %s\n", host, port, why);
      free(s);
      return err;
   }
   s->timeout_ms = timeout_ms;
   pthread_mutex_init(&s->lock, NULL);
   pthread_mutex_init(&s->failing, NULL);
   *out = s;
   return VIX_OK;
}

static const char *socket_why(const vr_stream *s)
{
   return s->socket.error ? strerror(s->socket.error) : "the peer has closed the connection";
}

static VixError wait_for(vr_stream *s, short events, int64_t deadline_ms, const char *doing)
{
   return vr_socket_wait(&s->socket, events, deadline_ms)
      ? VIX_OK
      : fail(s, VIX_E_HOST_TCP_SOCKET_ERROR, doing, "not done in time");
}

VixError vr_stream_start_tls(vr_stream *s, const char *sni, vr_peer *peer, bool legacy_seclevel1)
{
   static const char doing[] = "TLS handshake";
   int64_t deadline_ms = vr_now_ms() + s->timeout_ms;
   if (!vr_openssl_get()) {
      return fail(s, VIX_E_NOT_SUPPORTED, doing, vr_openssl_text());
   }
   vr_stream_drop_tls(s);
   s->tls = vr_tls_new(&s->socket, sni, legacy_seclevel1);
   if (!s->tls) {
      return fail(s, VIX_E_OUT_OF_MEMORY, doing, "out of memory");
   }
   VixError err = VIX_OK;
   int step;
   while (err == VIX_OK && (step = vr_tls_handshake(s->tls)) != 1) {
      err = step == VR_TLS_FAILED
         ? fail(s, VIX_E_CANNOT_CONNECT_TO_HOST, doing, vr_tls_why(s->tls))
         : wait_for(s, step == VR_TLS_WANTS_READ ? POLLIN : POLLOUT, deadline_ms, doing);
   }
   if (err == VIX_OK && peer && !vr_tls_peer(s->tls, peer)) {
      err = fail(s, VIX_E_CANNOT_CONNECT_TO_HOST, doing, "the server has no certificate");
   }
   return err;
}

void vr_stream_cleanse(vr_stream *s)
{
   if (s->tls) {
      vr_tls_cleanse(s->tls);
   }
}

VixError vr_stream_verify_ca(vr_stream *s, const char *host)
{
   return s->tls && vr_tls_verify(s->tls, host)
      ? VIX_OK
      : fail(s, VIX_E_CANNOT_CONNECT_TO_HOST, "certificate",
           s->tls ? vr_tls_why(s->tls) : "there is no TLS");
}

void vr_stream_drop_tls(vr_stream *s)
{
   vr_tls_free(s->tls);
   s->tls = NULL;
}

/* One step of a read or write. *moved is 0 where the socket has to be waited for: *wait says what. */
static VixError step(vr_stream *s, bool write, void *buf, size_t bytes, size_t *moved, short *wait)
{
   const char *doing = write ? "sending" : "receiving";
   VixError err = VIX_OK;
   *moved = 0;
   if (!s->tls) {
      long n = write ? vr_socket_write(&s->socket, buf, bytes)
                     : vr_socket_read(&s->socket, buf, bytes);
      *wait = write ? POLLOUT : POLLIN;
      *moved = n > 0 ? (size_t)n : 0;
      return n == VR_SOCKET_FAILED ? fail(s, VIX_E_HOST_TCP_CONN_LOST, doing, socket_why(s))
                                   : VIX_OK;
   }
   pthread_mutex_lock(&s->lock);
   long n = write ? vr_tls_write(s->tls, buf, bytes) : vr_tls_read(s->tls, buf, bytes);
   if (n == VR_TLS_FAILED) {
      err = fail(s, VIX_E_HOST_TCP_CONN_LOST, doing, vr_tls_why(s->tls));
   }
   pthread_mutex_unlock(&s->lock);
   *wait = n == VR_TLS_WANTS_WRITE ? POLLOUT : POLLIN;
   *moved = n > 0 ? (size_t)n : 0;
   return err;
}

VixError vr_stream_read_some(vr_stream *s, void *buf, size_t bytes, size_t *got,
   int64_t deadline_ms)
{
   *got = 0;
   while (bytes) {
      short wait;
      VixError err = step(s, false, buf, bytes, got, &wait);
      if (err == VIX_OK && !*got) {
         err = wait_for(s, wait, deadline_ms, "receiving");
      }
      if (err != VIX_OK || *got) {
         return err;
      }
   }
   return VIX_OK;
}

VixError vr_stream_read(vr_stream *s, void *buf, size_t bytes, int64_t deadline_ms)
{
   VixError err = VIX_OK;
   for (size_t got; err == VIX_OK && bytes; bytes -= got) {
      err = vr_stream_read_some(s, buf, bytes, &got, deadline_ms);
      buf = (uint8_t *)buf + got;
   }
   return err;
}

VixError vr_stream_write(vr_stream *s, const void *buf, size_t bytes, int64_t deadline_ms)
{
   uint8_t *at = (uint8_t *)buf; /* which `step` only reads */
   while (bytes) {
      size_t moved;
      short wait;
      VixError err = step(s, true, at, bytes, &moved, &wait);
      if (err == VIX_OK && !moved) {
         err = wait_for(s, wait, deadline_ms, "sending");
      }
      if (err != VIX_OK) {
         return err;
      }
      at += moved;
      bytes -= moved;
   }
   return VIX_OK;
}

VixError vr_stream_writev(vr_stream *s, const struct iovec *parts, int count, int64_t deadline_ms)
{
   uint8_t joined[RECORD_BYTES];
   size_t held = 0;
   size_t used = 0;
   VixError err = VIX_OK;
   for (int i = 0; err == VIX_OK && i < count; i++) {
      const uint8_t *at = parts[i].iov_base;
      size_t left = parts[i].iov_len;
      size_t room = sizeof joined - held;
      if (held || left < sizeof joined) {
         size_t part = left < room ? left : room;
         memcpy(joined + held, at, part);
         held += part;
         used = held > used ? held : used;
         at += part;
         left -= part;
      }
      if (held == sizeof joined || (held && i == count - 1)) {
         err = vr_stream_write(s, joined, held, deadline_ms);
         held = 0;
      }
      if (err != VIX_OK || !left) {
         continue;
      }
      size_t whole = i == count - 1 ? left : left - left % sizeof joined;
      err = vr_stream_write(s, at, whole, deadline_ms);
      memcpy(joined, at + whole, left - whole);
      held = left - whole;
      used = held > used ? held : used;
   }
   vr_wipe(joined, used); /* commands with a ticket in them come here too */
   return err;
}

void vr_stream_interrupt(vr_stream *s)
{
   shutdown(s->socket.fd, SHUT_RDWR);
}

int vr_stream_fd(const vr_stream *s)
{
   return s->socket.fd;
}

void vr_stream_close(vr_stream *s)
{
   if (s) {
      vr_tls_free(s->tls);
      vr_socket_close(&s->socket);
      pthread_mutex_destroy(&s->lock);
      pthread_mutex_destroy(&s->failing);
      free(s);
   }
}
