/* Tests what the library refuses, and that a refusal changes nothing. Runs in a fresh folder. */
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static VixDiskLibConnection c;
static uint8_t buffer[256 * 512];

static void write_file(const char *path, const char *text)
{
   FILE *f = fopen(path, "w");
   CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static VixError try_open(const char *path, uint32_t flags)
{
   VixDiskLibHandle h;
   VixError err = VixDiskLib_Open(c, path, flags, &h);
   if (err == VIX_OK) {
      OK(VixDiskLib_Close(h));
   }
   return err;
}

static void ranges_and_rights(void)
{
   make(c, "r.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   VixDiskLibHandle h = open_disk(c, "r.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   VixDiskLibBlockList *list;
   OK(VixDiskLib_Read(h, 999, 1, buffer));
   OK(VixDiskLib_Read(h, 1000, 0, buffer));
   GIVES(VIX_E_DISK_OUTOFRANGE, VixDiskLib_Read(h, 1000, 1, buffer));
   GIVES(VIX_E_DISK_OUTOFRANGE, VixDiskLib_Read(h, UINT64_MAX, 2, buffer));
   GIVES(VIX_E_FILE_READ_ONLY, VixDiskLib_Write(h, 0, 1, buffer));
   GIVES(VIX_E_FILE_READ_ONLY, VixDiskLib_WriteMetadata(h, "uuid", "x"));
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_QueryAllocatedBlocks(h, 0, 128, 64, &list));
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_QueryAllocatedBlocks(h, 1, 128, 128, &list));
   GIVES(VIX_E_DISK_OUTOFRANGE, VixDiskLib_QueryAllocatedBlocks(h, 1024, 128, 128, &list));
   GIVES(VIX_E_INVALID_HANDLE, VixDiskLib_Read(NULL, 0, 1, buffer));
   uint64_t bytes = 7;
   GIVES(VIX_E_NOT_SUPPORTED,
      VixDiskLib_SpaceNeededForClone(h, VIXDISKLIB_DISK_VMFS_SPARSE, &bytes));
   GIVES(VIX_E_NOT_SUPPORTED, VixDiskLib_SpaceNeededForClone(h, VIXDISKLIB_DISK_UNKNOWN, &bytes));
   CHECK(bytes == 7);
   OK(VixDiskLib_Close(h));
}

