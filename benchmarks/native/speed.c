/*
 * Times the native library beside the system calls below it. Usage: speed FOLDER
 *
 * Makes a sparse disk of 4 GiB with 40 % allocated, in runs of 1 MiB at random places. With a warm
 * cache it times: pread of the allocated bytes, alone and with memset for the holes (the least work
 * of any reader); VixDiskLib_Read of the whole disk; QueryAllocatedBlocks of it and of an empty disk
 * of 62 TiB; a sparse copy of it by qemu-img convert and by VixDiskLib_Clone.
 */
#include <vixDiskLib.h>

#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SIZE_MIB 4096u
#define USED_MIB (SIZE_MIB * 2 / 5)
#define LARGE_SECTORS (62ull << 31)
#define ROUNDS_MAX 9

static void ok(VixError err, const char *what)
{
   if (err != VIX_OK) {
      fprintf(stderr, "%s: error %llu\n", what, (unsigned long long)err);
      exit(1);
   }
}

static double now(void)
{
   struct timespec t;
   clock_gettime(CLOCK_MONOTONIC, &t);
   return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint8_t buffer[MIB];
static uint8_t chosen[SIZE_MIB]; /* the allocated MiB */
static VixDiskLibConnection connection;

static void make_disk(const char *path)
{
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE,
      .adapterType = VIXDISKLIB_ADAPTER_SCSI_LSILOGIC, .capacity = SIZE_MIB * MIB / 512};
   VixDiskLibHandle h;
   ok(VixDiskLib_Create(connection, path, &params, NULL, NULL), "create");
   ok(VixDiskLib_Open(connection, path, 0, &h), "open");
   srandom(1);
   for (unsigned left = USED_MIB; left;) {
      unsigned at = (unsigned)random() % SIZE_MIB;
      left -= !chosen[at];
      chosen[at] = 1;
   }
   for (size_t i = 0; i < sizeof buffer; i++) {
      buffer[i] = (uint8_t)random();
   }
   for (unsigned i = 0; i < SIZE_MIB; i++) {
      if (chosen[i]) {
         ok(VixDiskLib_Write(h, i * MIB / 512, MIB / 512, buffer), "write");
      }
   }
   ok(VixDiskLib_Close(h), "close");
}

static double time_pread(const char *path, int holes)
{
   int fd = open(path, O_RDONLY);
   off_t at = lseek(fd, 0, SEEK_END) - (off_t)(USED_MIB * MIB); /* the grains are the file's end */
   double start = now();
   for (unsigned i = 0; i < SIZE_MIB; i++) {
      if (chosen[i] && pread(fd, buffer, MIB, at) != (ssize_t)MIB) {
         ok(VIX_E_FILE_ERROR, "pread");
      }
      if (!chosen[i] && holes) {
         memset(buffer, 0, MIB);
         __asm__ volatile("" ::: "memory"); /* keep it, although nothing reads it */
      }
      at += chosen[i] ? (off_t)MIB : 0;
   }
   double took = now() - start;
   close(fd);
   return took;
}

static double time_read(const char *path)
{
   VixDiskLibHandle h;
   double start = now();
   ok(VixDiskLib_Open(connection, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h), "open");
   for (unsigned i = 0; i < SIZE_MIB; i++) {
      ok(VixDiskLib_Read(h, i * MIB / 512, MIB / 512, buffer), "read");
   }
   ok(VixDiskLib_Close(h), "close");
   return now() - start;
}

#define IN_FLIGHT 8u

static void one_done(void *slots, VixError result)
{
   ok(result, "ReadAsync");
   sem_post(slots);
}

/* Several threads of the library read the requests of one handle, each into its own buffer. They end
 * in any order, so a slot may be filled twice, which does not matter in a benchmark. */
static double time_async(const char *path)
{
   static uint8_t buffers[IN_FLIGHT][MIB];
   VixDiskLibHandle h;
   sem_t slots;
   sem_init(&slots, 0, IN_FLIGHT);
   double start = now();
   ok(VixDiskLib_Open(connection, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h), "open");
   for (unsigned i = 0; i < SIZE_MIB; i++) {
      sem_wait(&slots);
      VixError err = VixDiskLib_ReadAsync(h, i * MIB / 512, MIB / 512, buffers[i % IN_FLIGHT],
         one_done, &slots);
      ok(err == VIX_ASYNC ? VIX_OK : err, "ReadAsync");
   }
   ok(VixDiskLib_Wait(h), "wait");
   ok(VixDiskLib_Close(h), "close");
   double took = now() - start;
   sem_destroy(&slots);
   return took;
}

static double time_blocks(const char *path)
{
   VixDiskLibHandle h;
   VixDiskLibInfo *info;
   double start = now();
   ok(VixDiskLib_Open(connection, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h), "open");
   ok(VixDiskLib_GetInfo(h, &info), "info");
   uint64_t most = 128ull * VIXDISKLIB_MAX_CHUNK_NUMBER; /* in one call */
   for (uint64_t at = 0; at < info->capacity; at += most) {
      uint64_t rest = info->capacity - at;
      VixDiskLibBlockList *list;
      ok(VixDiskLib_QueryAllocatedBlocks(h, at, rest < most ? rest : most, 128, &list), "query");
      ok(VixDiskLib_FreeBlockList(list), "free");
   }
   VixDiskLib_FreeInfo(info);
   ok(VixDiskLib_Close(h), "close");
   return now() - start;
}

