/* Sends messages to the functions that the program gave InitEx. Each message is one line. */
#ifndef VR_LOG_H
#define VR_LOG_H

#include "vixDiskLib.h"

/* Sets the functions. Without them, and for NULL, messages are dropped. */
void vr_log_to(VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn);

void vr_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void vr_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
