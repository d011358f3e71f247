/* Opens and closes the links of a chain. */
#include "chain/descriptor_lines.h"
#include "chain/link.h"
#include "chain/link_files.h"
#include "chain/lock.h"
#include "formats/sparse.h"
#include "os/bytes.h"
#include "os/encoding.h"
#include "os/log.h"
#include "os/path.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

static const char signature[] = "# Disk DescriptorFile";

/* Finds the descriptor in the file, reads and parses it. */
static VixError load_descriptor(vr_link *link)
{
   uint8_t sector[512] = {0};
   uint64_t size;
   VixError err = vr_file_size(link->file, &size);
   if (err == VIX_OK) {
      err = vr_file_read_padded(link->file, 0, sector, sizeof sector);
   }
   if (err != VIX_OK) {
      return err;
   }
   uint64_t length = size;
   if (vr_sparse_is(sector)) {
      vr_sparse_header header;
      if ((err = vr_sparse_decode(sector, &header)) != VIX_OK) {
         return err;
      }
      if (!header.descriptor || !header.descriptor_size
         || header.descriptor_size > VR_DESCRIPTOR_MAX / VIXDISKLIB_SECTOR_SIZE
         || !vr_fits(header.descriptor, header.descriptor_size * 512, size)) {
         return VIX_E_DISK_INVALIDDISK; /* an extent whose descriptor is another file */
      }
      link->descriptor_at = header.descriptor * VIXDISKLIB_SECTOR_SIZE;
      link->descriptor_room = length = header.descriptor_size * VIXDISKLIB_SECTOR_SIZE;
   } else if (size > VR_DESCRIPTOR_MAX
      || strncasecmp((const char *)sector, signature, sizeof signature - 1)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   char *text = malloc(length + 1);
   if (!text) {
      return VIX_E_OUT_OF_MEMORY;
   }
   err = vr_file_read(link->file, link->descriptor_at, text, length);
   if (err == VIX_OK) {
      err = vr_descriptor_parse(text, length, &link->descriptor);
   }
   free(text);
   return err;
}

VixError vr_link_extent_path(const vr_link *link, const vr_extent_line *line, bool outside,
   char **out)
{
   *out = link->descriptor_room ? strdup(link->path) : vr_path_beside(link->path, line->name);
   char *folder = vr_path_folder(link->path);
   VixError err = *out && folder ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK && !link->descriptor_room && !outside
      && access(*out, F_OK) == 0 && !vr_path_is_below(folder, *out)) {
      vr_warn("%s: extent %s lies outside the disk's folder\n", link->path, line->name);
      err = VIX_E_FILE_ACCESS_ERROR;
   }
   free(folder);
   if (err != VIX_OK) {
      free(*out);
      *out = NULL;
   }
   return err;
}

static VixError open_extent(const vr_link *link, const vr_extent_line *line,
   const vr_link_options *options, vr_extent *e)
{
   if (line->type == VR_EXTENT_ZERO) {
      return vr_zero_open(e);
   }
   char *path;
   VixError err = vr_link_extent_path(link, line, options->outside, &path);
   if (err != VIX_OK) {
      return err;
   }
   err = vr_file_open(path, link->writable && line->access == VR_ACCESS_RW, &e->file);
   if (err != VIX_OK) {
      vr_warn("%s: extent %s cannot be opened\n", link->path, path);
   } else if (!link->descriptor_room && vr_file_is_same(e->file, link->file)) {
      vr_warn("%s: names itself as an extent\n", link->path);
      err = VIX_E_DISK_INVALIDDISK;
   }
   free(path);
   if (err == VIX_OK) {
      switch (line->type) {
      case VR_EXTENT_FLAT:
         err = vr_flat_open(e);
         break;
      case VR_EXTENT_SPARSE:
         err = vr_sparse_open(e);
         break;
      case VR_EXTENT_COWD:
         err = vr_cowd_open(e);
         break;
      case VR_EXTENT_SESPARSE:
         err = vr_sesparse_open(e);
         break;
      case VR_EXTENT_ZERO:
         break;
      }
   }
   return err;
}

static VixError open_extents(vr_link *link, const vr_link_options *options)
{
   vr_descriptor *d = &link->descriptor;
   if (link->descriptor_room && (d->extent_count != 1 || d->extents[0].type != VR_EXTENT_SPARSE)) {
      return VIX_E_DISK_INVALIDDISK;
   }
   link->extents = calloc(d->extent_count, sizeof *link->extents);
   if (!link->extents) {
      return VIX_E_OUT_OF_MEMORY;
   }
   uint64_t start = 0;
   for (size_t i = 0; i < d->extent_count; i++) {
      const vr_extent_line *line = &d->extents[i];
      vr_extent *e = &link->extents[i];
      *e = (vr_extent){.start = start, .sectors = line->sectors, .access = line->access,
         .type = line->type, .offset = line->offset};
      start += line->sectors;
      link->extent_count = i + 1;
      VixError err = open_extent(link, line, options, e);
      if (err != VIX_OK) {
         return err;
      }
   }
   link->capacity = start;
   return VIX_OK;
}

/* Opens the file of the descriptor and locks it as the options say. If a writer has put a new file
 * in its place meanwhile (descriptor_store.c), opens that one. */
static VixError open_file(const vr_link *link, const vr_link_options *options, vr_file **out)
{
   for (;;) {
      VixError err = vr_file_open(link->path, options->writable, out);
      if (err != VIX_OK || !(options->writable || options->refuse_locked)) {
         return err;
      }
      err = options->writable ? vr_lock_for_writing(*out) : vr_lock_is_free(*out);
      if (err != VIX_OK || vr_file_is_in_place(*out)) {
         return err;
      }
      vr_file_close(*out);
   }
}

