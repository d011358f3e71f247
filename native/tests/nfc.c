/*
 * Opens disks at hosts with tickets that the caller gives, and does what the lines of its input say.
 * Each line is answered with one line, `ok ...` or `error CODE`. For a ticket the program prints
 * `TICKET ro` or `TICKET rw` and reads `HOST PORT SERVICE SESSION THUMBPRINT CAPACITY PEM`, where
 * `-` is empty and PEM is a file, or `none CODE`.
 */
#include "check.h"
#include "nfc/compress.h"
#include "nfc/nfc_disk.h"
#include "os/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

static vr_nfc_config config = VR_NFC_CONFIG_DEFAULT;
static vr_nfc_disk *disk;
static VixError reopen_result;
static unsigned reopened;

static void note(const char *fmt, va_list args)
{
   vfprintf(stderr, fmt, args);
}

/* -- tickets -- */

static char *text(const char *word)
{
   return strcmp(word, "-") ? strdup(word) : NULL;
}

static VixError ask_ticket(void *data, const char *path, bool read_only, vr_nfc_ticket *out)
{
   static char line[4096];
   char host[256], service[256], session[1024], thumbprint[256], pem[1024];
   unsigned long long capacity;
   unsigned code;
   (void)data;
   (void)path;
   printf("TICKET %s\n", read_only ? "ro" : "rw");
   fflush(stdout);
   CHECK(fgets(line, sizeof line, stdin));
   if (sscanf(line, "none %u", &code) == 1) {
      return code;
   }
   CHECK(sscanf(line, "%255s %u %255s %1023s %255s %llu %1023s", host, &out->port, service, session,
            thumbprint, &capacity, pem) == 7);
   out->host = text(host);
   out->service = text(service);
   out->session_id = text(session);
   out->sha1_thumbprint = text(thumbprint);
   out->capacity = capacity;
   if (strcmp(pem, "-")) {
      FILE *f = fopen(pem, "r");
      CHECK(f);
      out->certificate_pem = calloc(1, 20000);
      CHECK(fread(out->certificate_pem, 1, 19999, f) > 0);
      fclose(f);
   }
   return VIX_OK;
}

void vr_nfc_ticket_free(vr_nfc_ticket *t)
{
   free(t->host);
   free(t->service);
   free(t->session_id);
   free(t->sha1_thumbprint);
   free(t->certificate_pem);
   *t = (vr_nfc_ticket){0};
}

static VixError check_reopened(void *data)
{
   (void)data;
   reopened++;
   return reopen_result;
}

/* -- copies of the whole disk -- */

typedef struct {
   pthread_mutex_t lock;
   pthread_cond_t changed;
   unsigned in_flight;
   unsigned called;
   VixError result;
} counter;

static void completed(void *data, VixError result)
{
   counter *c = data;
   pthread_mutex_lock(&c->lock);
   c->in_flight--;
   c->called++;
   if (result != VIX_OK) {
      c->result = result;
   }
   pthread_cond_signal(&c->changed);
   pthread_mutex_unlock(&c->lock);
}

/* `depth` asynchronous requests at a time. */
static VixError pump(bool write, uint8_t *data, uint64_t sectors, uint64_t chunk, unsigned depth)
{
   counter c = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
   unsigned asked = 0;
   VixError err = VIX_ASYNC;
   for (uint64_t at = 0; at < sectors && err == VIX_ASYNC; at += chunk) {
      pthread_mutex_lock(&c.lock);
      while (c.in_flight == depth) {
         pthread_cond_wait(&c.changed, &c.lock);
      }
      c.in_flight++;
      pthread_mutex_unlock(&c.lock);
      vreplica_Piece piece = {at, sectors - at < chunk ? sectors - at : chunk, data + at * 512};
      err = vr_nfc_submit(disk, write, &piece, completed, &c);
      asked += err == VIX_ASYNC;
   }
   vr_nfc_wait(disk);
   CHECK(c.called == asked);
   return err != VIX_ASYNC ? err : c.result;
}

static VixError many(bool write, uint8_t *data, uint64_t sectors, uint64_t chunk, size_t *done)
{
   size_t count = (size_t)((sectors + chunk - 1) / chunk);
   vreplica_Piece *pieces = calloc(count, sizeof *pieces);
   CHECK(pieces);
   for (size_t i = 0; i < count; i++) {
      uint64_t at = i * chunk;
      pieces[i] = (vreplica_Piece){at, sectors - at < chunk ? sectors - at : chunk, data + at * 512};
   }
   VixError err = vr_nfc_move(disk, write, pieces, count, done);
   CHECK(err != VIX_OK || *done == count);
   free(pieces);
   return err;
}

