/* Measures the least that a machine needs for the same work: plain loops over a list of extents.
 *
 *    floor copy   SOURCE TARGET EXTENTS [sync]    pread, pwrite; then fdatasync
 *    floor memcmp SOURCE TARGET EXTENTS           pread both, memcmp
 *
 * EXTENTS is a text file of "start end" lines in bytes. Prints seconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1u << 20)

static double now(void)
{
   struct timespec t;
   clock_gettime(CLOCK_MONOTONIC, &t);
   return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
   perror(what);
   exit(1);
}

static void whole_read(int fd, char *buf, size_t bytes, off_t at)
{
   if (pread(fd, buf, bytes, at) != (ssize_t)bytes) {
      fail("read");
   }
}

int main(int argc, char **argv)
{
   if (argc < 5) {
      fprintf(stderr, "floor copy|memcmp SOURCE TARGET EXTENTS [sync]\n");
      return 2;
   }
   int copy = strcmp(argv[1], "copy") == 0;
   int source = open(argv[2], O_RDONLY);
   int target = open(argv[3], copy ? O_RDWR : O_RDONLY);
   FILE *extents = fopen(argv[4], "r");
   char *a = aligned_alloc(4096, PIECE);
   char *b = aligned_alloc(4096, PIECE);
   if (source < 0 || target < 0 || !extents || !a || !b) {
      fail("open");
   }
   double start = now();
   long long from;
   long long to;
   long different = 0;
   while (fscanf(extents, "%lld %lld", &from, &to) == 2) {
      while (from < to) {
         size_t bytes = to - from < PIECE ? (size_t)(to - from) : PIECE;
         whole_read(source, a, bytes, from);
         if (copy) {
            if (pwrite(target, a, bytes, from) != (ssize_t)bytes) {
               fail("write");
            }
         } else {
            whole_read(target, b, bytes, from);
            different += memcmp(a, b, bytes) != 0;
         }
         from += (long long)bytes;
      }
   }
   if (argc > 5 && fdatasync(target) != 0) {
      fail("fdatasync");
   }
   printf("{\"engine_s\": %.6f, \"different\": %ld}\n", now() - start, different);
   return 0;
}
