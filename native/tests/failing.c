/*
 * Tests writes and syncs that the file system refuses: a refused write is an error, later writes
 * are stored, and a disk whose tables may differ asks for CheckRepair. Runs in a fresh folder.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CAPACITY = 20000, PAGE = 4096, UNCLEAN_AT = 72 };

static struct {
   size_t bytes; /* size of the writes that fail; 0: none */
   int after;    /* so many of them succeed first */
   int error;    /* 0: the call writes only its first page */
   int full;     /* the call after that one gives ENOSPC */
} fault;
static int sync_error;
static int folder_error;
static ino_t watched;
static int synced_before_child;
static uint8_t buffer[CAPACITY * 512];
static uint8_t expected[CAPACITY * 512];
static VixDiskLibConnection c;

ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);

static size_t total(const struct iovec *iov, int count)
{
   size_t bytes = 0;
   for (int i = 0; i < count; i++) {
      bytes += iov[i].iov_len;
   }
   return bytes;
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
   if (fault.full == 2) {
      fault.full = 0;
      errno = ENOSPC;
      return -1;
   }
   if (!fault.bytes || total(iov, count) != fault.bytes || fault.after-- > 0) {
      return __real_pwritev64v2(fd, iov, count, offset, flags);
   }
   fault.bytes = 0;
   if (fault.error) {
      errno = fault.error;
      return -1;
   }
   fault.full *= 2;
   for (; !iov->iov_len; iov++) {
   }
   struct iovec page = {iov->iov_base, PAGE};
   CHECK(iov->iov_len > PAGE);
   return __real_pwritev64v2(fd, &page, 1, offset, 0);
}

int __wrap_fdatasync(int fd)
{
   struct stat st;
   CHECK(fstat(fd, &st) == 0);
   if (st.st_ino == watched && access("child.vmdk", F_OK) != 0) {
      synced_before_child = 1;
   }
   if (sync_error) {
      errno = sync_error;
      sync_error = 0;
      return -1;
   }
   return __real_fdatasync(fd);
}

/* Of folders. */
int __wrap_fsync(int fd)
{
   int error = folder_error;
   folder_error = 0;
   errno = error;
   return error ? -1 : __real_fsync(fd);
}

static void fill(uint8_t value, uint64_t sectors)
{
   memset(buffer, value, sectors * 512);
}

static int mark_of(const char *path)
{
   uint8_t mark;
   int fd = open(path, O_RDONLY);
   CHECK(fd >= 0 && pread(fd, &mark, 1, UNCLEAN_AT) == 1 && close(fd) == 0);
   return mark;
}

