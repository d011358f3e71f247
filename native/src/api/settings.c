/*
 * Init and Exit, and the configuration file: `name=value` per line, # starts a comment. Names of
 * VDDK that mean nothing here are passed over.
 */
#include "api/settings.h"

#include "os/log.h"
#include "os/request_threads.h"
#include "vixDiskLib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static vr_session session;

const vr_session *vr_session_get(void)
{
   return &session;
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
      free(session.lab_root);
      session.lab_root = strdup(value);
      return session.lab_root ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   if (!strcasecmp(name, "vreplica.extents.allowOutside")) {
      session.outside_extents = !strcmp(value, "1");
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

VixError VixDiskLib_InitEx(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir, const char *configFile)
{
   (void)panic; /* nothing here ends the program */
   (void)libDir;
   (void)minorVersion;
   if (session.ready) {
      return VIX_OK; /* programs that initialise twice mean the same session */
   }
   if (majorVersion < 1 || majorVersion > 9) {
      return VIX_E_NOT_SUPPORTED;
   }
   vr_log_to(log, warn);
   VixError err = configFile ? read_config(configFile) : VIX_OK;
   session.ready = err == VIX_OK;
   if (session.ready) {
      vr_log("vreplica disk library, interface %u.%u%s%s\n", majorVersion, minorVersion,
         session.lab_root ? ", lab at " : "", session.lab_root ? session.lab_root : "");
   } else {
      VixDiskLib_Exit();
   }
   return err;
}

VixError VixDiskLib_Init(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir)
{
   return VixDiskLib_InitEx(majorVersion, minorVersion, log, warn, panic, libDir, NULL);
}

void VixDiskLib_Exit(void)
{
   vr_async_stop();
   vr_log_to(NULL, NULL);
   free(session.lab_root);
   session = (vr_session){0};
}

const char *VixDiskLib_ListTransportModes(void)
{
   return session.lab_root ? "file:nbdssl" : "file";
}
