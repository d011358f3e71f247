/* Ends this process by SIGKILL at a call of the library that changes a file. */
#ifndef VR_TEST_KILL_H
#define VR_TEST_KILL_H

/* Ends the process at the Nth point from here on, counted from 0. Each call has `ends_per_call`
 * points: before it, after the last whole page that it writes, after the first one. */
void kill_at(long n, int ends_per_call);
/* Calls `what` once, when the library next takes a lock for writing. */
void call_before_next_lock(void (*what)(void));

#endif
