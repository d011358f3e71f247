/*
 * Rename: renames the files of one link after its new path.
 *
 * Extents are linked under their new names, then the new descriptor is written, then the old names
 * are removed. So at every moment one of the two descriptors has all its files.
 */
#include "api/create.h"
#include "api/remove.h"
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
   char *parent = vr_link_parent_path(link);
   char *hint = NULL;
   VixError err = VIX_OK;
   if (!parent) {
      err = VIX_E_OUT_OF_MEMORY;
   } else if (access(parent, F_OK) == 0) { /* a hint to a missing parent stays */
      err = vr_parent_hint(dst, parent, &hint);
      if (err == VIX_OK) {
         err = vr_descriptor_set(&link->descriptor, "parentFileNameHint", hint, true);
      }
   }
   free(parent);
   free(hint);
   return err;
}

/* Stores the names that the disk has at `dst`. */
static VixError store_new_names(vr_link *link, const char *dst)
{
   char *name = new_name(link->path, dst, vr_path_name(link->path));
   VixError err = name ? vr_descriptor_rename_extent(&link->descriptor, 0, name)
                       : VIX_E_OUT_OF_MEMORY;
   free(name);
   if (err == VIX_OK) {
      err = move_hint(link, dst);
   }
   return err == VIX_OK ? vr_link_store_descriptor(link) : err;
}

/* `old` is the descriptor as it is stored. */
static VixError rename_one_file(vr_link *link, const char *dst, vr_descriptor *old)
{
   VixError err = access(dst, F_OK) == 0 ? VIX_E_FILE_ALREADY_EXISTS : store_new_names(link, dst);
   if (err == VIX_OK && rename(link->path, dst) != 0) {
      err = vr_errno(errno);
      vr_descriptor_free(&link->descriptor);
      link->descriptor = *old;
      *old = (vr_descriptor){0};
      vr_link_store_descriptor(link);
   }
   return err;
}

/* The extents of a link and where they go. */
typedef struct {
   size_t count;
   char **old;
   char **new;   /* NULL: stays where it is */
   bool *linked; /* under the new name too */
} moves;

static void moves_free(moves *m)
{
   for (size_t i = 0; i < m->count; i++) {
      free(m->old ? m->old[i] : NULL);
      free(m->new ? m->new[i] : NULL);
   }
   free(m->old);
   free(m->new);
   free(m->linked);
}

/* Finds the new name of extent `i` and puts it into the descriptor. */
static VixError plan_extent(vr_link *link, const char *dst, size_t i, moves *m)
{
   const vr_extent_line *line = &link->descriptor.extents[i];
   if (!line->name) {
      return VIX_OK;
   }
   VixError err = vr_link_extent_path(link, line, vr_settings_get()->outside_extents, &m->old[i]);
   char *name = err == VIX_OK ? new_name(link->path, dst, line->name) : NULL;
   m->new[i] = name ? vr_path_beside(dst, name) : NULL;
   if (err == VIX_OK) {
      err = m->new[i] ? vr_descriptor_rename_extent(&link->descriptor, i, name) : VIX_E_OUT_OF_MEMORY;
   }
   free(name);
   if (err == VIX_OK && vr_path_is_same_file(m->old[i], m->new[i])) {
      free(m->new[i]); /* a name of another form, in the same folder */
      m->new[i] = NULL;
   }
   return err;
}

static VixError plan(vr_link *link, const char *dst, moves *m)
{
   size_t count = link->descriptor.extent_count;
   *m = (moves){
      .count = count,
      .old = calloc(count, sizeof *m->old),
      .new = calloc(count, sizeof *m->new),
      .linked = calloc(count, sizeof *m->linked),
   };
   VixError err = m->old && m->new && m->linked ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   for (size_t i = 0; err == VIX_OK && i < count; i++) {
      err = plan_extent(link, dst, i, m);
   }
   return err;
}

/* Of several extents in one file, the first links it. */
static VixError link_extent(moves *m, size_t i)
{
   if (linkat(AT_FDCWD, m->old[i], AT_FDCWD, m->new[i], 0) == 0) {
      m->linked[i] = true;
      return VIX_OK;
   }
   int error = errno;
   for (size_t k = 0; error == EEXIST && k < i; k++) {
      if (m->linked[k] && !strcmp(m->new[k], m->new[i])) {
         return VIX_OK;
      }
   }
   return vr_errno(error);
}

static VixError write_new_descriptor(vr_link *link, const char *dst)
{
   size_t length;
   char *text = vr_descriptor_text(&link->descriptor, &length);
   vr_file *file = NULL;
   VixError err = !text            ? VIX_E_OUT_OF_MEMORY
      : length > VR_DESCRIPTOR_MAX ? VIX_E_FILE_TOO_BIG
                                   : vr_file_create(dst, &file);
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

/* Removes the new names on an error, else the old ones; the descriptor goes first. */
static void remove_names(const vr_link *link, const moves *m, bool failed)
{
   if (!failed) {
      vr_link_remove_leftover(link->path);
      unlink(link->path);
   }
   for (size_t i = 0; i < m->count; i++) {
      if (m->linked && m->linked[i]) {
         unlink(failed ? m->new[i] : m->old[i]);
      }
   }
}

static VixError rename_files(vr_link *link, const char *dst)
{
   if (access(dst, F_OK) == 0) {
      return VIX_E_FILE_ALREADY_EXISTS;
   }
   moves m;
   VixError err = plan(link, dst, &m);
   if (err == VIX_OK) {
      err = move_hint(link, dst);
   }
   for (size_t i = 0; err == VIX_OK && i < m.count; i++) {
      err = m.new[i] ? link_extent(&m, i) : VIX_OK;
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
   remove_names(link, &m, err != VIX_OK);
   moves_free(&m);
   return err;
}

VixError vr_link_rename(vr_link *link, const char *dst)
{
   vr_descriptor old = {0};
   VixError err = vr_check_name(dst);
   if (err == VIX_OK) {
      err = vr_descriptor_copy(&link->descriptor, &old);
   }
   if (err == VIX_OK) {
      err = vr_descriptor_make_utf8(&link->descriptor);
   }
   if (err == VIX_OK) {
      err = link->descriptor_room ? rename_one_file(link, dst, &old) : rename_files(link, dst);
   }
   vr_descriptor_free(&old);
   return err == VIX_OK ? vr_sync_folder(dst) : err;
}

VixError VixDiskLib_Rename(const char *srcFileName, const char *dstFileName)
{
   if (!vr_settings_get()->ready) {
      return VIX_E_DISK_NOINIT;
   }
   if (!srcFileName || !*srcFileName || !dstFileName || !*vr_path_name(dstFileName)) {
      return VIX_E_INVALID_ARG;
   }
   vr_link *link;
   vr_link_options options = {.writable = true, .outside = vr_settings_get()->outside_extents};
   VixError err = vr_link_load(srcFileName, &options, &link);
   if (err == VIX_OK) {
      err = vr_link_rename(link, dstFileName);
      vr_link_close(link);
   }
   return err;
}
