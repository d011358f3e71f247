/*
 * Rename: renames the files of one link after its new path.
 *
 * Extents are linked under their new names, then the new descriptor is written, then the old names
 * are removed. So at every moment one of the two descriptors has all its files.
 */
#include "api/create.h"
#include "api/settings.h"
#include "chain/link.h"
#include "os/bytes.h"
#include "os/path.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* The new name of an extent: "old-s001.vmdk" of old.vmdk gives "new-s001.vmdk" of new.vmdk. Names
 * of another form stay. */
static char *new_name(const char *src, const char *dst, const char *extent)
{
   const char *old_name = vr_path_name(src);
   const char *name = vr_path_name(dst);
   size_t old_stem = strlen(old_name);
   size_t stem = strlen(name);
   old_stem -= old_stem > 5 && !strcasecmp(old_name + old_stem - 5, ".vmdk") ? 5 : 0;
   stem -= stem > 5 && !strcasecmp(name + stem - 5, ".vmdk") ? 5 : 0;
   char *out = NULL;
   if (strncmp(extent, old_name, old_stem)) {
      return strdup(extent);
   }
   return asprintf(&out, "%.*s%s", (int)stem, name, extent + old_stem) < 0 ? NULL : out;
}

/* Changes the hint so that it leads to the same parent from the new folder. */
static VixError move_hint(vr_link *link, const char *dst)
{
   if (!link->descriptor.parent_hint) {
      return VIX_OK;
   }
   char *parent = vr_path_beside(link->path, link->descriptor.parent_hint);
   char *hint = parent ? vr_parent_hint(dst, parent) : NULL;
   VixError err = !parent ? VIX_E_OUT_OF_MEMORY
      : !hint             ? VIX_OK /* the parent is missing: keep its hint */
                          : vr_descriptor_set(&link->descriptor, "parentFileNameHint", hint, true);
   free(parent);
   free(hint);
   return err;
}

static VixError rename_one_file(vr_link *link, const char *dst)
{
   char *name = new_name(link->path, dst, vr_path_name(link->path));
   VixError err = name ? vr_descriptor_rename_extent(&link->descriptor, 0, name)
                       : VIX_E_OUT_OF_MEMORY;
   free(name);
   if (err == VIX_OK) {
      err = move_hint(link, dst);
   }
   if (err == VIX_OK && access(dst, F_OK) == 0) {
      err = VIX_E_FILE_ALREADY_EXISTS;
   }
   if (err == VIX_OK) {
      err = vr_link_store_descriptor(link);
   }
   return err == VIX_OK && rename(link->path, dst) != 0 ? vr_errno(errno) : err;
}

/* Links (or, to undo, unlinks) the first `count` extents under their new names. */
static VixError link_extents(vr_link *link, const char *dst, size_t count, bool undo, size_t *done)
{
   VixError err = VIX_OK;
   for (*done = 0; err == VIX_OK && *done < count; ++*done) {
      const vr_extent_line *line = &link->descriptor.extents[*done];
      if (!line->name) {
         continue;
      }
      char *old_path = NULL;
      err = vr_link_extent_path(link, line, vr_settings_get()->outside_extents, &old_path);
      char *name = err == VIX_OK ? new_name(link->path, dst, line->name) : NULL;
      char *path = name ? vr_path_beside(dst, name) : NULL;
      if (err == VIX_OK && !path) {
         err = VIX_E_OUT_OF_MEMORY;
      }
      if (err == VIX_OK && strcmp(old_path, path)) {
         if (undo) {
            unlink(path);
         } else if (linkat(AT_FDCWD, old_path, AT_FDCWD, path, 0) != 0) {
            err = vr_errno(errno);
         } else {
            err = vr_descriptor_rename_extent(&link->descriptor, *done, name);
         }
      }
      free(old_path);
      free(name);
      free(path);
      if (err != VIX_OK) {
         break;
      }
   }
   return err;
}

static VixError write_new_descriptor(vr_link *link, const char *dst)
{
   size_t length;
   char *text = vr_descriptor_text(&link->descriptor, &length);
   vr_file *file = NULL;
   VixError err = text ? vr_file_create(dst, &file) : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      err = vr_file_write(file, 0, text, length);
   }
   if (err == VIX_OK) {
      err = vr_file_sync(file);
   }
   if (err != VIX_OK && file) {
      unlink(dst);
   }
   vr_file_close(file);
   free(text);
   return err;
}

static void unlink_old(vr_link *link, const char *dst)
{
   vr_link_remove_leftover(link->path);
   unlink(link->path);
   for (size_t i = 0; i < link->descriptor.extent_count; i++) {
      const vr_extent_line *line = &link->descriptor.extents[i];
      char *name = line->name ? new_name(link->path, dst, line->name) : NULL;
      char *old_path = line->name ? vr_path_beside(link->path, line->name) : NULL;
      char *path = name ? vr_path_beside(dst, name) : NULL;
      if (old_path && path && strcmp(old_path, path)) {
         unlink(old_path);
      }
      free(name);
      free(old_path);
      free(path);
   }
}

static VixError rename_files(vr_link *link, const char *dst)
{
   if (access(dst, F_OK) == 0) {
      return VIX_E_FILE_ALREADY_EXISTS;
   }
   size_t done;
   VixError err = link_extents(link, dst, link->descriptor.extent_count, false, &done);
   if (err == VIX_OK) {
      err = move_hint(link, dst);
   }
   if (err == VIX_OK) {
      err = write_new_descriptor(link, dst);
   }
   if (err == VIX_OK) {
      err = vr_sync_folder(dst); /* make the new names durable before the old ones go */
      if (err != VIX_OK) {
         unlink(dst);
      }
   }
   if (err != VIX_OK) {
      size_t undone;
      link_extents(link, dst, done, true, &undone);
      return err;
   }
   unlink_old(link, dst);
   return VIX_OK;
}

VixError VixDiskLib_Rename(const char *srcFileName, const char *dstFileName)
{
   if (!vr_settings_get()->ready) {
      return VIX_E_DISK_NOINIT;
   }
   if (!srcFileName || !*srcFileName || !dstFileName || !*vr_path_name(dstFileName)) {
      return VIX_E_INVALID_ARG;
   }
   if (strpbrk(dstFileName, "\"\r\n")) {
      return VIX_E_FILE_NAME_INVALID;
   }
   vr_link *link;
   vr_link_options options = {.writable = true, .outside = vr_settings_get()->outside_extents};
   VixError err = vr_link_load(srcFileName, &options, &link);
   if (err != VIX_OK) {
      return err;
   }
   err = vr_descriptor_make_utf8(&link->descriptor);
   if (err == VIX_OK) {
      err = link->descriptor_room ? rename_one_file(link, dstFileName)
                                  : rename_files(link, dstFileName);
   }
   vr_link_close(link);
   return err == VIX_OK ? vr_sync_folder(dstFileName) : err;
}
