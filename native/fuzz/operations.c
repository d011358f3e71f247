/*
 * Fuzzes sequences of calls on a child and its parent: Grow, Shrink, Defragment, CreateChild, Clone,
 * Rename, CheckRepair, WriteMetadata, Attach, Unlink, reads and writes.
 *
 *    input   count of calls | 2 bytes for each: which, how | u16 bytes of p.vmdk | u16 bytes / 4 of d.vmdk |
 *            p.vmdk | d.vmdk | the rest: extent.vmdk
 *
 * With VREPLICA_FUZZ_CONTENT=1 it holds what the library promises. A disk that opens and checks good
 * keeps its content and stays good, whatever call comes and whether it fails or not. What is written
 * is read again, the area that Grow adds reads as zeros, a copy, a child and a renamed disk equal the
 * disk, and no call changes a parent.
 */
#include "harness.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMPARED 8192u  /* sectors of the largest disk whose content is compared */
#define GROWN (1u << 22) /* sectors; no disk grows past this */
#define CALLS_MAX 12u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct {
   uint8_t *data; /* NULL: the disk is not good, or too large */
   uint64_t sectors;
} content;

static VixDiskLibConnection connection;
static char folder[64];
static bool compares;
static uint8_t buffer[1u << 20];
static char disk[96]; /* that the calls work on; changes with CreateChild and Rename */
static unsigned made; /* names given so far */

static void clean(void)
{
   DIR *dir = opendir(folder);
   for (struct dirent *entry; dir && (entry = readdir(dir));) {
      char path[400];
      snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
      if (entry->d_name[0] != '.') {
         unlink(path);
      }
   }
   if (dir) {
      closedir(dir);
   }
}

static void clean_up(void)
{
   clean();
   rmdir(folder);
}

static void set_up(void)
{
   if (!connection) {
      strcpy(folder, "/dev/shm/vreplica-fuzz-XXXXXX");
      if (!mkdtemp(folder) || VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL) != VIX_OK
         || VixDiskLib_ConnectEx(NULL, 0, NULL, NULL, &connection) != VIX_OK) {
         abort();
      }
      compares = getenv("VREPLICA_FUZZ_CONTENT");
      atexit(clean_up);
   }
   clean();
   made = 0;
}

static void in_folder(char path[96], const char *form, unsigned number)
{
   int length = snprintf(path, 96, "%s/", folder);
   snprintf(path + length, 96 - (size_t)length, form, number);
}

static void stop(const char *what)
{
   fprintf(stderr, "promise broken: %s, %s\n", what, disk);
   abort();
}

static content read_content(const char *path)
{
   content c = {NULL, 0};
   VixDiskLibHandle h;
   if (!compares || VixDiskLib_Open(connection, path, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h) != VIX_OK) {
      return c;
   }
   c.sectors = vr_fuzz_capacity(h);
   if (c.sectors <= COMPARED) {
      c.data = malloc(c.sectors * VIXDISKLIB_SECTOR_SIZE);
      if (c.data && VixDiskLib_Read(h, 0, c.sectors, c.data) != VIX_OK) {
         free(c.data);
         c.data = NULL;
      }
   }
   VixDiskLib_Close(h);
   return c;
}

static bool is_good(const char *path)
{
   return VixDiskLib_CheckRepair(connection, path, 0) == VIX_OK;
}

/* `path` is good and holds what `before` held; sectors that were added are zeros. */
static void expect(const char *what, const char *path, const content *before)
{
   if (!before->data) {
      return;
   }
   content now = read_content(path);
   if (now.sectors <= COMPARED) {
      if (!now.data || now.sectors < before->sectors
         || memcmp(now.data, before->data, before->sectors * VIXDISKLIB_SECTOR_SIZE)) {
         stop(what);
      }
      for (uint64_t i = before->sectors * VIXDISKLIB_SECTOR_SIZE;
           i < now.sectors * VIXDISKLIB_SECTOR_SIZE; i++) {
         if (now.data[i]) {
            stop(what);
         }
      }
   }
   free(now.data);
   if (!is_good(path)) {
      fprintf(stderr, "%s does not check good\n", path);
      stop(what);
   }
}

static bool open_disk(const char *path, uint32_t flags, VixDiskLibHandle *h)
{
   return VixDiskLib_Open(connection, path, flags, h) == VIX_OK;
}

static uint64_t capacity_of(const char *path)
{
   VixDiskLibHandle h;
   uint64_t capacity = UINT64_MAX;
   if (open_disk(path, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h)) {
      capacity = vr_fuzz_capacity(h);
      VixDiskLib_Close(h);
   }
   return capacity;
}

static void grow(unsigned how)
{
   uint64_t capacity = capacity_of(disk);
   if (capacity < GROWN) {
      uint64_t more = how < 200 ? how * 37 : (how - 199) * 40000ull;
      VixDiskLib_Grow(connection, disk, capacity + more, how & 1, NULL, NULL);
   }
}

