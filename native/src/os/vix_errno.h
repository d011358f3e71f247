/* Turns an errno of a system call into the VixError that VDDK gives for it. */
#ifndef VR_VIX_ERRNO_H
#define VR_VIX_ERRNO_H

#include "vixDiskLib.h"

/* VIX_OK for 0; VIX_E_FILE_ERROR for an errno that has no error of its own. */
VixError vr_errno(int error);

#endif
