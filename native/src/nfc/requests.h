/*
 * Requests of a session: each is sent whole, and its replies are taken one by one until it is done.
 *
 *    read    one frame -->                    <-- fragments of at most one buffer, in any order
 *    write   fragments under one opId -->     <-- one reply
 *    others  one frame -->                    <-- one reply, with a value or a bitmap behind it
 *
 * A request whose connection was lost before it was done may be sent again: reads and writes of
 * fixed places can be repeated.
 */
#ifndef VR_NFC_REQUESTS_H
#define VR_NFC_REQUESTS_H

#include "nfc/session.h"

typedef enum { VR_NFC_READ, VR_NFC_WRITE, VR_NFC_DDB, VR_NFC_BLOCKS, VR_NFC_CLOSE } vr_nfc_kind;

#define VR_SECTORS_MAX (VR_REQUEST_MAX / 512u)

typedef struct vr_nfc_request {
   struct vr_nfc_request *next; /* for lists of the owner */
   vr_nfc_kind kind;
   uint64_t offset;       /* READ, WRITE, BLOCKS: byte of the disk */
   uint32_t length;       /* READ, WRITE: at most VR_REQUEST_MAX, whole sectors */
   uint8_t *data;         /* READ, WRITE: the caller's */
   const char *key;       /* DDB: without `ddb.`; the caller's */
   uint64_t chunk_bytes;  /* BLOCKS */
   uint64_t chunks;       /* BLOCKS */
   uint8_t *extra;        /* DDB: value; BLOCKS: bitmap; freed by vr_request_forget */
   size_t extra_bytes;
   uint32_t op_id;
   bool done;
   VixError result; /* of a request that is done */
   uint32_t missing;                     /* READ: bytes that have not come */
   uint64_t got[VR_SECTORS_MAX / 64];    /* READ: a bit a sector */
   bool sending; /* the next members are the owner's */
   size_t piece;
   struct vr_nfc_job *job;
} vr_nfc_request;

/* Memory for packed fragments, NULL without compression: one for the sender, one for the receiver,
 * VR_BUFFER_MAX bytes each. */
typedef struct {
   uint32_t compression;
   uint8_t *packed;
} vr_nfc_packing;

/* Frees what came, so that the request can be sent again or freed. */
void vr_request_forget(vr_nfc_request *r);
/* Sends a request, which must be fresh or forgotten, as `op_id`. */
VixError vr_request_send(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   int64_t deadline_ms);
/* Takes one frame with the opId of this request, of which header and payload have been read. */
VixError vr_request_take(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   const vr_nfc_header *header, const uint8_t *payload, int64_t deadline_ms);

#endif
