#include "lab/host.h"

#include "os/bytes.h"
#include "os/log.h"
#include "os/path.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUM_MS 1000 /* a sum over the files of a datastore is used for this time */
#define MAP_START 4096u
#define EPOCH_AT 40u

static const char map_magic[8] = "VRLABCTK";

vr_lab_host *vr_lab_host_open(const char *folder, const vr_link *leaf)
{
   vr_lab_host *host = calloc(1, sizeof *host);
   if (!host) {
      return NULL;
   }
   char *thin = vr_descriptor_get(&leaf->descriptor, "ddb.thinProvisioned");
   host->grows = thin || strcasecmp(leaf->descriptor.create_type, "vmfs");
   free(thin);
   host->folder = strdup(folder);
   host->map = vr_path_with_suffix(leaf->path, "-ctk");
   if (!host->folder || !host->map) {
      vr_lab_host_close(host);
      return NULL;
   }
   return host;
}

void vr_lab_host_close(vr_lab_host *host)
{
   if (host) {
      free(host->folder);
      free(host->map);
      free(host);
   }
}

static bool is_thin(const char *folder, const char *flat, size_t stem)
{
   char *path = NULL;
   bool thin = false;
   char text[4096] = "";
   if (asprintf(&path, "%s/%.*s.vmdk", folder, (int)stem, flat) >= 0) {
      FILE *f = fopen(path, "re");
      if (f) {
         text[fread(text, 1, sizeof text - 1, f)] = 0;
         thin = strstr(text, "thinProvisioned");
         fclose(f);
      }
      free(path);
   }
   return thin;
}

/* The room that a file takes. A thick disk takes its capacity, although its file is sparse. */
static uint64_t taken(const char *folder, const char *name, const struct stat *st)
{
   static const char flat[] = "-flat.vmdk";
   size_t length = strlen(name);
   if (length > sizeof flat - 1 && !strcmp(name + length - (sizeof flat - 1), flat)
      && !is_thin(folder, name, length - (sizeof flat - 1))) {
      return (uint64_t)st->st_size;
   }
   return (uint64_t)st->st_blocks * 512;
}

/* Sums up the files below a folder. A file that disappears meanwhile counts nothing. */
static uint64_t sum(const char *folder)
{
   uint64_t total = 0;
   DIR *dir = opendir(folder);
   for (struct dirent *entry; dir && (entry = readdir(dir));) {
      struct stat st;
      char *path = NULL;
      if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")
         || asprintf(&path, "%s/%s", folder, entry->d_name) < 0) {
         continue;
      }
      if (lstat(path, &st) == 0) {
         total += S_ISDIR(st.st_mode) ? sum(path) : taken(folder, entry->d_name, &st);
      }
      free(path);
   }
   if (dir) {
      closedir(dir);
   }
   return total;
}

static void look_again(vr_lab_host *host, int64_t now)
{
   char *path = NULL;
   int track = 0;
   host->capacity = UINT64_MAX; /* unless the .host file gives one */
   if (asprintf(&path, "%s.host", host->folder) >= 0) {
      FILE *f = fopen(path, "re");
      if (f && fscanf(f, "capacity %" SCNu64 " track %d", &host->capacity, &track) != 2) {
         vr_warn("%s is not understood\n", path);
      }
      if (f) {
         fclose(f);
      }
      free(path);
   }
   host->track = track;
   host->used = host->grows && host->capacity != UINT64_MAX ? sum(host->folder) : 0;
   host->summed = now;
}

static bool fits(const vr_lab_host *host, uint64_t bytes)
{
   return host->used <= host->capacity && bytes <= host->capacity - host->used;
}

/* *held: the link holds all of this already, so writing it takes no room. */
static VixError is_held(vr_link *leaf, uint64_t sector, uint64_t sectors, bool *held)
{
   VixError err = VIX_OK;
   *held = true;
   while (err == VIX_OK && *held && sectors) {
      vr_run run;
      err = vr_link_map(leaf, sector, sectors, true, &run);
      *held = err == VIX_OK && run.kind == VR_DATA;
      sector += *held ? run.sectors : 0;
      sectors -= *held ? run.sectors : 0;
   }
   return err;
}

static VixError need_room(vr_lab_host *host, vr_link *leaf, uint64_t sector, uint64_t sectors)
{
   struct timespec t;
   clock_gettime(CLOCK_MONOTONIC, &t);
   int64_t now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + 1;
   uint64_t bytes = sectors * VIXDISKLIB_SECTOR_SIZE;
   if (!host->summed || now - host->summed > SUM_MS) {
      look_again(host, now);
   }
   if (!host->grows) {
      return VIX_OK;
   }
   if (!fits(host, bytes)) {
      look_again(host, now); /* writes since the last sum may have gone over existing data */
      if (!fits(host, bytes)) {
         bool held;
         VixError err = is_held(leaf, sector, sectors, &held);
         if (err == VIX_OK && !held) {
            vr_warn("%s: the datastore is full\n", leaf->path);
            err = VIX_E_DISK_FULL;
         }
         return err;
      }
   }
   host->used += bytes;
   return VIX_OK;
}

/* Marks a write in the change map. A link without a map is not tracked. */
static VixError mark(const vr_lab_host *host, uint64_t offset, uint64_t bytes)
{
   vr_file *map;
   uint8_t header[EPOCH_AT + 8];
   VixError err = vr_file_open(host->map, true, &map);
   if (err != VIX_OK) {
      return err == VIX_E_FILE_NOT_FOUND ? VIX_OK : err;
   }
   err = vr_file_read(map, 0, header, sizeof header);
   uint64_t block = err == VIX_OK ? vr_le64(header + sizeof map_magic) : 0;
   uint64_t capacity = err == VIX_OK ? vr_le64(header + 16) : 0;
   if (err == VIX_OK && !memcmp(header, map_magic, sizeof map_magic) && block
      && offset < capacity && bytes <= capacity - offset) {
      uint64_t first = offset / block;
      uint64_t count = (offset + bytes - 1) / block - first + 1;
      uint8_t *epochs = calloc(count, 4);
      for (uint64_t i = 0; epochs && i < count; i++) {
         memcpy(epochs + i * 4, header + EPOCH_AT, 4);
      }
      err = epochs ? vr_file_write(map, MAP_START + first * 4, epochs, count * 4)
                   : VIX_E_OUT_OF_MEMORY;
      free(epochs);
   }
   vr_file_close(map);
   return err;
}

VixError vr_lab_host_before_write(vr_lab_host *host, vr_link *leaf, uint64_t sector, uint64_t sectors)
{
   VixError err = need_room(host, leaf, sector, sectors);
   return err == VIX_OK && host->track
      ? mark(host, sector * VIXDISKLIB_SECTOR_SIZE, sectors * VIXDISKLIB_SECTOR_SIZE)
      : err;
}
