/*
 * Times the threads of the library beside io_uring on one file. From the root of the repository:
 *
 *    cc -O2 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Inative/include -Inative/src -o /tmp/uring \
 *       benchmarks/native/uring.c $(find native/src -name '*.c') -lpthread -ldl
 *    /tmp/uring EMPTY-FOLDER
 *
 * Reads and overwrites a warm flat disk of 512 MiB, requests in one shuffled order, a fixed number
 * of them in flight: by ReadAsync and WriteAsync, and by plain io_uring on the file of the extent.
 * So the io_uring side is the best that a library with io_uring could reach.
 */
#include <vixDiskLib.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIZE (512u << 20)
#define DEPTH_MAX 32u
#define REQUEST_MAX (1u << 20)
#define ROUNDS 7

static uint8_t buffers[DEPTH_MAX][REQUEST_MAX];
static unsigned order[SIZE / 65536];

static void check(int good, const char *what)
{
   if (!good) {
      fprintf(stderr, "%s: %s\n", what, strerror(errno));
      exit(1);
   }
}

static double now(void)
{
   struct timespec t;
   clock_gettime(CLOCK_MONOTONIC, &t);
   return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void shuffle(unsigned count)
{
   srandom(1);
   for (unsigned i = 0; i < count; i++) {
      unsigned other = (unsigned)random() % (i + 1);
      order[i] = order[other];
      order[other] = i;
   }
}

/* The library */

static void one_done(void *slots, VixError result)
{
   check(result == VIX_OK, "request");
   sem_post(slots);
}

static double time_library(VixDiskLibHandle h, int write, unsigned bytes, unsigned depth)
{
   sem_t slots;
   sem_init(&slots, 0, depth);
   double start = now();
   for (unsigned i = 0; i < SIZE / bytes; i++) {
      sem_wait(&slots); /* any free one: all buffers hold the same */
      uint64_t sector = (uint64_t)order[i] * bytes / 512;
      uint8_t *buffer = buffers[i % depth];
      VixError err = write ? VixDiskLib_WriteAsync(h, sector, bytes / 512, buffer, one_done, &slots)
                           : VixDiskLib_ReadAsync(h, sector, bytes / 512, buffer, one_done, &slots);
      check(err == VIX_ASYNC, "submit");
   }
   VixDiskLib_Wait(h);
   double took = now() - start;
   sem_destroy(&slots);
   return took;
}

/* io_uring by its system calls, as in its manual pages */

typedef struct {
   int fd;
   struct io_uring_params p;
   uint8_t *rings;
   struct io_uring_sqe *entries;
} ring;

static void ring_open(ring *r)
{
   memset(r, 0, sizeof *r);
   r->fd = (int)syscall(__NR_io_uring_setup, DEPTH_MAX, &r->p);
   check(r->fd >= 0, "io_uring_setup");
   check(r->p.features & IORING_FEAT_SINGLE_MMAP, "a kernel before 5.4");
   size_t bytes = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
   size_t other = r->p.sq_off.array + r->p.sq_entries * sizeof(unsigned);
   r->rings = mmap(NULL, bytes > other ? bytes : other, PROT_READ | PROT_WRITE,
      MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
   r->entries = mmap(NULL, r->p.sq_entries * sizeof *r->entries, PROT_READ | PROT_WRITE,
      MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
   check(r->rings != MAP_FAILED && r->entries != MAP_FAILED, "mmap");
}

static double time_uring(const ring *r, int fd, int write, unsigned bytes, unsigned depth)
{
   unsigned *tail = (unsigned *)(r->rings + r->p.sq_off.tail);
   unsigned *array = (unsigned *)(r->rings + r->p.sq_off.array);
   unsigned *head = (unsigned *)(r->rings + r->p.cq_off.head);
   unsigned *done_tail = (unsigned *)(r->rings + r->p.cq_off.tail);
   struct io_uring_cqe *done = (struct io_uring_cqe *)(r->rings + r->p.cq_off.cqes);
   unsigned mask = r->p.sq_entries - 1;
   unsigned requests = SIZE / bytes;
   unsigned sent = 0;
   double start = now();
   for (unsigned finished = 0; finished < requests;) {
      unsigned fresh = 0;
      for (; sent < requests && sent - finished < depth; sent++, fresh++) {
         unsigned slot = *tail & mask;
         r->entries[slot] = (struct io_uring_sqe){.opcode = write ? IORING_OP_WRITE : IORING_OP_READ,
            .fd = fd, .addr = (uintptr_t)buffers[sent % depth], .len = bytes,
            .off = (uint64_t)order[sent] * bytes};
         array[slot] = slot;
         __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
      }
      check(syscall(__NR_io_uring_enter, r->fd, fresh, 1, IORING_ENTER_GETEVENTS, NULL, 0)
            == (long)fresh, "io_uring_enter");
      for (unsigned end = __atomic_load_n(done_tail, __ATOMIC_ACQUIRE); *head != end; finished++) {
         errno = 0;
         check(done[*head & (r->p.cq_entries - 1)].res == (int)bytes, "completion");
         __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
      }
   }
   return now() - start;
}

static int by_value(const void *a, const void *b)
{
   double x = *(const double *)a;
   double y = *(const double *)b;
   return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
   VixDiskLibConnection connection;
   VixDiskLibHandle h;
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_MONOLITHIC_FLAT,
      .adapterType = VIXDISKLIB_ADAPTER_SCSI_LSILOGIC, .capacity = SIZE / 512};
   check(argc == 2 && chdir(argv[1]) == 0, "usage: uring EMPTY-FOLDER");
   ring r;
   ring_open(&r);
   check(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL) == VIX_OK
         && VixDiskLib_ConnectEx(NULL, 0, NULL, NULL, &connection) == VIX_OK
         && VixDiskLib_Create(connection, "disk.vmdk", &params, NULL, NULL) == VIX_OK
         && VixDiskLib_Open(connection, "disk.vmdk", 0, &h) == VIX_OK, "disk");
   memset(buffers, 7, sizeof buffers);
   int fd = open("disk-flat.vmdk", O_RDWR);
   check(fd >= 0, "open");
   shuffle(SIZE / REQUEST_MAX);
   time_library(h, 1, REQUEST_MAX, 1); /* allocates and warms */
   printf("%u MiB, medians of %d, MiB/s\n          request depth  library io_uring\n", SIZE >> 20, ROUNDS);
   for (int write = 0; write < 2; write++) {
      for (unsigned bytes = 65536; bytes <= REQUEST_MAX; bytes *= 16) {
         shuffle(SIZE / bytes);
         for (unsigned depth = 1; depth <= DEPTH_MAX; depth = depth == 1 ? 8 : depth * 4) {
            double library[ROUNDS];
            double uring[ROUNDS];
            for (int i = 0; i < ROUNDS; i++) {
               library[i] = time_library(h, write, bytes, depth);
               uring[i] = time_uring(&r, fd, write, bytes, depth);
            }
            qsort(library, ROUNDS, sizeof *library, by_value);
            qsort(uring, ROUNDS, sizeof *uring, by_value);
            printf("%s %7u KiB %5u %8.0f %8.0f   %.2f x\n", write ? "write" : "read ", bytes >> 10,
               depth, (SIZE >> 20) / library[ROUNDS / 2], (SIZE >> 20) / uring[ROUNDS / 2],
               library[ROUNDS / 2] / uring[ROUNDS / 2]);
         }
      }
   }
   VixDiskLib_Close(h);
   return 0;
}
