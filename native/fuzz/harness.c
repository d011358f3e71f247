#include "harness.h"

#include <vixDiskLib.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTORS 4096u /* of the disk that an extent is put in: 2 MiB */

static char disk[64];
static char extent[64];
static VixDiskLibConnection connection;
static uint8_t buffer[SECTORS * 512];

static void clean_up(void)
{
   unlink(disk);
   unlink(extent);
   *strrchr(disk, '/') = 0;
   rmdir(disk);
}

static void set_up(void)
{
   char folder[] = "/dev/shm/vreplica-fuzz-XXXXXX";
   if (connection) {
      return;
   }
   if (!mkdtemp(folder) || VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, NULL) != VIX_OK
      || VixDiskLib_ConnectEx(NULL, 0, NULL, NULL, &connection) != VIX_OK) {
      abort();
   }
   snprintf(disk, sizeof disk, "%s/disk.vmdk", folder);
   snprintf(extent, sizeof extent, "%s/extent.vmdk", folder);
   atexit(clean_up);
}

void vr_fuzz_put(const char *path, const void *data, size_t bytes)
{
   int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
   if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes || close(fd) != 0) {
      abort();
   }
}

uint64_t vr_fuzz_capacity(VixDiskLibHandle h)
{
   VixDiskLibInfo *info;
   if (VixDiskLib_GetInfo(h, &info) != VIX_OK) {
      abort();
   }
   uint64_t capacity = info->capacity;
   VixDiskLib_FreeInfo(info);
   return capacity;
}

static void query(VixDiskLibHandle h, uint64_t capacity)
{
   VixDiskLibBlockList *list;
   uint64_t sectors = capacity < 1u << 20 ? (capacity + 127) / 128 * 128 : 1u << 20;
   if (VixDiskLib_QueryAllocatedBlocks(h, 0, sectors, 128, &list) != VIX_OK) {
      return;
   }
   uint64_t at = 0;
   for (uint32_t i = 0; i < list->numBlocks; i++) {
      if (list->blocks[i].offset < at || !list->blocks[i].length) {
         abort(); /* sorted and disjoint, whatever the tables say */
      }
      at = list->blocks[i].offset + list->blocks[i].length;
   }
   if (at > capacity) {
      abort();
   }
   VixDiskLib_FreeBlockList(list);
}

static void read_all(VixDiskLibHandle h, uint64_t capacity)
{
   uint64_t part = capacity < SECTORS ? capacity : SECTORS;
   VixDiskLib_Read(h, 0, part, buffer);
   VixDiskLib_Read(h, capacity - part, part, buffer);
   for (uint64_t at = 0; at + 37 < part; at += 61) {
      VixDiskLib_Read(h, at, 37, buffer);
   }
}

static void use(void)
{
   VixDiskLibHandle h;
   char text[256];
   if (VixDiskLib_Open(connection, disk, VIXDISKLIB_FLAG_OPEN_READ_ONLY, &h) == VIX_OK) {
      uint64_t capacity = vr_fuzz_capacity(h);
      read_all(h, capacity);
      query(h, capacity);
      VixDiskLib_ReadMetadata(h, "adapterType", text, sizeof text, NULL);
      VixDiskLib_GetMetadataKeys(h, text, sizeof text, NULL);
      VixDiskLib_Close(h);
   }
   VixDiskLib_CheckRepair(connection, disk, 0);
   if (VixDiskLib_Open(connection, disk, VIXDISKLIB_FLAG_OPEN_SINGLE_LINK, &h) == VIX_OK) {
      uint64_t capacity = vr_fuzz_capacity(h);
      uint64_t part = capacity < 300 ? capacity : 300;
      memset(buffer, 0x5a, part * 512);
      VixDiskLib_Write(h, 0, part, buffer);
      VixDiskLib_Write(h, capacity - 1, 1, buffer);
      memset(buffer, 0, part * 512);
      VixDiskLib_Write(h, 0, part, buffer);
      VixDiskLib_Write(h, (capacity - part) / 2, part, buffer);
      VixDiskLib_WriteMetadata(h, "fuzz", "value");
      VixDiskLib_Flush(h);
      VixDiskLib_Close(h);
   }
   VixDiskLib_CheckRepair(connection, disk, 1);
}

int vr_fuzz_disk(const uint8_t *data, size_t bytes)
{
   set_up();
   vr_fuzz_put(disk, data, bytes);
   vr_fuzz_put(extent, "", 0);
   use();
   return 0;
}

int vr_fuzz_extent(const char *type, const uint8_t *data, size_t bytes)
{
   char text[256];
   set_up();
   int length = snprintf(text, sizeof text,
      "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"custom\"\n"
      "RW %u %s \"extent.vmdk\"\n", SECTORS, type);
   vr_fuzz_put(disk, text, (size_t)length);
   vr_fuzz_put(extent, data, bytes);
   use();
   return 0;
}
