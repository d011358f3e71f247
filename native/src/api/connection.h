/* Connections to local files, or to a vCenter of the lab. */
#ifndef VR_CONNECTION_H
#define VR_CONNECTION_H

#include "vixDiskLib.h"

#include <stdatomic.h>
#include <stdbool.h>

struct VixDiskLibConnectParam {
   uint32_t magic;
   bool read_only;
   bool remote;
   bool trusted; /* the thumbprint was right; a wrong one fails at Open, as in VDDK */
   const char *mode; /* of transport; a literal */
   char *server;
   uint32_t port;
   uint32_t nfc_port;
   VixDiskLibCredType login;
   char *vmx_spec;
   char *thumbprint;
   struct vr_vim *vim; /* the login at a vCenter or host; NULL for local files and the lab */
   atomic_uint holders; /* the program, until Disconnect, and the disks at hosts */
};

/* VIX_E_DISK_INVALID_CONNECTION unless it is an open connection. */
VixError vr_connection_check(const struct VixDiskLibConnectParam *c);
/* The same, and VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT for a connection to a vCenter. */
VixError vr_connection_check_local(const struct VixDiskLibConnectParam *c);

/* True where the disks of this connection are at hosts. */
bool vr_connection_has_hosts(const struct VixDiskLibConnectParam *c);
/* A disk at a host needs new tickets as long as it is open, also after Disconnect. */
void vr_connection_hold(struct VixDiskLibConnectParam *c);
void vr_connection_release(struct VixDiskLibConnectParam *c);

#endif
