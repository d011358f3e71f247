/*
 * A raw copy over TLS or TCP, the measure for NFC: the same bytes, the same cipher, nothing else.
 *
 *     raw_tls serve PEM MIB                          prints its port, serves until it is killed
 *     raw_tls read|write tls|tcp PORT MIB BUFFERS    prints one line:
 *                                                    MiB/s, processor s/GiB, cipher
 *
 * The server has MIB of memory, the client BUFFERS buffers of 1 MiB. Each client sends u8 direction
 * (1: to the server), u8 TLS, and u64 bytes in the clear; then the bytes follow. A write ends with
 * one byte of the server.
 */
#include "bench_net.h"

#include <signal.h>

static uint8_t *memory(size_t mib)
{
    uint8_t *data = aligned_alloc(4096, mib * MIB);
    if (data == NULL)
        die("no memory for %zu MiB", mib);
    fill_random(data, mib * MIB);
    return data;
}

static void serve_client(int fd, SSL_CTX *context, uint8_t *data, size_t mib)
{
    struct link link = {fd, NULL};
    uint8_t ask[10];
    uint64_t size;
    if (!receive_all(&link, ask, sizeof ask))
        return;
    memcpy(&size, ask + 2, 8);
    if (ask[1]) {
        link.tls = SSL_new(context);
        SSL_set_fd(link.tls, fd);
        if (SSL_accept(link.tls) != 1)
            die("TLS with a client");
    }
    bool good = true;
    for (uint64_t at = 0; at < size && good; at += MIB) {
        uint8_t *piece = data + (at / MIB) % mib * MIB;
        good = ask[0] ? receive_all(&link, piece, MIB) : send_all(&link, piece, MIB);
    }
    if (ask[0] && good)
        send_all(&link, "k", 1);
    SSL_free(link.tls);
}

static void serve(const char *pem, size_t mib)
{
    SSL_CTX *context = server_context(pem);
    uint8_t *data = memory(mib);
    uint16_t port = 0;
    int listener = listen_on(&port);
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            die("accept: %s", strerror(errno));
        no_delay(fd);
        serve_client(fd, context, data, mib);
        close(fd);
    }
}

static void copy(bool write, bool tls, uint16_t port, size_t mib, size_t buffers)
{
    struct link link = {connect_to(port), NULL};
    uint8_t *data = memory(buffers), last = 0;
    uint8_t ask[10] = {write, tls};
    uint64_t size = mib * MIB;
    memcpy(ask + 2, &size, 8);
    if (!send_all(&link, ask, sizeof ask))
        die("the server has gone");
    if (tls) {
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        link.tls = SSL_new(context);
        SSL_set_fd(link.tls, link.fd);
        if (SSL_connect(link.tls) != 1)
            die("TLS with the server");
    }
    double start = now_s(), used = cpu_s();
    bool good = true;
    for (size_t number = 0; number < mib && good; number++) {
        uint8_t *piece = data + number % buffers * MIB;
        good = write ? send_all(&link, piece, MIB) : receive_all(&link, piece, MIB);
    }
    if (write && good)
        good = receive_all(&link, &last, 1) && last == 'k';
    double took = now_s() - start;
    used = cpu_s() - used;
    if (!good)
        die("the copy ended early");
    printf("%.1f %.3f %s\n", (double)mib / took, used * 1024 / (double)mib,
           tls ? SSL_get_cipher_name(link.tls) : "none");
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && strcmp(words[1], "serve") == 0)
        serve(words[2], strtoul(words[3], NULL, 10));
    if (count != 6 || (strcmp(words[1], "read") != 0 && strcmp(words[1], "write") != 0))
        die("usage: raw_tls serve PEM MIB | raw_tls read|write tls|tcp PORT MIB BUFFERS");
    copy(words[1][0] == 'w', strcmp(words[2], "tls") == 0,
         (uint16_t)strtoul(words[3], NULL, 10), strtoul(words[4], NULL, 10),
         strtoul(words[5], NULL, 10));
    return 0;
}
