#include "chain/descriptor.h"

#include "chain/descriptor_lines.h"
#include "os/encoding.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The value without quotes and trailing blanks. */
static char *unquote(const char *value)
{
   if (*value == '"') {
      const char *end = strchr(value + 1, '"');
      return end ? strndup(value + 1, (size_t)(end - value - 1)) : strdup(value + 1);
   }
   size_t length = strlen(value);
   while (length && isspace((unsigned char)value[length - 1])) {
      length--;
   }
   return strndup(value, length);
}

char *vr_descriptor_get(const vr_descriptor *d, const char *key)
{
   for (size_t i = 0; i < d->line_count; i++) {
      const char *value;
      if (vr_line_assigns(d->lines[i], key, &value)) {
         return unquote(value);
      }
   }
   return NULL;
}

static VixError parse_cid(const vr_descriptor *d, const char *key, uint32_t *out)
{
   char *text = vr_descriptor_get(d, key);
   if (!text) {
      return VIX_OK;
   }
   char *end;
   errno = 0;
   unsigned long long value = strtoull(text, &end, 16);
   bool good = end != text && !*end && !errno && value <= UINT32_MAX && isxdigit((unsigned char)*text);
   free(text);
   *out = (uint32_t)value;
   return good ? VIX_OK : VIX_E_DISK_INVALIDDISK;
}

static bool take_type(const char **p, vr_extent_type *type)
{
   static const struct {
      const char *word;
      vr_extent_type type;
   } types[] = {
      {"FLAT", VR_EXTENT_FLAT}, {"VMFS", VR_EXTENT_FLAT}, {"SPARSE", VR_EXTENT_SPARSE},
      {"ZERO", VR_EXTENT_ZERO}, {"VMFSSPARSE", VR_EXTENT_COWD}, {"SESPARSE", VR_EXTENT_SESPARSE},
   };
   for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
      if (vr_take_word(p, types[i].word)) {
         *type = types[i].type;
         return true;
      }
   }
   return false;
}

/* A line that describes no extent is VIX_OK with *is_extent false. */
static VixError parse_extent(const char *line, const char *encoding, vr_extent_line *out,
   bool *is_extent)
{
   const char *p = vr_skip_blanks(line);
   *out = (vr_extent_line){.access = VR_ACCESS_RW};
   *is_extent = true;
   if (vr_take_word(&p, "RW")) {
      out->access = VR_ACCESS_RW;
   } else if (vr_take_word(&p, "RDONLY")) {
      out->access = VR_ACCESS_RDONLY;
   } else if (vr_take_word(&p, "NOACCESS")) {
      out->access = VR_ACCESS_NONE;
   } else {
      *is_extent = false;
      return VIX_OK;
   }
   if (!vr_take_number(&p, &out->sectors) || !out->sectors) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (!take_type(&p, &out->type)) {
      return VIX_E_DISK_NOTSUPPORTED; /* raw device mappings and later types */
   }
   if (out->type == VR_EXTENT_ZERO) {
      return VIX_OK;
   }
   const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
   if (!end || end == p + 1) {
      return VIX_E_DISK_INVALIDDISK;
   }
   char *raw = strndup(p + 1, (size_t)(end - p - 1));
   if (!raw) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = vr_to_utf8(raw, encoding, &out->name);
   free(raw);
   if (err != VIX_OK) {
      return err;
   }
   p = vr_skip_blanks(end + 1);
   if (isdigit((unsigned char)*p) && !vr_take_number(&p, &out->offset)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   return VIX_OK;
}

static VixError add_extent(vr_descriptor *d, size_t *room, const vr_extent_line *extent)
{
   if (d->extent_count == VR_EXTENTS_MAX
      || __builtin_add_overflow(d->capacity, extent->sectors, &d->capacity)
      || d->capacity > INT64_MAX / VIXDISKLIB_SECTOR_SIZE) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (d->extent_count == *room) {
      *room = *room ? *room * 2 : 4;
      vr_extent_line *grown = realloc(d->extents, *room * sizeof *grown);
      if (!grown) {
         return VIX_E_OUT_OF_MEMORY;
      }
      d->extents = grown;
   }
   d->extents[d->extent_count++] = *extent;
   return VIX_OK;
}

static VixError parse_extents(vr_descriptor *d, const char *encoding)
{
   size_t room = 0;
   for (size_t i = 0; i < d->line_count; i++) {
      vr_extent_line extent;
      bool is_extent;
      VixError err = parse_extent(d->lines[i], encoding, &extent, &is_extent);
      if (err == VIX_OK && is_extent) {
         err = add_extent(d, &room, &extent);
      }
      if (err != VIX_OK) {
         free(extent.name);
         return err;
      }
   }
   return d->extent_count ? VIX_OK : VIX_E_DISK_INVALIDDISK;
}

VixError vr_descriptor_insert_line(vr_descriptor *d, size_t at, char *line)
{
   if (!line) {
      return VIX_E_OUT_OF_MEMORY;
   }
   if (d->line_count == d->line_room) {
      size_t room = d->line_room ? d->line_room * 2 : 64;
      char **lines = realloc(d->lines, room * sizeof *lines);
      if (!lines) {
         free(line);
         return VIX_E_OUT_OF_MEMORY;
      }
      d->lines = lines;
      d->line_room = room;
   }
   memmove(d->lines + at + 1, d->lines + at, (d->line_count - at) * sizeof *d->lines);
   d->lines[at] = line;
   d->line_count++;
   return VIX_OK;
}

static VixError split_lines(vr_descriptor *d, const char *text, size_t length)
{
   const char *end = memchr(text, 0, length);
   end = end ? end : text + length;
   while (text < end) {
      const char *newline = memchr(text, '\n', (size_t)(end - text));
      const char *stop = newline ? newline : end;
      const char *trimmed = stop;
      while (trimmed > text && trimmed[-1] == '\r') { /* all, so that the stored text parses the same */
         trimmed--;
      }
      VixError err = vr_descriptor_insert_line(d, d->line_count, strndup(text, (size_t)(trimmed - text)));
      if (err != VIX_OK) {
         return err;
      }
      text = stop + 1;
   }
   return VIX_OK;
}

/* True where the content is encrypted: by Workstation, which encrypts the extents and may encrypt
 * the descriptor too, or by ESXi's filter. */
static bool is_encrypted(const vr_descriptor *d)
{
   static const char *const keys[] = {
      "encryptionKeys", "keyID", "encryption.keySafe", "encryption.data", "ddb.iofilters"};
   for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
      char *value = vr_descriptor_get(d, keys[i]);
      bool is_filters = !strncmp(keys[i], "ddb.", 4);
      bool found = value && *value && (!is_filters || strstr(value, "vmcrypt"));
      free(value);
      if (found) {
         return true;
      }
   }
   return false;
}