static void load(const char *path, uint8_t *data, uint64_t bytes)
{
   FILE *f = fopen(path, "r");
   CHECK(f && fread(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

static void store(const char *path, const uint8_t *data, uint64_t bytes)
{
   FILE *f = fopen(path, "w");
   CHECK(f && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

/* copy HOW read|write FILE CHUNK DEPTH: all of the disk by `pump`, by `many`, or by one call. */
static void copy(const char *how, bool write, const char *file, uint64_t chunk, unsigned depth)
{
   uint64_t sectors = vr_nfc_capacity(disk) / 512;
   uint8_t *data = malloc(sectors * 512);
   size_t done = 0;
   CHECK(data);
   memset(data, 0xEE, sectors * 512);
   if (write) {
      load(file, data, sectors * 512);
   }
   VixError err = !strcmp(how, "pump") ? pump(write, data, sectors, chunk, depth)
      : !strcmp(how, "many")           ? many(write, data, sectors, chunk, &done)
                                       : many(write, data, sectors, sectors, &done);
   if (err == VIX_OK && !write) {
      store(file, data, sectors * 512);
   }
   free(data);
   if (err == VIX_OK) {
      printf("ok %u\n", reopened);
   } else {
      printf("error %u %zu\n", (unsigned)VIX_ERROR_CODE(err), done);
   }
}

static void answer(VixError err)
{
   if (err == VIX_OK) {
      puts("ok");
   } else {
      printf("error %u\n", (unsigned)VIX_ERROR_CODE(err));
   }
}

static void open_it(const char *path, const char *access, const char *mode, unsigned flags)
{
   vr_nfc_target target = {
      .path = path,
      .read_only = !strcmp(access, "ro"),
      .encrypted = !strcmp(mode, "nbdssl"),
      .config = config,
      .ticket = ask_ticket,
   };
   VixError err = vr_compression_of(flags, &target.compression);
   if (err == VIX_OK) {
      err = vr_nfc_open(&target, &disk);
   }
   if (err != VIX_OK) {
      answer(err);
      return;
   }
   vr_nfc_on_reopen(disk, check_reopened, NULL);
   VixDiskLibGeometry g = vr_nfc_geometry(disk);
   printf("ok %llu %u/%u/%u\n", (unsigned long long)vr_nfc_capacity(disk), g.cylinders, g.heads,
      g.sectors);
}

static void blocks(uint64_t start, uint64_t chunk, uint64_t chunks)
{
   uint8_t *bitmap;
   VixError err = vr_nfc_allocated(disk, start, chunk, chunks, &bitmap);
   if (err != VIX_OK) {
      answer(err);
      return;
   }
   printf("ok ");
   for (uint64_t i = 0; i < chunks; i++) {
      putchar(bitmap[i / 8] >> i % 8 & 1 ? '1' : '0');
   }
   putchar('\n');
   free(bitmap);
}

static void metadata(const char *key)
{
   char *value;
   VixError err = vr_nfc_metadata(disk, &key, 1, &value);
   if (err != VIX_OK) {
      answer(err);
      return;
   }
   printf("ok %s\n", value ? value : "(missing)");
   free(value);
}

static void set(const char *name, unsigned value)
{
   static const struct {
      const char *name;
      unsigned *member;
   } members[] = {
      {"read_ms", &config.read_ms},
      {"write_ms", &config.write_ms},
      {"close_ms", &config.close_ms},
      {"connect_ms", &config.connect_ms},
      {"handshake_ms", &config.handshake_ms},
      {"reconnects", &config.reconnects},
      {"reconnect_wait_ms", &config.reconnect_wait_ms},
      {"in_flight_bytes", &config.in_flight_bytes},
      {"buffer_bytes", &config.buffer_bytes},
      {"legacy_tls", &config.legacy_tls},
   };
   for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
      if (!strcmp(members[i].name, name)) {
         *members[i].member = value;
         puts("ok");
         return;
      }
   }
   CHECK(!"a setting");
}

int main(void)
{
   static char line[4096];
   char a[2048], b[256], c[256], d[1024];
   unsigned long long x, y, z;
   vr_log_to(note, note);
   while (fgets(line, sizeof line, stdin)) {
      if (sscanf(line, "open %255s %255s %llu %2047[^\n]", b, c, &x, a) == 4) {
         open_it(a, b, c, (unsigned)x);
      } else if (sscanf(line, "copy %255s %255s %1023s %llu %llu", b, c, d, &x, &y) == 5) {
         copy(b, !strcmp(c, "write"), d, x, (unsigned)y);
      } else if (sscanf(line, "blocks %llu %llu %llu", &x, &y, &z) == 3) {
         blocks(x, y, z);
      } else if (sscanf(line, "metadata %255s", b) == 1) {
         metadata(b);
      } else if (sscanf(line, "reopen %llu", &x) == 1) {
         reopen_result = x;
         puts("ok");
      } else if (sscanf(line, "set %255s %llu", b, &x) == 2) {
         set(b, (unsigned)x);
      } else if (!strcmp(line, "wait\n")) {
         answer(vr_nfc_wait(disk));
      } else if (!strcmp(line, "close\n")) {
         answer(vr_nfc_close(disk));
         disk = NULL;
      } else {
         CHECK(!"a command");
      }
      fflush(stdout);
   }
   return 0;
}
