#include "api/settings.h"

#include "os/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static vr_settings settings = {.nfc = VR_NFC_CONFIG_DEFAULT};

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

/* A setting of connections to hosts: a number between limits, times a unit. */
typedef struct {
   const char *name; /* as VDDK names it, or ours */
   size_t offset;    /* of an unsigned number in vr_nfc_config */
   unsigned long least;
   unsigned long most;
   unsigned unit;
} nfc_setting;

#define NFC_SETTING(name, member, least, most, unit) \
   {name, offsetof(vr_nfc_config, member), least, most, unit}

static const nfc_setting nfc_settings[] = {
   NFC_SETTING("vixDiskLib.nfcAio.Session.BufSizeIn64KB", buffer_bytes, 1, 32, 65536),
   NFC_SETTING("vixDiskLib.nfcAio.Session.BufCount", buffer_count, 1, 256, 1),
   NFC_SETTING("vixDiskLib.nfc.ReadTimeoutMs", read_ms, 1, 86400000, 1),
   NFC_SETTING("vixDiskLib.nfc.WriteTimeoutMs", write_ms, 1, 86400000, 1),
   NFC_SETTING("vixDiskLib.nfc.AcceptTimeoutMs", handshake_ms, 1, 86400000, 1),
   NFC_SETTING("vreplica.nfc.connectTimeoutMs", connect_ms, 1, 86400000, 1),
   NFC_SETTING("vreplica.nfc.inFlightMB", in_flight_bytes, 1, 64, VR_MIB),
   NFC_SETTING("vreplica.nfc.reconnects", reconnects, 0, 100, 1),
   NFC_SETTING("vreplica.nfc.reconnectWaitMs", reconnect_wait_ms, 1, 60000, 1),
   NFC_SETTING("vreplica.nfc.legacyTls", legacy_tls, 0, 1, 1),
};

static VixError apply_nfc(const char *name, const char *value)
{
   for (size_t i = 0; i < sizeof nfc_settings / sizeof *nfc_settings; i++) {
      const nfc_setting *s = &nfc_settings[i];
      if (strcasecmp(name, s->name)) {
         continue;
      }
      char *end;
      unsigned long number = strtoul(value, &end, 10);
      if (end == value || *end || number < s->least || number > s->most) {
         vr_warn("%s=%s: it is a number from %lu to %lu\n", name, value, s->least, s->most);
         return VIX_E_INVALID_ARG;
      }
      unsigned scaled = (unsigned)number * s->unit;
      memcpy((char *)&settings.nfc + s->offset, &scaled, sizeof scaled);
   }
   return VIX_OK;
}

/* A host takes no more than so much for one session. */
static VixError check_nfc(void)
{
   uint64_t buffers = (uint64_t)settings.nfc.buffer_bytes * settings.nfc.buffer_count;
   if (buffers > VR_SESSION_BUFFERS_MAX) {
      vr_warn("BufSizeIn64KB times BufCount is more than 16 MiB\n");
      return VIX_E_INVALID_ARG;
   }
   return VIX_OK;
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
   return apply_nfc(name, value);
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
   if (err == VIX_OK) {
      err = check_nfc();
   }
   settings.ready = err == VIX_OK;
   return err;
}

void vr_settings_forget(void)
{
   free(settings.lab_root);
   settings = (vr_settings){.nfc = VR_NFC_CONFIG_DEFAULT};
}
