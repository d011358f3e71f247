#include "os/encoding.h"

#include <iconv.h>
#include <stdio.h>
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

/* VMware writes the names that ICU has for its converters; iconv has others. */
static const struct {
   const char *icu, *iconv;
} names[] = {
   {"ibm-5346_P100-1998", "CP1250"}, {"ibm-5347_P100-1998", "CP1251"},
   {"ibm-5348_P100-1997", "CP1252"}, {"ibm-5349_P100-1998", "CP1253"},
   {"ibm-5350_P100-1998", "CP1254"}, {"ibm-9447_P100-2002", "CP1255"},
   {"ibm-9448_X100-2005", "CP1256"}, {"ibm-9449_P100-2002", "CP1257"},
   {"ibm-5354_P100-1998", "CP1258"}, {"ibm-943_P15A-2003", "CP932"},
   {"ibm-943_P130-1999", "CP932"}, {"ibm-942_P12A-1999", "CP932"},
   {"ibm-1386_P100-2001", "CP936"}, {"ibm-1363_P11B-1998", "CP949"},
   {"ibm-1363_P110-1997", "CP949"}, {"ibm-1373_P100-2002", "CP950"},
   {"ibm-33722_P12A_P12A-2009_U2", "EUC-JP"}, {"ibm-970_P110_P110-2006_U2", "EUC-KR"},
};

/* `windows-949-2000` is Windows' code page 949 in ICU's version of 2000; "" for no such name. */
static void code_page(const char *encoding, char *out, size_t room)
{
   static const char prefix[] = "windows-";
   unsigned page;
   int used = 0;
   *out = 0;
   if (!strncasecmp(encoding, prefix, sizeof prefix - 1)
      && sscanf(encoding + sizeof prefix - 1, "%5u%n", &page, &used) == 1) {
      const char *rest = encoding + sizeof prefix - 1 + used;
      if (!*rest || *rest == '-') {
         snprintf(out, room, "CP%u", page);
      }
   }
}

static iconv_t open_codec(const char *encoding)
{
   iconv_t codec = iconv_open("UTF-8", encoding);
   for (size_t i = 0; codec == (iconv_t)-1 && i < sizeof names / sizeof *names; i++) {
      if (!strcasecmp(names[i].icu, encoding)) {
         codec = iconv_open("UTF-8", names[i].iconv);
      }
   }
   if (codec == (iconv_t)-1) {
      char page[16];
      code_page(encoding, page, sizeof page);
      codec = *page ? iconv_open("UTF-8", page) : codec;
   }
   return codec;
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
   if (strchr(encoding, '/')) {
      return VIX_E_DISK_ENCODING; /* iconv's own options */
   }
   iconv_t codec = open_codec(encoding);
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
   if (strlen(result) != (size_t)(at - result) || strpbrk(result, "\"\r\n")) {
      free(result); /* a character that no name on one line between quotes can have */
      return VIX_E_DISK_ENCODING;
   }
   *out = result;
   return VIX_OK;
}
