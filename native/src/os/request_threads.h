/*
 * Requests that a few threads of the library carry out.
 *
 *    queue   w1(A)  r2(B)  r3(A)  r4(A)          first in, first out for each handle;
 *            ^run   ^run   waits  waits          reads of one handle run together, a write alone
 *
 * Threads start with the first request and end with VixDiskLib_Exit.
 */
#ifndef VR_ASYNC_H
#define VR_ASYNC_H

#include "api/disk.h"

/* VIX_ASYNC: queued, `callback` comes once. `buf` is read from when `write`. */
VixError vr_async_submit(vr_disk *disk, bool write, uint64_t sector, uint64_t sectors, uint8_t *buf,
   VixDiskLibCompletionCB callback, void *data);
/* Until nothing of this disk is queued or running and every callback has returned. */
void vr_async_wait(vr_disk *disk);
void vr_async_stop(void);

#endif
