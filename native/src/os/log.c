#include "os/log.h"

#include <pthread.h>

/* Messages come from several threads, but loggers of programs are often not thread-safe. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static VixDiskLibGenericLogFunc *log_function;
static VixDiskLibGenericLogFunc *warn_function;

void vr_log_to(VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn)
{
   pthread_mutex_lock(&lock);
   log_function = log;
   warn_function = warn;
   pthread_mutex_unlock(&lock);
}

void vr_log(const char *fmt, ...)
{
   va_list args;
   va_start(args, fmt);
   pthread_mutex_lock(&lock);
   if (log_function) {
      log_function(fmt, args);
   }
   pthread_mutex_unlock(&lock);
   va_end(args);
}

void vr_warn(const char *fmt, ...)
{
   va_list args;
   va_start(args, fmt);
   pthread_mutex_lock(&lock);
   if (warn_function) {
      warn_function(fmt, args);
   }
   pthread_mutex_unlock(&lock);
   va_end(args);
}
