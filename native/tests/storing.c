/*
 * Tests a block that the kernel could not store long after the write had returned. Without
 * RWF_DONTCACHE the kernel reports this once, to the wait of a later write. So that write and every
 * later flush have to fail.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#define PIECE_BYTES (1u << 20)
#define PIECES 100u /* MiB: more than may be unstored without a wait */

static int waits;
static int refusals;

int __wrap_sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags);
ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);

int __wrap_sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags)
{
   (void)fd;
   (void)offset;
   (void)bytes;
   if (flags & SYNC_FILE_RANGE_WAIT_AFTER && waits++ == 0) {
      errno = EIO;
      return -1;
   }
   return 0;
}

/* Like older kernels and many file systems. */
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
   if (flags) {
      refusals++;
      errno = EOPNOTSUPP;
      return -1;
   }
   return __real_pwritev64v2(fd, iov, count, offset, 0);
}

int main(void)
{
   static uint8_t piece[PIECE_BYTES];
   VixError refused = VIX_OK;
   unsigned written = 0;
   OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL));
   VixDiskLibConnection c = local();
   make(c, "disk.vmdk", VIXDISKLIB_DISK_VMFS_FLAT, PIECES * (PIECE_BYTES / 512));
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   memset(piece, 7, sizeof piece);
   while (refused == VIX_OK && written < PIECES) {
      refused = VixDiskLib_Write(h, written * (PIECE_BYTES / 512), PIECE_BYTES / 512, piece);
      written += refused == VIX_OK;
   }
   CHECK(refusals == 1 && waits == 1 && refused == VIX_E_FILE_ERROR && written > 60 && written < PIECES);
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Flush(h));
   OK(VixDiskLib_Write(h, 0, 1, piece));
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Flush(h));
   (void)VixDiskLib_Close(h);
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   return 0;
}
