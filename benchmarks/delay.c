/*
 * A proxy that delays every byte, both ways, and limits no rate.
 *
 *     delay PORT MILLISECONDS      prints its port, serves until it is killed
 *
 * Each direction of each connection has a thread. It takes what has arrived, notes when, and passes
 * it on that much later. Up to 64 MiB are held in each direction.
 */
#include "bench_net.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#define PIECE ((size_t)256 << 10)
#define PIECES 256

struct piece {
    double due;
    size_t size;
    uint8_t *data;
};

struct direction {
    int from, to;
    double delay;
};

static void *pass(void *argument)
{
    struct direction way = *(struct direction *)argument;
    struct piece *ring = calloc(PIECES, sizeof *ring);
    size_t first = 0, count = 0, sent = 0;
    bool ended = false;
    free(argument);
    if (ring == NULL)
        die("no memory");
    for (;;) {
        double wait = -1;
        if (count > 0)
            wait = ring[first % PIECES].due - now_s();
        if (ended && count == 0)
            break;
        bool due = count > 0 && wait <= 0;
        struct pollfd polled[2] = {
            {.fd = !ended && count < PIECES ? way.from : -1, .events = POLLIN},
            {.fd = due ? way.to : -1, .events = POLLOUT},
        };
        struct timespec left = {0, 0};
        if (count > 0 && !due) {
            left.tv_sec = (time_t)wait;
            left.tv_nsec = (long)((wait - (double)left.tv_sec) * 1e9);
        }
        ppoll(polled, 2, count > 0 && !due ? &left : NULL, NULL);
        if (polled[0].revents != 0) {
            struct piece *piece = &ring[(first + count) % PIECES];
            if (piece->data == NULL && (piece->data = malloc(PIECE)) == NULL)
                die("no memory");
            ssize_t got = recv(way.from, piece->data, PIECE, MSG_DONTWAIT);
            if (got > 0) {
                piece->size = (size_t)got;
                piece->due = now_s() + way.delay;
                count++;
            } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                ended = true;
            }
        }
        if (polled[1].revents != 0) {
            struct piece *piece = &ring[first % PIECES];
            ssize_t done = send(way.to, piece->data + sent, piece->size - sent,
                                MSG_DONTWAIT | MSG_NOSIGNAL);
            if (done < 0 && errno != EAGAIN && errno != EINTR)
                break;
            sent += done > 0 ? (size_t)done : 0;
            if (sent == piece->size) {
                first++;
                count--;
                sent = 0;
            }
        }
    }
    shutdown(way.to, SHUT_WR);
    shutdown(way.from, SHUT_RD);
    for (size_t at = 0; at < PIECES; at++)
        free(ring[at].data);
    free(ring);
    return NULL;
}

static void start(int from, int to, double delay)
{
    struct direction *way = malloc(sizeof *way);
    pthread_t thread;
    if (way == NULL)
        die("no memory");
    *way = (struct direction){from, to, delay};
    if (pthread_create(&thread, NULL, pass, way) != 0)
        die("no thread");
    pthread_detach(thread);
}

int main(int count, char **words)
{
    uint16_t port = 0;
    int listener;
    signal(SIGPIPE, SIG_IGN);
    if (count != 3)
        die("usage: delay PORT MILLISECONDS");
    listener = listen_on(&port);
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        /* The descriptors stay open until the end: two threads use each of them. */
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            die("accept: %s", strerror(errno));
        int server = connect_to((uint16_t)strtoul(words[1], NULL, 10));
        no_delay(client);
        start(client, server, strtod(words[2], NULL) / 1000);
        start(server, client, strtod(words[2], NULL) / 1000);
    }
}
