#include "api/create.h"

#include "chain/geometry.h"
#include "formats/cowd.h"
#include "formats/stream.h"
#include "os/bytes.h"
#include "os/encoding.h"
#include "os/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

/* Split disks have extents of 2047 MiB, so that each stays under 2 GiB with its tables. */
#define SPLIT_SECTORS (2047ull * 2048)
#define FILES_SPARE 32u /* other files that the process has open */

typedef struct {
   VixDiskLibDiskType type;
   const char *create_type;
   const char *extent_type;
   const char *suffix; /* of extent files; NULL: descriptor and data share one file */
   enum { FLAT, SPARSE, STREAM, COWD } storage;
   bool split;
   bool thin;
} form;

static const form forms[] = {
   {VIXDISKLIB_DISK_MONOLITHIC_SPARSE, "monolithicSparse", "SPARSE", NULL, SPARSE, false, false},
   {VIXDISKLIB_DISK_MONOLITHIC_FLAT, "monolithicFlat", "FLAT", "-flat", FLAT, false, false},
   {VIXDISKLIB_DISK_SPLIT_SPARSE, "twoGbMaxExtentSparse", "SPARSE", "-s", SPARSE, true, false},
   {VIXDISKLIB_DISK_SPLIT_FLAT, "twoGbMaxExtentFlat", "FLAT", "-f", FLAT, true, false},
   {VIXDISKLIB_DISK_VMFS_FLAT, "vmfs", "VMFS", "-flat", FLAT, false, false},
   {VIXDISKLIB_DISK_STREAM_OPTIMIZED, "streamOptimized", "SPARSE", NULL, STREAM, false, false},
   {VIXDISKLIB_DISK_VMFS_THIN, "vmfs", "VMFS", "-flat", FLAT, false, true},
   {VIXDISKLIB_DISK_VMFS_SPARSE, "vmfsSparse", "VMFSSPARSE", "-delta", COWD, false, false},
};

static const form *form_of(VixDiskLibDiskType type)
{
   for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
      if (forms[i].type == type) {
         return &forms[i];
      }
   }
   return NULL;
}

uint64_t vr_split_extents(uint64_t sectors)
{
   return vr_ceil_div(sectors, SPLIT_SECTORS);
}

VixError vr_check_extents(uint64_t extents)
{
   struct rlimit limit;
   if (extents > VR_EXTENTS_MAX) {
      return VIX_E_INVALID_ARG;
   }
   return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
         && extents + FILES_SPARE > limit.rlim_cur
      ? VIX_E_DISK_TOOMANYOPENFILES
      : VIX_OK;
}

static char *extent_file(const form *f, const char *path, uint64_t index)
{
   char suffix[32];
   if (!f->suffix) {
      return strdup(path);
   }
   if (!f->split) {
      return vr_path_with_suffix(path, f->suffix);
   }
   snprintf(suffix, sizeof suffix, "%s%03" PRIu64, f->suffix, index + 1);
   return vr_path_with_suffix(path, suffix);
}

const char *vr_adapter_name(VixDiskLibAdapterType type)
{
   return type == VIXDISKLIB_ADAPTER_IDE          ? "ide"
      : type == VIXDISKLIB_ADAPTER_SCSI_BUSLOGIC ? "buslogic"
                                                 : "lsilogic";
}

static void write_uuid(FILE *out)
{
   uint8_t id[16] = {0};
   if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id) {
      return; /* cannot happen for 16 bytes once the system has started; a uuid is optional */
   }
   id[0] = 0x60; /* VMware's vendor prefix, as the disks of ESXi have it */
   id[1] = 0x00;
   id[2] = 0xc2;
   id[3] = 0x90 | (id[3] & 0x0f);
   fprintf(out, "ddb.uuid = \"");
   for (int i = 0; i < 16; i++) {
      fprintf(out, "%s%02x", !i ? "" : i == 8 ? "-" : " ", id[i]);
   }
   fprintf(out, "\"\n");
}

static void write_new_ddb(FILE *out, const vr_create_plan *plan, const form *f)
{
   fprintf(out, "ddb.adapterType = \"%s\"\n", plan->adapter);
   VixDiskLibGeometry g = vr_geometry(plan->capacity, plan->adapter);
   fprintf(out, "ddb.geometry.cylinders = \"%u\"\n", g.cylinders);
   fprintf(out, "ddb.geometry.heads = \"%u\"\n", g.heads);
   fprintf(out, "ddb.geometry.sectors = \"%u\"\n", g.sectors);
   fprintf(out, "ddb.virtualHWVersion = \"%u\"\n", plan->hw_version ? plan->hw_version : 4);
   write_uuid(out);
   if (f->thin) {
      fprintf(out, "ddb.thinProvisioned = \"1\"\n");
   }
}

