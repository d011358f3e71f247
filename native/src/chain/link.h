/*
 * Links: a link is one descriptor with its extents, and a disk is a chain of links.
 *
 *    leaf (written)  | . D . . D . |
 *    parent          | D D . . . . |        D data, . hole: look one further down
 *    base            | . D D . . . |        holes of the base are zeros
 */
#ifndef VR_LINK_H
#define VR_LINK_H

#include "chain/descriptor.h"
#include "formats/extent.h"

/* VMware stops at 32 snapshots; a chain longer than this is a loop. */
#define VR_LINKS_MAX 255

typedef struct vr_link {
   char *path;
   vr_file *file;            /* holds the descriptor, and the lock when writable */
   uint64_t descriptor_at;   /* byte in the file */
   uint64_t descriptor_room; /* bytes; 0: the whole file is the descriptor */
   vr_descriptor descriptor;
   vr_extent *extents;
   size_t extent_count;
   uint64_t capacity;
   struct vr_link *parent;
   bool writable;
   bool single;    /* opened without the parents that it has */
   bool cid_fresh; /* the content has got a new ID since the disk was opened */
} vr_link;

typedef struct {
   bool writable;       /* the leaf; parents are never written */
   bool single;         /* the leaf without its parents */
   bool refuse_locked;  /* reading a disk that is open for writing elsewhere fails */
   bool outside;        /* extents may lie outside the descriptor's folder */
   const char *beneath; /* when set, parents must lie in this folder too */
} vr_link_options;

/* Opens the chain whose leaf is at `path`; the caller's to close. */
VixError vr_link_open(const char *path, const vr_link_options *options, vr_link **out);
/* Opens one link with its descriptor and without its extents, to work on names only. */
VixError vr_link_load(const char *path, const vr_link_options *options, vr_link **out);
/* The path of an extent; the caller's to free. VIX_E_FILE_ACCESS_ERROR when it lies outside the
 * folder without `outside`. */
VixError vr_link_extent_path(const vr_link *link, const vr_extent_line *line, bool outside,
   char **out);
/* The path of the parent: as the hint says, else the same name in the folder of the child. A moved
 * folder has old absolute hints. The caller's to free; NULL when out of memory. */
char *vr_link_parent_path(const vr_link *child);
/* The name of `parent` for the descriptor of a child at `path`: the bare name in the same folder,
 * else the whole path. The caller's to free. VIX_E_FILE_NOT_FOUND where a folder or the parent is
 * missing, VIX_E_FILE_NAME_INVALID where a descriptor cannot hold the name. */
VixError vr_parent_hint(const char *path, const char *parent, char **hint);
/* Closes the whole chain. Returns the first error, and frees everything in any case. */
VixError vr_link_close(vr_link *leaf);
int vr_link_count(const vr_link *leaf);

/* The caller keeps requests within the capacity. */
VixError vr_link_read(vr_link *link, uint64_t sector, uint64_t sectors, uint8_t *buf);
VixError vr_link_write(vr_link *leaf, uint64_t sector, uint64_t sectors, const uint8_t *buf);
VixError vr_link_flush(vr_link *leaf);
/* Tells what a stretch is in this link alone. */
VixError vr_link_map(vr_link *link, uint64_t sector, uint64_t sectors, bool exact, vr_run *run);
/* *hole: neither this link nor its parents hold anything there. A NULL link holds nothing. */
VixError vr_link_is_hole(vr_link *link, uint64_t sector, uint64_t sectors, bool *hole);

/* Stores the changed descriptor, all of it or nothing. May change `file`. */
VixError vr_link_store_descriptor(vr_link *link);
/* Stores `changed` in place of the descriptor, or on an error, `before` included, leaves everything as
 * it was. Owns `changed`. */
VixError vr_link_change_descriptor(vr_link *link, vr_descriptor *changed, VixError before);
/* Removes the file that a process left beside the descriptor if it died while storing. */
void vr_link_remove_leftover(const char *path);
/* Gives the content a new ID, once after each opening. */
VixError vr_link_touch(vr_link *link);
uint32_t vr_random_cid(uint32_t other_than);

#endif