static void interrupted_writes(void)
{
   make(c, "some.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, CAPACITY);
   VixDiskLibHandle h = open_disk(c, "some.vmdk", 0);
   random_fill(&(uint64_t){5}, expected, 256 * 512);
   for (int i = 0; i < 2; i++) {
      fault.bytes = 128 * 512;
      fault.error = i ? EINTR : 0;
      OK(VixDiskLib_Write(h, (uint64_t)i * 128, 128, expected + i * 128 * 512));
      CHECK(!fault.bytes);
   }
   OK(VixDiskLib_Read(h, 0, 256, buffer));
   CHECK(!memcmp(buffer, expected, 256 * 512));
   OK(VixDiskLib_Close(h));
}

/* A table is added at the place of a failed write. */
static void table_after_a_full_disk(void)
{
   make(c, "base.vmdk", VIXDISKLIB_DISK_VMFS_THIN, CAPACITY);
   VixDiskLibHandle h = open_disk(c, "base.vmdk", 0);
   random_fill(&(uint64_t){7}, expected, sizeof expected);
   OK(VixDiskLib_Write(h, 0, CAPACITY, expected));
   OK(VixDiskLib_CreateChild(h, "delta.vmdk", VIXDISKLIB_DISK_VMFS_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   h = open_disk(c, "delta.vmdk", 0);
   OK(VixDiskLib_Write(h, 0, 1, expected));
   fill(0x11, 64);
   fault.bytes = 64 * 512;
   fault.error = 0;
   fault.full = 1;
   GIVES(VIX_E_DISK_FULL, VixDiskLib_Write(h, 100, 64, buffer));
   OK(VixDiskLib_Write(h, 5000, 1, expected + 5000 * 512)); /* of another table */
   OK(VixDiskLib_Close(h));
   h = open_disk(c, "delta.vmdk", 0);
   OK(VixDiskLib_Read(h, 0, CAPACITY, buffer));
   CHECK(!memcmp(buffer, expected, sizeof expected));
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_CheckRepair(c, "delta.vmdk", 0));
}

static void refuse_redundant_entry(VixDiskLibHandle h, uint64_t sector)
{
   fault.bytes = 4;
   fault.after = 1;
   fault.error = EIO;
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Write(h, sector, 128, buffer));
   CHECK(!fault.bytes);
}

static void tables_that_differ(void)
{
   make(c, "mark.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, CAPACITY);
   VixDiskLibHandle h = open_disk(c, "mark.vmdk", 0);
   fill(0x22, 128);
   OK(VixDiskLib_Write(h, 0, 128, buffer));
   refuse_redundant_entry(h, 128);
   OK(VixDiskLib_Close(h));
   CHECK(mark_of("mark.vmdk") == 1);
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_CheckRepair(c, "mark.vmdk", 0));
   OK(VixDiskLib_CheckRepair(c, "mark.vmdk", 1));
   CHECK(mark_of("mark.vmdk") == 0);

   h = open_disk(c, "mark.vmdk", 0);
   OK(VixDiskLib_Write(h, 256, 128, buffer));
   refuse_redundant_entry(h, 384);
   OK(VixDiskLib_Write(h, 512, 128, buffer)); /* stores the whole table once more */
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_CheckRepair(c, "mark.vmdk", 0));
}

static void failed_flush(void)
{
   make(c, "flush.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, CAPACITY);
   VixDiskLibHandle h = open_disk(c, "flush.vmdk", 0);
   OK(VixDiskLib_Write(h, 0, 128, buffer));
   sync_error = EIO;
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Flush(h));
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Close(h));
   CHECK(mark_of("flush.vmdk") == 1);
}

static void parent_before_child(void)
{
   struct stat st;
   make(c, "parent.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, CAPACITY);
   VixDiskLibHandle h = open_disk(c, "parent.vmdk", 0);
   OK(VixDiskLib_Write(h, 0, 128, buffer)); /* its content ID is new */
   CHECK(stat("parent.vmdk", &st) == 0);
   watched = st.st_ino;
   OK(VixDiskLib_CreateChild(h, "child.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   CHECK(synced_before_child);
   OK(VixDiskLib_Close(h));
}

static void folder_that_is_not_stored(void)
{
   VixDiskLibCreateParams params = {.capacity = CAPACITY};
   for (params.diskType = 1; params.diskType <= 2; params.diskType++) { /* in one file and in two */
      folder_error = EIO;
      GIVES(VIX_E_FILE_ERROR, VixDiskLib_Create(c, "old.vmdk", &params, NULL, NULL));
      CHECK(access("old.vmdk", F_OK) && access("old-flat.vmdk", F_OK));
   }
   make(c, "old.vmdk", VIXDISKLIB_DISK_VMFS_THIN, CAPACITY);
   folder_error = EIO;
   GIVES(VIX_E_FILE_ERROR, VixDiskLib_Rename("old.vmdk", "new.vmdk"));
   CHECK(access("new.vmdk", F_OK) && access("new-flat.vmdk", F_OK));
   VixDiskLibHandle h = open_disk(c, "old.vmdk", 0);
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_Rename("old.vmdk", "new.vmdk"));
   CHECK(access("old.vmdk", F_OK) && access("old-flat.vmdk", F_OK));
}

int main(void)
{
   OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL));
   c = local();
   interrupted_writes();
   table_after_a_full_disk();
   tables_that_differ();
   failed_flush();
   parent_before_child();
   folder_that_is_not_stored();
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   return 0;
}
