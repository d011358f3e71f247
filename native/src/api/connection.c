/* Connect, Disconnect, PrepareForAccess and the calls for connection parameters. */
#include "api/connection.h"

#include "api/settings.h"
#include "lab/site_map.h"
#include "os/log.h"
#include "vim/vim.h"

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

/* The first mode of the list "a:b:c" that this library has; NULL where it has none of them. No list:
 * the encrypted one. nbd is used only where it stands before nbdssl, or alone. */
static const char *pick_mode(const char *modes)
{
   if (!modes || !*modes) {
      return "nbdssl";
   }
   for (const char *p = modes; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
      size_t length = strcspn(p, ":");
      if (length == 6 && !strncmp(p, "nbdssl", length)) {
         return "nbdssl";
      }
      if (length == 3 && !strncmp(p, "nbd", length)) {
         return "nbd";
      }
   }
   return NULL;
}

static VixError connect_lab(struct VixDiskLibConnectParam *c, const VixDiskLibConnectParams *params)
{
   if (params->credType != VIXDISKLIB_CRED_UID) {
      return VIX_E_NOT_SUPPORTED;
   }
   if (strncmp(params->vmxSpec, "moref=", 6) || !params->vmxSpec[6]) {
      vr_warn("the lab's virtual machines are named by moref=...\n");
      return VIX_E_INVALID_ARG;
   }
   return vr_site_map_login(vr_settings_get()->lab_root, c->server, c->port,
      params->creds.uid.userName, params->creds.uid.password, params->thumbPrint, &c->trusted);
}

static VixError connect_host(struct VixDiskLibConnectParam *c, const VixDiskLibConnectParams *params,
   const char *snapshot)
{
   vr_vim_target target = {
      .server = c->server,
      .port = c->port,
      .nfc_port = c->nfc_port,
      .thumbprint = c->thumbprint,
      .vmx_spec = c->vmx_spec,
      .snapshot = snapshot,
      .legacy_tls = vr_settings_get()->nfc.legacy_tls,
   };
   if (params->credType == VIXDISKLIB_CRED_UID) {
      target.user = params->creds.uid.userName;
      target.password = params->creds.uid.password;
   } else if (params->credType == VIXDISKLIB_CRED_SESSIONID) {
      target.cookie = params->creds.sessionId.cookie;
   } else {
      vr_warn("%s: a login is by user and password, or by the id of a session\n", c->server);
      return VIX_E_NOT_SUPPORTED;
   }
   if (target.user ? !target.password : !target.cookie) {
      vr_warn("%s: user, password or session is missing\n", c->server);
      return VIX_E_INVALID_ARG;
   }
   return vr_vim_open(&target, &c->vim);
}

static VixError connect_remote(struct VixDiskLibConnectParam *c,
   const VixDiskLibConnectParams *params, const char *snapshot, const char *modes)
{
   c->mode = pick_mode(modes);
   if (!c->mode) {
      vr_warn("%s: this library has the transport modes nbdssl and nbd, and none of %s\n",
         params->serverName, modes);
      return VIX_E_NOT_SUPPORTED;
   }
   if (!params->vmxSpec || !*params->vmxSpec) {
      vr_warn("%s: no virtual machine was named (vmxSpec)\n", params->serverName);
      return VIX_E_INVALID_ARG;
   }
   c->remote = true;
   c->port = params->port ? params->port : DEFAULT_PORT;
   c->nfc_port = params->nfcHostPort;
   c->login = params->credType;
   c->server = strdup(params->serverName);
   c->vmx_spec = strdup(params->vmxSpec);
   c->thumbprint = strdup(params->thumbPrint ? params->thumbPrint : "");
   if (!c->server || !c->vmx_spec || !c->thumbprint) {
      return VIX_E_OUT_OF_MEMORY;
   }
   return vr_settings_get()->lab_root ? connect_lab(c, params) : connect_host(c, params, snapshot);
}

bool vr_connection_has_hosts(const struct VixDiskLibConnectParam *c)
{
   return c->vim;
}

void vr_connection_hold(struct VixDiskLibConnectParam *c)
{
   atomic_fetch_add(&c->holders, 1);
}

void vr_connection_release(struct VixDiskLibConnectParam *c)
{
   if (atomic_fetch_sub(&c->holders, 1) == 1) {
      vr_vim_close(c->vim); /* logs out */
      free(c->server);
      free(c->vmx_spec);
      free(c->thumbprint);
      free(c);
   }
}

/* Ends the use of a connection by the program. */
static void connection_free(struct VixDiskLibConnectParam *c)
{
   c->magic = 0;
   vr_connection_release(c);
}

VixError VixDiskLib_ConnectEx(const VixDiskLibConnectParams *connectParams, Bool readOnly,
   const char *snapshotRef, const char *transportModes, VixDiskLibConnection *connection)
{
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
   atomic_init(&c->holders, 1);
   c->read_only = readOnly;
   c->trusted = true;
   c->mode = "file";
   VixError err = VIX_OK;
   if (connectParams && (connectParams->serverName || connectParams->vmxSpec)) {
      err = connectParams->serverName
         ? connect_remote(c, connectParams, snapshotRef, transportModes)
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
   /* The strings live in the struct's own allocation, which FreeConnectParams gives back; password
    * and session are not handed out. */
   const char *texts[] = {connection->server, connection->vmx_spec, connection->thumbprint};
   size_t bytes = 0;
   for (size_t i = 0; i < 3; i++) {
      bytes += texts[i] ? strlen(texts[i]) + 1 : 0;
   }
   VixDiskLibConnectParams *p = calloc(1, sizeof *p + bytes);
   if (!p) {
      return VIX_E_OUT_OF_MEMORY;
   }
   if (connection->server) {
      char *at = (char *)(p + 1);
      p->serverName = at;
      p->vmxSpec = at = stpcpy(at, texts[0]) + 1;
      p->thumbPrint = at = stpcpy(at, texts[1]) + 1;
      stpcpy(at, texts[2]);
      p->credType = connection->login;
      p->port = connection->port;
      p->nfcHostPort = connection->nfc_port;
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
   if (!vr_settings_get()->lab_root) {
      vr_log("%s: Storage vMotion is not disabled: how to do so is in no public description\n",
         params->serverName);
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
