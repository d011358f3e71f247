/*
 * Tests that a process that dies at any moment leaves a disk without a fault, with every write that
 * returned.
 *
 * kill.c wraps the calls of the library that change files. The Nth of them kills the process,
 * before the call or between two pages that it writes, for N from the first to the last. Each disk
 * is then read, and checked by CheckRepair and, if installed, by `qemu-img check`. Runs in a fresh
 * folder.
 */
#include "check.h"
#include "kill.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPACITY = 9000, WRITES = 14, LARGEST = 700 };

static struct {
   int acknowledged; /* the number of writes that returned */
   int finished;
} *shared;

typedef struct {
   uint64_t at;
   uint64_t sectors;
   uint8_t fill; /* 0: zeros */
} step;

/* Parts of grains, whole grains, several tables; zeros over nothing, over data, over a parent. */
static const step steps[WRITES] = {
   {3, 5, 1}, {128, 256, 2}, {100, 400, 3}, {256, 128, 0}, {5000, 700, 4}, {8999, 1, 5},
   {640, 128, 0}, {5120, 256, 0}, {5130, 9, 6}, {4090, 20, 7}, {0, 128, 0}, {2048, 512, 8},
   {2100, 40, 0}, {8960, 40, 9},
};

static uint8_t buffer[CAPACITY * 512];
static uint8_t model[CAPACITY * 512];

static uint8_t byte_at(const step *s, uint64_t i)
{
   return s->fill ? (uint8_t)(s->fill * 17 + i / 512) | 1 : 0;
}

static void fill_buffer(const step *s)
{
   for (uint64_t i = 0; i < s->sectors * 512; i++) {
      buffer[i] = byte_at(s, i);
   }
}

static void write_steps(VixDiskLibConnection c, const char *path)
{
   VixDiskLibHandle h = open_disk(c, path, 0);
   for (int i = 0; i < WRITES; i++) {
      fill_buffer(&steps[i]);
      OK(VixDiskLib_Write(h, steps[i].at, steps[i].sectors, buffer));
      shared->acknowledged = i + 1;
   }
   OK(VixDiskLib_Close(h));
}

static void apply_to_model(int count)
{
   for (int i = 0; i < count; i++) {
      fill_buffer(&steps[i]);
      memcpy(model + steps[i].at * 512, buffer, steps[i].sectors * 512);
   }
}

static void check_image(const char *path)
{
   static int have = -1;
   char command[200];
   if (have < 0) {
      have = system("command -v qemu-img >/dev/null") == 0;
   }
   snprintf(command, sizeof command, "qemu-img check -q %s", path);
   CHECK(!have || system(command) == 0);
}