static void locks(void)
{
   make(c, "l.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   VixDiskLibHandle h = open_disk(c, "l.vmdk", 0);
   GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("l.vmdk", 0));
   OK(try_open("l.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_Unlink(c, "l.vmdk"));
   OK(VixDiskLib_Close(h));
   OK(try_open("l.vmdk", 0));
   pid_t child = fork(); /* before any thread of the library runs */
   if (!child) {
      open_disk(c, "l.vmdk", 0);
      _exit(0); /* without closing */
   }
   int status;
   CHECK(waitpid(child, &status, 0) == child && status == 0);
   OK(try_open("l.vmdk", 0));
}

static void metadata(void)
{
   make(c, "m.vmdk", VIXDISKLIB_DISK_VMFS_THIN, 4000);
   VixDiskLibHandle h = open_disk(c, "m.vmdk", 0);
   char text[2000];
   size_t needed = 0;
   GIVES(VIX_E_BUFFER_TOOSMALL, VixDiskLib_ReadMetadata(h, "adapterType", NULL, 0, &needed));
   CHECK(needed == 9);
   OK(VixDiskLib_ReadMetadata(h, "adapterType", text, 9, &needed));
   CHECK(!strcmp(text, "lsilogic"));
   GIVES(VIX_E_DISK_KEY_NOTFOUND, VixDiskLib_ReadMetadata(h, "absent", text, 9, &needed));
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_WriteMetadata(h, "a b", "x"));
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_WriteMetadata(h, "key", "two\nlines"));
   GIVES(VIX_E_INVALID_UTF8_STRING, VixDiskLib_WriteMetadata(h, "key", "\xff"));
   OK(VixDiskLib_WriteMetadata(h, "vreplica.job", "a value = with signs"));
   OK(VixDiskLib_WriteMetadata(h, "uuid", "60 00 c2 9a 00 00 00 00-00 00 00 00 00 00 00 01"));
   OK(VixDiskLib_Close(h));
   h = open_disk(c, "m.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_ReadMetadata(h, "vreplica.job", text, sizeof text, NULL));
   CHECK(!strcmp(text, "a value = with signs"));
   GIVES(VIX_E_BUFFER_TOOSMALL, VixDiskLib_GetMetadataKeys(h, NULL, 0, &needed));
   OK(VixDiskLib_GetMetadataKeys(h, text, needed, NULL));
   int uuids = 0;
   size_t length = 0;
   for (char *key = text; *key; key += strlen(key) + 1) {
      uuids += !strcmp(key, "uuid");
      length += strlen(key) + 1;
   }
   CHECK(uuids == 1 && length + 1 == needed);
   VixDiskLibInfo *info;
   OK(VixDiskLib_GetInfo(h, &info));
   CHECK(!strcmp(info->uuid, "60 00 c2 9a 00 00 00 00-00 00 00 00 00 00 00 01"));
   CHECK(info->adapterType == VIXDISKLIB_ADAPTER_SCSI_LSILOGIC && info->logicalSectorSize == 512);
   CHECK(info->physGeo.heads == 64 && info->physGeo.sectors == 32 && !info->parentFileNameHint);
   VixDiskLib_FreeInfo(info);
   OK(VixDiskLib_Close(h));
}

static VixError put_metadata(VixDiskLibHandle h, int number)
{
   char key[40];
   char value[100];
   snprintf(key, sizeof key, "vreplica.key%03d", number);
   snprintf(value, sizeof value, "%080d", number);
   return VixDiskLib_WriteMetadata(h, key, value);
}

/* A descriptor in a sparse file is changed within one page, or not at all. */
static void long_embedded_descriptor(void)
{
   char value[100];
   char before[21 * 512];
   char after[21 * 512];
   make(c, "e.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   VixDiskLibHandle h = open_disk(c, "e.vmdk", 0);
   int fd = open("e.vmdk", O_RDONLY);
   int made = 0;
   do {
      CHECK(fd >= 0 && pread(fd, before, sizeof before, 0) == sizeof before);
   } while (put_metadata(h, made++) == VIX_OK);
   CHECK(made > 20 && made < 35);
   GIVES(VIX_E_DISK_FULL, put_metadata(h, made));
   CHECK(pread(fd, after, sizeof after, 0) == sizeof after && close(fd) == 0);
   CHECK(!memcmp(before, after, sizeof before));
   OK(VixDiskLib_ReadMetadata(h, "vreplica.key001", value, 100, NULL));
   GIVES(VIX_E_DISK_KEY_NOTFOUND, VixDiskLib_ReadMetadata(h, "vreplica.key100", value, 100, NULL));
   OK(VixDiskLib_Write(h, 0, 1, buffer));
   OK(VixDiskLib_Close(h));
   OK(try_open("e.vmdk", 0));
}

/* A descriptor with a file of its own keeps its lock, its rights and the links to it. */
static void long_descriptor(void)
{
   struct stat st;
   make(c, "long.vmdk", VIXDISKLIB_DISK_VMFS_THIN, 1000);
   CHECK(chmod("long.vmdk", 0640) == 0 && symlink("long.vmdk", "to-long.vmdk") == 0);
   CHECK(mkdir("long.vmdk~", 0777) == 0);
   VixDiskLibHandle h = open_disk(c, "to-long.vmdk", 0);
   int made = 0;
   while (stat("long.vmdk", &st) == 0 && st.st_size < 4000) {
      OK(put_metadata(h, made++));
   }
   GIVES(VIX_E_FILE_ALREADY_EXISTS, put_metadata(h, made)); /* a folder is not a leftover */
   CHECK(rmdir("long.vmdk~") == 0);
   write_file("long.vmdk~", "of a process that died");
   for (int i = 0; i < 100; i++) {
      OK(put_metadata(h, i));
      GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("long.vmdk", 0));
   }
   CHECK(stat("long.vmdk", &st) == 0 && st.st_size > 8192 && (st.st_mode & 0777) == 0640);
   CHECK(lstat("to-long.vmdk", &st) == 0 && S_ISLNK(st.st_mode) && access("long.vmdk~", F_OK));
   OK(VixDiskLib_Write(h, 0, 1, buffer));
   OK(VixDiskLib_Close(h));
   OK(try_open("long.vmdk", 0));
   write_file("long.vmdk~", "of a process that died");
   OK(VixDiskLib_Unlink(c, "long.vmdk"));
   CHECK(access("long.vmdk~", F_OK) && access("long.vmdk", F_OK));
}

/* A failed copy over its own source would lose both. */
static void clone_over_its_source(void)
{
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE};
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Clone(c, "./kid.vmdk", c, "kid.vmdk", &params, NULL, NULL, 1));
   GIVES(VIX_E_INVALID_ARG,
      VixDiskLib_Clone(c, "base.vmdk", c, "kid.vmdk", &params, NULL, NULL, 1));
   OK(try_open("kid.vmdk", 0));
}

