/*
 * Tests that a disk that opens and checks good stays so, whatever is done with it, and that a call
 * which is refused has changed nothing. Runs in a fresh folder.
 */
#include "check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
#define VMFS HEAD "createType=\"vmfs\"\n"
#define ONES 64 /* sectors that a new test disk has written */

static VixDiskLibConnection c;
static uint8_t buffer[4096 * 512];

static void write_file(const char *path, const char *text)
{
   FILE *f = fopen(path, "w");
   CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static uint64_t size_of(const char *path)
{
   struct stat st;
   CHECK(stat(path, &st) == 0);
   return (uint64_t)st.st_size;
}

static uint64_t get(const char *path, uint64_t at, size_t bytes)
{
   uint64_t value = 0;
   int fd = open(path, O_RDONLY);
   CHECK(fd >= 0 && pread(fd, &value, bytes, (off_t)at) == (ssize_t)bytes && close(fd) == 0);
   return value;
}

static void set(const char *path, uint64_t at, uint64_t value, size_t bytes)
{
   int fd = open(path, O_WRONLY | O_CREAT, 0666);
   CHECK(fd >= 0 && pwrite(fd, &value, bytes, (off_t)at) == (ssize_t)bytes && close(fd) == 0);
}

/* All bytes of a small file; the caller frees them. */
static char *bytes_of(const char *path)
{
   uint64_t size = size_of(path);
   char *bytes = malloc(size + 1);
   int fd = open(path, O_RDONLY);
   CHECK(bytes && fd >= 0 && read(fd, bytes, size) == (ssize_t)size && close(fd) == 0);
   bytes[size] = 0;
   return bytes;
}

static void is_unchanged(const char *path, char *before, uint64_t size)
{
   char *now = bytes_of(path);
   CHECK(size_of(path) == size && !memcmp(before, now, size));
   free(now);
   free(before);
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

static VixError put(const char *path, uint64_t sector, uint64_t sectors, int byte)
{
   VixDiskLibHandle h = open_disk(c, path, 0);
   memset(buffer, byte, sectors * 512);
   VixError err = VixDiskLib_Write(h, sector, sectors, buffer);
   OK(VixDiskLib_Close(h));
   return err;
}

static int byte_at(const char *path, uint64_t sector)
{
   uint8_t bytes[512];
   VixDiskLibHandle h = open_disk(c, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_Read(h, sector, 1, bytes));
   OK(VixDiskLib_Close(h));
   return bytes[0];
}

static VixError check(const char *path)
{
   return VixDiskLib_CheckRepair(c, path, 0);
}

static VixError grow(const char *path, uint64_t capacity)
{
   return VixDiskLib_Grow(c, path, capacity, 1, NULL, NULL);
}

static void make_sparse(const char *path, uint64_t capacity)
{
   make(c, path, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, capacity);
   OK(put(path, 0, ONES, 1));
}

/* Sector of the grain directory, of a table, and an entry's byte in the file. */
static uint64_t directory_of(const char *path, bool redundant)
{
   return get(path, redundant ? 48 : 56, 8);
}

static uint64_t entry_at(const char *path, bool redundant, unsigned entry)
{
   return get(path, directory_of(path, redundant) * 512, 4) * 512 + entry * 4;
}

static void descriptor_without_content_id(void)
{
   write_file("nocid.vmdk", "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\n"
                            "RW 2048 FLAT \"nocid-flat.vmdk\" 0\n");
   write_file("nocid-flat.vmdk", "");
   CHECK(truncate("nocid-flat.vmdk", 2048 * 512) == 0);
   OK(put("nocid.vmdk", 0, 1, 7));
   OK(check("nocid.vmdk"));
   CHECK(byte_at("nocid.vmdk", 0) == 7);
   VixDiskLibHandle h = open_disk(c, "nocid.vmdk", 0);
   OK(VixDiskLib_CreateChild(h, "nocid-kid.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   CHECK(byte_at("nocid-kid.vmdk", 0) == 7);
}

static void growing_zeros(void)
{
   write_file("zero.vmdk", VMFS "RW 100 ZERO\n");
   OK(grow("zero.vmdk", 4096));
   OK(check("zero.vmdk"));
   CHECK(byte_at("zero.vmdk", 4095) == 0);
}

static void growing_sesparse(void)
{
   write_file("se.vmdk", VMFS "RW 4096 SESPARSE \"se-extent.vmdk\"\n");
   static const uint64_t fields[][2] = {
      {0, 0xcafebabe}, {8, 0x200000001}, {16, 4096}, {24, 8}, {32, 64}, {128, 2}, {136, 1}, {144, 3},
      {152, 64}, {192, 67}, {512, 0xcafecafe}, {2048, 0},
   };
   for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
      set("se-extent.vmdk", fields[i][0], fields[i][1], 8);
   }
   CHECK(byte_at("se.vmdk", 0) == 0);
   char *before = bytes_of("se.vmdk");
   uint64_t size = size_of("se.vmdk");
   GIVES(VIX_E_DISK_NOTSUPPORTED, grow("se.vmdk", 8192));
   GIVES(VIX_E_DISK_NOTSUPPORTED, put("se.vmdk", 0, 1, 1));
   is_unchanged("se.vmdk", before, size);
}

/* The second extent lies before the first one in their file. */
static void growing_flat_before_another(void)
{
   write_file("ab.vmdk", VMFS "RW 64 FLAT \"ab-flat.vmdk\" 64\nRW 64 FLAT \"ab-flat.vmdk\" 0\n");
   write_file("ab-flat.vmdk", "");
   CHECK(truncate("ab-flat.vmdk", 128 * 512) == 0);
   OK(put("ab.vmdk", 0, 128, 5));
   GIVES(VIX_E_DISK_NOTSUPPORTED, grow("ab.vmdk", 150));
   CHECK(size_of("ab-flat.vmdk") == 128 * 512 && byte_at("ab.vmdk", 0) == 5);

   write_file("tail.vmdk", VMFS "RW 64 FLAT \"ab-flat.vmdk\" 0\n");
   GIVES(VIX_E_DISK_NOTSUPPORTED, grow("tail.vmdk", 65)); /* data of another disk follows */
   CHECK(size_of("ab-flat.vmdk") == 128 * 512);

   make(c, "again.vmdk", VIXDISKLIB_DISK_VMFS_FLAT, 64);
   CHECK(truncate("again-flat.vmdk", 1000 * 512) == 0); /* a Grow that was interrupted */
   OK(grow("again.vmdk", 100));
   CHECK(byte_at("again.vmdk", 99) == 0);
}

static void growing_one_file_as_if_split(void)
{
   make_sparse("named.vmdk", 1000);
   char *text = bytes_of("named.vmdk");
   char *type = memmem(text, size_of("named.vmdk"), "monolithicSparse", 16);
   CHECK(type);
   int fd = open("named.vmdk", O_WRONLY);
   CHECK(fd >= 0 && pwrite(fd, "twoGbMaxExtentSparse\"\n#", 23, type - text) == 23 && close(fd) == 0);
   free(text);
   OK(check("named.vmdk"));
   GIVES(VIX_E_DISK_NOTSUPPORTED, grow("named.vmdk", 2000));
   CHECK(byte_at("named.vmdk", 0) == 1 && access("named-s002.vmdk", F_OK));
}

static void growing_a_disk_with_names_in_another_encoding(void)
{
   make(c, "gbk.vmdk", VIXDISKLIB_DISK_SPLIT_FLAT, 64);
   write_file("gbk.vmdk", HEAD "encoding=\"GBK\"\ncreateType=\"twoGbMaxExtentFlat\"\n"
                               "RW 64 FLAT \"\xc5\xcc.vmdk\" 0\n");
   CHECK(rename("gbk-f001.vmdk", "\xe7\x9b\x98.vmdk") == 0);
   CHECK(rename("gbk.vmdk", "\xe7\x9b\x98-2.vmdk") == 0);
   OK(grow("\xe7\x9b\x98-2.vmdk", 128));
   CHECK(byte_at("\xe7\x9b\x98-2.vmdk", 127) == 0);

   write_file("utf7.vmdk", HEAD "encoding=\"UTF-7\"\ncreateType=\"vmfs\"\nRW 64 FLAT \"a+ACI-\xc3.vmdk\" 0\n");
   GIVES(VIX_E_DISK_ENCODING, try_open("utf7.vmdk", 0)); /* a quote in a quoted name */
}

static void growing_too_far(void)
{
   make_sparse("far.vmdk", 1000);
   GIVES(VIX_E_FILE_TOO_BIG, grow("far.vmdk", (1ull << 41) + 1)); /* no reader takes so many tables */
   OK(check("far.vmdk"));
   CHECK(byte_at("far.vmdk", 0) == 1);
}

/* The file has room for more than the disk uses, and something is there. */
static void growing_over_old_grains(void)
{
   make(c, "old.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 1000);
   OK(put("old.vmdk", 0, 1000, 3));
   write_file("old.vmdk", HEAD "createType=\"vmfs\"\nRW 200 SPARSE \"old-s001.vmdk\"\n");
   OK(grow("old.vmdk", 900));
   OK(check("old.vmdk"));
   CHECK(byte_at("old.vmdk", 199) == 3 && byte_at("old.vmdk", 200) == 0);
   CHECK(byte_at("old.vmdk", 256) == 0 && byte_at("old.vmdk", 899) == 0);
}

static void one_table_for_two_directory_entries(void)
{
   make(c, "table.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 2 * 65536);
   OK(put("table.vmdk", 0, 128, 1));
   OK(put("table.vmdk", 65536, 128, 2));
   uint64_t directory = directory_of("table.vmdk", false) * 512;
   set("table.vmdk", directory + 4, get("table.vmdk", directory, 4), 4);
   char *before = bytes_of("table.vmdk");
   uint64_t size = size_of("table.vmdk");
   GIVES(VIX_E_DISK_NEEDSREPAIR, check("table.vmdk"));
   GIVES(VIX_E_DISK_CANTREPAIR, VixDiskLib_CheckRepair(c, "table.vmdk", 1)); /* the copies are right */
   GIVES(VIX_E_DISK_NEEDSREPAIR, put("table.vmdk", 256, 1, 3));
   GIVES(VIX_E_DISK_NEEDSREPAIR, grow("table.vmdk", 4 * 65536));
   VixDiskLibHandle h = open_disk(c, "table.vmdk", 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, VixDiskLib_Defragment(h, NULL, NULL));
   OK(VixDiskLib_Close(h));
   is_unchanged("table.vmdk", before, size);
}

static void grains_in_one_place(void)
{
   make(c, "grain.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 4096);
   OK(put("grain.vmdk", 0, 256, 1));
   OK(put("grain.vmdk", 1024, 128, 1));
   OK(check("grain.vmdk"));
   uint64_t first = get("grain.vmdk", entry_at("grain.vmdk", false, 0), 4);
   const uint64_t bad[] = {
      first,                                /* the same place */
      first + 65,                           /* halfway into the next one */
      directory_of("grain.vmdk", false),    /* over the directory */
      get("grain.vmdk", directory_of("grain.vmdk", true) * 512, 4), /* over a table */
   };
   for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
      set("grain.vmdk", entry_at("grain.vmdk", false, 8), bad[i], 4);
      set("grain.vmdk", entry_at("grain.vmdk", true, 8), bad[i], 4);
      char *before = bytes_of("grain.vmdk");
      uint64_t size = size_of("grain.vmdk");
      GIVES(VIX_E_DISK_NEEDSREPAIR, check("grain.vmdk"));
      GIVES(VIX_E_DISK_NEEDSREPAIR, put("grain.vmdk", 2048, 1, 9));
      is_unchanged("grain.vmdk", before, size);
   }
}

/* Where the header names a directory past the end, a growing file would reach it. */
static void redundant_directory_that_is_lost(void)
{
   make_sparse("lost.vmdk", 4096);
   set("lost.vmdk", 48, size_of("lost.vmdk") / 512 + 10, 8);
   GIVES(VIX_E_DISK_NEEDSREPAIR, check("lost.vmdk"));
   GIVES(VIX_E_DISK_NEEDSREPAIR, put("lost.vmdk", 1024, 512, 9));
   OK(VixDiskLib_CheckRepair(c, "lost.vmdk", 1));
   OK(put("lost.vmdk", 1024, 512, 9));
   OK(check("lost.vmdk"));
   CHECK(byte_at("lost.vmdk", 0) == 1 && byte_at("lost.vmdk", 1535) == 9);
}

static void redundant_table_that_was_never_made(void)
{
   make_sparse("half.vmdk", 4096);
   set("half.vmdk", directory_of("half.vmdk", true) * 512, 0, 4);
   OK(check("half.vmdk"));
   OK(put("half.vmdk", 1024, 128, 9));
   OK(check("half.vmdk"));
}

static void grains_where_the_header_is(void)
{
   make(c, "front.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 4096);
   OK(put("front.vmdk", 256, 128, 4));
   set("front-s001.vmdk", 64, 0, 8); /* grains may begin at once */
   VixDiskLibHandle h = open_disk(c, "front.vmdk", 0);
   VixError err = VixDiskLib_Defragment(h, NULL, NULL);
   CHECK(err == VIX_OK || err == VIX_E_DISK_NOTSUPPORTED);
   OK(VixDiskLib_Close(h));
   OK(check("front.vmdk"));
   CHECK(byte_at("front.vmdk", 256) == 4);

   make(c, "stream.vmdk", VIXDISKLIB_DISK_STREAM_OPTIMIZED, 4096);
   set("stream.vmdk", 64, 0, 8);
   char *before = bytes_of("stream.vmdk");
   uint64_t size = size_of("stream.vmdk");
   GIVES(VIX_E_DISK_NOTSUPPORTED, put("stream.vmdk", 0, 1, 1));
   is_unchanged("stream.vmdk", before, size);
}

/* Where a descriptor of no size lies says nothing about the place of grains. */
static void descriptor_of_no_size(void)
{
   make(c, "none.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 4096);
   set("none-s001.vmdk", 28, 1u << 24, 8);
   OK(check("none.vmdk"));
   OK(put("none.vmdk", 0, 128, 4));
   OK(check("none.vmdk"));
   set("none-s001.vmdk", 36, 20, 8);
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("none.vmdk", 0));
}

/* A refused write does not change the content ID, which children rely on. */
static void refused_writes(void)
{
   make_sparse("cut.vmdk", 1000);
   VixDiskLibHandle h = open_disk(c, "cut.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_CreateChild(h, "cut-kid.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   CHECK(truncate("cut.vmdk", (off_t)size_of("cut.vmdk") - 65536) == 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, put("cut.vmdk", 256, 128, 1));
   OK(try_open("cut-kid.vmdk", 0));

   write_file("rdonly.vmdk", VMFS "RW 8 FLAT \"rd.vmdk\" 0\nRDONLY 8 FLAT \"rd.vmdk\" 8\n");
   write_file("rd.vmdk", "");
   CHECK(truncate("rd.vmdk", 16 * 512) == 0);
   char *before = bytes_of("rdonly.vmdk");
   uint64_t size = size_of("rdonly.vmdk");
   GIVES(VIX_E_DISK_NOIO, put("rdonly.vmdk", 0, 16, 1)); /* its first half could be written */
   CHECK(byte_at("rdonly.vmdk", 0) == 0);
   is_unchanged("rdonly.vmdk", before, size);
}

/* A value that has no room leaves the others in their order, so that a content ID still fits in. */
static void metadata_without_room(void)
{
   make_sparse("meta.vmdk", 1000);
   char value[12000];
   char read[100];
   memset(value, 'v', sizeof value);
   value[sizeof value - 1] = 0;
   VixDiskLibHandle h = open_disk(c, "meta.vmdk", 0);
   OK(VixDiskLib_WriteMetadata(h, "first", "1"));
   OK(VixDiskLib_WriteMetadata(h, "second", "2"));
   value[3200] = 0;
   OK(VixDiskLib_WriteMetadata(h, "third", value + 200));
   value[3200] = 'v';
   GIVES(VIX_E_DISK_FULL, VixDiskLib_WriteMetadata(h, "first", value));
   OK(VixDiskLib_ReadMetadata(h, "first", read, sizeof read, NULL));
   CHECK(!strcmp(read, "1"));
   memset(buffer, 2, 512);
   OK(VixDiskLib_Write(h, 0, 1, buffer));
   OK(VixDiskLib_Close(h));
   OK(check("meta.vmdk"));
}

static void extents_in_one_place(void)
{
   write_file("twice.vmdk", VMFS "RW 64 FLAT \"ab-flat.vmdk\" 0\nRW 64 FLAT \"ab-flat.vmdk\" 63\n");
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("twice.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY));
   make(c, "s.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, 128);
   write_file("s2.vmdk", VMFS "RW 128 SPARSE \"s-s001.vmdk\"\nRW 128 SPARSE \"s-s001.vmdk\"\n");
   GIVES(VIX_E_DISK_INVALIDDISK, try_open("s2.vmdk", 0));
   write_file("s3.vmdk", "# Disk DescriptorFile\nCID=1\nparentCID=12345678\ncreateType=\"vmfs\"\n"
                         "parentFileNameHint=\"s4.vmdk\"\nRW 128 SPARSE \"s-s001.vmdk\"\n");
   write_file("s4.vmdk", VMFS "RW 128 SPARSE \"s-s001.vmdk\"\n");
   OK(try_open("s4.vmdk", 0));
   GIVES(VIX_E_DISK_INVALIDCHAIN, try_open("s3.vmdk", 0)); /* a write would change the parent */
}

static void clone_that_is_refused(void)
{
   make_sparse("from.vmdk", 1000);
   make(c, "to.vmdk", VIXDISKLIB_DISK_SPLIT_FLAT, 64);
   OK(put("to.vmdk", 0, 64, 6));
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_VMFS_SPARSE};
#define CLONE(from, to) VixDiskLib_Clone(c, to, c, from, &params, NULL, NULL, 1)
   GIVES(VIX_E_NOT_SUPPORTED, CLONE("from.vmdk", "to.vmdk"));
   params.diskType = VIXDISKLIB_DISK_UNKNOWN;
   GIVES(VIX_E_NOT_SUPPORTED, CLONE("from.vmdk", "to.vmdk"));
   params.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE;
   VixDiskLibHandle h = open_disk(c, "to.vmdk", 0);
   GIVES(VIX_E_FILE_ALREADY_LOCKED, CLONE("from.vmdk", "to.vmdk"));
   OK(VixDiskLib_Close(h));

   make(c, "short.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 9000);
   OK(put("short.vmdk", 0, 1, 1));
   OK(put("short.vmdk", 8000, 1, 1));
   CHECK(truncate("short.vmdk", (off_t)size_of("short.vmdk") - 65536) == 0);
   GIVES(VIX_E_DISK_NEEDSREPAIR, CLONE("short.vmdk", "to.vmdk")); /* fails halfway */
   OK(check("to.vmdk"));
   CHECK(byte_at("to.vmdk", 63) == 6 && access("to~new.vmdk", F_OK) && access("to~old.vmdk", F_OK));

   write_file("thief.vmdk", VMFS "RW 64 FLAT \"to-f001.vmdk\" 0\n");
   GIVES(VIX_E_INVALID_ARG, CLONE("to.vmdk", "thief.vmdk")); /* the data of the source would go too */
   CHECK(byte_at("to.vmdk", 0) == 6);

   OK(CLONE("from.vmdk", "to.vmdk"));
   CHECK(byte_at("to.vmdk", 0) == 1 && access("to-f001.vmdk", F_OK));
   CHECK(access("to~new.vmdk", F_OK) && access("to~old.vmdk", F_OK));
   params.diskType = VIXDISKLIB_DISK_SPLIT_FLAT;
   OK(CLONE("from.vmdk", "to.vmdk"));
   CHECK(byte_at("to.vmdk", 0) == 1 && size_of("to-f001.vmdk") == 512000);
   CHECK(access("to~new-f001.vmdk", F_OK));
}

static void unlink_that_is_refused(void)
{
   CHECK(mkdir("inner", 0777) == 0);
   write_file("inner/a.vmdk", "");
   CHECK(truncate("inner/a.vmdk", 512) == 0);
   write_file("inner/u.vmdk", VMFS "RW 1 FLAT \"a.vmdk\" 0\nRW 1 FLAT \"../ab-flat.vmdk\" 0\n");
   GIVES(VIX_E_FILE_ACCESS_ERROR, VixDiskLib_Unlink(c, "inner/u.vmdk"));
   CHECK(access("inner/a.vmdk", F_OK) == 0);
   CHECK(mkdir("inner/b.vmdk", 0777) == 0);
   write_file("inner/u.vmdk", VMFS "RW 1 FLAT \"a.vmdk\" 0\nRW 1 FLAT \"b.vmdk\" 0\n");
   GIVES(VIX_E_INCORRECT_FILE_TYPE, VixDiskLib_Unlink(c, "inner/u.vmdk"));
   CHECK(access("inner/a.vmdk", F_OK) == 0 && rmdir("inner/b.vmdk") == 0);
}

static void renaming(void)
{
   make(c, "ren.vmdk", VIXDISKLIB_DISK_VMFS_FLAT, 64);
   GIVES(VIX_E_INVALID_UTF8_STRING, VixDiskLib_Rename("ren.vmdk", "\xff.vmdk"));
   GIVES(VIX_E_FILE_NAME_INVALID, VixDiskLib_Rename("ren.vmdk", "a\"b.vmdk"));
   OK(check("ren.vmdk"));
   write_file("other.vmdk", VMFS "RW 32 FLAT \"ren-flat.vmdk\" 0\nRW 32 FLAT \"ren-flat.vmdk\" 32\n");
   OK(put("other.vmdk", 0, 64, 8));
   OK(VixDiskLib_Rename("other.vmdk", "./renamed.vmdk")); /* its extents keep their names */
   CHECK(byte_at("renamed.vmdk", 63) == 8 && access("other.vmdk", F_OK));
   write_file("ren.vmdk", VMFS "RW 32 FLAT \"ren-flat.vmdk\" 0\nRW 32 FLAT \"ren-flat.vmdk\" 32\n");
   OK(VixDiskLib_Rename("ren.vmdk", "inner/new.vmdk"));
   CHECK(byte_at("inner/new.vmdk", 63) == 8 && access("ren-flat.vmdk", F_OK));
}

static VixError make_child(const char *parent, const char *child)
{
   VixDiskLibHandle h = open_disk(c, parent, VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   VixError err = VixDiskLib_CreateChild(h, child, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL);
   OK(VixDiskLib_Close(h));
   return err;
}

static void children(void)
{
   make_sparse("base.vmdk", 1000);
   VixDiskLibHandle old = open_disk(c, "base.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   VixDiskLibHandle h = open_disk(c, "base.vmdk", 0);
   GIVES(VIX_E_FILE_ALREADY_LOCKED, make_child("base.vmdk", "kid.vmdk"));
   OK(VixDiskLib_Write(h, 0, 1, buffer));
   OK(VixDiskLib_Close(h));
   GIVES(VIX_E_DISK_CID_MISMATCH,
      VixDiskLib_CreateChild(old, "kid.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(old));
   CHECK(access("kid.vmdk", F_OK));
   OK(make_child("base.vmdk", "kid.vmdk"));
   OK(make_child("kid.vmdk", "grandkid.vmdk"));

   CHECK(mkdir("in\"ner", 0777) == 0);
   make_sparse("ner.vmdk", 1000);
   CHECK(rename("ner.vmdk", "in\"ner/base.vmdk") == 0);
   h = open_disk(c, "in\"ner/base.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   GIVES(VIX_E_FILE_NAME_INVALID,
      VixDiskLib_CreateChild(h, "quoted.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   CHECK(access("quoted.vmdk", F_OK));
   VixDiskLibHandle kid = open_disk(c, "kid.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   GIVES(VIX_E_FILE_NAME_INVALID, VixDiskLib_Attach(h, kid));
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_Close(kid));

   h = open_disk(c, "grandkid.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   kid = open_disk(c, "kid.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   GIVES(VIX_E_DISK_INVALIDCHAIN, VixDiskLib_Attach(h, kid)); /* a loop */
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_Close(kid));
   OK(check("kid.vmdk"));
   OK(try_open("grandkid.vmdk", 0));
}

/* Runs `act` in another process; a test in it that fails ends it with 1. */
static void in_another_process(void (*act)(void))
{
   pid_t child = fork(); /* before any thread of the library runs */
   if (!child) {
      act();
      _exit(0);
   }
   int status;
   CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void be_refused(void)
{
   GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("w.vmdk", 0));
   OK(try_open("w.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("w-again.vmdk", 0)); /* the same extent */
   GIVES(VIX_E_FILE_ALREADY_LOCKED, try_open("w-base.vmdk", 0));  /* the parent */
   GIVES(VIX_E_FILE_ALREADY_LOCKED, grow("w-base.vmdk", 2000));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_Unlink(c, "w-base.vmdk"));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_Rename("w.vmdk", "w2.vmdk"));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_CheckRepair(c, "w.vmdk", 1));
   OK(make_child("w-base.vmdk", "w-sister.vmdk")); /* both children need the parent as it is */
   OK(try_open("w-sister.vmdk", 0));
   OK(VixDiskLib_Unlink(c, "w-sister.vmdk"));
}

static void open_the_sister(void)
{
   OK(try_open("w-base.vmdk", 0));
   OK(try_open("w.vmdk", 0));
   OK(try_open("w-again.vmdk", 0));
}

static void second_writers(void)
{
   make_sparse("w-base.vmdk", 1000);
   VixDiskLibHandle h = open_disk(c, "w-base.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_CreateChild(h, "w.vmdk", VIXDISKLIB_DISK_VMFS_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   write_file("w-again.vmdk", VMFS "RW 1000 VMFSSPARSE \"w-delta.vmdk\"\n");
   h = open_disk(c, "w.vmdk", 0);
   in_another_process(be_refused);
   OK(VixDiskLib_Write(h, 0, 1, buffer));
   in_another_process(be_refused);
   OK(VixDiskLib_Close(h));
   in_another_process(open_the_sister);
}

/* A chain that was moved with its folder is found by the names of its parents. So is a disk of it that
 * gets another place. */
static void renaming_what_was_moved(void)
{
   static const VixDiskLibDiskType types[] = {
      VIXDISKLIB_DISK_MONOLITHIC_SPARSE, VIXDISKLIB_DISK_SPLIT_SPARSE};
   CHECK(mkdir("there", 0777) == 0);
   for (size_t i = 0; i < 2; i++) {
      CHECK(mkdir("sub", 0777) == 0 && mkdir("moved", 0777) == 0);
      make_sparse("above.vmdk", 1000);
      VixDiskLibHandle h = open_disk(c, "above.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
      OK(VixDiskLib_CreateChild(h, "sub/kid.vmdk", types[i], NULL, NULL)); /* names a whole path */
      OK(VixDiskLib_Close(h));
      CHECK(rename("above.vmdk", "moved/above.vmdk") == 0);
      CHECK(rename("sub/kid.vmdk", "moved/kid.vmdk") == 0);
      CHECK(rename("sub/kid-s001.vmdk", "moved/kid-s001.vmdk") == (int)-!i && rmdir("sub") == 0);
      CHECK(byte_at("moved/kid.vmdk", 0) == 1);
      OK(VixDiskLib_Rename("moved/kid.vmdk", "there/kid.vmdk"));
      CHECK(byte_at("there/kid.vmdk", 0) == 1);
      OK(VixDiskLib_Unlink(c, "there/kid.vmdk"));
      OK(VixDiskLib_Unlink(c, "moved/above.vmdk"));
      CHECK(rmdir("moved") == 0);
   }
}

int main(void)
{
   OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL));
   c = local();
   second_writers();
   descriptor_without_content_id();
   growing_zeros();
   growing_sesparse();
   growing_flat_before_another();
   growing_one_file_as_if_split();
   growing_a_disk_with_names_in_another_encoding();
   growing_too_far();
   growing_over_old_grains();
   one_table_for_two_directory_entries();
   grains_in_one_place();
   redundant_directory_that_is_lost();
   redundant_table_that_was_never_made();
   grains_where_the_header_is();
   descriptor_of_no_size();
   refused_writes();
   metadata_without_room();
   extents_in_one_place();
   clone_that_is_refused();
   unlink_that_is_refused();
   renaming();
   renaming_what_was_moved();
   children();
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   return 0;
}
