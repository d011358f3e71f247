/*
 * Stores a changed descriptor so that the old one or the new one is there, whole, at whatever
 * moment the process ends.
 *
 * The kernel copies a write page by page, and kill -9 may end it between two pages. So a difference
 * that lies in one page of the file is one write: a new content ID always, a short descriptor
 * whole. Otherwise a descriptor with a file of its own gets a new file, which a rename puts in the
 * place of the old one. A descriptor inside a sparse file cannot be changed that far and stays as
 * it is.
 */
#include "chain/link.h"
#include "chain/lock.h"
#include "os/log.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096u /* of the kernel, or a part of one of its larger pages */

/* The name of the new file while it is written. NULL without `path` or when out of memory. */
static char *path_beside(const char *path)
{
   char *beside = NULL;
   return path && asprintf(&beside, "%s~", path) >= 0 ? beside : NULL;
}

void vr_link_remove_leftover(const char *path)
{
   char *real = realpath(path, NULL);
   char *beside = path_beside(real);
   if (beside) {
      unlink(beside);
   }
   free(beside);
   free(real);
}

static VixError copy_rights(const vr_file *from, const vr_file *to)
{
   struct stat st;
   if (fstat(from->fd, &st) != 0 || fchown(to->fd, st.st_uid, st.st_gid) != 0
      || fchmod(to->fd, st.st_mode & 07777) != 0) {
      return vr_errno(errno);
   }
   return VIX_OK;
}

/* Locks the new file before it gets the name. A writer that waited with the old file open checks
 * the name again (link_open.c). So there is never a second writer. */
static VixError write_and_rename(vr_link *link, vr_file *file, const char *path, const char *text,
   size_t length)
{
   VixError err = vr_lock_for_writing(file);
   if (err == VIX_OK) {
      err = copy_rights(link->file, file);
   }
   if (err == VIX_OK) {
      err = vr_file_write(file, 0, text, length);
   }
   if (err == VIX_OK) {
      err = vr_file_sync(file);
   }
   return err == VIX_OK ? vr_file_rename(file, path) : err;
}

static VixError replace(vr_link *link, const char *text, size_t length)
{
   vr_file *file = NULL;
   char *path = realpath(link->path, NULL); /* a symbolic link to a disk stays one */
   char *beside = path_beside(path);
   VixError err = beside ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      unlink(beside); /* left by a process that died */
      err = vr_file_create(beside, &file);
   }
   if (err == VIX_OK) {
      err = write_and_rename(link, file, path, text, length);
      if (err == VIX_OK) {
         vr_file_close(link->file);
         link->file = file;
         /* The new file is in place even if the folder cannot be synced; then Flush fails. */
         atomic_store(&file->broken, vr_sync_folder(path) != VIX_OK);
      } else {
         unlink(beside);
         vr_file_close(file);
      }
   }
   free(beside);
   free(path);
   return err;
}

/* Bytes [*first, *end) of two texts differ. */
static void difference(const char *old, const char *new, size_t bytes, size_t *first, size_t *end)
{
   *first = 0;
   *end = bytes;
   while (*first < bytes && old[*first] == new[*first]) {
      ++*first;
   }
   while (*end > *first && old[*end - 1] == new[*end - 1]) {
      --*end;
   }
}

/* Stores `new` over `old`, both `bytes` long, of which `length` are text. */
static VixError store(vr_link *link, const char *old, const char *new, size_t bytes, size_t length)
{
   bool own_file = !link->descriptor_room;
   size_t first;
   size_t end;
   difference(old, new, bytes, &first, &end);
   if (first < end) {
      uint64_t at = link->descriptor_at + first;
      if (at / PAGE_BYTES != (link->descriptor_at + end - 1) / PAGE_BYTES) {
         if (own_file) {
            return replace(link, new, length);
         }
         vr_warn("%s: the descriptor in it is too long to be changed so\n", link->path);
         return VIX_E_DISK_FULL;
      }
      VixError err = vr_file_write(link->file, at, new + first, end - first);
      if (err != VIX_OK) {
         return err;
      }
   }
   return own_file && length < bytes ? vr_file_truncate(link->file, length) : VIX_OK;
}

/* Lays out the new bytes: after the text, empty lines in a file that will be cut, else NULs over
 * the old text. */
static void lay_out(char *new, const char *old, size_t bytes, const char *text, size_t length,
   bool own_file)
{
   if (own_file) {
      memset(new, '\n', bytes);
   } else {
      memcpy(new, old, bytes);
      memset(new, 0, strnlen(old, bytes));
      if (length < bytes) {
         new[length] = 0;
      }
   }
   memcpy(new, text, length);
}

VixError vr_link_store_descriptor(vr_link *link)
{
   size_t length;
   char *text = vr_descriptor_text(&link->descriptor, &length);
   if (!text) {
      return VIX_E_OUT_OF_MEMORY;
   }
   bool own_file = !link->descriptor_room;
   uint64_t stored = link->descriptor_room;
   VixError err = own_file ? vr_file_size(link->file, &stored) : VIX_OK;
   uint64_t room = own_file ? VR_DESCRIPTOR_MAX : stored;
   if (err == VIX_OK && (length > room || stored > VR_DESCRIPTOR_MAX)) {
      err = VIX_E_DISK_FULL;
   }
   size_t bytes = length > stored ? length : stored;
   char *old = err == VIX_OK ? calloc(2, bytes) : NULL;
   if (err == VIX_OK) {
      err = old ? vr_file_read(link->file, link->descriptor_at, old, stored) : VIX_E_OUT_OF_MEMORY;
   }
   if (err == VIX_OK) {
      lay_out(old + bytes, old, bytes, text, length, own_file);
      err = store(link, old, old + bytes, bytes, length);
   }
   free(old);
   free(text);
   return err;
}

VixError vr_link_change_descriptor(vr_link *link, vr_descriptor *changed, VixError before)
{
   vr_descriptor old = link->descriptor;
   VixError err = before;
   if (err == VIX_OK) {
      link->descriptor = *changed;
      err = vr_link_store_descriptor(link);
   }
   if (err == VIX_OK) {
      vr_descriptor_free(&old);
   } else {
      link->descriptor = old;
      vr_descriptor_free(changed);
   }
   return err;
}
