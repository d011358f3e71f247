#include "nfc/authd.h"

#include "nfc/wire.h"
#include "os/clock.h"
#include "os/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define CERTIFICATE_MAX 16384u

bool vr_authd_greeting(const char *line, bool *sha256)
{
   *sha256 = strstr(line, "SHA256 supported") != NULL;
   return !strncmp(line, "220 ", 4);
}

bool vr_authd_ok(const char *line, const char **rest)
{
   *rest = line + (strncmp(line, "200 ", 4) ? 0 : 4);
   return *rest != line;
}

bool vr_authd_word(const char *text)
{
   size_t length = text ? strlen(text) : 0;
   for (size_t i = 0; i < length; i++) {
      if (text[i] <= 0x20 || text[i] >= 0x7F) {
         return false;
      }
   }
   return length && length < VR_AUTHD_LINE / 2;
}

static int base64_digit(char c)
{
   static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
   const char *at = c ? strchr(digits, c) : NULL;
   return at ? (int)(at - digits) : -1;
}

size_t vr_pem_decode(const char *pem, uint8_t *out, size_t room)
{
   static const char begin[] = "-----BEGIN CERTIFICATE-----";
   const char *p = strstr(pem, begin);
   size_t filled = 0;
   uint32_t bits = 0;
   unsigned count = 0;
   for (p = p ? p + sizeof begin - 1 : ""; *p && *p != '-'; p++) {
      int digit = base64_digit(*p);
      if (digit < 0) {
         continue; /* white space, padding */
      }
      bits = bits << 6 | (uint32_t)digit;
      count += 6;
      if (count >= 8) {
         count -= 8;
         if (filled == room) {
            return 0;
         }
         out[filled++] = (uint8_t)(bits >> count);
      }
   }
   return filled;
}

typedef struct {
   vr_stream *stream;
   const vr_nfc_ticket *ticket;
   const vr_nfc_config *config;
} login;

static int64_t limit(const login *l)
{
   return vr_now_ms() + l->config->handshake_ms;
}

/* Reads a line byte by byte, so that nothing behind it is taken. */
static VixError hear(const login *l, char line[VR_AUTHD_LINE])
{
   int64_t deadline = limit(l);
   size_t filled = 0;
   for (;;) {
      char c;
      VixError err = vr_stream_read(l->stream, &c, 1, deadline);
      if (err != VIX_OK) {
         vr_warn("%s: the login to its port %u was not answered: %s\n", l->ticket->host,
            l->ticket->port, vr_stream_error(l->stream));
         return err;
      }
      if (c == '\n') {
         break;
      }
      if (filled == VR_AUTHD_LINE - 1) {
         vr_warn("%s: port %u answers with more than a line\n", l->ticket->host, l->ticket->port);
         return VIX_E_HOST_NETBLKDEV_HANDSHAKE;
      }
      line[filled++] = c ? c : ' ';
   }
   line[filled] = 0;
   line[strcspn(line, "\r")] = 0;
   return VIX_OK;
}

static VixError say(const login *l, const char *command, const char *argument)
{
   struct iovec parts[] = {
      {(void *)command, strlen(command)},
      {(void *)argument, strlen(argument)},
      {(void *)"\r\n", 2},
   };
   VixError err = vr_stream_writev(l->stream, parts, 3, limit(l));
   if (err != VIX_OK) {
      vr_warn("%s: the login was not sent: %s\n", l->ticket->host, vr_stream_error(l->stream));
   }
   return err;
}

/* Logs what a host says instead of the answer that was wanted. It is never the ticket. */
static VixError refuse(const login *l, const char *what, const char *line, VixError err)
{
   char text[VR_HOST_TEXT];
   vr_host_text((const uint8_t *)line, strlen(line), text);
   vr_warn("%s: %s: \"%s\"\n", l->ticket->host, what, text);
   return err;
}

static VixError hear_greeting(const login *l, bool *sha256)
{
   char line[VR_AUTHD_LINE];
   VixError err = hear(l, line);
   if (err == VIX_OK && !vr_authd_greeting(line, sha256)) {
      err = refuse(l, "its port is not VMware's authentication daemon", line,
         VIX_E_HOST_NETBLKDEV_HANDSHAKE);
   }
   return err;
}

static VixError ask(const login *l, const char *command, const char *argument, const char *what,
   char line[VR_AUTHD_LINE], const char **rest)
{
   VixError err = say(l, command, argument);
   if (err == VIX_OK) {
      err = hear(l, line);
   }
   if (err == VIX_OK && !vr_authd_ok(line, rest)) {
      err = refuse(l, what, line, VIX_E_AUTHENTICATION_FAIL);
   }
   return err;
}

