/*
 * What the C programs of the benchmarks share: sockets, TLS by OpenSSL, time, and exact transfers.
 *
 * A program ends with a message and exit code 1 where anything fails: a benchmark has nothing to
 * clean up.
 */
#ifndef VREPLICA_BENCH_NET_H
#define VREPLICA_BENCH_NET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *text, ...)
{
    va_list words;
    va_start(words, text);
    vfprintf(stderr, text, words);
    va_end(words);
    fputc('\n', stderr);
    if (ERR_peek_error() != 0)
        ERR_print_errors_fp(stderr);
    exit(1);
}

static inline double now_s(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* Seconds of processor time of this process, user and system, of all threads. */
static inline double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static inline void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Returns a listener on 127.0.0.1, and its port. Port 0: any free one. */
static inline int listen_on(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t size = sizeof at;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        die("listening on port %u: %s", *port, strerror(errno));
    *port = ntohs(at.sin_port);
    return fd;
}

static inline int connect_to(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("connecting to port %u: %s", port, strerror(errno));
    no_delay(fd);
    return fd;
}

static inline SSL_CTX *server_context(const char *pem)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_file(context, pem, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM) != 1)
        die("certificate %s", pem);
    /* One cipher for all: what is compared must cost the same. Clients cannot choose another. */
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1)
        die("cipher");
    SSL_CTX_set_quiet_shutdown(context, 1);
    return context;
}

/* A connection, in TLS or in the clear (tls is NULL then). */
struct link {
    int fd;
    SSL *tls;
};

/* Sends all bytes. False: the other side has gone. */
static inline bool send_all(struct link *link, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        size_t done = 0;
        if (link->tls != NULL) {
            if (SSL_write_ex(link->tls, at, size, &done) != 1)
                return false;
        } else {
            ssize_t sent = send(link->fd, at, size, MSG_NOSIGNAL);
            if (sent <= 0)
                return false;
            done = (size_t)sent;
        }
        at += done;
        size -= done;
    }
    return true;
}

/* Fills the buffer. False: the other side has gone. */
static inline bool receive_all(struct link *link, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        size_t done = 0;
        if (link->tls != NULL) {
            if (SSL_read_ex(link->tls, at, size, &done) != 1)
                return false;
        } else {
            ssize_t got = recv(link->fd, at, size, 0);
            if (got <= 0)
                return false;
            done = (size_t)got;
        }
        at += done;
        size -= done;
    }
    return true;
}

/* Fills memory with bytes that no layer below can compress. */
static inline void fill_random(uint8_t *data, size_t size)
{
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (size_t at = 0; at + 8 <= size; at += 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(data + at, &state, 8);
    }
}

#endif