static void chains(void)
{
   make(c, "base.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   VixDiskLibHandle base = open_disk(c, "base.vmdk", 0);
   OK(VixDiskLib_CreateChild(base, "kid.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("kid.vmdk", 0)); /* its parent may change */
   OK(try_open("kid.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY));
   buffer[0] = 1;
   OK(VixDiskLib_Write(base, 0, 1, buffer)); /* the child does not know of it */
   OK(VixDiskLib_Close(base));
   GIVES(VIX_E_DISK_CID_MISMATCH, try_open("kid.vmdk", 0));

   VixDiskLibHandle kid = open_disk(c, "kid.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   GIVES(VIX_E_DISK_PARTIALCHAIN, VixDiskLib_Write(kid, 3, 1, buffer));
   OK(VixDiskLib_Write(kid, 128, 128, buffer)); /* whole grains need no parent */
   base = open_disk(c, "base.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   GIVES(VIX_E_DISK_ATTACH_ROOTLINK, VixDiskLib_Attach(kid, base));
   OK(VixDiskLib_IsAttachPossible(base, kid));
   OK(VixDiskLib_Attach(base, kid));
   GIVES(VIX_E_INVALID_HANDLE, VixDiskLib_Close(base));
   uint8_t sector[512];
   OK(VixDiskLib_Read(kid, 0, 1, sector));
   CHECK(sector[0] == 1);
   OK(VixDiskLib_Write(kid, 3, 1, buffer));
   OK(VixDiskLib_Close(kid));
   OK(try_open("kid.vmdk", 0)); /* Attach stored the new content ID */
   clone_over_its_source();

   CHECK(rename("base.vmdk", "elsewhere.vmdk") == 0);
   GIVES(VIX_E_DISK_OPENPARENT, try_open("kid.vmdk", 0));
   OK(try_open("kid.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK));
}

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfs\"\n"

static void files(void)
{
   GIVES(VIX_E_FILE_NOT_FOUND, try_open("nothing.vmdk", 0));
   CHECK(mkdir("folder.vmdk", 0777) == 0 && mkdir("inner", 0777) == 0);
   GIVES(VIX_E_INCORRECT_FILE_TYPE, try_open("folder.vmdk", 4));
   CHECK(mkfifo("fifo.vmdk", 0666) == 0);
   GIVES(VIX_E_INCORRECT_FILE_TYPE, try_open("fifo.vmdk", 4));
   write_file("text.vmdk", "not a descriptor\n");
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("text.vmdk", 4));
   write_file("noextent.vmdk", HEAD);
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("noextent.vmdk", 4));
   write_file("huge.vmdk", HEAD "RW 18446744073709551615 VMFS \"x\"\nRW 9 VMFS \"x\"\n");
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("huge.vmdk", 4));
   write_file("self.vmdk", HEAD "RW 1 VMFS \"self.vmdk\"\n");
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("self.vmdk", 4));
   write_file("inner/up.vmdk", HEAD "RW 1 VMFS \"../text.vmdk\"\n");
   GIVES(VIX_E_FILE_ACCESS_ERROR, try_open("inner/up.vmdk", 4));
   write_file("inner/root.vmdk", HEAD "RW 1 VMFS \"/etc/passwd\"\n");
   GIVES(VIX_E_FILE_ACCESS_ERROR, try_open("inner/root.vmdk", 4));
   CHECK(symlink("/etc/passwd", "inner/link") == 0);
   write_file("inner/link.vmdk", HEAD "RW 1 VMFS \"link\"\n");
   GIVES(VIX_E_FILE_ACCESS_ERROR, try_open("inner/link.vmdk", 4));
   write_file("short.vmdk", HEAD "RW 100 VMFS \"text.vmdk\"\n");
   GIVES(VIX_E_HOST_FILE_ERROR_EOF, try_open("short.vmdk", 4));
   write_file("loop.vmdk", "# Disk DescriptorFile\nCID=12345678\nparentCID=12345678\n"
      "createType=\"vmfs\"\nparentFileNameHint=\"loop.vmdk\"\nRW 1 ZERO\n");
   GIVES(VIX_E_DISK_TOOMANYREDO, try_open("loop.vmdk", 4));
   write_file("rdm.vmdk", HEAD "RW 1 VMFSRDM \"text.vmdk\"\n");
   GIVES(VIX_E_DISK_NOTSUPPORTED, try_open("rdm.vmdk", 4));

   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_VMFS_FLAT, .capacity = 8};
   make(c, "there.vmdk", VIXDISKLIB_DISK_VMFS_FLAT, 8);
   GIVES(VIX_E_FILE_ALREADY_EXISTS, VixDiskLib_Create(c, "there.vmdk", &params, NULL, NULL));
   params.capacity = 0;
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Create(c, "none.vmdk", &params, NULL, NULL));
   OK(VixDiskLib_Unlink(c, "there.vmdk"));
   CHECK(access("there.vmdk", F_OK) && access("there-flat.vmdk", F_OK));
}

/* A disk that this process could not open is not created. */
static void too_many_extents(void)
{
   struct rlimit limit;
   CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
   struct rlimit low = {100, limit.rlim_max};
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_SPLIT_SPARSE, .capacity = 100ull << 22};
   CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
   GIVES(VIX_E_DISK_TOOMANYOPENFILES, VixDiskLib_Create(c, "many.vmdk", &params, NULL, NULL));
   CHECK(access("many.vmdk", F_OK) && access("many-s001.vmdk", F_OK));
   make(c, "many.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 8);
   GIVES(VIX_E_DISK_TOOMANYOPENFILES, VixDiskLib_Grow(c, "many.vmdk", params.capacity, 1, NULL, NULL));
   CHECK(access("many-s002.vmdk", F_OK));
   OK(VixDiskLib_Unlink(c, "many.vmdk"));
   CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
   OK(VixDiskLib_Create(c, "many.vmdk", &params, NULL, NULL));
   OK(try_open("many.vmdk", 0));
   OK(VixDiskLib_Unlink(c, "many.vmdk"));
}

static void truncated(void)
{
   make(c, "cut.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   VixDiskLibHandle h = open_disk(c, "cut.vmdk", 0);
   memset(buffer, 7, sizeof buffer);
   OK(VixDiskLib_Write(h, 0, 256, buffer));
   OK(VixDiskLib_Close(h));
   struct stat st;
   CHECK(stat("cut.vmdk", &st) == 0 && truncate("cut.vmdk", st.st_size - 65536) == 0);
   h = open_disk(c, "cut.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_Read(h, 0, 128, buffer));
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_Read(h, 128, 128, buffer));
   OK(VixDiskLib_Close(h));
   CHECK(truncate("cut.vmdk", 12000) == 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, try_open("cut.vmdk", 4));
   CHECK(truncate("cut.vmdk", 100) == 0);
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("cut.vmdk", 4));

   make(c, "wrap.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 1000);
   int fd = open("wrap-s001.vmdk", O_WRONLY);
   uint64_t descriptor = UINT64_MAX; /* and its size 0: one past it is sector 0 */
   CHECK(fd >= 0 && pwrite(fd, &descriptor, 8, 28) == 8 && close(fd) == 0);
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("wrap.vmdk", 0));
}

static uint64_t read_at(const char *path, uint64_t at, size_t bytes)
{
   uint64_t value = 0;
   int fd = open(path, O_RDONLY);
   CHECK(fd >= 0 && pread(fd, &value, bytes, (off_t)at) == (ssize_t)bytes && close(fd) == 0);
   return value;
}

static void write_at(const char *path, uint64_t at, uint32_t value)
{
   int fd = open(path, O_WRONLY);
   CHECK(fd >= 0 && pwrite(fd, &value, 4, (off_t)at) == 4 && close(fd) == 0);
}

static void make_written(const char *path, uint64_t capacity)
{
   make(c, path, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, capacity);
   VixDiskLibHandle h = open_disk(c, path, 0);
   memset(buffer, 7, sizeof buffer);
   OK(VixDiskLib_Write(h, 0, 256, buffer));
   OK(VixDiskLib_Close(h));
}

/* A new grain would get the place of a lost one, and both entries would lead to it. */
static void writing_what_was_cut_short(void)
{
   struct stat st;
   struct stat grown;
   make_written("lost.vmdk", 1000);
   CHECK(stat("lost.vmdk", &st) == 0 && truncate("lost.vmdk", st.st_size - 65536) == 0);
   CHECK(stat("lost.vmdk", &st) == 0);
   VixDiskLibHandle h = open_disk(c, "lost.vmdk", 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_Write(h, 256, 128, buffer));
   OK(VixDiskLib_Read(h, 0, 128, buffer));
   OK(VixDiskLib_Close(h));
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_Grow(c, "lost.vmdk", 1u << 20, 1, NULL, NULL));
   CHECK(stat("lost.vmdk", &grown) == 0 && grown.st_size == st.st_size);
   GIVES(VIX_E_DISK_CANTREPAIR, VixDiskLib_CheckRepair(c, "lost.vmdk", 1));
}

static void directory_that_lost_a_table(void)
{
   make_written("gd.vmdk", 1000);
   write_at("gd.vmdk", read_at("gd.vmdk", 56, 8) * 512, 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_CheckRepair(c, "gd.vmdk", 0));
   GIVES(VIX_E_DISK_CANTREPAIR, VixDiskLib_CheckRepair(c, "gd.vmdk", 1));
   OK(try_open("gd.vmdk", 0));
}

static void zeros_over_a_damaged_entry(void)
{
   make_written("entry.vmdk", 1000);
   uint64_t table = read_at("entry.vmdk", read_at("entry.vmdk", 56, 8) * 512, 4);
   write_at("entry.vmdk", table * 512 + 4, 3); /* in the descriptor */
   VixDiskLibHandle h = open_disk(c, "entry.vmdk", 0);
   memset(buffer, 0, sizeof buffer);
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_Write(h, 0, 256, buffer));
   OK(VixDiskLib_Write(h, 0, 128, buffer));
   OK(VixDiskLib_Close(h));
   h = open_disk(c, "entry.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_Read(h, 0, 1, buffer + 512));
   CHECK(!memcmp(buffer, buffer + 512, 512));
   OK(VixDiskLib_Close(h));
}

/* Bytes of a small file, and how many. */
static size_t bytes_of(const char *path, char bytes[1 << 18])
{
   int fd = open(path, O_RDONLY);
   ssize_t got = fd < 0 ? -1 : read(fd, bytes, 1 << 18);
   CHECK(got >= 0 && got < 1 << 18 && close(fd) == 0);
   return (size_t)got;
}

/* Each call that makes a name, where no name can be made. The disks keep each byte and can be used. */
static void into(const char *folder, VixError wanted)
{
   static const VixDiskLibDiskType types[] = {VIXDISKLIB_DISK_MONOLITHIC_SPARSE,
      VIXDISKLIB_DISK_MONOLITHIC_FLAT, VIXDISKLIB_DISK_SPLIT_SPARSE, VIXDISKLIB_DISK_SPLIT_FLAT,
      VIXDISKLIB_DISK_VMFS_FLAT, VIXDISKLIB_DISK_VMFS_THIN, VIXDISKLIB_DISK_STREAM_OPTIMIZED};
   static char before[1 << 18];
   static char after[1 << 18];
   char path[200];
   snprintf(path, sizeof path, "%s/x.vmdk", folder);
   for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
      VixDiskLibCreateParams params = {.diskType = types[i], .capacity = 1000};
      GIVES(wanted, VixDiskLib_Create(c, path, &params, NULL, NULL));
      for (int over = 0; over < 2; over++) {
         GIVES(wanted, VixDiskLib_Clone(c, path, c, "whole.vmdk", &params, NULL, NULL, over));
      }
   }
   GIVES(wanted, try_open(path, 0));
   GIVES(wanted, try_open(path, VIXDISKLIB_FLAG_OPEN_READ_ONLY));
   GIVES(wanted, VixDiskLib_Unlink(c, path));
   GIVES(wanted, VixDiskLib_CheckRepair(c, path, 1));
   GIVES(wanted, VixDiskLib_Grow(c, path, 2000, 1, NULL, NULL));
   GIVES(wanted, VixDiskLib_Rename(path, "y.vmdk"));
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE};
   GIVES(wanted, VixDiskLib_Clone(c, "y.vmdk", c, path, &params, NULL, NULL, 1));

   static const char *const disks[] = {"whole.vmdk", "split.vmdk", "kid.vmdk", "esx.vmdk"};
   for (size_t i = 0; i < sizeof disks / sizeof *disks; i++) {
      size_t length = bytes_of(disks[i], before);
      for (uint32_t flags = 0; flags <= VIXDISKLIB_FLAG_OPEN_READ_ONLY; flags += 4) {
         VixDiskLibHandle h = open_disk(c, disks[i], flags);
         GIVES(wanted,
            VixDiskLib_CreateChild(h, path, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
         GIVES(wanted, VixDiskLib_CreateChild(h, path, VIXDISKLIB_DISK_VMFS_SPARSE, NULL, NULL));
         OK(VixDiskLib_Close(h));
      }
      GIVES(wanted, VixDiskLib_Rename(disks[i], path));
      CHECK(bytes_of(disks[i], after) == length && !memcmp(before, after, length));
      OK(try_open(disks[i], 0));
   }
}

static void folders_that_cannot_be_used(void)
{
   CHECK(mkdir("folders", 0777) == 0 && chdir("folders") == 0);
   make(c, "whole.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   make(c, "split.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 1000);
   VixDiskLibHandle h = open_disk(c, "whole.vmdk", 0);
   OK(VixDiskLib_CreateChild(h, "kid.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   OK(VixDiskLib_CreateChild(h, "esx.vmdk", VIXDISKLIB_DISK_VMFS_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   write_file("file", "");
   CHECK(symlink("loop", "loop") == 0);
   into("missing", VIX_E_FILE_NOT_FOUND);
   into("missing/deeper", VIX_E_FILE_NOT_FOUND);
   into("file", VIX_E_FILE_NOT_FOUND);
   into("loop", VIX_E_FILE_NAME_INVALID);

   /* A parent whose folder went while it was open: a child can name no parent. */
   CHECK(mkdir("gone", 0777) == 0);
   make(c, "gone/p.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
   h = open_disk(c, "gone/p.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   VixDiskLibHandle kid = open_disk(c, "kid.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   CHECK(rename("gone", "went") == 0);
   GIVES(VIX_E_FILE_NOT_FOUND,
      VixDiskLib_CreateChild(h, "k.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   GIVES(VIX_E_FILE_NOT_FOUND, VixDiskLib_Attach(h, kid));
   OK(VixDiskLib_Close(kid));
   OK(VixDiskLib_Close(h));
   OK(try_open("kid.vmdk", 0)); /* with its old parent */
   CHECK(access("k.vmdk", F_OK) && chdir("..") == 0);
}

int main(void)
{
   VixDiskLibConnection none;
   GIVES(VIX_E_DISK_NOINIT, VixDiskLib_Connect(NULL, &none));
   OK(VixDiskLib_InitEx(6, 5, NULL, NULL, NULL, NULL, NULL));
   CHECK(!strcmp(VixDiskLib_ListTransportModes(),
      vreplica_TlsStatus(NULL) == VIX_OK ? "file:nbdssl:nbd" : "file"));
   VixDiskLibConnectParams *params = VixDiskLib_AllocateConnectParams();
   params->serverName = "vcenter.example";
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Connect(params, &none)); /* of which machine? */
   params->vmxSpec = "moref=vm-1";
   GIVES(VIX_E_NOT_SUPPORTED, VixDiskLib_ConnectEx(params, 1, NULL, "san:hotadd", &none));
   GIVES(VIX_E_NOT_SUPPORTED, VixDiskLib_Connect(params, &none)); /* no kind of login */
   params->credType = VIXDISKLIB_CRED_SSPI;
   GIVES(VIX_E_NOT_SUPPORTED, VixDiskLib_Connect(params, &none));
   params->credType = VIXDISKLIB_CRED_UID;
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Connect(params, &none)); /* nor user nor password */
   params->credType = VIXDISKLIB_CRED_SESSIONID;
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Connect(params, &none));
   params->creds.sessionId.cookie = "a;b";
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_Connect(params, &none));
   VixDiskLib_FreeConnectParams(params);
   char *text = VixDiskLib_GetErrorText(VIX_E_DISK_CID_MISMATCH | 5ull << 32, NULL);
   CHECK(strstr(text, "content IDs"));
   VixDiskLib_FreeErrorText(text);
   c = local();
   locks();
   ranges_and_rights();
   metadata();
   long_embedded_descriptor();
   long_descriptor();
   chains();
   files();
   folders_that_cannot_be_used();
   too_many_extents();
   truncated();
   writing_what_was_cut_short();
   directory_that_lost_a_table();
   zeros_over_a_damaged_entry();
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   return 0;
}