static void shrink(void)
{
   VixDiskLibHandle h;
   if (open_disk(disk, 0, &h)) {
      VixDiskLib_Shrink(h, NULL, NULL);
      VixDiskLib_Close(h);
   }
}

static void defragment(unsigned how)
{
   VixDiskLibHandle h;
   if (open_disk(disk, how & 1 ? VIXDISKLIB_FLAG_OPEN_SINGLE_LINK : 0, &h)) {
      VixDiskLib_Defragment(h, NULL, NULL);
      VixDiskLib_Close(h);
   }
}

static void create_child(unsigned how, const content *before)
{
   VixDiskLibHandle h;
   char child[96];
   in_folder(child, "c%u.vmdk", made++);
   if (open_disk(disk, how & 4 ? VIXDISKLIB_FLAG_OPEN_READ_ONLY : 0, &h)) {
      bool created = vr_fuzz_capacity(h) < GROWN
         && VixDiskLib_CreateChild(h, child, how % 10, NULL, NULL) == VIX_OK;
      VixDiskLib_Close(h);
      if (created) {
         expect("the child differs", child, before);
         expect("CreateChild changed the disk", disk, before);
         strcpy(disk, child);
      }
   }
}

static void clone(unsigned how, const content *before)
{
   char copy[96];
   in_folder(copy, "k%u.vmdk", how & 3);
   content old = is_good(copy) ? read_content(copy) : (content){NULL, 0};
   VixDiskLibCreateParams params = {
      .diskType = how % 10,
      .adapterType = 1 + how % 3,
      .hwVersion = 13,
      .capacity = 1,
   };
   if (capacity_of(disk) < 1u << 15) {
      VixError err = VixDiskLib_Clone(connection, copy, connection, disk, &params, NULL, NULL, how & 1);
      expect(err == VIX_OK ? "the copy differs" : "a failed Clone changed its destination", copy,
         err == VIX_OK ? before : &old);
   }
   free(old.data);
}

static void rename_disk(void)
{
   char name[96];
   in_folder(name, "r%u.vmdk", made++);
   if (VixDiskLib_Rename(disk, name) == VIX_OK) {
      strcpy(disk, name);
   }
}

static void repair(unsigned how, bool good)
{
   VixError err = VixDiskLib_CheckRepair(connection, disk, how & 1);
   if (compares && (err == VIX_OK) != good && !(how & 1 && err == VIX_OK)) {
      stop("CheckRepair says something else");
   }
   if (compares && err == VIX_OK && !is_good(disk)) {
      stop("it is not good after a repair");
   }
}

static void metadata(unsigned how)
{
   VixDiskLibHandle h;
   if (open_disk(disk, how & 4 ? VIXDISKLIB_FLAG_OPEN_READ_ONLY : 0, &h)) {
      char key[32];
      char value[600];
      snprintf(key, sizeof key, "key%u", how % 7);
      memset(value, 'v', sizeof value);
      value[how * 2] = 0;
      VixDiskLib_WriteMetadata(h, key, value);
      VixDiskLib_WriteMetadata(h, "uuid", value);
      VixDiskLib_GetMetadataKeys(h, (char *)buffer, sizeof buffer, NULL);
      VixDiskLib_Close(h);
   }
}

static void attach(unsigned how)
{
   VixDiskLibHandle parent;
   VixDiskLibHandle child;
   char path[96];
   in_folder(path, how & 8 ? "p.vmdk" : "k%u.vmdk", 0);
   if (!open_disk(path, how & 1 ? 0 : VIXDISKLIB_FLAG_OPEN_READ_ONLY, &parent)) {
      return;
   }
   uint32_t flags = (how & 2 ? VIXDISKLIB_FLAG_OPEN_SINGLE_LINK : 0)
      | (how & 4 ? VIXDISKLIB_FLAG_OPEN_READ_ONLY : 0);
   if (!open_disk(disk, flags, &child)) {
      VixDiskLib_Close(parent);
      return;
   }
   if (VixDiskLib_Attach(parent, child) != VIX_OK) {
      VixDiskLib_Close(parent);
      VixDiskLib_Close(child);
      return;
   }
   uint64_t capacity = vr_fuzz_capacity(child);
   uint64_t part = capacity < 64 ? capacity : 64;
   VixDiskLib_Read(child, 0, part, buffer);
   VixDiskLib_Read(child, capacity - part, part, buffer);
   VixDiskLib_Close(child);
   if (compares && !(how & 4) && capacity_of(disk) == UINT64_MAX) {
      stop("it cannot be opened after Attach");
   }
}

