#include "os/encoding.h"

#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool vr_is_utf8(const char *text)
{
   const unsigned char *p = (const unsigned char *)text;
   while (*p) {
      unsigned more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : (*p & 0xf0) == 0xe0 ? 2
         : *p >= 0xf0 && *p < 0xf5 ? 3 : 4;
      if (more == 4) {
         return false;
      }
      /* The second byte shows overlong forms, surrogates and characters above U+10FFFF. */
      if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
         || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) {
         return false;
      }
      for (p++; more; more--, p++) {
         if ((*p & 0xc0) != 0x80) {
            return false;
         }
      }
   }
   return true;
}

static bool is_ascii(const char *text)
{
   for (; *text; text++) {
      if ((unsigned char)*text >= 0x80) {
         return false;
      }
   }
   return true;
}

VixError vr_to_utf8(const char *text, const char *encoding, char **out)
{
   *out = NULL;
   if (is_ascii(text) || !encoding || !strcasecmp(encoding, "UTF-8")) {
      if (!vr_is_utf8(text)) {
         return VIX_E_DISK_ENCODING;
      }
      *out = strdup(text);
      return *out ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   iconv_t codec = iconv_open("UTF-8", encoding);
   if (codec == (iconv_t)-1) {
      return VIX_E_DISK_ENCODING;
   }
   size_t in_left = strlen(text);
   size_t out_left = in_left * 4;
   char *result = malloc(out_left + 1);
   if (!result) {
      iconv_close(codec);
      return VIX_E_OUT_OF_MEMORY;
   }
   char *in = (char *)text;
   char *at = result;
   size_t bad = iconv(codec, &in, &in_left, &at, &out_left);
   if (bad != (size_t)-1) {
      bad = iconv(codec, NULL, NULL, &at, &out_left);
   }
   iconv_close(codec);
   if (bad == (size_t)-1) {
      free(result);
      return VIX_E_DISK_ENCODING;
   }
   *at = 0;
   *out = result;
   return VIX_OK;
}
