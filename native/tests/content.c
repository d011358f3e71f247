/* Tests that a disk reads as it was written, in every form, through chains, by sync and async
 * calls. Runs in a fresh folder. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { CAPACITY = 70001, MODEL_BYTES = CAPACITY * 512, BUFFER = 3000 };

static uint8_t *model;
static uint8_t buffer[BUFFER * 512];
static uint64_t seed = 20240607;

static void churn(VixDiskLibHandle h, int writes)
{
   for (int i = 0; i < writes; i++) {
      uint64_t sectors = 1 + random_below(&seed, i % 3 ? 300 : BUFFER - 1);
      uint64_t at = random_below(&seed, CAPACITY - sectors);
      if (i % 4 == 0) {
         at = at / 128 * 128;
      }
      if (i % 5 == 0) {
         memset(buffer, 0, sectors * 512);
      } else {
         random_fill(&seed, buffer, sectors * 512);
      }
      OK(VixDiskLib_Write(h, at, sectors, buffer));
      memcpy(model + at * 512, buffer, sectors * 512);
   }
}

static void compare(VixDiskLibHandle h)
{
   for (uint64_t at = 0; at < CAPACITY; at += BUFFER) {
      uint64_t sectors = CAPACITY - at < BUFFER ? CAPACITY - at : BUFFER;
      memset(buffer, 0xee, sizeof buffer);
      OK(VixDiskLib_Read(h, at, sectors, buffer));
      CHECK(!memcmp(buffer, model + at * 512, sectors * 512));
   }
}

static void check_allocated(VixDiskLibHandle h)
{
   VixDiskLibBlockList *list;
   OK(VixDiskLib_QueryAllocatedBlocks(h, 0, (CAPACITY + 127) / 128 * 128, 128, &list));
   uint64_t at = 0;
   for (uint32_t i = 0; i <= list->numBlocks; i++) {
      uint64_t end = i < list->numBlocks ? list->blocks[i].offset : CAPACITY;
      CHECK(end >= at && (i == 0 || i == list->numBlocks || end > at));
      for (; at < end; at++) {
         CHECK(!model[at * 512] && !memcmp(model + at * 512, model + at * 512 + 1, 511));
      }
      at = i < list->numBlocks ? end + list->blocks[i].length : at;
   }
   CHECK(at == CAPACITY);
   OK(VixDiskLib_FreeBlockList(list));
}

typedef struct {
   pthread_mutex_t lock;
   int calls;
   VixError worst;
} tally;

static void count_call(void *data, VixError result)
{
   tally *t = data;
   pthread_mutex_lock(&t->lock);
   t->calls++;
   if (result != VIX_OK) {
      t->worst = result;
   }
   pthread_mutex_unlock(&t->lock);
}

static void async(VixDiskLibHandle h)
{
   enum { REQUESTS = 64, EACH = 40 };
   tally t = {PTHREAD_MUTEX_INITIALIZER, 0, VIX_OK};
   random_fill(&seed, buffer, REQUESTS * EACH * 512);
   memcpy(model + 5000 * 512, buffer, REQUESTS * EACH * 512);
   for (int i = 0; i < REQUESTS; i++) {
      GIVES(VIX_ASYNC, VixDiskLib_WriteAsync(h, 5000 + i * EACH, EACH, buffer + i * EACH * 512,
         count_call, &t));
   }
   OK(VixDiskLib_Wait(h));
   CHECK(t.calls == REQUESTS && t.worst == VIX_OK);
   memset(buffer, 0, REQUESTS * EACH * 512);
   for (int i = 0; i < REQUESTS; i++) {
      GIVES(VIX_ASYNC, VixDiskLib_ReadAsync(h, 5000 + i * EACH, EACH, buffer + i * EACH * 512,
         count_call, &t));
   }
   GIVES(VIX_E_DISK_OUTOFRANGE, VixDiskLib_ReadAsync(h, CAPACITY, 1, buffer, count_call, &t));
   OK(VixDiskLib_Wait(h));
   CHECK(t.calls == 2 * REQUESTS && t.worst == VIX_OK);
   CHECK(!memcmp(buffer, model + 5000 * 512, REQUESTS * EACH * 512));
}

static void many(VixDiskLibHandle h)
{
   enum { PIECES = 10, EACH = 40 };
   vreplica_Piece pieces[PIECES + 1];
   size_t done;
   random_fill(&seed, buffer, PIECES * EACH * 512);
   for (int i = 0; i < PIECES; i++) {
      uint64_t at = 9000 + (uint64_t)(PIECES - i) * 2 * EACH;
      pieces[i] = (vreplica_Piece){at, EACH, buffer + i * EACH * 512};
      memcpy(model + at * 512, pieces[i].buffer, EACH * 512);
   }
   OK(vreplica_WriteMany(h, pieces, PIECES, &done));
   CHECK(done == PIECES);
   memset(buffer, 0, PIECES * EACH * 512);
   pieces[PIECES] = (vreplica_Piece){CAPACITY, 1, buffer};
   GIVES(VIX_E_DISK_OUTOFRANGE, vreplica_ReadMany(h, pieces, PIECES + 1, &done));
   CHECK(done == PIECES);
   for (int i = 0; i < PIECES; i++) {
      CHECK(!memcmp(pieces[i].buffer, model + pieces[i].startSector * 512, EACH * 512));
   }
   GIVES(VIX_E_DISK_OUTOFRANGE, vreplica_WriteMany(h, pieces + PIECES, 1, &done));
   CHECK(done == 0);
}

static void one_form(VixDiskLibConnection c, VixDiskLibDiskType type)
{
   char path[64];
   char child[64];
   memset(model, 0, MODEL_BYTES);
   snprintf(path, sizeof path, "content-%d.vmdk", type);
   make(c, path, type, CAPACITY);
   VixDiskLibHandle h = open_disk(c, path, 0);
   churn(h, 40);
   compare(h);
   check_allocated(h);
   async(h);
   many(h);
   OK(VixDiskLib_Flush(h));
   compare(h);
   for (int depth = 1; depth <= 4; depth++) {
      snprintf(child, sizeof child, "content-%d-%06d.vmdk", type, depth);
      OK(VixDiskLib_CreateChild(h, child, depth % 2 ? VIXDISKLIB_DISK_MONOLITHIC_SPARSE
                                                    : VIXDISKLIB_DISK_SPLIT_SPARSE, NULL, NULL));
      OK(VixDiskLib_Close(h));
      h = open_disk(c, child, 0);
      VixDiskLibInfo *info;
      OK(VixDiskLib_GetInfo(h, &info));
      CHECK(info->numLinks == depth + 1 && info->capacity == CAPACITY && info->parentFileNameHint);
      VixDiskLib_FreeInfo(info);
      compare(h);
      churn(h, 20);
      compare(h);
      check_allocated(h);
   }
   OK(VixDiskLib_Close(h));
   h = open_disk(c, child, VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   compare(h);
   OK(VixDiskLib_Close(h));
}

/* Other writers may make tables of less than a sector; the second one is added among the grains. */
static void small_tables(VixDiskLibConnection c)
{
   enum { SMALL = 64, ENTRIES_AT = 44, FIRST = SMALL * 128, SECTORS = FIRST + 1000 };
   uint32_t entries = SMALL;
   make(c, "small.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, SECTORS);
   int fd = open("small.vmdk", O_WRONLY);
   CHECK(fd >= 0 && pwrite(fd, &entries, 4, ENTRIES_AT) == 4 && close(fd) == 0);
   VixDiskLibHandle h = open_disk(c, "small.vmdk", 0);
   random_fill(&seed, model, SECTORS * 512);
   OK(VixDiskLib_Write(h, 0, FIRST, model));
   OK(VixDiskLib_Write(h, SECTORS - 232, 232, model + (SECTORS - 232) * 512));
   OK(VixDiskLib_Write(h, FIRST, 768, model + FIRST * 512));
   OK(VixDiskLib_Defragment(h, NULL, NULL));
   OK(VixDiskLib_Close(h));
   h = open_disk(c, "small.vmdk", VIXDISKLIB_FLAG_OPEN_READ_ONLY);
   for (uint64_t at = 0; at < SECTORS; at += BUFFER) {
      uint64_t sectors = SECTORS - at < BUFFER ? SECTORS - at : BUFFER;
      OK(VixDiskLib_Read(h, at, sectors, buffer));
      CHECK(!memcmp(buffer, model + at * 512, sectors * 512));
   }
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_CheckRepair(c, "small.vmdk", 0));
}

int main(void)
{
   static const VixDiskLibDiskType types[] = {VIXDISKLIB_DISK_MONOLITHIC_SPARSE,
      VIXDISKLIB_DISK_MONOLITHIC_FLAT, VIXDISKLIB_DISK_SPLIT_SPARSE, VIXDISKLIB_DISK_SPLIT_FLAT,
      VIXDISKLIB_DISK_VMFS_FLAT, VIXDISKLIB_DISK_VMFS_THIN};
   model = malloc(MODEL_BYTES);
   CHECK(model);
   OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL));
   VixDiskLibConnection c = local();
   for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
      one_form(c, types[i]);
   }
   small_tables(c);
   OK(VixDiskLib_Disconnect(c));
   VixDiskLib_Exit();
   free(model);
   return 0;
}