static VixError mismatch(const login *l, const char *by)
{
   vr_warn("%s: its certificate is not the one that %s names\n", l->ticket->host, by);
   return VIX_E_FAIL; /* as VDDK says it; the log tells */
}

/* Holds the certificate against the ticket: whole where the ticket has it, else by its SHA-1. */
static VixError check_certificate(const login *l, const vr_peer *peer)
{
   if (l->ticket->certificate_pem && *l->ticket->certificate_pem) {
      uint8_t *der = malloc(CERTIFICATE_MAX);
      uint8_t digest[VR_SHA256_BYTES];
      size_t bytes = der ? vr_pem_decode(l->ticket->certificate_pem, der, CERTIFICATE_MAX) : 0;
      bool good = bytes && vr_sha256(der, bytes, digest)
         && !memcmp(digest, peer->sha256, sizeof digest);
      free(der);
      return good ? VIX_OK : mismatch(l, "the ticket");
   }
   return l->ticket->sha1_thumbprint && vr_thumbprint_is(l->ticket->sha1_thumbprint, peer)
      ? VIX_OK
      : mismatch(l, "the ticket");
}

/* Presents the ticket and asks for NFC. *announced: the SHA-256 of the second certificate, as far
 * as the daemon can say it. */
static VixError present(const login *l, bool encrypted, vr_peer *announced)
{
   char line[VR_AUTHD_LINE];
   char service[VR_AUTHD_LINE];
   const char *rest;
   bool sha256 = false;
   VixError err = say(l, "SESSION ", l->ticket->session_id);
   if (err == VIX_OK) {
      err = say(l, "BANNER ", "");
   }
   if (err == VIX_OK) {
      err = hear_greeting(l, &sha256);
   }
   if (err == VIX_OK && sha256) {
      err = ask(l, "THUMBPRINT_SHA2 PlainText", "", "its thumbprint was refused", line, &rest);
      if (err == VIX_OK) {
         vr_thumbprint_parse(rest, announced->sha256, VR_SHA256_BYTES); /* else as the first one */
      }
   }
   if (err == VIX_OK) {
      snprintf(service, sizeof service, "%s%s", l->ticket->service, encrypted ? "ssl" : "");
      err = ask(l, "PROXY ", service, "the ticket was refused, it may be spent or too old", line,
         &rest);
   }
   return err;
}

static VixError tls(const login *l, vr_peer *peer)
{
   VixError err = vr_stream_start_tls(l->stream, NULL, peer, l->config->legacy_tls);
   if (err != VIX_OK) {
      vr_warn("%s: no TLS on port %u: %s\n", l->ticket->host, l->ticket->port,
         vr_stream_error(l->stream));
   }
   return err;
}

static VixError log_in(const login *l, bool encrypted)
{
   bool sha256;
   vr_peer first = {{0}, {0}};
   vr_peer second = {{0}, {0}};
   VixError err = hear_greeting(l, &sha256);
   if (err == VIX_OK) {
      err = tls(l, &first);
   }
   if (err == VIX_OK) {
      err = check_certificate(l, &first);
   }
   vr_peer announced = first;
   if (err == VIX_OK) {
      err = present(l, encrypted, &announced);
   }
   if (err != VIX_OK) {
      return err;
   }
   vr_stream_drop_tls(l->stream);
   if (!encrypted) {
      return VIX_OK;
   }
   err = tls(l, &second);
   /* The announced thumbprint came over the checked connection, so it counts too. */
   if (err == VIX_OK && memcmp(second.sha256, first.sha256, VR_SHA256_BYTES)
      && memcmp(second.sha256, announced.sha256, VR_SHA256_BYTES)) {
      err = mismatch(l, "its first connection");
   }
   return err;
}

VixError vr_authd_open(const vr_nfc_ticket *ticket, bool encrypted, const vr_nfc_config *config,
   vr_stream **out)
{
   *out = NULL;
   if (!ticket->host || !vr_authd_word(ticket->session_id) || !vr_authd_word(ticket->service)) {
      vr_warn("%s: the ticket is not plain text\n", ticket->host ? ticket->host : "(no host)");
      return VIX_E_HOST_NETBLKDEV_HANDSHAKE;
   }
   login l = {.ticket = ticket, .config = config};
   VixError err = vr_stream_connect(ticket->host, ticket->port, config->connect_ms, &l.stream);
   if (err != VIX_OK) {
      vr_warn("%s: port %u cannot be reached: error %u\n", ticket->host, ticket->port,
         (unsigned)VIX_ERROR_CODE(err));
      return err;
   }
   err = log_in(&l, encrypted);
   if (err != VIX_OK) {
      vr_stream_close(l.stream);
   } else {
      *out = l.stream;
   }
   return err;
}
