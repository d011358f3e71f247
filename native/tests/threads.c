/*
 * Tests the library with many threads, for the thread sanitizer. Runs in a fresh folder.
 *
 *    threads [SECONDS]
 *
 * Each worker has a disk and what it must hold, and mixes all kinds of reads and writes on its handle,
 * calls on a handle whose requests run among them. Strangers open these disks meanwhile, and others
 * make, change and remove disks of their own. The library is begun and ended several times.
 */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CAPACITY 4096u /* sectors */
#define WORKERS 7u
#define OTHERS 3u
#define BEGUN 3 /* times the library is begun */
#define BATCH 12u
#define EACH 40u /* sectors of a piece or a request */
#define THUMBPRINT "AA:BB:CC:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:01"

typedef struct {
   const char *path;
   VixDiskLibDiskType type;
   const char *parent;
   bool lab; /* over a connection to the lab, which marks the change map */
   VixDiskLibConnection connection;
   VixDiskLibHandle disk;
   uint64_t seed;
   atomic_uint calls_back;
   uint8_t model[CAPACITY * 512];
   uint8_t buffer[BATCH * EACH * 512];
} worker;

static worker workers[WORKERS] = {
   {.path = "w0.vmdk", .type = VIXDISKLIB_DISK_MONOLITHIC_SPARSE},
   {.path = "w1.vmdk", .type = VIXDISKLIB_DISK_SPLIT_SPARSE},
   {.path = "w2.vmdk", .type = VIXDISKLIB_DISK_VMFS_THIN},
   {.path = "w3.vmdk", .type = VIXDISKLIB_DISK_MONOLITHIC_SPARSE, .parent = "base.vmdk"},
   {.path = "w4.vmdk", .type = VIXDISKLIB_DISK_VMFS_SPARSE, .parent = "base.vmdk"},
   {.path = "[ds1] vm/w5.vmdk", .type = VIXDISKLIB_DISK_VMFS_THIN, .lab = true},
   {.path = "[ds1] vm/w6.vmdk", .type = VIXDISKLIB_DISK_MONOLITHIC_SPARSE, .lab = true},
};
static VixDiskLibConnection here;
static uint8_t base[CAPACITY * 512];
static atomic_bool ended;
static atomic_ullong requests;

static VixDiskLibConnection connect_to_lab(void)
{
   VixDiskLibConnection c;
   VixDiskLibConnectParams *params = VixDiskLib_AllocateConnectParams();
   params->serverName = "vc-a.lab";
   params->port = 8443;
   params->credType = VIXDISKLIB_CRED_UID;
   params->creds.uid.userName = "root";
   params->creds.uid.password = "s3cret";
   params->thumbPrint = THUMBPRINT;
   params->vmxSpec = "moref=vm-7";
   OK(VixDiskLib_ConnectEx(params, 0, "snapshot-1", "file:nbdssl:nbd", &c));
   VixDiskLib_FreeConnectParams(params);
   return c;
}

/* A stranger may have the disk for a moment. */
static void open_own(worker *w)
{
   VixError err;
   do {
      err = VixDiskLib_Open(w->connection, w->path, 0, &w->disk);
   } while (err == VIX_E_FILE_ALREADY_LOCKED);
   OK(err);
}

static void ended_well(void *data, VixError result)
{
   CHECK(result == VIX_OK);
   atomic_fetch_add(&((worker *)data)->calls_back, 1);
}

/* Puts BATCH pieces in places of their own, and new content for them. */
static void plan(worker *w, vreplica_Piece pieces[BATCH])
{
   uint64_t room = CAPACITY / BATCH;
   for (unsigned i = 0; i < BATCH; i++) {
      uint64_t at = i * room + random_below(&w->seed, room - EACH);
      pieces[i] = (vreplica_Piece){at, 1 + random_below(&w->seed, EACH), w->buffer + i * EACH * 512};
      memset(pieces[i].buffer, (int)random_below(&w->seed, 3), pieces[i].numSectors * 512);
   }
}

