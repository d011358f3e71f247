/* Unlink: deletes the files of one link. */
#include "api/connection.h"
#include "api/remove.h"
#include "api/settings.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file of an extent; NULL for one that has no file of its own or is gone already. */
static VixError file_of(const vr_link *link, size_t index, bool outside, char **out)
{
   const vr_extent_line *line = &link->descriptor.extents[index];
   struct stat st;
   *out = NULL;
   if (!line->name) {
      return VIX_OK;
   }
   VixError err = vr_link_extent_path(link, line, outside, out);
   if (err != VIX_OK) {
      return err;
   }
   bool gone = lstat(*out, &st) != 0;
   if (gone && errno != ENOENT) {
      err = vr_errno(errno);
   } else if (!gone && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
      err = VIX_E_INCORRECT_FILE_TYPE;
   }
   if (gone || err != VIX_OK) {
      free(*out);
      *out = NULL;
   }
   return err;
}

/* The descriptor is deleted last, so that an interrupted Unlink can be repeated. */
VixError vr_link_remove(vr_link *link, bool outside)
{
   size_t count = link->descriptor_room ? 0 : link->descriptor.extent_count;
   char **files = calloc(count + 1, sizeof *files);
   VixError err = files ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   for (size_t i = 0; err == VIX_OK && i < count; i++) {
      err = file_of(link, i, outside, &files[i]);
   }
   for (size_t i = 0; err == VIX_OK && i < count; i++) {
      if (files[i] && unlink(files[i]) != 0 && errno != ENOENT) {
         err = vr_errno(errno);
      }
   }
   if (err == VIX_OK) {
      vr_link_remove_leftover(link->path);
      err = unlink(link->path) == 0 ? VIX_OK : vr_errno(errno);
   }
   for (size_t i = 0; files && i < count; i++) {
      free(files[i]);
   }
   free(files);
   return err;
}

VixError VixDiskLib_Unlink(VixDiskLibConnection connection, const char *path)
{
   VixError err = vr_connection_check_local(connection);
   if (err != VIX_OK) {
      return err;
   }
   if (!path || !*path) {
      return VIX_E_INVALID_ARG;
   }
   if (connection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_link *link;
   bool outside = vr_settings_get()->outside_extents;
   vr_link_options options = {.writable = true, .outside = outside};
   err = vr_link_load(path, &options, &link);
   if (err == VIX_OK) {
      err = vr_link_remove(link, outside);
      vr_link_close(link);
   }
   return err;
}
