#include "api/settings.h"

#include "os/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static vr_settings settings;

const vr_settings *vr_settings_get(void)
{
   return &settings;
}

static char *trim(char *text)
{
   text += strspn(text, " \t\r\n");
   size_t length = strlen(text);
   while (length && strchr(" \t\r\n", text[length - 1])) {
      length--;
   }
   text[length] = 0;
   if (length > 1 && *text == '"' && text[length - 1] == '"') {
      text[length - 1] = 0;
      text++;
   }
   return text;
}

static VixError apply(char *line)
{
   char *equals = strchr(line, '=');
   if (!equals || *(line + strspn(line, " \t")) == '#') {
      return VIX_OK;
   }
   *equals = 0;
   const char *name = trim(line);
   const char *value = trim(equals + 1);
   if (!strcasecmp(name, "vreplica.lab.root")) {
      free(settings.lab_root);
      settings.lab_root = strdup(value);
      return settings.lab_root ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   if (!strcasecmp(name, "vreplica.extents.allowOutside")) {
      settings.outside_extents = !strcmp(value, "1");
   }
   return VIX_OK;
}

static VixError read_config(const char *path)
{
   FILE *file = fopen(path, "re");
   if (!file) {
      vr_warn("configuration file %s: %s\n", path, strerror(errno));
      return errno == ENOENT ? VIX_E_FILE_NOT_FOUND : VIX_E_FILE_ERROR;
   }
   char *line = NULL;
   size_t room = 0;
   VixError err = VIX_OK;
   while (err == VIX_OK && getline(&line, &room, file) >= 0) {
      err = apply(line);
   }
   free(line);
   fclose(file);
   return err;
}

VixError vr_settings_load(const char *config_file)
{
   VixError err = config_file ? read_config(config_file) : VIX_OK;
   settings.ready = err == VIX_OK;
   return err;
}

void vr_settings_forget(void)
{
   free(settings.lab_root);
   settings = (vr_settings){0};
}
