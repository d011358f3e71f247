#include "net/socket.h"

#include "os/clock.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (128u << 10)
#define KEEPALIVE_S 60 /* firewalls forget idle connections after some minutes */

bool vr_socket_wait(const vr_socket *s, short events, int64_t deadline_ms)
{
   struct pollfd p = {.fd = s->fd, .events = events};
   for (;;) {
      int64_t left = deadline_ms - vr_now_ms();
      int ready = poll(&p, 1, left <= 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX);
      if (ready > 0 || (ready < 0 && errno != EINTR)) {
         return true;
      }
      if (ready == 0 && vr_now_ms() >= deadline_ms) {
         return false;
      }
   }
}

static int try_address(const struct addrinfo *a, int64_t deadline_ms, vr_socket *out)
{
   int on = 1;
   int idle = KEEPALIVE_S;
   int error = 0;
   socklen_t size = sizeof error;
   out->fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
   if (out->fd < 0) {
      return errno;
   }
   setsockopt(out->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
   setsockopt(out->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
   setsockopt(out->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
   if (connect(out->fd, a->ai_addr, a->ai_addrlen) == 0) {
      return 0;
   }
   if (errno != EINPROGRESS) {
      error = errno;
   } else if (!vr_socket_wait(out, POLLOUT, deadline_ms)) {
      error = ETIMEDOUT;
   } else if (getsockopt(out->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
   }
   if (error) {
      close(out->fd);
      out->fd = -1;
   }
   return error;
}

VixError vr_socket_connect(const char *host, unsigned port, int64_t deadline_ms, vr_socket *out,
   const char **why)
{
   *out = (vr_socket){.fd = -1};
   const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
   struct addrinfo *found = NULL;
   char service[16];
   snprintf(service, sizeof service, "%u", port);
   int code = getaddrinfo(host, service, &hints, &found);
   if (code != 0) {
      *why = gai_strerror(code);
      return VIX_E_HOST_SERVER_NOT_FOUND;
   }
   int64_t count = 0;
   for (struct addrinfo *a = found; a; a = a->ai_next) {
      count++;
   }
   int error = EADDRNOTAVAIL;
   for (struct addrinfo *a = found; a && out->fd < 0; a = a->ai_next) {
      /* A dead address leaves time for the others. */
      int64_t now = vr_now_ms();
      error = try_address(a, now + (deadline_ms - now) / count--, out);
   }
   freeaddrinfo(found);
   if (out->fd >= 0) {
      out->buffer = malloc(BUFFER_BYTES);
      if (!out->buffer) {
         vr_socket_close(out);
         *why = "out of memory";
         return VIX_E_OUT_OF_MEMORY;
      }
      return VIX_OK;
   }
   *why = error == ETIMEDOUT ? "no answer in time" : strerror(error);
   return error == ECONNREFUSED ? VIX_E_HOST_NETWORK_CONN_REFUSED : VIX_E_CANNOT_CONNECT_TO_HOST;
}

static long receive(vr_socket *s, void *buf, size_t bytes)
{
   ssize_t got;
   do {
      got = recv(s->fd, buf, bytes, 0);
   } while (got < 0 && errno == EINTR);
   if (got > 0) {
      return got;
   }
   if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return VR_SOCKET_AGAIN;
   }
   s->error = got == 0 ? 0 : errno;
   return VR_SOCKET_FAILED;
}

long vr_socket_read(vr_socket *s, void *buf, size_t bytes)
{
   if (s->start == s->end) {
      if (bytes >= BUFFER_BYTES) {
         return receive(s, buf, bytes);
      }
      long got = receive(s, s->buffer, BUFFER_BYTES);
      if (got < 0) {
         return got;
      }
      s->start = 0;
      s->end = (size_t)got;
   }
   size_t part = s->end - s->start < bytes ? s->end - s->start : bytes;
   memcpy(buf, s->buffer + s->start, part);
   s->start += part;
   return (long)part;
}

long vr_socket_write(vr_socket *s, const void *buf, size_t bytes)
{
   ssize_t sent;
   do {
      sent = send(s->fd, buf, bytes, MSG_NOSIGNAL);
   } while (sent < 0 && errno == EINTR);
   if (sent >= 0) {
      return sent;
   }
   if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return VR_SOCKET_AGAIN;
   }
   s->error = errno;
   return VR_SOCKET_FAILED;
}

void vr_socket_close(vr_socket *s)
{
   if (s->fd >= 0) {
      close(s->fd);
   }
   free(s->buffer);
   *s = (vr_socket){.fd = -1};
}
