#include "lab/site_map.h"

#include "os/log.h"
#include "os/path.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KIND, HOST, PORT, FIELDS_MAX = 6 };
enum { THUMBPRINT = 3, USER, PASSWORD };
enum { NAME = 3, FOLDER };

typedef struct {
   FILE *file;
   char *line;
   size_t room;
   char *fields[FIELDS_MAX];
} reader;

static VixError reader_open(reader *r, const char *root)
{
   *r = (reader){0};
   char *path = NULL;
   if (asprintf(&path, "%s/hosts.map", root) < 0) {
      return VIX_E_OUT_OF_MEMORY;
   }
   r->file = fopen(path, "re");
   if (!r->file) {
      vr_warn("%s cannot be read\n", path);
   }
   free(path);
   return r->file ? VIX_OK : VIX_E_CANNOT_CONNECT_TO_HOST;
}

static void reader_close(reader *r)
{
   if (r->line) {
      explicit_bzero(r->line, r->room); /* passwords */
   }
   free(r->line);
   fclose(r->file);
}

/* Reads the next record of this kind for host and port. Its fields are valid until the next call. */
static bool reader_next(reader *r, const char *kind, size_t fields, const char *host, uint32_t port)
{
   while (getline(&r->line, &r->room, r->file) >= 0) {
      r->line[strcspn(r->line, "\r\n")] = 0;
      char *rest = r->line;
      size_t count = 0;
      while (count < fields && rest) {
         r->fields[count++] = strsep(&rest, "\t");
      }
      if (count == fields && !rest && !strcmp(r->fields[KIND], kind)
         && !strcasecmp(r->fields[HOST], host) && strtoul(r->fields[PORT], NULL, 10) == port) {
         return true;
      }
   }
   return false;
}

static int next_hex(const char **p)
{
   while (**p == ':' || **p == ' ') {
      ++*p;
   }
   return **p ? tolower((unsigned char)*(*p)++) : 0;
}

static bool same_thumbprint(const char *a, const char *b)
{
   int left;
   int right;
   do {
      left = next_hex(&a);
      right = next_hex(&b);
   } while (left && left == right);
   return left == right;
}

VixError vr_site_map_login(const char *root, const char *host, uint32_t port, const char *user,
   const char *password, const char *thumbprint, bool *trusted)
{
   reader r;
   VixError err = reader_open(&r, root);
   if (err != VIX_OK) {
      return err;
   }
   if (!reader_next(&r, "vcenter", 6, host, port)) {
      vr_warn("no vCenter at %s:%u\n", host, port);
      err = VIX_E_CANNOT_CONNECT_TO_HOST;
   } else if (!user || !password || strcmp(user, r.fields[USER])
      || strcmp(password, r.fields[PASSWORD])) {
      err = VIX_E_AUTHENTICATION_FAIL;
   } else {
      *trusted = thumbprint && same_thumbprint(thumbprint, r.fields[THUMBPRINT]);
      if (!*trusted) {
         vr_warn("%s:%u: thumbprint mismatch: expected %s, the server has %s\n", host, port,
            thumbprint ? thumbprint : "(none)", r.fields[THUMBPRINT]);
      }
   }
   reader_close(&r);
   return err;
}

/* Splits "[name] rest" in a copy. */
static bool split(char *disk, char **name, char **rest)
{
   /* A name may have brackets itself: "[a [b]] web.vmdk". */
   char *end = *disk == '[' ? strstr(disk, "] ") : NULL;
   if (!end && *disk == '[') {
      end = strchr(disk, ']');
   }
   if (!end) {
      return false;
   }
   *end = 0;
   *name = disk + 1;
   *rest = end + 1 + strspn(end + 1, " ");
   return **rest && **rest != '/';
}

VixError vr_site_map_resolve(const char *root, const char *host, uint32_t port, const char *disk,
   char **folder, char **path)
{
   *folder = *path = NULL;
   char *copy = strdup(disk);
   char *name;
   char *rest;
   reader r;
   if (!copy) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = split(copy, &name, &rest) ? reader_open(&r, root) : VIX_E_FILE_NAME_INVALID;
   if (err != VIX_OK) {
      free(copy);
      return err;
   }
   err = VIX_E_FILE_NOT_FOUND;
   while (reader_next(&r, "datastore", 5, host, port)) {
      if (strcmp(r.fields[NAME], name)) {
         continue;
      }
      *folder = strdup(r.fields[FOLDER]);
      if (!*folder || asprintf(path, "%s/%s", *folder, rest) < 0) {
         *path = NULL;
         err = VIX_E_OUT_OF_MEMORY;
      } else {
         err = vr_path_is_below(*folder, *path) ? VIX_OK : VIX_E_FILE_NOT_FOUND;
      }
      break;
   }
   reader_close(&r);
   free(copy);
   if (err != VIX_OK) {
      vr_warn("%s: not found below a datastore of %s:%u\n", disk, host, port);
      free(*folder);
      free(*path);
      *folder = *path = NULL;
   }
   return err;
}
