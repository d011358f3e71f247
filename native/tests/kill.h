/* Ends this process by SIGKILL at a call of the library that changes a file. */
#ifndef VR_TEST_KILL_H
#define VR_TEST_KILL_H

/* The Nth end from here on, counted from 0, of `ends_per_call`: before it, after the last whole page
 * that it writes, after the first. */
void kill_at(long n, int ends_per_call);
/* Calls `what`, once, when the library next wants a lock for writing. */
void call_before_next_lock(void (*what)(void));

#endif