/* *out is set on an error too, with what was opened before it. */
static VixError load_one(const char *path, const vr_link_options *options, vr_link **out)
{
   vr_link *link = calloc(1, sizeof *link);
   *out = link;
   if (!link) {
      return VIX_E_OUT_OF_MEMORY;
   }
   link->writable = options->writable;
   link->path = strdup(path);
   if (!link->path) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = open_file(link, options, &link->file);
   return err == VIX_OK ? load_descriptor(link) : err;
}

static VixError open_one(const char *path, const vr_link_options *options, vr_link **out)
{
   VixError err = load_one(path, options, out);
   return err == VIX_OK ? open_extents(*out, options) : err;
}

VixError vr_link_load(const char *path, const vr_link_options *options, vr_link **out)
{
   VixError err = load_one(path, options, out);
   if (err != VIX_OK) {
      vr_link_close(*out);
      *out = NULL;
   }
   return err;
}

VixError vr_parent_hint(const char *path, const char *parent, char **hint)
{
   char *folder = vr_path_folder(path);
   char *real_folder = folder ? realpath(folder, NULL) : NULL;
   char *real_parent = real_folder ? realpath(parent, NULL) : NULL;
   VixError err = real_parent ? VIX_OK : folder ? vr_errno(errno) : VIX_E_OUT_OF_MEMORY;
   char *parent_folder = real_parent ? vr_path_folder(real_parent) : NULL;
   *hint = NULL;
   if (err != VIX_OK) {
      vr_warn("%s: %s cannot be used\n", path, real_folder ? parent : "its folder");
   } else if (!vr_is_quotable(real_parent) || !vr_is_utf8(real_parent)) {
      err = VIX_E_FILE_NAME_INVALID;
   } else {
      bool together = parent_folder && !strcmp(parent_folder, real_folder);
      *hint = strdup(together ? vr_path_name(real_parent) : real_parent);
      err = *hint ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   free(folder);
   free(real_parent);
   free(real_folder);
   free(parent_folder);
   return err;
}

char *vr_link_parent_path(const vr_link *child)
{
   char *path = vr_path_beside(child->path, child->descriptor.parent_hint);
   if (path && access(path, F_OK) != 0) {
      free(path);
      path = vr_path_beside(child->path, vr_path_name(child->descriptor.parent_hint));
   }
   return path;
}

static VixError open_parent(vr_link *child, const vr_link_options *options)
{
   if (!child->descriptor.parent_hint) {
      return VIX_E_DISK_INVALIDCHAIN;
   }
   char *path = vr_link_parent_path(child);
   if (!path) {
      return VIX_E_OUT_OF_MEMORY;
   }
   VixError err = VIX_OK;
   if (options->beneath && !vr_path_is_below(options->beneath, path)) {
      vr_warn("%s: parent %s lies outside the datastore\n", child->path, path);
      err = VIX_E_FILE_ACCESS_ERROR;
   }
   if (err == VIX_OK) {
      vr_link_options below = {.outside = options->outside, .beneath = options->beneath};
      err = open_one(path, &below, &child->parent);
      if (err != VIX_OK) {
         vr_warn("%s: parent %s cannot be opened\n", child->path, path);
         err = err == VIX_E_FILE_NOT_FOUND ? VIX_E_DISK_OPENPARENT : err;
      }
   }
   if (err == VIX_OK && child->parent->descriptor.cid != child->descriptor.parent_cid) {
      vr_warn("%s: expects content %08x of its parent, which has %08x\n", child->path,
         child->descriptor.parent_cid, child->parent->descriptor.cid);
      err = VIX_E_DISK_CID_MISMATCH;
   }
   free(path);
   return err;
}

VixError vr_link_open(const char *path, const vr_link_options *options, vr_link **out)
{
   vr_link *leaf;
   VixError err = open_one(path, options, &leaf);
   vr_link *last = leaf;
   for (int links = 1; err == VIX_OK && last->descriptor.parent_cid != VR_NO_PARENT; links++) {
      if (links == 1 && options->single) {
         last->single = true;
         break;
      }
      if (links >= VR_LINKS_MAX) {
         err = VIX_E_DISK_TOOMANYREDO;
         break;
      }
      err = open_parent(last, options);
      last = last->parent;
   }
   if (err == VIX_OK) {
      err = vr_link_check_files(leaf, leaf->parent);
   }
   if (err == VIX_OK && options->writable) {
      err = vr_link_lock_files(leaf);
   }
   if (err == VIX_OK && options->writable) {
      err = vr_link_lock_parents(leaf->parent);
   }
   if (err != VIX_OK) {
      vr_link_close(leaf);
      leaf = NULL;
   }
   *out = leaf;
   return err;
}

static VixError close_one(vr_link *link)
{
   VixError result = VIX_OK;
   for (size_t i = 0; i < link->extent_count; i++) {
      vr_extent *e = &link->extents[i];
      VixError err = e->ops ? e->ops->close(e) : VIX_OK;
      result = result == VIX_OK ? err : result;
      vr_file_close(e->file);
   }
   free(link->extents);
   vr_descriptor_free(&link->descriptor);
   vr_file_close(link->file);
   free(link->path);
   free(link);
   return result;
}

VixError vr_link_close(vr_link *leaf)
{
   VixError result = VIX_OK;
   while (leaf) {
      vr_link *parent = leaf->parent;
      VixError err = close_one(leaf);
      result = result == VIX_OK ? err : result;
      leaf = parent;
   }
   return result;
}

int vr_link_count(const vr_link *leaf)
{
   int count = 0;
   for (; leaf; leaf = leaf->parent) {
      count++;
   }
   return count;
}
