#include "chain/descriptor_lines.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *vr_skip_blanks(const char *p)
{
   return p + strspn(p, " \t");
}

bool vr_line_assigns(const char *line, const char *key, const char **value)
{
   line = vr_skip_blanks(line);
   size_t length = strlen(key);
   if (strncasecmp(line, key, length)) {
      return false;
   }
   line = vr_skip_blanks(line + length);
   if (*line != '=') {
      return false;
   }
   *value = vr_skip_blanks(line + 1);
   return true;
}

bool vr_is_quotable(const char *value)
{
   return !value[strcspn(value, "\"\r\n")];
}

bool vr_take_word(const char **p, const char *word)
{
   size_t length = strlen(word);
   if (strncmp(*p, word, length) || !((*p)[length] == ' ' || (*p)[length] == '\t' || !(*p)[length])) {
      return false;
   }
   *p = vr_skip_blanks(*p + length);
   return true;
}

bool vr_take_number(const char **p, uint64_t *out)
{
   if (!isdigit((unsigned char)**p)) {
      return false;
   }
   char *end;
   errno = 0;
   unsigned long long value = strtoull(*p, &end, 10);
   if (errno || (*end && *end != ' ' && *end != '\t')) {
      return false;
   }
   *out = value;
   *p = vr_skip_blanks(end);
   return true;
}

bool vr_is_extent_line(const char *line, const char **number)
{
   const char *p = vr_skip_blanks(line);
   uint64_t sectors;
   if (!(vr_take_word(&p, "RW") || vr_take_word(&p, "RDONLY") || vr_take_word(&p, "NOACCESS"))) {
      return false;
   }
   *number = p;
   return vr_take_number(&p, &sectors);
}
