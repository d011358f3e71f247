/*
 * Uses a disk of a host as nbdkit's vddk plugin does: the same calls in the same order, the threads
 * of a program of one connection.
 *
 *    hosts SERVER PORT USER PASSWORD THUMBPRINT VMX SNAPSHOT MODES PATH read|write FILE
 *
 * `read` writes the disk to FILE and prints what is known of it; `write` does the reverse. `-` is an
 * absent argument.
 */
#include "check.h"

#include <pthread.h>
#include <stdbool.h>

#define CHUNK 512u /* sectors: 256 KiB, as nbdcopy asks */
#define DEPTH 64u

static void note(const char *fmt, va_list args)
{
   vfprintf(stderr, fmt, args);
}

static char *given(char *word)
{
   return strcmp(word, "-") ? word : NULL;
}

static void fail(const char *call, VixError err)
{
   char *words = VixDiskLib_GetErrorText(err, NULL);
   printf("%s: %s (%u)\n", call, words, (unsigned)VIX_ERROR_CODE(err));
   VixDiskLib_FreeErrorText(words);
}

typedef struct {
   pthread_mutex_t lock;
   pthread_cond_t changed;
   unsigned in_flight;
   VixError result;
} counter;

static void completed(void *data, VixError result)
{
   counter *c = data;
   pthread_mutex_lock(&c->lock);
   c->in_flight--;
   if (result != VIX_OK) {
      c->result = result;
   }
   pthread_cond_signal(&c->changed);
   pthread_mutex_unlock(&c->lock);
}

static VixError copy(VixDiskLibHandle h, bool write, uint8_t *data, uint64_t sectors)
{
   counter c = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
   for (uint64_t at = 0; at < sectors; at += CHUNK) {
      uint64_t count = sectors - at < CHUNK ? sectors - at : CHUNK;
      pthread_mutex_lock(&c.lock);
      while (c.in_flight == DEPTH) {
         pthread_cond_wait(&c.changed, &c.lock);
      }
      c.in_flight++;
      pthread_mutex_unlock(&c.lock);
      VixError err = write ? VixDiskLib_WriteAsync(h, at, count, data + at * 512, completed, &c)
                           : VixDiskLib_ReadAsync(h, at, count, data + at * 512, completed, &c);
      if (err != VIX_ASYNC) {
         OK(VixDiskLib_Wait(h));
         return err;
      }
   }
   OK(VixDiskLib_Wait(h));
   CHECK(!c.in_flight);
   return c.result;
}

static void show_extents(VixDiskLibHandle h, uint64_t capacity)
{
   VixDiskLibBlockList *list;
   uint64_t whole = capacity / VIXDISKLIB_MIN_CHUNK_SIZE * VIXDISKLIB_MIN_CHUNK_SIZE;
   OK(VixDiskLib_QueryAllocatedBlocks(h, 0, VIXDISKLIB_MIN_CHUNK_SIZE, VIXDISKLIB_MIN_CHUNK_SIZE,
      &list)); /* to see whether there are extents at all */
   OK(VixDiskLib_FreeBlockList(list));
   OK(VixDiskLib_QueryAllocatedBlocks(h, 0, whole, VIXDISKLIB_MIN_CHUNK_SIZE, &list));
   for (uint32_t i = 0; i < list->numBlocks; i++) {
      printf("extent %llu %llu\n", (unsigned long long)list->blocks[i].offset,
         (unsigned long long)list->blocks[i].length);
   }
   OK(VixDiskLib_FreeBlockList(list));
}

static void show(VixDiskLibHandle h)
{
   VixDiskLibInfo *info;
   OK(VixDiskLib_GetInfo(h, &info));
   printf("capacity %llu\nmode %s\nadapter %d\nuuid %s\nsectors of %u\n",
      (unsigned long long)info->capacity, VixDiskLib_GetTransportMode(h), info->adapterType,
      info->uuid ? info->uuid : "-", info->logicalSectorSize);
   show_extents(h, info->capacity);
   VixDiskLib_FreeInfo(info);
   char keys[4096];
   size_t needed;
   GIVES(VIX_E_BUFFER_TOOSMALL, VixDiskLib_GetMetadataKeys(h, NULL, 0, &needed));
   CHECK(needed <= sizeof keys);
   OK(VixDiskLib_GetMetadataKeys(h, keys, needed, NULL));
   for (const char *key = keys; *key; key += strlen(key) + 1) {
      char value[1024];
      OK(VixDiskLib_ReadMetadata(h, key, value, sizeof value, NULL));
      printf("metadata %s=%s\n", key, value);
   }
   char value[8];
   GIVES(VIX_E_DISK_KEY_NOTFOUND, VixDiskLib_ReadMetadata(h, "absent", value, 8, NULL));
   OK(VixDiskLib_Read(h, 0, 0, NULL));
   GIVES(VIX_E_INVALID_ARG, VixDiskLib_ReadAsync(h, 0, 0, NULL, completed, NULL));
   GIVES(VIX_E_DISK_OUTOFRANGE, VixDiskLib_Read(h, UINT64_MAX - 1, 1, (uint8_t *)value));
}

static VixError use(VixDiskLibHandle h, bool write, const char *file)
{
   VixDiskLibInfo *info;
   OK(VixDiskLib_GetInfo(h, &info));
   uint64_t sectors = info->capacity;
   VixDiskLib_FreeInfo(info);
   uint8_t *data = malloc(sectors * 512);
   FILE *f = fopen(file, write ? "r" : "w");
   CHECK(data && f);
   CHECK(!write || fread(data, 512, sectors, f) == sectors);
   VixError err = copy(h, write, data, sectors);
   if (err == VIX_OK && write) {
      err = VixDiskLib_Flush(h);
      GIVES(VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT, VixDiskLib_WriteMetadata(h, "uuid", "x"));
   }
   CHECK(err != VIX_OK || write || fwrite(data, 512, sectors, f) == sectors);
   fclose(f);
   free(data);
   return err;
}

int main(int argc, char **argv)
{
   CHECK(argc == 12);
   bool write = !strcmp(argv[10], "write");
   OK(VixDiskLib_InitEx(6, 5, note, note, note, NULL, NULL));
   VixDiskLibConnectParams *params = VixDiskLib_AllocateConnectParams();
   params->serverName = argv[1];
   params->port = (uint32_t)atoi(argv[2]);
   params->credType = VIXDISKLIB_CRED_UID;
   params->creds.uid.userName = argv[3];
   params->creds.uid.password = argv[4];
   params->thumbPrint = given(argv[5]);
   params->vmxSpec = argv[6];
   params->specType = VIXDISKLIB_SPEC_VMX;
   VixDiskLibConnection c;
   VixDiskLibHandle h;
   VixError err = VixDiskLib_ConnectEx(params, !write, given(argv[7]), given(argv[8]), &c);
   if (err != VIX_OK) {
      fail("ConnectEx", err);
   } else {
      err = VixDiskLib_Open(c, argv[9], write ? 0 : VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h);
      if (err != VIX_OK) {
         fail("Open", err);
      } else {
         if (!write) {
            show(h);
         }
         err = use(h, write, argv[11]);
         if (err != VIX_OK) {
            fail("copy", err);
         }
         OK(VixDiskLib_Wait(h));
         VixError closed = VixDiskLib_Close(h);
         if (closed != VIX_OK) {
            fail("Close", closed);
         }
      }
      OK(VixDiskLib_Disconnect(c));
   }
   VixDiskLib_FreeConnectParams(params);
   VixDiskLib_Exit();
   return 0;
}
