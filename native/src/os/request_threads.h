/*
 * Carries out requests on a few threads of the library.
 *
 *    queue   w1(A)  r2(B)  r3(A)  r4(A)          first in, first out for each owner;
 *            ^run   ^run   waits  waits          requests that share run together, others alone
 *
 * The threads start with the first request and end with vr_requests_stop.
 */
#ifndef VR_REQUEST_THREADS_H
#define VR_REQUEST_THREADS_H

#include "vixDiskLib.h"

#include <stdbool.h>

/* The requests of one disk that are in flight. Only request_threads.c reads and writes it. */
typedef struct {
   unsigned pending; /* queued or running, callbacks included */
   unsigned sharing; /* running now, each of them shares */
   bool alone;       /* one that does not share runs now */
} vr_request_owner;

/* The first member of a caller's own struct, which holds what `run` needs. */
typedef struct vr_request {
   struct vr_request *next;
   vr_request_owner *owner;
   bool shares;                               /* others of its owner that share may run beside it */
   void (*run)(struct vr_request *request);   /* on a thread of the library */
   void (*ended)(struct vr_request *request); /* after `run`; may free the request */
} vr_request;

/* VIX_ASYNC: queued, and `ended` is called exactly once. Otherwise the request is the caller's. */
VixError vr_requests_submit(vr_request *request);
/* Waits until no request of this owner is queued or running and every `ended` has returned. */
void vr_requests_wait(vr_request_owner *owner);
/* Waits for all requests of all owners, then ends the threads. */
void vr_requests_stop(void);

#endif
