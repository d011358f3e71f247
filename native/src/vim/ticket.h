/* A ticket for one NFC connection to one host. */
#ifndef VR_TICKET_H
#define VR_TICKET_H

#include "vixDiskLib.h"

typedef struct vr_nfc_ticket {
   char *host;
   unsigned port;
   char *service;         /* "vpxa-nfc" through vCenter, "nfc" from a single host */
   char *session_id;      /* the secret; good for one connection, for a short time */
   char *sha1_thumbprint; /* of the host's certificate; may be a SHA-256 one; "" where not named */
   char *certificate_pem; /* of the host, since vSphere 9.0; NULL where the server gives none */
   uint64_t capacity;     /* bytes of the disk, as vCenter has them; 0 where it does not say */
} vr_nfc_ticket;

/* Wipes the ticket and frees its strings. */
void vr_nfc_ticket_free(vr_nfc_ticket *t);

#endif