/* What was written is what the disk holds; what was read is what it held. */
static void settle(worker *w, const vreplica_Piece pieces[BATCH], bool written)
{
   for (unsigned i = 0; i < BATCH; i++) {
      uint8_t *held = w->model + pieces[i].startSector * 512;
      size_t bytes = pieces[i].numSectors * 512;
      if (written) {
         memcpy(held, pieces[i].buffer, bytes);
      } else {
         CHECK(!memcmp(held, pieces[i].buffer, bytes));
      }
   }
}

/* Other calls on the handle while requests of it run. */
static void disturb(worker *w)
{
   VixDiskLibBlockList *list;
   VixDiskLibInfo *info;
   char text[100];
   switch (random_below(&w->seed, 6)) {
   case 0:
      OK(VixDiskLib_Flush(w->disk));
      break;
   case 1:
      OK(VixDiskLib_QueryAllocatedBlocks(w->disk, 0, CAPACITY, 128, &list));
      OK(VixDiskLib_FreeBlockList(list));
      break;
   case 2:
      OK(VixDiskLib_GetInfo(w->disk, &info));
      VixDiskLib_FreeInfo(info);
      break;
   case 3:
      OK(VixDiskLib_WriteMetadata(w->disk, "uuid", "60 00 c2 9a 00 00 00 00-00 00 00 00 00 00 00 01"));
      break;
   case 4:
      OK(VixDiskLib_ReadMetadata(w->disk, "uuid", text, sizeof text, NULL));
      break;
   default:
      CHECK(VixDiskLib_GetTransportMode(w->disk));
      break;
   }
}

static void at_once(worker *w, bool write)
{
   vreplica_Piece pieces[BATCH];
   plan(w, pieces);
   atomic_store(&w->calls_back, 0);
   for (unsigned i = 0; i < BATCH; i++) {
      const vreplica_Piece *p = &pieces[i];
      GIVES(VIX_ASYNC, write ? VixDiskLib_WriteAsync(w->disk, p->startSector, p->numSectors, p->buffer,
                                  ended_well, w)
                             : VixDiskLib_ReadAsync(w->disk, p->startSector, p->numSectors, p->buffer,
                                  ended_well, w));
      if (random_below(&w->seed, 4) == 0) {
         disturb(w);
      }
   }
   if (random_below(&w->seed, 8) == 0) {
      OK(VixDiskLib_Close(w->disk)); /* it waits, too */
      open_own(w);
   } else {
      OK(VixDiskLib_Wait(w->disk));
   }
   CHECK(atomic_load(&w->calls_back) == BATCH);
   settle(w, pieces, write);
}

static void in_one_call(worker *w, bool write)
{
   vreplica_Piece pieces[BATCH];
   size_t done;
   plan(w, pieces);
   OK((write ? vreplica_WriteMany : vreplica_ReadMany)(w->disk, pieces, BATCH, &done));
   CHECK(done == BATCH);
   settle(w, pieces, write);
}

static void one_by_one(worker *w, bool write)
{
   vreplica_Piece pieces[BATCH];
   plan(w, pieces);
   for (unsigned i = 0; i < BATCH; i++) {
      const vreplica_Piece *p = &pieces[i];
      OK(write ? VixDiskLib_Write(w->disk, p->startSector, p->numSectors, p->buffer)
               : VixDiskLib_Read(w->disk, p->startSector, p->numSectors, p->buffer));
   }
   settle(w, pieces, write);
}

