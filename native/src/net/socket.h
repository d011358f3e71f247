/*
 * A non-blocking TCP socket with a buffer in front of its reads.
 *
 * TLS reads a record as 5 bytes and the rest; with the buffer, one system call serves many records.
 * The buffer belongs to the socket, so what is read ahead is not lost when TLS ends or begins.
 */
#ifndef VR_SOCKET_H
#define VR_SOCKET_H

#include "vixDiskLib.h"

#include <stdbool.h>

typedef struct {
   int fd;
   uint8_t *buffer;
   size_t start; /* of what was read and not yet taken */
   size_t end;
   int error; /* errno of the last call that failed; 0: the peer has closed */
} vr_socket;

/* Results of a read or write that moved nothing. */
#define VR_SOCKET_AGAIN (-1)
#define VR_SOCKET_FAILED (-2) /* `error` tells */

/* Connects to one address after the other until one answers. *why: text of the failure, a literal
 * or valid until the next call in this thread. VIX_E_HOST_SERVER_NOT_FOUND for an unknown name,
 * VIX_E_HOST_NETWORK_CONN_REFUSED when refused, else VIX_E_CANNOT_CONNECT_TO_HOST. */
VixError vr_socket_connect(const char *host, unsigned port, int64_t deadline_ms, vr_socket *out,
   const char **why);
/* At most `bytes`; at least 1 unless negative. */
long vr_socket_read(vr_socket *s, void *buf, size_t bytes);
long vr_socket_write(vr_socket *s, const void *buf, size_t bytes);
/* Waits for POLLIN or POLLOUT. True when ready or failed, false at the deadline. */
bool vr_socket_wait(const vr_socket *s, short events, int64_t deadline_ms);
void vr_socket_close(vr_socket *s);

#endif