VixError vr_descriptor_parse(const char *text, size_t length, vr_descriptor *out)
{
   *out = (vr_descriptor){.parent_cid = VR_NO_PARENT};
   if (length > VR_DESCRIPTOR_MAX) {
      return VIX_E_DISK_INVALIDDISK;
   }
   VixError err = split_lines(out, text, length);
   if (err == VIX_OK && is_encrypted(out)) {
      err = VIX_E_DISK_NEEDKEY;
   }
   if (err == VIX_OK) {
      out->create_type = vr_descriptor_get(out, "createType");
      err = out->create_type ? parse_cid(out, "CID", &out->cid) : VIX_E_DISK_INVALIDDISK;
   }
   if (err == VIX_OK) {
      err = parse_cid(out, "parentCID", &out->parent_cid);
   }
   char *encoding = vr_descriptor_get(out, "encoding");
   char *hint = vr_descriptor_get(out, "parentFileNameHint");
   if (err == VIX_OK && hint && *hint) {
      err = vr_to_utf8(hint, encoding, &out->parent_hint);
   }
   if (err == VIX_OK) {
      err = parse_extents(out, encoding);
   }
   free(hint);
   free(encoding);
   if (err != VIX_OK) {
      vr_descriptor_free(out);
   }
   return err;
}

VixError vr_descriptor_copy(const vr_descriptor *d, vr_descriptor *out)
{
   size_t length;
   char *text = vr_descriptor_text(d, &length);
   VixError err = text ? vr_descriptor_parse(text, length, out) : VIX_E_OUT_OF_MEMORY;
   free(text);
   return err;
}

void vr_descriptor_free(vr_descriptor *d)
{
   for (size_t i = 0; i < d->line_count; i++) {
      free(d->lines[i]);
   }
   for (size_t i = 0; i < d->extent_count; i++) {
      free(d->extents[i].name);
   }
   free(d->lines);
   free(d->extents);
   free(d->create_type);
   free(d->parent_hint);
   *d = (vr_descriptor){.parent_cid = VR_NO_PARENT};
}