/* Every sector is as in the model, except those of the interrupted write. */
static void check_content(VixDiskLibConnection c, const char *path, const step *under_way)
{
   VixDiskLibHandle h = open_disk(c, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   OK(VixDiskLib_Read(h, 0, CAPACITY, buffer));
   OK(VixDiskLib_Close(h));
   for (uint64_t s = 0; s < CAPACITY; s++) {
      if (under_way && s >= under_way->at && s < under_way->at + under_way->sectors) {
         continue;
      }
      CHECK(!memcmp(buffer + s * 512, model + s * 512, 512));
   }
}

typedef struct {
   const char *name;
   void (*prepare)(VixDiskLibConnection c);
   void (*act)(VixDiskLibConnection c);
   const char *disk;
   int writes; /* `act` is write_steps */
   void (*check)(VixDiskLibConnection c);
} scenario;

static void clean_folder(void)
{
   CHECK(system("rm -f ./*.vmdk") == 0);
}

static void base(VixDiskLibConnection c, VixDiskLibDiskType type)
{
   memset(model, 0, sizeof model);
   make(c, "disk.vmdk", type, CAPACITY);
}

static void full_base_with_child(VixDiskLibConnection c, VixDiskLibDiskType child)
{
   base(c, VIXDISKLIB_DISK_VMFS_THIN);
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   for (size_t i = 0; i < sizeof model; i++) {
      model[i] = (uint8_t)(i / 512 * 31 + 1) | 1;
   }
   OK(VixDiskLib_Write(h, 0, CAPACITY, model));
   OK(VixDiskLib_CreateChild(h, "child.vmdk", child, NULL, NULL));
   OK(VixDiskLib_Close(h));
}

static void prepare_sparse(VixDiskLibConnection c) { base(c, VIXDISKLIB_DISK_MONOLITHIC_SPARSE); }
static void prepare_split(VixDiskLibConnection c) { base(c, VIXDISKLIB_DISK_SPLIT_SPARSE); }
static void prepare_thin(VixDiskLibConnection c) { base(c, VIXDISKLIB_DISK_VMFS_THIN); }

static void prepare_delta(VixDiskLibConnection c)
{
   full_base_with_child(c, VIXDISKLIB_DISK_MONOLITHIC_SPARSE);
}

static void prepare_cowd(VixDiskLibConnection c)
{
   full_base_with_child(c, VIXDISKLIB_DISK_VMFS_SPARSE);
}

static void prepare_written(VixDiskLibConnection c)
{
   base(c, VIXDISKLIB_DISK_MONOLITHIC_SPARSE);
   write_steps(c, "disk.vmdk");
   apply_to_model(WRITES);
}

static void write_disk(VixDiskLibConnection c) { write_steps(c, "disk.vmdk"); }
static void write_child(VixDiskLibConnection c) { write_steps(c, "child.vmdk"); }

static void grow(VixDiskLibConnection c)
{
   OK(VixDiskLib_Grow(c, "disk.vmdk", 5u << 20, 1, NULL, NULL));
}

static void shrink(VixDiskLibConnection c)
{
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   OK(VixDiskLib_Shrink(h, NULL, NULL));
   OK(VixDiskLib_Close(h));
}

static void defragment(VixDiskLibConnection c)
{
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   OK(VixDiskLib_Defragment(h, NULL, NULL));
   OK(VixDiskLib_Close(h));
}

/* The parent gets another name, so that Attach has to store it; the old name leads to it. */
static void rename_parent(void)
{
   OK(VixDiskLib_Rename("disk.vmdk", "another-name-than-before.vmdk"));
   CHECK(symlink("another-name-than-before.vmdk", "disk.vmdk") == 0);
}

static void prepare_renamed(VixDiskLibConnection c)
{
   prepare_delta(c);
   rename_parent();
}

static void attach(VixDiskLibConnection c)
{
   VixDiskLibHandle parent =
      open_disk(c, "another-name-than-before.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   VixDiskLibHandle child = open_disk(c, "child.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   OK(VixDiskLib_Attach(parent, child));
   OK(VixDiskLib_WriteMetadata(child, "adapterType", "a value that is longer than before"));
   OK(VixDiskLib_WriteMetadata(child, "adapterType", "short"));
   OK(VixDiskLib_Close(child));
}

/* Disks with descriptors of several pages. */
enum { EXTENTS = 200, MORE_EXTENTS = 2 };
#define SPLIT_SECTORS (2047ull * 2048)

static void prepare_long(VixDiskLibConnection c)
{
   memset(model, 0, sizeof model);
   make(c, "disk.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, EXTENTS * SPLIT_SECTORS);
}

static void prepare_long_delta(VixDiskLibConnection c)
{
   prepare_long(c);
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   OK(VixDiskLib_CreateChild(h, "child.vmdk", VIXDISKLIB_DISK_SPLIT_SPARSE, NULL, NULL));
   OK(VixDiskLib_Close(h));
   rename_parent();
}

static void grow_long(VixDiskLibConnection c)
{
   OK(VixDiskLib_Grow(c, "disk.vmdk", (EXTENTS + MORE_EXTENTS) * SPLIT_SECTORS, 1, NULL, NULL));
}

/* The descriptor of a split disk is whole: every line belongs there and appears once. */
static int extents_of(const char *stem)
{
   static const char *const keys[] = {"version", "encoding", "CID", "parentCID", "createType",
      "parentFileNameHint", "ddb.adapterType ", "ddb.geometry.cylinders ", "ddb.geometry.heads ",
      "ddb.geometry.sectors ", "ddb.virtualHWVersion ", "ddb.uuid "};
   enum { KEYS = sizeof keys / sizeof *keys };
   int seen[KEYS] = {0};
   int extents = 0;
   char line[200];
   char name[100];
   snprintf(name, sizeof name, "%s.vmdk", stem);
   FILE *f = fopen(name, "r");
   CHECK(f);
   while (fgets(line, sizeof line, f)) {
      char wanted[200];
      snprintf(wanted, sizeof wanted, "RW %llu SPARSE \"%s-s%03d.vmdk\"\n", SPLIT_SECTORS, stem,
         extents + 1);
      int key = 0;
      while (key < KEYS
         && (strncmp(line, keys[key], strlen(keys[key])) || line[strlen(keys[key])] != '=')) {
         key++;
      }
      if (!strcmp(line, wanted)) {
         extents++;
      } else if (*line != '#' && *line != '\n') {
         CHECK(key < KEYS && !seen[key]++ && line[strlen(line) - 1] == '\n');
      }
   }
   CHECK(fclose(f) == 0);
   for (int key = 0; key < KEYS; key++) {
      CHECK(seen[key] || !strcmp(keys[key], "encoding") || !strcmp(keys[key], "parentFileNameHint"));
   }
   return extents;
}

static void check_long_delta(VixDiskLibConnection c)
{
   VixDiskLibHandle h = open_disk(c, "child.vmdk", VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
   char value[100];
   OK(VixDiskLib_ReadMetadata(h, "adapterType", value, sizeof value, NULL));
   CHECK(!strcmp(value, "lsilogic") || !strcmp(value, "a value that is longer than before")
      || !strcmp(value, "short"));
   OK(VixDiskLib_Close(h));
   CHECK(extents_of("child") == EXTENTS);
}

static void check_long(VixDiskLibConnection c)
{
   VixDiskLibHandle h = open_disk(c, "disk.vmdk", 0);
   VixDiskLibInfo *info;
   int extents = extents_of("disk");
   CHECK(extents == EXTENTS || extents == EXTENTS + MORE_EXTENTS);
   OK(VixDiskLib_GetInfo(h, &info));
   CHECK(info->capacity == (uint64_t)extents * SPLIT_SECTORS);
   VixDiskLib_FreeInfo(info);
   OK(VixDiskLib_Close(h));
}

static const scenario scenarios[] = {
   {"sparse", prepare_sparse, write_disk, "disk.vmdk", 1, NULL},
   {"split", prepare_split, write_disk, "disk.vmdk", 1, NULL},
   {"thin", prepare_thin, write_disk, "disk.vmdk", 1, NULL},
   {"delta", prepare_delta, write_child, "child.vmdk", 1, NULL},
   {"cowd", prepare_cowd, write_child, "child.vmdk", 1, NULL},
   {"grow", prepare_written, grow, "disk.vmdk", 0, NULL},
   {"shrink", prepare_written, shrink, "disk.vmdk", 0, NULL},
   {"defragment", prepare_written, defragment, "disk.vmdk", 0, NULL},
   {"attach", prepare_renamed, attach, "child.vmdk", 0, NULL},
   {"long attach", prepare_long_delta, attach, "child.vmdk", 0, check_long_delta},
   {"long grow", prepare_long, grow_long, "disk.vmdk", 0, check_long},
};

/* False when the work ends before its Nth call. */
static int survives(VixDiskLibConnection c, const scenario *s, long n)
{
   clean_folder();
   s->prepare(c);
   shared->acknowledged = 0;
   shared->finished = 0;
   pid_t child = fork(); /* no thread of the library is running */
   CHECK(child >= 0);
   if (!child) {
      kill_at(n, s->check ? 3 : 2); /* disks that are checked more closely are torn in more places */
      s->act(c);
      shared->finished = 1;
      _exit(0);
   }
   int status;
   CHECK(waitpid(child, &status, 0) == child);
   CHECK(shared->finished || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
   if (s->writes) {
      apply_to_model(shared->acknowledged);
   }
   int under_way = s->writes && shared->acknowledged < WRITES;
   if (strcmp(s->name, "thin") && n % 2 == 0) { /* every second one only: each takes a process */
      check_image(s->disk);
   }
   check_content(c, s->disk, under_way ? &steps[shared->acknowledged] : NULL);
   if (s->check) {
      s->check(c);
   }
   int finished = shared->finished;
   if (s->writes && !finished) { /* another writer continues without a repair */
      s->act(c);
      apply_to_model(WRITES);
      check_content(c, s->disk, NULL);
      under_way = 0;
   }
   /* The only thing to repair: the redundant tables may be one write behind. */
   OK(VixDiskLib_CheckRepair(c, s->disk, 1));
   OK(VixDiskLib_CheckRepair(c, s->disk, 0));
   check_content(c, s->disk, under_way ? &steps[shared->acknowledged] : NULL);
   return finished;
}

static struct {
   VixDiskLibConnection c;
   VixDiskLibHandle first;
} late;

static void replace_and_close(void)
{
   VixDiskLibHandle second;
   OK(VixDiskLib_WriteMetadata(late.first, "adapterType", "a value that is longer than before"));
   CHECK(VixDiskLib_Open(late.c, "disk.vmdk", 0, &second) == VIX_E_FILE_ALREADY_LOCKED);
   OK(VixDiskLib_Close(late.first));
}

/* A second writer has the file open while the first puts another file in its place and ends. */
static void lock_of_a_replaced_file(VixDiskLibConnection c)
{
   char value[100];
   char key[40];
   struct stat before;
   struct stat after;
   clean_folder();
   base(c, VIXDISKLIB_DISK_VMFS_THIN);
   late.c = c;
   late.first = open_disk(c, "disk.vmdk", 0);
   for (int i = 0; i < 100; i++) {
      snprintf(key, sizeof key, "vreplica.key%d", i);
      OK(VixDiskLib_WriteMetadata(late.first, key, "one of many, so that there are two pages"));
   }
   CHECK(stat("disk.vmdk", &before) == 0);
   call_before_next_lock(replace_and_close);
   VixDiskLibHandle second = open_disk(c, "disk.vmdk", 0);
   CHECK(stat("disk.vmdk", &after) == 0 && after.st_ino != before.st_ino);
   OK(VixDiskLib_ReadMetadata(second, "adapterType", value, sizeof value, NULL));
   CHECK(!strcmp(value, "a value that is longer than before"));
   OK(VixDiskLib_Close(second));
}

int main(void)
{
   shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
   CHECK(shared != MAP_FAILED);
   OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL));
   VixDiskLibConnection c = local();
   for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
      long n = 0;
      while (!survives(c, &scenarios[i], n)) {
         n++;
      }
      printf("  %s: %ld ends\n", scenarios[i].name, n);
      CHECK(n >= 4);
   }
   lock_of_a_replaced_file(c);
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   return 0;
}
