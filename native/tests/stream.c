/*
 * Drives src/net against servers that tests/native/test_net.py runs.
 *
 *    stream HOST PORT TASK [ARGUMENT]
 *       echo MIB      under TLS, one thread sends and another one receives the same bytes back
 *       twice         TLS, another TLS on the same connection, then plain
 *       verify NAME   verifies the certificate for NAME
 *       plain, tls    reads a line
 *       status        of OpenSSL
 *
 * Prints what a test asserts, or "error CODE TEXT".
 */
#include "net/peer.h"
#include "net/stream.h"
#include "os/clock.h"
#include "os/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (1u << 20)
#define TIMEOUT_MS 3000

static vr_stream *s;
static size_t pieces;

static void must(VixError err)
{
   if (err != VIX_OK) {
      printf("error %u %s\n", (unsigned)err, vr_stream_error(s));
      vr_stream_close(s);
      exit(1);
   }
}

static void fill(uint8_t *buf, size_t piece)
{
   for (size_t i = 0; i < PIECE; i++) {
      buf[i] = (uint8_t)(i * 31 + (i >> 8) + piece);
   }
}

static void *send_all(void *unused)
{
   uint8_t *buf = malloc(PIECE);
   for (size_t piece = 0; piece < pieces; piece++) {
      fill(buf, piece);
      /* A header, an empty part, a small and a large one: the way of NFC's frames. */
      struct iovec parts[] = {{buf, 60}, {buf, 0}, {buf + 60, 20000}, {buf + 20060, PIECE - 20060}};
      must(vr_stream_writev(s, parts, 4, vr_now_ms() + 60000));
   }
   free(buf);
   return unused;
}

static void echo(size_t mib)
{
   pthread_t sender;
   uint8_t *buf = malloc(PIECE);
   uint8_t *expected = malloc(PIECE);
   pieces = mib;
   pthread_create(&sender, NULL, send_all, NULL);
   for (size_t piece = 0; piece < mib; piece++) {
      must(vr_stream_read(s, buf, PIECE, vr_now_ms() + 60000));
      fill(expected, piece);
      if (memcmp(buf, expected, PIECE)) {
         printf("differs in piece %zu\n", piece);
         exit(1);
      }
   }
   pthread_join(sender, NULL);
   free(buf);
   free(expected);
   printf("equal\n");
}

static void line(const char *say)
{
   char got[64];
   size_t at = 0;
   int64_t deadline_ms = vr_now_ms() + TIMEOUT_MS;
   must(vr_stream_write(s, say, strlen(say), deadline_ms));
   do {
      must(vr_stream_read(s, got + at, 1, deadline_ms));
   } while (got[at++] != '\n' && at < sizeof got);
   printf("%.*s", (int)at, got);
}

static void tls(const char *sni)
{
   char text[VR_THUMBPRINT_ROOM];
   vr_peer peer;
   must(vr_stream_start_tls(s, sni, &peer, false));
   vr_thumbprint_text(peer.sha1, VR_SHA1_BYTES, text);
   printf("%s %s\n", text, vr_thumbprint_is(text, &peer) ? "same" : "other");
   vr_thumbprint_text(peer.sha256, VR_SHA256_BYTES, text);
   printf("%s %s\n", text, vr_thumbprint_is(text, &peer) ? "same" : "other");
}

static void say(const char *fmt, va_list args)
{
   vprintf(fmt, args);
}

int main(int argc, char **argv)
{
   const char *task = argv[3];
   const char *argument = argc > 4 ? argv[4] : "";
   vr_log_to(NULL, say);
   if (!strcmp(task, "status")) {
      const char *text;
      VixError err = vreplica_TlsStatus(&text);
      printf("%u %s\n", (unsigned)err, text);
      return 0;
   }
   must(vr_stream_connect(argv[1], (unsigned)atoi(argv[2]), TIMEOUT_MS, &s));
   if (strcmp(task, "plain")) {
      tls(argument);
   }
   if (!strcmp(task, "echo")) {
      echo((size_t)atoi(argument));
   } else if (!strcmp(task, "verify")) {
      must(vr_stream_verify_ca(s, argument));
      printf("verified\n");
   } else if (!strcmp(task, "twice")) {
      line("one\n");
      tls("");
      line("two\n");
      vr_stream_drop_tls(s);
      line("three\n");
   } else {
      line("hello\n");
   }
   vr_stream_close(s);
   return 0;
}
