/* Wraps the calls of the library that change files (-Wl,--wrap) and ends the process in one of
 * them. */
#include "kill.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096

static long calls_left = -1; /* -1: no end is set */
static long where;           /* in the call: 0 before it, 1 after the last whole page, 2 the first */
static void (*before_lock)(void);

ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __real_ftruncate64(int fd, off_t length);
int __wrap_ftruncate64(int fd, off_t length);
int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __wrap_fdatasync(int fd);

void kill_at(long n, int ends_per_call)
{
   calls_left = n / ends_per_call;
   where = n % ends_per_call;
}

void call_before_next_lock(void (*what)(void))
{
   before_lock = what;
}

static int dies_now(void)
{
   return calls_left >= 0 && calls_left-- == 0;
}

/* The kernel checks for signals between two pages of a file, so one page is never torn. */
static size_t cut(off_t offset, size_t bytes)
{
   size_t first = (size_t)(PAGE - offset % PAGE);
   size_t last = (size_t)((offset + (off_t)bytes - 1) / PAGE * PAGE - offset);
   return first >= bytes ? bytes : where == 1 ? last : first;
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
   if (dies_now()) {
      size_t left = 0;
      for (int i = 0; where && i < count; i++) {
         left += iov[i].iov_len;
      }
      left = left ? cut(offset, left) : 0;
      for (int i = 0; left && i < count; i++) {
         struct iovec part = {iov[i].iov_base, iov[i].iov_len < left ? iov[i].iov_len : left};
         if (part.iov_len && __real_pwritev64v2(fd, &part, 1, offset, 0) < 0) {
            _exit(9);
         }
         offset += (off_t)part.iov_len;
         left -= part.iov_len;
      }
      raise(SIGKILL);
   }
   return __real_pwritev64v2(fd, iov, count, offset, flags);
}

int __wrap_ftruncate64(int fd, off_t length)
{
   if (dies_now()) {
      raise(SIGKILL);
   }
   return __real_ftruncate64(fd, length);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
   if (dies_now()) {
      raise(SIGKILL);
   }
   return __real_fallocate64(fd, mode, offset, length);
}

int __wrap_rename(const char *from, const char *to)
{
   if (dies_now()) {
      raise(SIGKILL);
   }
   return __real_rename(from, to);
}

int __wrap_flock(int fd, int how)
{
   void (*what)(void) = how & LOCK_EX ? before_lock : NULL;
   if (what) {
      before_lock = NULL;
      what();
   }
   return __real_flock(fd, how);
}

int __wrap_fdatasync(int fd)
{
   (void)fd; /* only the process dies, not the kernel */
   return 0;
}