static double time_clone(const char *from, const char *to)
{
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE,
      .adapterType = VIXDISKLIB_ADAPTER_SCSI_LSILOGIC};
   unlink(to);
   double start = now();
   ok(VixDiskLib_Clone(connection, to, connection, from, &params, NULL, NULL, 0), "clone");
   return now() - start;
}

static double time_command(const char *command, const char *to)
{
   unlink(to);
   double start = now();
   if (system(command) != 0) {
      fprintf(stderr, "%s failed\n", command);
      exit(1);
   }
   return now() - start;
}

/* CPU seconds of this process and of the commands that it ran. */
static double cpu(void)
{
   double total = 0;
   const int who[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
   for (int i = 0; i < 2; i++) {
      struct rusage use;
      getrusage(who[i], &use);
      total += (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec)
         + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
   }
   return total;
}

typedef struct {
   const char *name;
   unsigned rounds;
   double wall[ROUNDS_MAX];
   double cpu[ROUNDS_MAX];
} result;

/* On a busy machine wall clock times grow more than CPU times. */
#define TIME(r, label, call) \
   do { \
      double cpu_before_ = cpu(); \
      (r)->wall[(r)->rounds] = (call); \
      (r)->cpu[(r)->rounds++] = cpu() - cpu_before_; \
      (r)->name = (label); \
   } while (0)

static int by_value(const void *a, const void *b)
{
   double x = *(const double *)a;
   double y = *(const double *)b;
   return (x > y) - (x < y);
}

static double median(double *times, unsigned count)
{
   qsort(times, count, sizeof *times, by_value);
   return times[count / 2];
}

static void print(result *r, result *against)
{
   double wall = median(r->wall, r->rounds);
   printf("%-42s %7.3f s (best %.3f) %7.3f s CPU", r->name, wall, r->wall[0],
      median(r->cpu, r->rounds));
   if (against) {
      printf("   %.2f x", wall / median(against->wall, against->rounds));
   }
   printf("\n");
}

int main(int argc, char **argv)
{
   result pread_ = {0}, floor_ = {0}, read_ = {0}, async_ = {0}, blocks = {0}, large = {0};
   result clone_ = {0}, convert = {0}, parallel = {0};
   if (argc != 2 || chdir(argv[1]) != 0) {
      fprintf(stderr, "usage: speed FOLDER\n");
      return 2;
   }
   ok(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL), "init");
   ok(VixDiskLib_ConnectEx(NULL, 0, NULL, NULL, &connection), "connect");
   make_disk("source.vmdk");
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE,
      .adapterType = VIXDISKLIB_ADAPTER_SCSI_LSILOGIC, .capacity = LARGE_SECTORS};
   ok(VixDiskLib_Create(connection, "large.vmdk", &params, NULL, NULL), "create");
   for (int i = 0; i < ROUNDS_MAX; i++) {
      TIME(&pread_, "pread of what is allocated", time_pread("source.vmdk", 0));
      TIME(&floor_, "the same, memset where holes are", time_pread("source.vmdk", 1));
      TIME(&read_, "VixDiskLib_Read of all, holes too", time_read("source.vmdk"));
      TIME(&async_, "VixDiskLib_ReadAsync of all, 8 in flight", time_async("source.vmdk"));
      TIME(&blocks, "QueryAllocatedBlocks of all", time_blocks("source.vmdk"));
      TIME(&large, "QueryAllocatedBlocks of 62 TiB, empty", time_blocks("large.vmdk"));
   }
   struct rusage use;
   getrusage(RUSAGE_SELF, &use);
   for (int i = 0; i < 5; i++) {
      sync(); /* what qemu-img left to store must not slow down the next copy */
      TIME(&convert, "qemu-img convert",
         time_command("qemu-img convert -f vmdk -O vmdk source.vmdk converted.vmdk", "converted.vmdk"));
      sync();
      TIME(&parallel, "qemu-img convert -W -m 16",
         time_command("qemu-img convert -W -m 16 -f vmdk -O vmdk source.vmdk converted.vmdk",
            "converted.vmdk"));
      sync();
      TIME(&clone_, "VixDiskLib_Clone", time_clone("source.vmdk", "clone.vmdk"));
   }
   printf("%u MiB, %u MiB allocated; medians of %u and of %u\n", SIZE_MIB, USED_MIB, read_.rounds,
      clone_.rounds);
   print(&pread_, NULL);
   print(&floor_, &pread_);
   print(&read_, &pread_);
   print(&async_, &pread_);
   print(&blocks, NULL);
   print(&large, NULL);
   print(&convert, NULL);
   print(&parallel, &convert);
   print(&clone_, &convert);
   printf("peak memory before the copies %ld KiB\n", use.ru_maxrss);
   return system("qemu-img compare -q source.vmdk clone.vmdk") == 0 ? 0 : 1;
}