/* Changes `before` to what is on the disk afterwards. */
static void write_some(unsigned how, bool zeros, content *before)
{
   VixDiskLibHandle h;
   if (!open_disk(disk, how & 1 ? VIXDISKLIB_FLAG_OPEN_SINGLE_LINK : 0, &h)) {
      return;
   }
   uint64_t capacity = vr_fuzz_capacity(h);
   uint64_t at = how * 977ull % capacity;
   uint64_t sectors = capacity - at < 300 ? capacity - at : how % 300 + 1;
   uint8_t byte = zeros ? 0 : (uint8_t)(how | 1);
   memset(buffer, byte, sectors * VIXDISKLIB_SECTOR_SIZE);
   VixError err = VixDiskLib_Write(h, at, sectors, buffer);
   if (how & 8) {
      VixDiskLib_Flush(h);
   }
   if (VixDiskLib_Close(h) == VIX_OK && err == VIX_OK && before->data) {
      memset(before->data + at * VIXDISKLIB_SECTOR_SIZE, byte, sectors * VIXDISKLIB_SECTOR_SIZE);
   }
}

static void look(void)
{
   VixDiskLibHandle h;
   if (!open_disk(disk, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h)) {
      return;
   }
   uint64_t capacity = vr_fuzz_capacity(h);
   uint64_t part = capacity < 2000 ? capacity : 2000;
   uint64_t bytes;
   VixDiskLibBlockList *list;
   VixDiskLib_Read(h, 0, part, buffer);
   VixDiskLib_Read(h, capacity - part, part, buffer);
   for (int type = 0; type < 10; type++) {
      VixDiskLib_SpaceNeededForClone(h, type, &bytes);
   }
   uint64_t asked = capacity < 1u << 20 ? (capacity + 127) / 128 * 128 : 1u << 20;
   if (VixDiskLib_QueryAllocatedBlocks(h, 0, asked, 128, &list) == VIX_OK) {
      VixDiskLib_FreeBlockList(list);
   }
   VixDiskLib_Close(h);
}

/* The parent of the disk, by the hint in its descriptor; false for a disk without one. */
static bool parent_of(char path[96])
{
   VixDiskLibHandle h;
   VixDiskLibInfo *info;
   bool found = false;
   if (!open_disk(disk, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h)) {
      return false;
   }
   if (VixDiskLib_GetInfo(h, &info) == VIX_OK) {
      const char *hint = info->parentFileNameHint;
      found = info->numLinks > 1 && hint && strlen(hint) < 32 && !strchr(hint, '/');
      if (found) {
         snprintf(path, 96, "%s/%s", folder, hint);
      }
      VixDiskLib_FreeInfo(info);
   }
   VixDiskLib_Close(h);
   return found;
}

static void call(unsigned which, unsigned how)
{
   char parent[96];
   bool good = compares && is_good(disk);
   content before = good ? read_content(disk) : (content){NULL, 0};
   content below = before.data && parent_of(parent) && is_good(parent) ? read_content(parent)
                                                                       : (content){NULL, 0};
   bool stays = true;
   switch (which) {
   case 0:
      grow(how);
      break;
   case 1:
      shrink();
      break;
   case 2:
      defragment(how);
      break;
   case 3:
      create_child(how, &before);
      break;
   case 4:
      clone(how, &before);
      break;
   case 5:
      rename_disk();
      break;
   case 6:
      repair(how, good);
      break;
   case 7:
      metadata(how);
      break;
   case 8:
      attach(how);
      stays = false; /* it may have another parent now */
      break;
   case 9:
      if (how > 250) {
         VixDiskLib_Unlink(connection, disk);
         stays = false;
      }
      break;
   case 10:
   case 11:
      write_some(how, which == 10, &before);
      break;
   default:
      look();
      break;
   }
   if (stays) {
      static const char *const names[] = {"Grow", "Shrink", "Defragment", "CreateChild", "Clone",
         "Rename", "CheckRepair", "WriteMetadata", "Attach", "Unlink", "Write", "Write", "Read"};
      expect(names[which], disk, &before);
      expect("a call on its child changed the parent", parent, &below);
   }
   free(before.data);
   free(below.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   if (bytes < 1) {
      return 0;
   }
   size_t calls = data[0] % (CALLS_MAX + 1);
   size_t head = 1 + calls * 2;
   if (bytes < head + 4) {
      return 0;
   }
   set_up();
   const uint8_t *sizes = data + head;
   size_t parent = sizes[0] | sizes[1] << 8;
   size_t leaf = (size_t)(sizes[2] | sizes[3] << 8) * 4;
   const uint8_t *rest = sizes + 4;
   size_t left = bytes - head - 4;
   char path[96];
   parent = parent < left ? parent : left;
   leaf = leaf && leaf < left - parent ? leaf : left - parent;
   in_folder(path, "p.vmdk", 0);
   vr_fuzz_put(path, rest, parent);
   in_folder(path, "extent.vmdk", 0);
   vr_fuzz_put(path, rest + parent + leaf, left - parent - leaf);
   in_folder(disk, "d.vmdk", 0);
   vr_fuzz_put(disk, rest + parent, leaf);
   for (size_t i = 0; i < calls; i++) {
      call(data[1 + i * 2] % 13, data[2 + i * 2]);
   }
   return 0;
}
