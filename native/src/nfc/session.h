/*
 * An NFC session on an open channel: the handshake, the session of AIO, one open disk.
 *
 *    client                                             host
 *    43 PlainText, 33, 51 version 11               -->
 *                                                  <--  36 (accepted = 1), 51 version: in any order
 *    54, client name, operation name, 55, 52       -->
 *                                                  <--  52
 *    AIO: OPEN_SESSION, SET_SOCK_OPTS, SET_RES_POOL, OPEN_FILE, then requests (requests.h),
 *    CLOSE_FILE, CLOSE_SESSION, and a last classic message 4
 *
 * One thread may send while another one receives. A lost connection, a frame that the tables do not
 * allow, or a late answer end the session: then only vr_session_close may be called. An error that
 * the host answers to one request fails that request alone.
 */
#ifndef VR_NFC_SESSION_H
#define VR_NFC_SESSION_H

#include "net/stream.h"
#include "nfc/config.h"
#include "nfc/wire.h"

/* The host's answer to a request that it refused may come as well; this many are remembered. */
#define VR_REFUSED_ROOM 64u

typedef struct {
   vr_stream *stream; /* owned */
   const char *host;  /* for messages; the caller's */
   uint32_t buffer_bytes; /* the most that one fragment may hold */
   uint32_t next_op_id;
   bool aio;
   bool buffers_refused; /* the host wants smaller ones */
   vr_nfc_greeting greeting;
   vr_nfc_opened file;
   uint32_t refused[VR_REFUSED_ROOM]; /* opIds; only the receiver uses them */
   unsigned refused_count;
} vr_nfc_session;

/* Takes the stream over, also where it fails. */
VixError vr_session_start(vr_nfc_session *s, vr_stream *stream, const char *host,
   const vr_nfc_config *config, uint32_t buffer_bytes);
/* `capacity`: what vCenter says of the disk, for hosts that do not. */
VixError vr_session_open_file(vr_nfc_session *s, const char *path, bool read_only,
   uint64_t capacity, const vr_nfc_config *config);
/* Ends the session, politely where `whole`, and closes the connection. */
void vr_session_close(vr_nfc_session *s, bool whole, const vr_nfc_config *config);

/* -- for requests.c -- */

/* Receives a header and the payload, of which more than VR_REPLY_MAX bytes are dropped. */
VixError vr_session_receive(vr_nfc_session *s, int64_t deadline_ms, vr_nfc_header *header,
   uint8_t payload[VR_REPLY_MAX]);
/* Reads an error's text where it follows; logs all; *result: the code of VixDiskLib. */
VixError vr_session_take_error(vr_nfc_session *s, const vr_nfc_header *header,
   const uint8_t *payload, const char *doing, int64_t deadline_ms, VixError *result);
/* Logs a refusal by the status of an ordinary reply; returns the code of VixDiskLib. */
VixError vr_session_refused(vr_nfc_session *s, uint32_t op_id, uint64_t status, const char *doing);
/* True where the host had refused this request: an ordinary reply to it says nothing new. */
bool vr_session_was_refused(const vr_nfc_session *s, uint32_t op_id);
/* Reads a reply that nobody waits for to its end. */
VixError vr_session_skip(vr_nfc_session *s, const vr_nfc_header *header, const uint8_t *payload,
   int64_t deadline_ms);
/* Logs that the host said something that the tables do not allow. */
VixError vr_session_broken(vr_nfc_session *s, const char *doing, const char *reason);
/* Logs that the stream failed; returns `err`. */
VixError vr_session_lost(vr_nfc_session *s, const char *doing, VixError err);

#endif
