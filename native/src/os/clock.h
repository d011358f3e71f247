/* The clock of deadlines: milliseconds, which no change of the machine's time moves. */
#ifndef VR_CLOCK_H
#define VR_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t vr_now_ms(void)
{
   struct timespec now;
   clock_gettime(CLOCK_MONOTONIC, &now);
   return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
