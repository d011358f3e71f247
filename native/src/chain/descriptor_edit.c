/* Changes the lines of a descriptor and renders them as text. */
#include "chain/descriptor.h"
#include "chain/descriptor_lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

VixError vr_descriptor_set(vr_descriptor *d, const char *key, const char *value, bool quoted)
{
   bool ddb = !strncmp(key, "ddb.", 4);
   char *line = NULL;
   const char *quote = quoted ? "\"" : "";
   if (!vr_is_quotable(value)) {
      return VIX_E_FILE_NAME_INVALID;
   }
   if (asprintf(&line, "%s%s%s%s%s", key, ddb ? " = " : "=", quote, value, quote) < 0) {
      return VIX_E_OUT_OF_MEMORY;
   }
   size_t after = d->line_count ? 1 : 0; /* the first line says that this is a descriptor */
   for (size_t i = 0; i < d->line_count; i++) {
      const char *old;
      if (vr_line_assigns(d->lines[i], key, &old)) {
         free(d->lines[i]);
         d->lines[i] = line;
         return VIX_OK;
      }
      if (vr_line_assigns(d->lines[i], "parentCID", &old)) {
         after = i + 1;
      }
   }
   return vr_descriptor_insert_line(d, ddb ? d->line_count : after, line);
}

VixError vr_descriptor_set_cid(vr_descriptor *d, const char *key, uint32_t value)
{
   char text[16];
   snprintf(text, sizeof text, "%08" PRIx32, value);
   *(strcmp(key, "CID") ? &d->parent_cid : &d->cid) = value;
   return vr_descriptor_set(d, key, text, false);
}

char *vr_descriptor_text(const vr_descriptor *d, size_t *length)
{
   size_t total = 0;
   for (size_t i = 0; i < d->line_count; i++) {
      total += strlen(d->lines[i]) + 1;
   }
   char *text = malloc(total + 1);
   char *at = text;
   for (size_t i = 0; text && i < d->line_count; i++) {
      at = stpcpy(at, d->lines[i]);
      *at++ = '\n';
   }
   if (text) {
      *at = 0;
   }
   *length = total;
   return text;
}

VixError vr_descriptor_add_extent(vr_descriptor *d, char *line, uint64_t sectors)
{
   size_t after = 0;
   const char *number;
   for (size_t i = 0; i < d->line_count; i++) {
      if (vr_is_extent_line(d->lines[i], &number)) {
         after = i + 1;
      }
   }
   VixError err = vr_descriptor_insert_line(d, after, line);
   if (err == VIX_OK) {
      d->capacity += sectors;
   }
   return err;
}

VixError vr_descriptor_rename_extent(vr_descriptor *d, size_t index, const char *name)
{
   size_t seen = 0;
   if (!vr_is_quotable(name)) {
      return VIX_E_FILE_NAME_INVALID;
   }
   for (size_t i = 0; i < d->line_count; i++) {
      const char *start = d->lines[i];
      const char *number;
      if (!vr_is_extent_line(start, &number) || seen++ != index) {
         continue;
      }
      const char *open = strchr(start, '"');
      const char *end = open ? strchr(open + 1, '"') : NULL;
      char *line = NULL;
      if (!end) {
         return VIX_E_INVALID_ARG;
      }
      if (asprintf(&line, "%.*s\"%s\"%s", (int)(open - start), start, name, end + 1) < 0) {
         return VIX_E_OUT_OF_MEMORY;
      }
      free(d->lines[i]);
      d->lines[i] = line;
      return VIX_OK;
   }
   return VIX_E_INVALID_ARG;
}

VixError vr_descriptor_set_extent_sectors(vr_descriptor *d, size_t index, uint64_t sectors)
{
   size_t seen = 0;
   for (size_t i = 0; i < d->line_count; i++) {
      const char *start = d->lines[i];
      const char *number;
      if (!vr_is_extent_line(start, &number) || seen++ != index) {
         continue;
      }
      char *line = NULL;
      const char *rest = number + strspn(number, "0123456789");
      if (asprintf(&line, "%.*s%" PRIu64 "%s", (int)(number - start), start, sectors, rest) < 0) {
         return VIX_E_OUT_OF_MEMORY;
      }
      free(d->lines[i]);
      d->lines[i] = line;
      d->capacity += sectors - d->extents[index].sectors;
      d->extents[index].sectors = sectors;
      return VIX_OK;
   }
   return VIX_E_INVALID_ARG;
}

VixError vr_descriptor_make_utf8(vr_descriptor *d)
{
   char *encoding = vr_descriptor_get(d, "encoding");
   bool already = !encoding || !strcmp(encoding, "UTF-8");
   free(encoding);
   VixError err = already ? VIX_OK : vr_descriptor_set(d, "encoding", "UTF-8", true);
   for (size_t i = 0; err == VIX_OK && !already && i < d->extent_count; i++) {
      if (d->extents[i].name) {
         err = vr_descriptor_rename_extent(d, i, d->extents[i].name);
      }
   }
   if (err == VIX_OK && !already && d->parent_hint) {
      err = vr_descriptor_set(d, "parentFileNameHint", d->parent_hint, true);
   }
   return err;
}