/* A child has the disk database of its parent, without the entries on how the parent is stored. */
static void write_inherited_ddb(FILE *out, const vr_link *parent)
{
   bool uuid = false;
   for (size_t i = 0; i < parent->descriptor.line_count; i++) {
      const char *line = parent->descriptor.lines[i];
      if (!strncmp(line, "ddb.", 4) && strncmp(line, "ddb.thinProvisioned", 19)) {
         fprintf(out, "%s\n", line);
         uuid |= !strncmp(line, "ddb.uuid", 8) && strspn(line + 8, " \t=") > 0;
      }
   }
   if (!uuid) {
      write_uuid(out);
   }
}

/* NULL when out of memory. */
static char *extent_line(const form *f, const char *path, uint64_t index, uint64_t sectors)
{
   char *line = NULL;
   char *file = extent_file(f, path, index);
   if (file
      && asprintf(&line, "RW %" PRIu64 " %s \"%s\"%s", sectors, f->extent_type, vr_path_name(file),
            strcmp(f->extent_type, "FLAT") ? "" : " 0") < 0) {
      line = NULL;
   }
   free(file);
   return line;
}

static bool write_extents(FILE *out, const char *path, const vr_create_plan *plan, const form *f)
{
   uint64_t left = plan->capacity;
   for (uint64_t i = 0; left; i++) {
      uint64_t sectors = f->split ? vr_min(left, SPLIT_SECTORS) : left;
      char *line = extent_line(f, path, i, sectors);
      if (!line) {
         return false;
      }
      fprintf(out, "%s\n", line);
      free(line);
      left -= sectors;
   }
   return true;
}

/* NULL when out of memory. */
static char *describe(const char *path, const vr_create_plan *plan, const form *f, const char *hint,
   size_t *length)
{
   char *text = NULL;
   FILE *out = open_memstream(&text, length);
   if (!out) {
      return NULL;
   }
   /* A new child has its parent's content, and so its content ID, until it is written. */
   uint32_t parent_cid = plan->parent ? plan->parent->descriptor.cid : VR_NO_PARENT;
   uint32_t cid = plan->parent ? parent_cid : vr_random_cid(VR_NO_PARENT);
   fprintf(out, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08" PRIx32
                "\nparentCID=%08" PRIx32 "\ncreateType=\"%s\"\n", cid, parent_cid, f->create_type);
   if (hint) {
      fprintf(out, "parentFileNameHint=\"%s\"\n", hint);
   }
   fprintf(out, "\n# Extent description\n");
   bool bad = !write_extents(out, path, plan, f);
   fprintf(out, "\n# The Disk Data Base\n#DDB\n\n");
   if (plan->parent) {
      write_inherited_ddb(out, plan->parent);
   } else {
      write_new_ddb(out, plan, f);
   }
   bad |= ferror(out) != 0;
   if (fclose(out) != 0 || bad) {
      free(text);
      return NULL;
   }
   return text;
}

static VixError format(vr_file *file, const form *f, uint64_t sectors, bool embedded)
{
   vr_sparse_header h;
   switch (f->storage) {
   case SPARSE:
      h = vr_sparse_layout(sectors, embedded);
      return vr_sparse_format(file, &h);
   case STREAM:
      return vr_streamed_format(file, sectors);
   case COWD:
      return vr_cowd_format(file, sectors);
   default:
      return vr_file_truncate(file, sectors * VIXDISKLIB_SECTOR_SIZE);
   }
}

static VixError make_extent(const char *path, const form *f, uint64_t sectors, const char *embedded,
   size_t length)
{
   vr_file *file;
   VixError err = vr_file_create(path, &file);
   if (err != VIX_OK) {
      return err;
   }
   if (embedded && length > VR_EMBEDDED_DESCRIPTOR_SECTORS * VIXDISKLIB_SECTOR_SIZE) {
      err = VIX_E_ARGUMENT_TOO_BIG;
   } else if (embedded) {
      err = vr_file_write(file, VIXDISKLIB_SECTOR_SIZE, embedded, length);
   }
   if (err == VIX_OK) {
      err = format(file, f, sectors, embedded);
   }
   if (err == VIX_OK) {
      err = vr_file_sync(file);
   }
   vr_file_close(file);
   if (err != VIX_OK) {
      unlink(path);
   }
   return err;
}

static VixError make_descriptor(const char *path, const char *text, size_t length)
{
   vr_file *file;
   VixError err = vr_file_create(path, &file);
   if (err != VIX_OK) {
      return err;
   }
   err = vr_file_write(file, 0, text, length);
   if (err == VIX_OK) {
      err = vr_file_sync(file);
   }
   vr_file_close(file);
   if (err != VIX_OK) {
      unlink(path);
   }
   return err;
}

static void remove_extent(const form *f, const char *path, uint64_t index)
{
   char *file = extent_file(f, path, index);
   if (file) {
      unlink(file);
   }
   free(file);
}

void vr_remove_split_extent(const char *path, VixDiskLibDiskType type, uint64_t index)
{
   remove_extent(form_of(type), path, index);
}