static void *work(void *data)
{
   static void (*const kinds[])(worker *, bool) = {at_once, in_one_call, one_by_one};
   worker *w = data;
   open_own(w);
   while (!atomic_load(&ended)) {
      kinds[random_below(&w->seed, 3)](w, random_below(&w->seed, 2));
      atomic_fetch_add(&requests, BATCH);
   }
   for (uint64_t at = 0; at < CAPACITY; at += 64) {
      OK(VixDiskLib_Read(w->disk, at, 64, w->buffer));
      CHECK(!memcmp(w->model + at * 512, w->buffer, (size_t)64 * 512));
   }
   OK(VixDiskLib_Close(w->disk));
   return NULL;
}

/* Opens the disks of the workers; it is refused, or has one while its worker opens it again. */
static void *intrude(void *data)
{
   static _Thread_local uint8_t sectors[64 * 512];
   uint64_t seed = (uint64_t)(uintptr_t)data + 99;
   VixDiskLibConnection lab = connect_to_lab();
   while (!atomic_load(&ended)) {
      const worker *w = &workers[random_below(&seed, WORKERS)];
      VixDiskLibConnection c = w->lab ? lab : here;
      VixDiskLibHandle h;
      uint32_t flags = random_below(&seed, 2) ? VIXDISKLIB_FLAG_OPEN_READ_ONLY : 0;
      VixError err = VixDiskLib_Open(c, w->path, flags, &h);
      if (err == VIX_OK && flags) {
         VixDiskLib_Read(h, random_below(&seed, CAPACITY - 64), 64, sectors); /* any content */
         VixDiskLib_CreateChild(h, "never.vmdk", VIXDISKLIB_DISK_UNKNOWN, NULL, NULL);
      }
      if (err == VIX_OK) {
         OK(VixDiskLib_Close(h));
      }
      CHECK(flags || err == VIX_OK || err == VIX_E_FILE_ALREADY_LOCKED);
      OK(VixDiskLib_Open(here, "base.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h));
      OK(VixDiskLib_Read(h, 0, 64, sectors));
      CHECK(!memcmp(sectors, base, sizeof sectors));
      OK(VixDiskLib_Close(h));
   }
   OK(VixDiskLib_Disconnect(lab));
   return NULL;
}

/* Does with disks of its own what a disk allows. */
static void *make_and_remove(void *data)
{
   unsigned number = (unsigned)(uintptr_t)data;
   char disk[40];
   char child[40];
   char copy[40];
   snprintf(disk, sizeof disk, "m%u.vmdk", number);
   snprintf(child, sizeof child, "m%u-child.vmdk", number);
   snprintf(copy, sizeof copy, "m%u-copy.vmdk", number);
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_STREAM_OPTIMIZED};
   while (!atomic_load(&ended)) {
      VixDiskLibConnection c = local();
      make(c, disk, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, 1000);
      VixDiskLibHandle parent = open_disk(c, disk, 0);
      OK(VixDiskLib_Write(parent, 0, 300, base));
      OK(VixDiskLib_CreateChild(parent, child, VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
      VixDiskLibHandle leaf = open_disk(c, child, VIXDISKLIB_FLAG_OPEN_SINGLE_LINK);
      OK(VixDiskLib_Attach(parent, leaf));
      OK(VixDiskLib_Write(leaf, 200, 300, base));
      OK(VixDiskLib_Close(leaf));
      OK(VixDiskLib_Clone(c, copy, c, child, &params, NULL, NULL, 1));
      OK(VixDiskLib_Unlink(c, child));
      OK(VixDiskLib_Grow(c, disk, 2000, 1, NULL, NULL));
      leaf = open_disk(c, disk, 0);
      OK(VixDiskLib_Shrink(leaf, NULL, NULL));
      OK(VixDiskLib_Defragment(leaf, NULL, NULL));
      OK(VixDiskLib_Close(leaf));
      OK(VixDiskLib_CheckRepair(c, disk, 1));
      OK(VixDiskLib_Rename(disk, child));
      OK(VixDiskLib_Unlink(c, child));
      VixDiskLib_FreeErrorText(VixDiskLib_GetErrorText(VIX_E_DISK_FULL, NULL));
      CHECK(VixDiskLib_ListTransportModes());
      OK(VixDiskLib_Disconnect(c));
      atomic_fetch_add(&requests, 16);
   }
   OK(VixDiskLib_Unlink(here, copy));
   return NULL;
}

/* Loggers of programs are often not safe for threads: the library calls one at a time. */
static unsigned messages;

static void note(const char *fmt, va_list args)
{
   (void)fmt;
   (void)args;
   messages++;
}

static void write_file(const char *path, const char *text)
{
   FILE *f = fopen(path, "w");
   CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void make_lab(void)
{
   char root[500];
   char text[2000];
   CHECK(getcwd(root, sizeof root) && mkdir("store", 0777) == 0 && mkdir("store/vm", 0777) == 0);
   snprintf(text, sizeof text, "vreplica.lab.root = %s\n", root);
   write_file("lab.conf", text);
   snprintf(text, sizeof text,
      "vcenter\tvc-a.lab\t8443\t" THUMBPRINT "\troot\ts3cret\n"
      "datastore\tvc-a.lab\t8443\tds1\t%s/store\n", root);
   write_file("hosts.map", text);
   write_file("store.host", "capacity 1000000000000 track 1\n");
}

static void make_disks(void)
{
   uint64_t seed = 5;
   make(here, "base.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, CAPACITY);
   random_fill(&seed, base, sizeof base / 2);
   VixDiskLibHandle parent = open_disk(here, "base.vmdk", 0);
   OK(VixDiskLib_Write(parent, 0, CAPACITY, base));
   for (unsigned i = 0; i < WORKERS; i++) {
      worker *w = &workers[i];
      char path[100];
      w->seed = 7 + i;
      if (w->parent) {
         memcpy(w->model, base, sizeof base);
         OK(VixDiskLib_CreateChild(parent, w->path, w->type, NULL, NULL));
      } else {
         snprintf(path, sizeof path, "%s%s", w->lab ? "store/" : "", w->path + (w->lab ? 6 : 0));
         make(here, path, w->type, CAPACITY);
      }
   }
   OK(VixDiskLib_Close(parent));
}

/* Works until `until`, from the start of the library to its end. */
static void once(time_t until)
{
   pthread_t threads[WORKERS + OTHERS];
   OK(VixDiskLib_InitEx(8, 0, note, note, NULL, NULL, "lab.conf"));
   here = local();
   if (access("base.vmdk", F_OK)) {
      make_disks();
   }
   atomic_store(&ended, false);
   for (unsigned i = 0; i < WORKERS; i++) {
      workers[i].connection = workers[i].lab ? connect_to_lab() : here;
      CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
   }
   for (unsigned i = 0; i < OTHERS; i++) {
      void *number = (void *)(uintptr_t)i;
      CHECK(pthread_create(&threads[WORKERS + i], NULL, i ? make_and_remove : intrude, number) == 0);
   }
   do {
      usleep(50000);
   } while (time(NULL) < until);
   atomic_store(&ended, true);
   for (unsigned i = 0; i < WORKERS + OTHERS; i++) {
      CHECK(pthread_join(threads[i], NULL) == 0);
   }
   for (unsigned i = 0; i < WORKERS; i++) {
      if (workers[i].lab) {
         OK(VixDiskLib_Disconnect(workers[i].connection));
      } else {
         OK(VixDiskLib_CheckRepair(here, workers[i].path, 0));
      }
   }
   OK(VixDiskLib_Disconnect(here));
   VixDiskLib_Exit();
}

int main(int argc, char **argv)
{
   long seconds = argc > 1 ? atol(argv[1]) : 3;
   time_t start = time(NULL);
   make_lab();
   for (int i = 1; i <= BEGUN; i++) {
      once(start + seconds * i / BEGUN);
   }
   printf("%llu requests in %lld seconds\n", (unsigned long long)atomic_load(&requests),
      (long long)(time(NULL) - start));
   return 0;
}
