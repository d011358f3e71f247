/* Reads an answer of HTTP/1.1, whose every byte may be hostile. */
#include "vim/http.h"

#include "os/secret.h"

#include <stdint.h>
#include <strings.h>

#define PIECE 16384u
#define INTERIM_MOST 8 /* answers 1xx before the one that counts */
#define COOKIE "vmware_soap_session="

typedef struct {
   vr_http_read *read;
   void *data;
   int64_t deadline_ms;
   const char **why;
   size_t head; /* bytes of lines so far */
   size_t start;
   size_t end;
   char piece[PIECE];
} source;

void vr_http_answer_free(vr_http_answer *a)
{
   vr_text_free(&a->cookie);
   vr_text_free(&a->body);
}

static VixError broken(source *s, const char *why)
{
   *s->why = why;
   return VIX_E_HOST_TCP_CONN_LOST;
}

static VixError fill(source *s)
{
   if (s->start < s->end) {
      return VIX_OK;
   }
   s->start = s->end = 0;
   VixError err = s->read(s->data, s->piece, sizeof s->piece, &s->end, s->deadline_ms);
   return err == VIX_OK && !s->end ? VIX_E_HOST_TCP_CONN_LOST : err;
}

/* Reads a line without its end. */
static VixError read_line(source *s, vr_text *line)
{
   line->length = 0;
   for (;;) {
      VixError err = fill(s);
      if (err != VIX_OK) {
         return err;
      }
      char *at = s->piece + s->start;
      char *newline = memchr(at, '\n', s->end - s->start);
      size_t part = newline ? (size_t)(newline - at) : s->end - s->start;
      s->head += part + 1;
      if (s->head > VR_HTTP_HEAD_MOST) {
         return broken(s, "the head of the answer is too long");
      }
      vr_text_add(line, at, part);
      if (line->failed || memchr(at, 0, part)) {
         return broken(s, "the head of the answer cannot be read");
      }
      s->start += part + (newline != NULL);
      if (newline) {
         if (line->length && line->at[line->length - 1] == '\r') {
            line->at[--line->length] = 0;
         }
         return VIX_OK;
      }
   }
}

static VixError read_body(source *s, size_t bytes, vr_text *body)
{
   while (bytes) {
      VixError err = fill(s);
      if (err != VIX_OK) {
         return err;
      }
      size_t part = s->end - s->start < bytes ? s->end - s->start : bytes;
      vr_text_add(body, s->piece + s->start, part);
      if (body->failed) {
         return broken(s, "the answer is too long");
      }
      s->start += part;
      bytes -= part;
   }
   return VIX_OK;
}

/* The number at the start of a text, which ends with it, a space or a semicolon. */
static bool number(const char *text, unsigned base, size_t *value)
{
   const char *first = text;
   *value = 0;
   for (;; text++) {
      unsigned digit = *text >= '0' && *text <= '9' ? (unsigned)(*text - '0')
         : (*text | 32) >= 'a' && (*text | 32) <= 'f' ? (unsigned)((*text | 32) - 'a' + 10)
                                                      : 99;
      if (digit >= base) {
         break;
      }
      if (*value > VR_HTTP_ANSWER_MOST) {
         return false;
      }
      *value = *value * base + digit;
   }
   return text != first && (!*text || *text == ' ' || *text == '\t' || *text == ';');
}

static VixError read_chunks(source *s, vr_text *line, vr_text *body)
{
   for (;;) {
      size_t bytes;
      s->head = 0; /* the limit of the body counts */
      VixError err = read_line(s, line);
      if (err == VIX_OK && !number(line->at ? line->at : "", 16, &bytes)) {
         err = broken(s, "a chunk of the answer has no size");
      }
      if (err == VIX_OK && !bytes) {
         do { /* trailers */
            err = read_line(s, line);
         } while (err == VIX_OK && line->length);
         return err;
      }
      if (err == VIX_OK) {
         err = read_body(s, bytes, body);
      }
      if (err == VIX_OK) {
         err = read_line(s, line);
      }
      if (err == VIX_OK && line->length) {
         err = broken(s, "a chunk of the answer is longer than its size");
      }
      if (err != VIX_OK) {
         return err;
      }
   }
}