/* Creates extents first and the descriptor last, so that a disk that can be opened is whole. */
static VixError make_files(const char *path, const vr_create_plan *plan, const form *f,
   const char *text, size_t length)
{
   if (f->suffix && access(path, F_OK) == 0) {
      return VIX_E_FILE_ALREADY_EXISTS;
   }
   uint64_t made = 0;
   VixError err = VIX_OK;
   for (uint64_t left = plan->capacity; err == VIX_OK && left;) {
      uint64_t sectors = f->split ? vr_min(left, SPLIT_SECTORS) : left;
      char *file = extent_file(f, path, made);
      err = file ? make_extent(file, f, sectors, f->suffix ? NULL : text, length)
                 : VIX_E_OUT_OF_MEMORY;
      free(file);
      made += err == VIX_OK;
      left -= sectors;
   }
   if (err == VIX_OK && f->suffix) {
      err = make_descriptor(path, text, length);
   }
   if (err == VIX_OK) {
      err = vr_sync_folder(path);
      if (err != VIX_OK) {
         unlink(path);
      }
   }
   while (err != VIX_OK && made) {
      remove_extent(f, path, --made);
   }
   return err;
}

VixError vr_create_split_extent(const char *path, VixDiskLibDiskType type, uint64_t index,
   uint64_t most, uint64_t *sectors, char **line)
{
   const form *f = form_of(type);
   *sectors = vr_min(most, SPLIT_SECTORS);
   *line = NULL;
   VixError err = vr_check_name(path);
   if (err != VIX_OK) {
      return err;
   }
   char *file = extent_file(f, path, index);
   *line = extent_line(f, path, index, *sectors);
   err = file && *line ? make_extent(file, f, *sectors, NULL, 0) : VIX_E_OUT_OF_MEMORY;
   if (err != VIX_OK) {
      free(*line);
      *line = NULL;
   }
   free(file);
   return err;
}

VixError vr_check_name(const char *path)
{
   return !*vr_path_name(path) || strpbrk(path, "\"\r\n") ? VIX_E_FILE_NAME_INVALID
      : !vr_is_utf8(path)                                  ? VIX_E_INVALID_UTF8_STRING
                                                           : VIX_OK;
}

VixError vr_create_check(const char *path, const vr_create_plan *plan)
{
   const form *f = form_of(plan->type);
   bool delta = f && (f->storage == SPARSE || f->storage == COWD);
   if (!f || (plan->parent && !delta) || (!plan->parent && f->storage == COWD)) {
      return VIX_E_NOT_SUPPORTED;
   }
   VixError err = vr_check_name(path);
   if (err != VIX_OK) {
      return err;
   }
   if (!plan->capacity || plan->capacity > INT64_MAX / VIXDISKLIB_SECTOR_SIZE) {
      return VIX_E_INVALID_ARG;
   }
   if (plan->parent && vr_link_count(plan->parent) >= VR_LINKS_MAX) {
      return VIX_E_DISK_TOOMANYREDO;
   }
   err = vr_check_extents(f->split ? vr_split_extents(plan->capacity) : 1);
   if (err == VIX_OK && !f->split && f->storage != FLAT) {
      err = !vr_sparse_can_hold(plan->capacity)                     ? VIX_E_FILE_TOO_BIG
         : f->storage == COWD && plan->capacity > VR_COWD_SECTORS_MAX ? VIX_E_FILE_TOO_BIG
                                                                    : VIX_OK;
   }
   return err;
}

VixError vr_create(const char *path, const vr_create_plan *plan)
{
   VixError err = vr_create_check(path, plan);
   char *hint = NULL;
   if (err == VIX_OK && plan->parent) {
      err = vr_parent_hint(path, plan->parent->path, &hint);
   }
   if (err != VIX_OK) {
      return err;
   }
   const form *f = form_of(plan->type);
   size_t length;
   char *text = describe(path, plan, f, hint, &length);
   err = !text                      ? VIX_E_OUT_OF_MEMORY
      : length > VR_DESCRIPTOR_MAX ? VIX_E_FILE_TOO_BIG
                                   : make_files(path, plan, f, text, length);
   free(text);
   free(hint);
   return err;
}

VixError vr_create_space(VixDiskLibDiskType type, uint64_t capacity, uint64_t held, uint64_t *bytes)
{
   const form *f = form_of(type);
   if (!f || f->storage == COWD) { /* an ESXi delta is never a disk by itself */
      return VIX_E_NOT_SUPPORTED;
   }
   uint64_t tables = 0;
   uint64_t left = f->storage == FLAT ? 0 : capacity;
   while (left) {
      uint64_t sectors = f->split ? vr_min(left, SPLIT_SECTORS) : left;
      tables += vr_sparse_layout(sectors, !f->suffix).overhead * VIXDISKLIB_SECTOR_SIZE;
      left -= sectors;
   }
   bool whole = f->storage == FLAT && !f->thin;
   *bytes = tables + (whole ? capacity * VIXDISKLIB_SECTOR_SIZE : held);
   return VIX_OK;
}
