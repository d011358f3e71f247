/* Connect, Disconnect, PrepareForAccess and the calls for connection parameters. */
#include "api/connection.h"

#include "api/settings.h"
#include "lab/site_map.h"
#include "os/log.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x56524331u /* VRC1 */
#define DEFAULT_PORT 443u

VixError vr_connection_check(const struct VixDiskLibConnectParam *c)
{
   if (!vr_settings_get()->ready) {
      return VIX_E_DISK_NOINIT;
   }
   return c && c->magic == MAGIC ? VIX_OK : VIX_E_DISK_INVALID_CONNECTION;
}

VixError vr_connection_check_local(const struct VixDiskLibConnectParam *c)
{
   VixError err = vr_connection_check(c);
   return err == VIX_OK && c->remote ? VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT : err;
}

/* True if the list "a:b:c" names `mode`. NULL and "" name all modes. */
static bool lists(const char *modes, const char *mode)
{
   size_t length = strlen(mode);
   for (const char *p = modes; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
      if (strcspn(p, ":") == length && !strncmp(p, mode, length)) {
         return true;
      }
   }
   return !modes || !*modes;
}

static VixError connect_remote(struct VixDiskLibConnectParam *c,
   const VixDiskLibConnectParams *params, const char *modes)
{
   const char *root = vr_settings_get()->lab_root;
   if (!root) {
      vr_warn("%s: this library reaches local files only\n", params->serverName);
      return VIX_E_NOT_SUPPORTED;
   }
   if (params->credType != VIXDISKLIB_CRED_UID) {
      return VIX_E_NOT_SUPPORTED;
   }
   if (!params->vmxSpec || strncmp(params->vmxSpec, "moref=", 6) || !params->vmxSpec[6]) {
      vr_warn("the lab's virtual machines are named by moref=...\n");
      return VIX_E_INVALID_ARG;
   }
   c->remote = true;
   c->port = params->port ? params->port : DEFAULT_PORT;
   c->mode = lists(modes, "nbdssl") || !lists(modes, "nbd") ? "nbdssl" : "nbd";
   c->server = strdup(params->serverName);
   c->vmx_spec = strdup(params->vmxSpec);
   if (!c->server || !c->vmx_spec) {
      return VIX_E_OUT_OF_MEMORY;
   }
   return vr_site_map_login(root, c->server, c->port, params->creds.uid.userName,
      params->creds.uid.password, params->thumbPrint, &c->trusted);
}

static void connection_free(struct VixDiskLibConnectParam *c)
{
   free(c->server);
   free(c->vmx_spec);
   c->magic = 0;
   free(c);
}

VixError VixDiskLib_ConnectEx(const VixDiskLibConnectParams *connectParams, Bool readOnly,
   const char *snapshotRef, const char *transportModes, VixDiskLibConnection *connection)
{
   (void)snapshotRef; /* the path names the link: a snapshot of the lab is a link of its own */
   if (!connection) {
      return VIX_E_INVALID_ARG;
   }
   *connection = NULL;
   if (!vr_settings_get()->ready) {
      return VIX_E_DISK_NOINIT;
   }
   struct VixDiskLibConnectParam *c = calloc(1, sizeof *c);
   if (!c) {
      return VIX_E_OUT_OF_MEMORY;
   }
   c->magic = MAGIC;
   c->read_only = readOnly;
   c->trusted = true;
   c->mode = "file";
   VixError err = VIX_OK;
   if (connectParams && (connectParams->serverName || connectParams->vmxSpec)) {
      err = connectParams->serverName ? connect_remote(c, connectParams, transportModes)
                                      : VIX_E_NOT_SUPPORTED;
   }
   if (err != VIX_OK) {
      connection_free(c);
   } else {
      *connection = c;
   }
   return err;
}

VixError VixDiskLib_Connect(const VixDiskLibConnectParams *connectParams,
   VixDiskLibConnection *connection)
{
   return VixDiskLib_ConnectEx(connectParams, 0, NULL, NULL, connection);
}

VixError VixDiskLib_Disconnect(VixDiskLibConnection connection)
{
   VixError err = vr_connection_check(connection);
   if (err == VIX_OK) {
      connection_free(connection);
   }
   return err;
}

VixDiskLibConnectParams *VixDiskLib_AllocateConnectParams(void)
{
   return calloc(1, sizeof(VixDiskLibConnectParams));
}

VixError VixDiskLib_GetConnectParams(const VixDiskLibConnection connection,
   VixDiskLibConnectParams **connectParams)
{
   VixError err = vr_connection_check(connection);
   if (err != VIX_OK || !connectParams) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   /* The strings live in the struct's own allocation, which FreeConnectParams gives back; the
    * password is not handed out. */
   size_t server = connection->server ? strlen(connection->server) + 1 : 0;
   size_t spec = connection->vmx_spec ? strlen(connection->vmx_spec) + 1 : 0;
   VixDiskLibConnectParams *p = calloc(1, sizeof *p + server + spec);
   if (!p) {
      return VIX_E_OUT_OF_MEMORY;
   }
   char *strings = (char *)(p + 1);
   if (server) {
      p->serverName = memcpy(strings, connection->server, server);
      p->vmxSpec = memcpy(strings + server, connection->vmx_spec, spec);
      p->credType = VIXDISKLIB_CRED_UID;
      p->port = connection->port;
   }
   *connectParams = p;
   return VIX_OK;
}

void VixDiskLib_FreeConnectParams(VixDiskLibConnectParams *connectParams)
{
   free(connectParams);
}

VixError VixDiskLib_Cleanup(const VixDiskLibConnectParams *connectParams, uint32_t *numCleanedUp,
   uint32_t *numRemaining)
{
   (void)connectParams; /* nothing to clean: locks end with their process */
   if (numCleanedUp) {
      *numCleanedUp = 0;
   }
   if (numRemaining) {
      *numRemaining = 0;
   }
   return vr_settings_get()->ready ? VIX_OK : VIX_E_DISK_NOINIT;
}

static VixError access_call(const VixDiskLibConnectParams *params, const char *identity)
{
   if (!vr_settings_get()->ready) {
      return VIX_E_DISK_NOINIT;
   }
   if (!params || !params->serverName) {
      return VIX_E_NOT_SUPPORTED; /* only a vCenter relocates machines */
   }
   return !vr_settings_get()->lab_root ? VIX_E_NOT_SUPPORTED
      : identity && *identity && strlen(identity) <= 50 ? VIX_OK : VIX_E_INVALID_ARG;
}

VixError VixDiskLib_PrepareForAccess(const VixDiskLibConnectParams *connectParams,
   const char *identity)
{
   return access_call(connectParams, identity);
}

VixError VixDiskLib_EndAccess(const VixDiskLibConnectParams *connectParams, const char *identity)
{
   return access_call(connectParams, identity);
}
