/*
 * Keeps several requests of one disk in flight, and goes on after a lost connection.
 *
 *    submit --> waiting --(window has room)--> sent --(replies)--> done, its job is told
 *                  ^        sender                |   receiver
 *                  +---- lost, or host is short --+
 *                        of memory
 *
 * Whoever submits also sends, as long as the window has room; a thread of its own sends what had to
 * wait. Another thread receives, ends jobs, and connects again after a loss: with a new ticket, and
 * then all that is not done is sent again, in its order. Nothing is connected while nothing waits.
 *
 * Locks: `lock` holds all members but the session, which the sender writes to and the receiver
 * reads from without it. Callbacks run without it.
 */
#ifndef VR_NFC_FLOW_H
#define VR_NFC_FLOW_H

#include "nfc/host_link.h"
#include "nfc/requests.h"

#include <pthread.h>

/* One call of the program: one or more requests. */
typedef struct vr_nfc_job {
   unsigned pending;    /* requests that are not done */
   VixError result;     /* of the first that failed */
   size_t failed_piece; /* the lowest piece that failed or was left out */
   bool keeps_requests; /* the requests are the caller's, else the flow frees them */
   bool finished;
   void (*ended)(struct vr_nfc_job *job); /* on the receiver's thread; may free the job; or NULL */
} vr_nfc_job;

typedef struct {
   vr_nfc_request *head;
   vr_nfc_request **tail;
} vr_nfc_list;

typedef struct {
   pthread_mutex_t lock;
   pthread_cond_t arrived; /* for the receiver: something was sent, broke, or stops */
   pthread_cond_t room;    /* for the sender: something waits and may go */
   pthread_cond_t ended;   /* for callers: a job has ended */
   pthread_t receiver;
   pthread_t sender;
   vr_nfc_link link;
   vr_nfc_list waiting;
   vr_nfc_list sent;
   unsigned in_flight;
   unsigned writes_in_flight;
   uint64_t bytes_in_flight;
   uint64_t window;        /* most bytes in flight; less after the host was short of memory */
   uint32_t request_bytes; /* most bytes of one request; the same */
   uint32_t shrunk_at;     /* opId: requests sent before are no news of the present window */
   int64_t paused_until_ms;
   unsigned jobs;   /* that have not ended, callbacks included */
   unsigned losses; /* of the connection, one after the other, without a request done between */
   bool sending;    /* someone is sending */
   bool answered;   /* the receiver waits for a request to be sent whole */
   bool broken;     /* the session is lost */
   bool stopping;
   VixError cause; /* of the loss */
   VixError dead;  /* every further request fails with this */
   VixError (*on_reopen)(void *data);
   void *on_reopen_data;
   vr_nfc_packing to_send;
   vr_nfc_packing to_receive;
} vr_nfc_flow;

/* Opens the disk of `target` and starts the threads. */
VixError vr_flow_start(vr_nfc_flow *flow, const vr_nfc_target *target);
/* A new request for a read or a write; NULL without memory. */
vr_nfc_request *vr_flow_request(vr_nfc_kind kind, uint64_t offset, uint32_t length, uint8_t *data);
/* Gives the requests of one job to the flow: a list by `next`. An error: nothing was taken. */
VixError vr_flow_submit(vr_nfc_flow *flow, vr_nfc_job *job, vr_nfc_request *requests);
/* Waits for a job without `ended`. */
void vr_flow_wait(vr_nfc_flow *flow, vr_nfc_job *job);
/* Waits until no job is left and every callback has returned. */
void vr_flow_wait_all(vr_nfc_flow *flow);
/* Waits for all jobs, closes the disk at the host, ends the threads and the connection. Returns the
 * error of closing. */
VixError vr_flow_stop(vr_nfc_flow *flow);

#endif
