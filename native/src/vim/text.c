#include "vim/text.h"

#include "os/secret.h"

#include <stdarg.h>
#include <stdio.h>

#define MOST (1u << 20)

/* realloc would leave the old bytes behind. */
static bool grow(vr_text *t, size_t need)
{
   size_t room = t->room ? t->room * 2 : 1024;
   while (room < need) {
      room *= 2;
   }
   char *fresh = malloc(room);
   if (!fresh) {
      return false;
   }
   memcpy(fresh, t->at ? t->at : "", t->at ? t->length : 0);
   if (t->at) {
      vr_wipe(t->at, t->room);
      free(t->at);
   }
   t->at = fresh;
   t->room = room;
   return true;
}

void vr_text_add(vr_text *t, const char *bytes, size_t count)
{
   size_t most = t->most ? t->most : MOST;
   if (t->failed || count > most - t->length
      || (t->length + count + 1 > t->room && !grow(t, t->length + count + 1))) {
      t->failed = true;
      return;
   }
   memcpy(t->at + t->length, bytes, count);
   t->length += count;
   t->at[t->length] = 0;
}

void vr_text_addf(vr_text *t, const char *fmt, ...)
{
   char part[512];
   va_list args;
   va_start(args, fmt);
   int length = vsnprintf(part, sizeof part, fmt, args);
   va_end(args);
   if (length < 0 || (size_t)length >= sizeof part) {
      t->failed = true;
   } else {
      vr_text_add(t, part, (size_t)length);
   }
   vr_wipe(part, sizeof part);
}

void vr_text_xml(vr_text *t, const char *value)
{
   for (; *value; value++) {
      unsigned char c = (unsigned char)*value;
      const char *escaped = c == '&' ? "&amp;"
         : c == '<'                  ? "&lt;"
         : c == '>'                  ? "&gt;"
         : c == '"'                  ? "&quot;"
         : c == '\r'                 ? "&#13;"
         : c == '\n'                 ? "&#10;"
         : c == '\t'                 ? "&#9;"
                                     : NULL;
      if (c < 0x20 && !escaped) {
         t->failed = true; /* XML 1.0 has no way to write it */
      }
      vr_text_add(t, escaped ? escaped : value, escaped ? strlen(escaped) : 1);
   }
}

void vr_text_free(vr_text *t)
{
   if (t->at) {
      vr_wipe(t->at, t->room);
      free(t->at);
   }
   *t = (vr_text){.most = t->most};
}
