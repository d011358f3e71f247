/* Calls the progress function that a program may have given. */
#ifndef VR_PROGRESS_H
#define VR_PROGRESS_H

#include "vixDiskLib.h"

#include <stddef.h>

static inline void vr_report(VixDiskLibProgressFunc progress, void *data, int percent)
{
   if (progress) {
      progress(data, percent);
   }
}

#endif