/* The value of a header, or NULL for another header. */
static const char *header(const vr_text *line, const char *name)
{
   size_t length = strlen(name);
   if (line->length <= length || line->at[length] != ':' || strncasecmp(line->at, name, length)) {
      return NULL;
   }
   return line->at + length + 1 + strspn(line->at + length + 1, " \t");
}

static VixError read_head(source *s, vr_text *line, vr_http_answer *out, bool *chunked, bool *sized,
   size_t *bytes)
{
   VixError err = read_line(s, line);
   if (err != VIX_OK) {
      return err;
   }
   size_t status = 0;
   if (line->length < 12 || strncmp(line->at, "HTTP/1.", 7) || line->at[8] != ' '
      || !number(line->at + 9, 10, &status) || status < 100 || status > 599) {
      return broken(s, "the answer is not HTTP/1.1");
   }
   out->status = (unsigned)status;
   out->close = line->at[7] == '0';
   *chunked = *sized = false;
   while ((err = read_line(s, line)) == VIX_OK && line->length) {
      const char *value;
      if ((value = header(line, "Content-Length"))) {
         if (*sized || !number(value, 10, bytes)) {
            return broken(s, "the answer has no length that is understood");
         }
         *sized = true;
      } else if ((value = header(line, "Transfer-Encoding"))) {
         if (strcasecmp(value, "chunked")) {
            return broken(s, "the answer has an encoding that was not asked for");
         }
         *chunked = true;
      } else if ((value = header(line, "Connection"))) {
         out->close |= strcasestr(value, "close") != NULL;
      } else if ((value = header(line, "Set-Cookie"))
         && !strncmp(value, COOKIE, sizeof COOKIE - 1)) {
         vr_text_free(&out->cookie);
         vr_text_add(&out->cookie, value, strcspn(value, "; \t"));
      }
   }
   return err;
}

static VixError receive(source *s, vr_text *line, vr_http_answer *out)
{
   bool chunked;
   bool sized;
   size_t bytes = 0;
   VixError err;
   int interim = 0;
   do {
      err = read_head(s, line, out, &chunked, &sized, &bytes);
   } while (err == VIX_OK && out->status < 200 && interim++ < INTERIM_MOST);
   if (err != VIX_OK) {
      return err;
   }
   if (out->status < 200 || (chunked && sized)) {
      return broken(s, "the answer is not understood");
   }
   if (chunked) {
      return read_chunks(s, line, &out->body);
   }
   if (out->status == 204 || out->status == 304) {
      return VIX_OK;
   }
   return sized ? read_body(s, bytes, &out->body) : broken(s, "the answer has no length");
}

VixError vr_http_receive(vr_http_read *read, void *data, int64_t deadline_ms, vr_http_answer *out,
   bool *any, const char **why)
{
   *out = (vr_http_answer){.body = {.most = VR_HTTP_ANSWER_MOST}};
   *why = NULL;
   vr_text line = {.most = VR_HTTP_HEAD_MOST};
   source *s = malloc(sizeof *s);
   if (!s) {
      return VIX_E_OUT_OF_MEMORY;
   }
   s->read = read;
   s->data = data;
   s->deadline_ms = deadline_ms;
   s->why = why;
   s->head = s->start = s->end = 0;
   VixError err = fill(s);
   *any = s->end > 0;
   if (err == VIX_OK) {
      err = receive(s, &line, out);
   }
   if (err == VIX_OK && s->start < s->end) {
      out->close = true; /* bytes that nobody asked for */
   }
   vr_wipe(s->piece, sizeof s->piece);
   free(s);
   vr_text_free(&line);
   if (err != VIX_OK) {
      vr_http_answer_free(out);
   }
   return err;
}
