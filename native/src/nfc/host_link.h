/*
 * Connects one disk to its host with a new ticket, and does so again when the connection is lost.
 *
 * A ticket is good once, so every connection takes a new one. After a vMotion the new ticket names
 * the new host.
 */
#ifndef VR_NFC_HOST_LINK_H
#define VR_NFC_HOST_LINK_H

#include "nfc/session.h"
#include "vim/ticket.h"

#include <stdbool.h>

typedef struct {
   const char *path;     /* "[datastore] dir/disk.vmdk" */
   bool read_only;
   bool encrypted;       /* nbdssl, else nbd */
   uint32_t compression; /* VR_NFC_PLAIN ... */
   vr_nfc_config config;
   /* Gives a new ticket for this disk. Called from a thread of the library after a loss. */
   VixError (*ticket)(void *data, const char *path, bool read_only, vr_nfc_ticket *out);
   void *data;
} vr_nfc_target;

typedef struct {
   vr_nfc_target target; /* its strings are the caller's, for the life of the link */
   char *host;           /* that serves the disk now */
   uint32_t buffer_bytes;
   unsigned opens;
   vr_nfc_session session;
} vr_nfc_link;

/* Connects, logs in and opens the disk. Errors are logged. */
VixError vr_nfc_link_open(vr_nfc_link *link);
/* Ends the connection; `whole`: it still works, so say good-bye. */
void vr_nfc_link_close(vr_nfc_link *link, bool whole);
/* True for an error that may pass: a lock of the lost session, a host that is away. */
bool vr_nfc_link_may_pass(VixError err);

#endif
