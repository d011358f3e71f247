/*
 * Opens an NFC channel with a ticket, through the host's authentication daemon on port 902.
 *
 *    host                                client
 *    220 VMware Authentication ...  -->
 *                                   <->  TLS handshake, certificate checked
 *                                   <--  SESSION <ticket>            (no reply)
 *                                   <--  BANNER
 *    220 VMware Authentication ...  -->
 *                                   <--  THUMBPRINT_SHA2 PlainText   (only if "SHA256 supported")
 *    200 <SHA-256>                  -->
 *                                   <--  PROXY vpxa-nfc | vpxa-nfcssl
 *    200 Connect ha-nfc[ssl]        -->
 *         both sides abandon TLS; nbdssl makes a second TLS handshake on the same connection
 */
#ifndef VR_AUTHD_H
#define VR_AUTHD_H

#include "net/stream.h"
#include "nfc/config.h"
#include "vim/ticket.h"

#include <stdbool.h>

#define VR_AUTHD_LINE 4096u

/* The channel, on which the NFC handshake can start; the caller closes it. Errors are logged.
 * VIX_E_AUTHENTICATION_FAIL for a ticket that the host does not take, VIX_E_FAIL for another
 * certificate (as VDDK), VIX_E_HOST_NETBLKDEV_HANDSHAKE for another program. */
VixError vr_authd_open(const vr_nfc_ticket *ticket, bool encrypted, const vr_nfc_config *config,
   vr_stream **out);

/* -- the lines of the daemon, as functions over bytes -- */

/* True for a greeting; *sha256: the daemon knows THUMBPRINT_SHA2. */
bool vr_authd_greeting(const char *line, bool *sha256);
/* True for `200 <rest>`; *rest points into the line. */
bool vr_authd_ok(const char *line, const char **rest);
/* True for text that can be part of a command. */
bool vr_authd_word(const char *text);
/* Decodes the first certificate of a PEM text; returns its bytes, 0 where there is none. */
size_t vr_pem_decode(const char *pem, uint8_t *out, size_t room);

#endif
