#include "formats/sesparse.h"

#include "formats/cache.h"
#include "os/bytes.h"
#include "os/log.h"

#include <pthread.h>
#include <stdlib.h>

#define MAGIC 0xcafebabeull
#define VOLATILE_MAGIC 0xcafecafeull
#define VERSION 0x200000001ull
#define GRAIN_SECTORS 8u
#define TABLE_SECTORS 64u
#define TABLE_ENTRIES (TABLE_SECTORS * 512u / 8u)
#define PAGE_BYTES 4096u
#define PAGES_CACHED 64u
#define TABLES_CACHED 128u /* 4 MiB for 2 GiB of disk */

typedef struct {
   vr_sesparse_header header;
   uint64_t file_size;
   pthread_mutex_t lock; /* of the caches */
   vr_cache directory;
   vr_cache tables;
} sesparse;

VixError vr_sesparse_decode(const uint8_t constant[512], const uint8_t changing[512],
   vr_sesparse_header *out)
{
   vr_sesparse_header h = {
      .capacity = vr_le64(constant + 16),
      .grain = vr_le64(constant + 24),
      .table = vr_le64(constant + 32),
      .gd = vr_le64(constant + 128),
      .gd_size = vr_le64(constant + 136),
      .tables = vr_le64(constant + 144),
      .tables_size = vr_le64(constant + 152),
      .grains = vr_le64(constant + 192),
   };
   *out = h;
   if (vr_le64(constant) != MAGIC || vr_le64(changing) != VOLATILE_MAGIC) {
      return VIX_E_DISK_INVALIDDISK;
   }
   if (vr_le64(constant + 8) != VERSION || h.grain != GRAIN_SECTORS || h.table != TABLE_SECTORS) {
      return VIX_E_DISK_UNSUPPORTEDDISKVERSION;
   }
   uint64_t directory_bytes;
   if (!h.capacity || h.capacity > INT64_MAX / VIXDISKLIB_SECTOR_SIZE
      || __builtin_mul_overflow(h.gd_size, (uint64_t)VIXDISKLIB_SECTOR_SIZE, &directory_bytes)
      || directory_bytes / 8 < vr_ceil_div(h.capacity, (uint64_t)GRAIN_SECTORS * TABLE_ENTRIES)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   return vr_le64(changing + 24) ? VIX_E_DISK_NEEDSREPAIR : VIX_OK;
}

static VixError load(vr_extent *e, vr_cache *cache, uint64_t number, uint64_t at, uint8_t **out)
{
   *out = vr_cache_find(cache, number);
   if (*out) {
      return VIX_OK;
   }
   *out = vr_cache_claim(cache, number);
   VixError err = vr_file_read_padded(e->file, at, *out, cache->block_bytes);
   if (err != VIX_OK) {
      vr_cache_drop(cache, number);
   }
   return err;
}

/* Gives the entries of grain table `table` of the disk, NULL if there is none. */
static VixError find_table(vr_extent *e, uint64_t table, uint8_t **entries)
{
   sesparse *s = e->state;
   uint64_t page = table * 8 / PAGE_BYTES;
   uint8_t *directory;
   *entries = NULL;
   VixError err = load(e, &s->directory, page,
      s->header.gd * VIXDISKLIB_SECTOR_SIZE + page * PAGE_BYTES, &directory);
   if (err != VIX_OK) {
      return err;
   }
   uint64_t entry = vr_le64(directory + table * 8 % PAGE_BYTES);
   if (!entry) {
      return VIX_OK;
   }
   uint64_t number = entry & UINT32_MAX;
   uint64_t sector;
   if (entry >> 32 != 0x10000000 || (number + 1) * TABLE_SECTORS > s->header.tables_size
      || __builtin_add_overflow(s->header.tables, number * TABLE_SECTORS, &sector)
      || !vr_fits(sector, TABLE_SECTORS * 512, s->file_size)) {
      vr_warn("%s: grain table %llu lies outside the file\n", e->file->path,
         (unsigned long long)table);
      return VIX_E_DISK_NEEDSREPAIR;
   }
   return load(e, &s->tables, table, sector * VIXDISKLIB_SECTOR_SIZE, entries);
}

static VixError grain_run(vr_extent *e, const uint8_t *entries, uint64_t index, vr_run *run)
{
   sesparse *s = e->state;
   uint64_t entry = entries ? vr_le64(entries + index * 8) : 0;
   *run = (vr_run){.kind = VR_HOLE};
   switch (entry >> 60) {
   case 0:
      if (!entry) {
         return VIX_OK;
      }
      break;
   case 1:
   case 2:
      run->kind = VR_ZERO;
      return VIX_OK;
   case 3: {
      uint64_t number = (entry >> 48 & 0xfff) | (entry & 0xffffffffffff) << 12;
      uint64_t sector;
      if (!__builtin_mul_overflow(number, (uint64_t)GRAIN_SECTORS, &sector)
         && !__builtin_add_overflow(sector, s->header.grains, &sector)
         && vr_fits(sector, GRAIN_SECTORS * 512, s->file_size)) {
         *run = (vr_run){.kind = VR_DATA, .offset = sector * VIXDISKLIB_SECTOR_SIZE};
         return VIX_OK;
      }
      break;
   }
   default:
      break;
   }
   vr_warn("%s: a grain table entry is not valid\n", e->file->path);
   return VIX_E_DISK_NEEDSREPAIR;
}

static VixError sesparse_map(vr_extent *e, uint64_t sector, uint64_t sectors, bool exact,
   vr_run *run)
{
   (void)exact;
   sesparse *s = e->state;
   uint64_t grain = sector / GRAIN_SECTORS;
   uint64_t skip = sector % GRAIN_SECTORS;
   uint64_t wanted = skip + sectors;
   uint64_t covered = 0;
   VixError err = VIX_OK;
   pthread_mutex_lock(&s->lock);
   while (covered < wanted) {
      uint8_t *entries;
      vr_run next;
      err = find_table(e, grain / TABLE_ENTRIES, &entries);
      if (err == VIX_OK) {
         err = grain_run(e, entries, grain % TABLE_ENTRIES, &next);
      }
      if (err != VIX_OK) {
         break;
      }
      if (!covered) {
         *run = next;
      } else if (next.kind != run->kind
         || (next.kind == VR_DATA && next.offset != run->offset + covered * VIXDISKLIB_SECTOR_SIZE)) {
         break;
      }
      uint64_t grains = entries ? 1 : TABLE_ENTRIES - grain % TABLE_ENTRIES;
      covered += grains * GRAIN_SECTORS;
      grain += grains;
   }
   pthread_mutex_unlock(&s->lock);
   if (err != VIX_OK && !covered) {
      return err;
   }
   if (run->kind == VR_DATA) {
      run->offset += skip * VIXDISKLIB_SECTOR_SIZE;
   }
   run->sectors = vr_min(covered - skip, sectors);
   return VIX_OK;
}

static VixError sesparse_close(vr_extent *e)
{
   sesparse *s = e->state;
   pthread_mutex_destroy(&s->lock);
   vr_cache_free(&s->directory);
   vr_cache_free(&s->tables);
   free(s);
   e->state = NULL;
   return VIX_OK;
}

static const vr_extent_ops sesparse_ops = {
   .map = sesparse_map,
   .flush = vr_extent_flush,
   .close = sesparse_close,
};

static VixError prepare(vr_extent *e, sesparse *s)
{
   uint8_t headers[1024];
   VixError err = vr_file_read(e->file, 0, headers, sizeof headers);
   if (err == VIX_OK) {
      err = vr_sesparse_decode(headers, headers + 512, &s->header);
   }
   if (err == VIX_OK) {
      err = vr_file_size(e->file, &s->file_size);
   }
   if (err != VIX_OK) {
      return err;
   }
   if (s->header.capacity < e->sectors) {
      return VIX_E_DISK_INVALIDDISK;
   }
   uint64_t tables = vr_ceil_div(s->header.capacity, (uint64_t)GRAIN_SECTORS * TABLE_ENTRIES);
   if (!vr_fits(s->header.gd, tables * 8, s->file_size)) {
      return VIX_E_DISK_NEEDSREPAIR;
   }
   return vr_cache_init(&s->directory, PAGE_BYTES, vr_ceil_div(tables * 8, PAGE_BYTES), PAGES_CACHED)
         && vr_cache_init(&s->tables, TABLE_SECTORS * 512, tables, TABLES_CACHED)
      ? VIX_OK
      : VIX_E_OUT_OF_MEMORY;
}

VixError vr_sesparse_open(vr_extent *e)
{
   sesparse *s = calloc(1, sizeof *s);
   if (!s) {
      return VIX_E_OUT_OF_MEMORY;
   }
   pthread_mutex_init(&s->lock, NULL);
   e->state = s;
   VixError err = prepare(e, s);
   if (err != VIX_OK) {
      sesparse_close(e);
      return err;
   }
   e->ops = &sesparse_ops;
   return VIX_OK;
}
