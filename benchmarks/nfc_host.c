/*
 * A small NFC host for benchmarks: one disk in memory or in a file, over nbdssl and nbd.
 *
 *     nfc_host --pem PEM (--mib N | --file PATH) [--port P] [--fragment BYTES] --ticket T ...
 *
 * It prints its port, and serves until it is killed. A ticket of the list is good any number of
 * times. Every path opens the one disk. A thread serves each connection: it answers one request
 * after the other, so a client that has reads and writes in flight at once must read replies while
 * it sends. --fragment is the most bytes of one fragment of a read (default: the session's buffer).
 *
 * Layouts and numbers: vreplica/nfc/wire.py names their source. What benchmarks do not need is
 * missing: compression (it answers in plain, as a host may), disk database, limits.
 */
#include "bench_net.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CLASSIC 264
#define MAGIC 0xA100DA7Au
#define SECTOR 512
#define LINE_MAX_BYTES 4096
#define TICKETS_MAX 64
#define GREETING                                                                                   \
    "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, "     \
    "MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported/t, SHA256 supported\r\n"

enum message {
    AIO_ERROR = 1,
    OPEN_SESSION = 2,
    CLOSE_SESSION = 3,
    OPEN_FILE = 4,
    CLOSE_FILE = 5,
    IO = 7,
    SET_SOCK_OPTS = 9,
    DDB_GET = 11,
    ALLOCATED = 13,
    SET_RES_POOL = 22,
    SESSION_PARAMS = 33,
    SESSION_PARAMS_REPLY = 36,
    HANDSHAKE = 43,
    VERSION = 51,
    AIO_SESSION = 52,
    CONNECTION_DATA = 54,
    FEATURES = 55,
};

static struct {
    uint8_t *disk;
    uint64_t bytes;
    uint64_t fragment;
    const char *tickets[TICKETS_MAX];
    size_t ticket_count;
    SSL_CTX *context;
    char sha256[3 * 32 + 1];
} host;

struct client {
    struct link link;
    uint64_t buffer;
};

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void put64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, 8);
}

/* -- authd ------------------------------------------------------------------------------------ */

static bool say(struct link *link, const char *text)
{
    return send_all(link, text, strlen(text));
}

static bool hear_line(struct link *link, char *line)
{
    size_t at = 0;
    while (at < LINE_MAX_BYTES - 1 && receive_all(link, line + at, 1)) {
        if (line[at++] == '\n') {
            while (at > 0 && (line[at - 1] == '\n' || line[at - 1] == '\r'))
                at--;
            line[at] = '\0';
            return true;
        }
    }
    return false;
}

static bool start_tls(struct link *link)
{
    link->tls = SSL_new(host.context);
    return link->tls != NULL && SSL_set_fd(link->tls, link->fd) == 1 && SSL_accept(link->tls) == 1;
}

/* Leaves TLS without a shutdown; the connection goes on in the clear. */
static void abandon_tls(struct link *link)
{
    SSL_free(link->tls);
    link->tls = NULL;
}

static bool is_ticket(const char *word)
{
    for (size_t at = 0; at < host.ticket_count; at++)
        if (strcmp(word, host.tickets[at]) == 0)
            return true;
    return false;
}

static bool log_in(struct link *link)
{
    char line[LINE_MAX_BYTES], answer[256];
    bool known = false;
    if (!say(link, GREETING) || !start_tls(link))
        return false;
    while (hear_line(link, line)) {
        if (strncmp(line, "SESSION ", 8) == 0) {
            known = is_ticket(line + 8);
        } else if (strncmp(line, "BANNER", 6) == 0) {
            say(link, GREETING);
        } else if (strcmp(line, "THUMBPRINT_SHA2 PlainText") == 0) {
            snprintf(answer, sizeof answer, "200 %s\r\n", host.sha256);
            say(link, answer);
        } else if (strncmp(line, "PROXY ", 6) == 0 && known) {
            size_t length = strlen(line);
            bool secure = strcmp(line + length - 3, "ssl") == 0;
            say(link, secure ? "200 Connect ha-nfcssl\r\n" : "200 Connect ha-nfc\r\n");
            abandon_tls(link);
            return !secure || start_tls(link);
        } else {
            say(link, "530 Please login with USER and PASS.\r\n");
            return false;
        }
    }
    return false;
}

/* -- classic messages ------------------------------------------------------------------------- */

static bool hear_message(struct link *link, uint32_t kind, uint8_t *message)
{
    return receive_all(link, message, CLASSIC) && get32(message) == kind;
}

