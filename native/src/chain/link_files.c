#include "chain/link_files.h"

#include "chain/lock.h"
#include "os/log.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* One file as one link uses it. */
typedef struct {
   const vr_file *file;
   dev_t device;
   ino_t inode;
   bool own;  /* of the leaf */
   bool flat; /* an extent of a part of the file; else all of it is used */
   uint64_t start; /* bytes */
   uint64_t end;
} use;

typedef struct {
   use *uses;
   size_t count;
} use_list;

static VixError add(use_list *list, const vr_file *file, bool own, const vr_extent *flat)
{
   struct stat st;
   if (fstat(file->fd, &st) != 0) {
      return vr_errno(errno);
   }
   list->uses[list->count++] = (use){
      .file = file,
      .device = st.st_dev,
      .inode = st.st_ino,
      .own = own,
      .flat = flat,
      .start = flat ? flat->offset : 0,
      .end = flat ? flat->offset + flat->sectors * VIXDISKLIB_SECTOR_SIZE : UINT64_MAX,
   };
   return VIX_OK;
}

static VixError add_link(use_list *list, const vr_link *link, bool own)
{
   VixError err = link->descriptor_room ? VIX_OK : add(list, link->file, own, NULL);
   for (size_t i = 0; err == VIX_OK && i < link->extent_count; i++) {
      const vr_extent *e = &link->extents[i];
      err = e->file ? add(list, e->file, own, e->type == VR_EXTENT_FLAT ? e : NULL) : VIX_OK;
   }
   return err;
}

static int by_file(const void *a, const void *b)
{
   const use *x = a;
   const use *y = b;
   return x->device != y->device ? (x->device < y->device ? -1 : 1)
      : x->inode != y->inode     ? (x->inode < y->inode ? -1 : 1)
      : x->start != y->start     ? (x->start < y->start ? -1 : 1)
                                 : 0;
}

/* Lists the files of `leaf` and of the links from `parents` on, sorted. */
static VixError list_files(const vr_link *leaf, const vr_link *parents, use_list *list)
{
   size_t room = leaf->extent_count + 1;
   for (const vr_link *link = parents; link; link = link->parent) {
      room += link->extent_count + 1;
   }
   *list = (use_list){.uses = calloc(room, sizeof *list->uses)};
   VixError err = list->uses ? add_link(list, leaf, true) : VIX_E_OUT_OF_MEMORY;
   for (const vr_link *link = parents; err == VIX_OK && link; link = link->parent) {
      err = add_link(list, link, false);
   }
   if (err == VIX_OK) {
      qsort(list->uses, list->count, sizeof *list->uses, by_file);
   }
   return err;
}

static bool is_same_file(const use *a, const use *b)
{
   return a->device == b->device && a->inode == b->inode;
}

VixError vr_link_check_files(const vr_link *leaf, const vr_link *parents)
{
   use_list list;
   VixError err = list_files(leaf, parents, &list);
   for (size_t i = 0; err == VIX_OK && i < list.count;) {
      bool own = false;
      bool other = false;
      bool apart = true;
      uint64_t end = 0; /* of the leaf's parts so far */
      size_t first = i;
      for (; i < list.count && is_same_file(&list.uses[first], &list.uses[i]); i++) {
         const use *u = &list.uses[i];
         own |= u->own;
         other |= !u->own;
         if (u->own) {
            apart &= u->start >= end;
            end = u->end;
         }
      }
      if (own && other) {
         vr_warn("%s: has a file of its parents as its own\n", leaf->path);
         err = VIX_E_DISK_INVALIDCHAIN;
      } else if (!apart) {
         vr_warn("%s: two of its extents have one place\n", leaf->path);
         err = VIX_E_DISK_INVALIDDISK;
      }
   }
   free(list.uses);
   return err;
}

VixError vr_link_shares_file(const vr_link *link, const vr_link *chain, bool *shares)
{
   use_list list;
   VixError err = list_files(link, chain, &list);
   *shares = false;
   for (size_t i = 1; err == VIX_OK && i < list.count; i++) {
      *shares |= is_same_file(&list.uses[i - 1], &list.uses[i])
         && list.uses[i - 1].own != list.uses[i].own;
   }
   free(list.uses);
   return err;
}

/* A lock belongs to one opening of a file. So of several extents in one file one is locked, and a file
 * with descriptor and data is locked as the descriptor's. */
VixError vr_link_lock_files(const vr_link *leaf)
{
   if (leaf->descriptor_room) {
      return VIX_OK;
   }
   use_list list;
   VixError err = list_files(leaf, NULL, &list);
   for (size_t i = 0; err == VIX_OK && i < list.count;) {
      const use *first = &list.uses[i];
      bool writable = false;
      for (; i < list.count && is_same_file(first, &list.uses[i]); i++) {
         writable |= list.uses[i].file->writable;
      }
      if (first->file != leaf->file) {
         err = writable ? vr_lock_for_writing(first->file) : vr_lock_for_reading(first->file);
      }
   }
   free(list.uses);
   return err;
}

VixError vr_link_lock_parents(const vr_link *parents)
{
   VixError err = VIX_OK;
   for (const vr_link *link = parents; err == VIX_OK && link; link = link->parent) {
      err = vr_lock_for_reading(link->file);
      for (size_t i = 0; err == VIX_OK && i < link->extent_count; i++) {
         err = link->extents[i].file ? vr_lock_for_reading(link->extents[i].file) : VIX_OK;
      }
   }
   return err;
}

void vr_link_unlock(const vr_link *links)
{
   for (; links; links = links->parent) {
      vr_unlock(links->file);
      for (size_t i = 0; i < links->extent_count; i++) {
         if (links->extents[i].file) {
            vr_unlock(links->extents[i].file);
         }
      }
   }
}
