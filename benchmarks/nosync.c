/* Preloaded into a process that is to be compared with one that does not sync either. */
#define _GNU_SOURCE
#include <fcntl.h>

int fsync(int fd)
{
   (void)fd;
   return 0;
}

int fdatasync(int fd)
{
   (void)fd;
   return 0;
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags)
{
   (void)fd;
   (void)offset;
   (void)bytes;
   (void)flags;
   return 0;
}