static bool shake_hands(struct link *link)
{
    uint8_t message[CLASSIC], answer[CLASSIC] = {0}, name[2 * LINE_MAX_BYTES];
    if (!hear_message(link, HANDSHAKE, message) || !hear_message(link, SESSION_PARAMS, message))
        return false;
    put32(answer, SESSION_PARAMS_REPLY);
    put32(answer + 16, 1);
    if (!send_all(link, answer, CLASSIC) || !hear_message(link, VERSION, message))
        return false;
    memset(answer, 0, sizeof answer);
    put32(answer, VERSION);
    put32(answer + 4, 11);
    if (!send_all(link, answer, CLASSIC) || !hear_message(link, CONNECTION_DATA, message))
        return false;
    uint64_t names = (uint64_t)get32(message + 4) + get32(message + 8);
    if (names > sizeof name || !receive_all(link, name, names) ||
        !hear_message(link, FEATURES, message) || !hear_message(link, AIO_SESSION, message))
        return false;
    memset(answer, 0, sizeof answer);
    put32(answer, AIO_SESSION);
    return send_all(link, answer, CLASSIC);
}

/* -- AIO -------------------------------------------------------------------------------------- */

static bool reply(struct client *client, uint32_t kind, uint32_t op_id, const uint8_t *payload,
                  uint32_t size)
{
    uint8_t frame[16 + 64];
    put32(frame, MAGIC);
    put32(frame + 4, kind);
    put32(frame + 8, size);
    put32(frame + 12, op_id);
    memcpy(frame + 16, payload, size);
    return send_all(&client->link, frame, 16 + size);
}

static bool refuse(struct client *client, uint32_t op_id, uint32_t code)
{
    uint8_t record[16] = {0};
    put32(record, code);
    return reply(client, AIO_ERROR, op_id, record, sizeof record);
}

static bool open_session(struct client *client, uint32_t op_id, const uint8_t *payload)
{
    uint8_t answer[16] = {0};
    client->buffer = get32(payload + 4) ? get32(payload + 4) : 64 << 10;
    if (client->buffer > 2 * MIB || client->buffer % SECTOR != 0)
        return refuse(client, op_id, 5);
    return reply(client, OPEN_SESSION, op_id, answer, sizeof answer);
}

static bool open_file(struct client *client, uint32_t op_id, const uint8_t *payload)
{
    uint8_t answer[60] = {0}, path[LINE_MAX_BYTES];
    uint32_t length = get32(payload);
    if (length > sizeof path || !receive_all(&client->link, path, length))
        return false;
    put64(answer + 8, 0xFFFFFFFF80002A1Fu);
    put32(answer + 16, 2);
    put32(answer + 20, get32(payload + 20));
    put64(answer + 28, host.bytes);
    put32(answer + 36, SECTOR);
    put32(answer + 40, (uint32_t)(host.bytes / (255 * 63 * SECTOR)));
    put32(answer + 44, 255);
    put32(answer + 48, 63);
    return reply(client, OPEN_FILE, op_id, answer, sizeof answer);
}

static bool tell_allocated(struct client *client, uint32_t op_id, const uint8_t *payload)
{
    uint8_t answer[48] = {0}, ones[4096];
    uint64_t chunks = get64(payload + 32), bytes = (chunks + 31) / 32 * 4;
    put64(answer + 32, chunks);
    memset(ones, 0xFF, sizeof ones);
    if (chunks > 524288 || !reply(client, ALLOCATED, op_id, answer, sizeof answer))
        return false;
    for (; bytes > 0; bytes -= bytes < sizeof ones ? bytes : sizeof ones)
        if (!send_all(&client->link, ones, bytes < sizeof ones ? bytes : sizeof ones))
            return false;
    return true;
}

static bool in_disk(uint64_t offset, uint64_t length)
{
    return length > 0 && offset <= host.bytes && length <= host.bytes - offset &&
           offset % SECTOR == 0 && length % SECTOR == 0;
}

static bool do_read(struct client *client, uint32_t op_id, const uint8_t *request)
{
    uint64_t offset = get64(request + 16), length = get64(request + 24), most = client->buffer;
    if (!in_disk(offset, length) || most == 0)
        return refuse(client, op_id, 16007);
    if (host.fragment > 0 && host.fragment < most)
        most = host.fragment;
    for (uint64_t at = 0, piece; at < length; at += piece) {
        uint8_t payload[44] = {0};
        piece = length - at < most ? length - at : most;
        put32(payload + 8, 1);
        put64(payload + 16, offset);
        put32(payload + 24, (uint32_t)length);
        put32(payload + 28, (uint32_t)at);
        put32(payload + 32, (uint32_t)piece);
        put32(payload + 36, (uint32_t)piece);
        if (!reply(client, IO, op_id, payload, sizeof payload) ||
            !send_all(&client->link, host.disk + offset + at, piece))
            return false;
    }
    return true;
}

