/*
 * A login at a vCenter or at a single ESXi host, and one virtual machine there.
 *
 *    open        TLS, certificate, RetrieveServiceContent, Login or the session given, the VM
 *    new_ticket  the VM's disks and host, then a ticket of the NFC service
 *    close       Logout, of a login of our own only
 *
 * Several threads may use it at once; their calls follow one another. A session that has ended is
 * begun again, once a call, where user and password are known.
 */
#ifndef VR_VIM_H
#define VR_VIM_H

#include "vim/ticket.h"

#include <stdbool.h>

typedef struct vr_vim vr_vim;

/* Everything is copied. */
typedef struct {
   const char *server;
   unsigned port;
   unsigned nfc_port;      /* for tickets that name none */
   const char *thumbprint; /* NULL or "": the certificate is verified by authority and name */
   const char *user;       /* with `password`; NULL where there is a cookie */
   const char *password;
   const char *cookie;     /* of a session that stays the caller's: vmware_soap_session */
   const char *vmx_spec;   /* "moref=vm-12", an inventory path, or "[ds] d/x.vmx?dcPath=P&dsName=D" */
   const char *snapshot;   /* "snapshot-12", or NULL */
   bool legacy_tls;        /* OpenSSL's security level 1 */
   unsigned answer_ms;     /* the most that one answer may take; 0: two minutes */
} vr_vim_target;

/* Errors are logged, without secrets
 *    VIX_E_FAIL                     the certificate is not the one expected; nothing was sent
 *    VIX_E_AUTHENTICATION_FAIL      wrong user, password or session
 *    VIX_E_HOST_USER_PERMISSIONS    the account lacks a privilege
 *    VIX_E_VM_NOT_FOUND             no such VM
 *    VIX_E_SNAPSHOT_NOTFOUND        no such snapshot
 * and those of net/stream.h. */
VixError vr_vim_open(const vr_vim_target *target, vr_vim **out);
/* A ticket to read or write the disk, whatever link of its chain the path names. The ticket is for
 * one connection. VIX_E_FILE_NOT_FOUND when it is to be written and the VM does not have it. */
VixError vr_vim_new_ticket(vr_vim *vim, const char *disk_path, bool read_only, vr_nfc_ticket *out);
/* NULL does nothing. */
void vr_vim_close(vr_vim *vim);

#endif
