#include "chain/lock.h"

#include "os/log.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <sys/file.h>

static VixError lock(const vr_file *file, int how)
{
   while (flock(file->fd, how | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
         vr_warn("%s: open for writing by another\n", file->path);
         return VIX_E_FILE_ALREADY_LOCKED;
      }
      if (errno != EINTR) {
         return vr_errno(errno);
      }
   }
   return VIX_OK;
}

VixError vr_lock_for_writing(const vr_file *file)
{
   return lock(file, LOCK_EX);
}

VixError vr_lock_for_reading(const vr_file *file)
{
   return lock(file, LOCK_SH);
}

VixError vr_lock_is_free(const vr_file *file)
{
   VixError err = lock(file, LOCK_SH);
   if (err == VIX_OK) {
      vr_unlock(file);
   }
   return err;
}

void vr_unlock(const vr_file *file)
{
   flock(file->fd, LOCK_UN);
}