/* Takes one fragment of a write. Fragments of a request come one behind the other. */
static bool do_write(struct client *client, uint32_t op_id, const uint8_t *fragment)
{
    uint64_t offset = get64(fragment + 16), total = get32(fragment + 24);
    uint64_t at = get32(fragment + 28), length = get32(fragment + 32);
    uint8_t answer[44] = {0};
    if (!in_disk(offset, total) || length == 0 || at + length > total ||
        get32(fragment + 36) != length || get32(fragment + 12) != 0)
        return false;
    if (!receive_all(&client->link, host.disk + offset + at, length))
        return false;
    if (at + length < total)
        return true;
    put64(answer + 16, offset);
    put32(answer + 24, (uint32_t)total);
    put32(answer + 32, (uint32_t)total);
    put32(answer + 36, (uint32_t)total);
    return reply(client, IO, op_id, answer, sizeof answer);
}

/* Serves one frame. False: the session has ended. */
static bool serve_frame(struct client *client)
{
    uint8_t header[16], payload[64] = {0}, name[LINE_MAX_BYTES], message[CLASSIC];
    if (!receive_all(&client->link, header, sizeof header) || get32(header) != MAGIC)
        return false;
    uint32_t kind = get32(header + 4), size = get32(header + 8), op_id = get32(header + 12);
    if (size > sizeof payload || !receive_all(&client->link, payload, size))
        return false;
    switch (kind) {
    case OPEN_SESSION:
        return open_session(client, op_id, payload);
    case SET_SOCK_OPTS:
        return reply(client, kind, op_id, payload, 12);
    case SET_RES_POOL:
    case CLOSE_FILE:
        return reply(client, kind, op_id, payload, size);
    case OPEN_FILE:
        return open_file(client, op_id, payload);
    case DDB_GET:
        size = get32(payload + 8);
        memset(payload, 0, 16);
        return size <= sizeof name && receive_all(&client->link, name, size) &&
               reply(client, kind, op_id, payload, 16);
    case ALLOCATED:
        return tell_allocated(client, op_id, payload);
    case IO:
        return get32(payload + 8) == 1 ? do_read(client, op_id, payload)
                                       : do_write(client, op_id, payload);
    case CLOSE_SESSION:
        reply(client, kind, op_id, payload, size);
        receive_all(&client->link, message, CLASSIC);
        return false;
    default:
        return refuse(client, op_id, 6);
    }
}

static void *serve(void *argument)
{
    struct client client = {{(int)(intptr_t)argument, NULL}, 0};
    no_delay(client.link.fd);
    if (log_in(&client.link) && shake_hands(&client.link))
        while (serve_frame(&client))
            ;
    SSL_free(client.link.tls);
    close(client.link.fd);
    return NULL;
}

/* -- start ------------------------------------------------------------------------------------ */

static void map_disk(const char *path, uint64_t bytes)
{
    int fd = -1;
    struct stat found;
    if (path != NULL) {
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &found) != 0)
            die("%s: %s", path, strerror(errno));
        bytes = (uint64_t)found.st_size;
    }
    host.bytes = bytes / SECTOR * SECTOR;
    host.disk = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     path != NULL ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    if (host.bytes == 0 || host.disk == MAP_FAILED)
        die("no disk of %llu bytes", (unsigned long long)bytes);
    if (path == NULL)
        fill_random(host.disk, host.bytes);
}

static void note_thumbprint(void)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(SSL_CTX_get0_certificate(host.context), EVP_sha256(), digest, &size) != 1)
        die("no thumbprint");
    for (unsigned at = 0; at < size; at++)
        snprintf(host.sha256 + 3 * at, 4, at + 1 < size ? "%02X:" : "%02X", digest[at]);
}

int main(int count, char **words)
{
    const char *pem = NULL, *path = NULL;
    uint64_t mib = 0;
    uint16_t port = 0;
    for (int at = 1; at + 1 < count; at += 2) {
        const char *value = words[at + 1];
        if (strcmp(words[at], "--pem") == 0)
            pem = value;
        else if (strcmp(words[at], "--file") == 0)
            path = value;
        else if (strcmp(words[at], "--mib") == 0)
            mib = strtoull(value, NULL, 10);
        else if (strcmp(words[at], "--port") == 0)
            port = (uint16_t)strtoul(value, NULL, 10);
        else if (strcmp(words[at], "--fragment") == 0)
            host.fragment = strtoull(value, NULL, 10);
        else if (strcmp(words[at], "--ticket") == 0 && host.ticket_count < TICKETS_MAX)
            host.tickets[host.ticket_count++] = value;
        else
            die("what is %s?", words[at]);
    }
    if (pem == NULL || host.ticket_count == 0 || (path == NULL) == (mib == 0) || count % 2 == 0)
        die("usage: nfc_host --pem PEM (--mib N | --file PATH) [--port P] [--fragment BYTES] "
            "--ticket T ...");
    if (host.fragment % SECTOR != 0)
        die("--fragment is a multiple of %d", SECTOR);
    signal(SIGPIPE, SIG_IGN);
    map_disk(path, mib * MIB);
    host.context = server_context(pem);
    note_thumbprint();
    int listener = listen_on(&port);
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0)
            die("accept: %s", strerror(errno));
        pthread_detach(thread);
    }
}
