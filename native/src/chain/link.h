/*
 * A link: one descriptor and its extents; a disk is a chain of them.
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
   vr_file *file;            /* that holds the descriptor, and the lock when writable */
   uint64_t descriptor_at;   /* byte in the file */
   uint64_t descriptor_room; /* bytes; 0: the whole file is the descriptor */
   vr_descriptor descriptor;
   vr_extent *extents;
   size_t extent_count;
   uint64_t capacity;
   struct vr_link *parent;
   bool writable;
   bool single;    /* opened without its parents though it has some */
   bool cid_fresh; /* this opening has given the content a new ID */
} vr_link;

typedef struct {
   bool writable;       /* of the leaf; parents are never written */
   bool single;         /* the leaf without its parents */
   bool refuse_locked;  /* reading a disk that is open for writing elsewhere fails */
   bool outside;        /* extents may lie outside the descriptor's folder */
   const char *beneath; /* when set, parents must lie in this folder too */
} vr_link_options;

/* The chain whose leaf is at `path`; the caller's to close. */
VixError vr_link_open(const char *path, const vr_link_options *options, vr_link **out);
/* One link with its descriptor and without its extents, for what concerns names only. */
VixError vr_link_load(const char *path, const vr_link_options *options, vr_link **out);
/* The file of an extent; the caller's to free. VIX_E_FILE_ACCESS_ERROR when it lies outside the
 * folder and may not. */
VixError vr_link_extent_path(const vr_link *link, const vr_extent_line *line, bool outside,
   char **out);
/* The name of `parent` for the descriptor of a child at `path`: the bare name in the same folder,
 * else the whole path. The caller's to free. NULL where a folder or the parent is missing. */
char *vr_parent_hint(const char *path, const char *parent);
/* Closes the whole chain. The first error is returned, everything is freed all the same. */
VixError vr_link_close(vr_link *leaf);
int vr_link_count(const vr_link *leaf);

/* Requests lie within the capacity. */
VixError vr_link_read(vr_link *link, uint64_t sector, uint64_t sectors, uint8_t *buf);
VixError vr_link_write(vr_link *leaf, uint64_t sector, uint64_t sectors, const uint8_t *buf);
VixError vr_link_flush(vr_link *leaf);
/* What a stretch is in this link alone. */
VixError vr_link_map(vr_link *link, uint64_t sector, uint64_t sectors, bool exact, vr_run *run);
/* Whether the chain from here down holds nothing there. NULL holds nothing. */
VixError vr_link_is_hole(vr_link *link, uint64_t sector, uint64_t sectors, bool *hole);

/* Stores the descriptor as it stands now: all of it or nothing. May change `file`. */
VixError vr_link_store_descriptor(vr_link *link);
/* Removes what a process that died while storing may have left beside the descriptor. */
void vr_link_remove_leftover(const char *path);
/* Gives the content a new ID, once per opening. */
VixError vr_link_touch(vr_link *link);
uint32_t vr_random_cid(uint32_t other_than);

#endif
