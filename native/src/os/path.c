#include "os/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *vr_path_name(const char *path)
{
   const char *slash = strrchr(path, '/');
   return slash ? slash + 1 : path;
}

char *vr_path_folder(const char *path)
{
   const char *name = vr_path_name(path);
   if (name == path) {
      return strdup(".");
   }
   return name == path + 1 ? strdup("/") : strndup(path, (size_t)(name - path) - 1);
}

char *vr_path_beside(const char *path, const char *name)
{
   char *out = NULL;
   if (name[0] == '/') {
      return strdup(name);
   }
   int folder = (int)(vr_path_name(path) - path);
   return asprintf(&out, "%.*s%s", folder, path, name) < 0 ? NULL : out;
}

char *vr_path_with_suffix(const char *path, const char *suffix)
{
   char *out = NULL;
   size_t stem = strlen(path);
   if (stem > 5 && !strcasecmp(path + stem - 5, ".vmdk")) {
      stem -= 5;
   }
   return asprintf(&out, "%.*s%s.vmdk", (int)stem, path, suffix) < 0 ? NULL : out;
}

/* realpath of a file that need not exist; its folder must. */
static char *resolve(const char *path)
{
   char *whole = realpath(path, NULL);
   if (whole) {
      return whole;
   }
   const char *name = vr_path_name(path);
   if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
      return NULL;
   }
   char *folder = vr_path_folder(path);
   char *real = folder ? realpath(folder, NULL) : NULL;
   char *out = NULL;
   if (real && asprintf(&out, "%s/%s", real, name) < 0) {
      out = NULL;
   }
   free(real);
   free(folder);
   return out;
}

bool vr_path_is_same_file(const char *a, const char *b)
{
   char *folder_a = vr_path_folder(a);
   char *folder_b = vr_path_folder(b);
   char *real_a = folder_a ? realpath(folder_a, NULL) : NULL;
   char *real_b = folder_b ? realpath(folder_b, NULL) : NULL;
   bool same = real_a && real_b && !strcmp(real_a, real_b)
      && !strcmp(vr_path_name(a), vr_path_name(b));
   free(folder_a);
   free(folder_b);
   free(real_a);
   free(real_b);
   return same;
}

bool vr_path_is_below(const char *folder, const char *path)
{
   char *root = realpath(folder, NULL);
   char *real = resolve(path);
   bool below = false;
   if (root && real) {
      size_t length = strlen(root);
      while (length > 1 && root[length - 1] == '/') {
         length--;
      }
      below = !strcmp(root, "/") || (!strncmp(root, real, length) && real[length] == '/');
   }
   free(root);
   free(real);
   return below;
}
