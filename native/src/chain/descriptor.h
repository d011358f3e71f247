/*
 * Descriptors: the text that describes one link of a disk (VMware "Virtual Disk Format 5.0").
 *
 *    # Disk DescriptorFile           comment
 *    version=1                       header: key=value, value may be quoted
 *    CID=fffffffe
 *    parentCID=ffffffff              ffffffff: no parent
 *    createType="monolithicSparse"
 *    RW 8192 SPARSE "disk.vmdk" 0    extents: access, sectors, type, name, start sector in it
 *    ddb.adapterType = "lsilogic"    disk database
 *
 * The lines are kept as they were read, so lines that this library does not know survive.
 */
#ifndef VR_DESCRIPTOR_H
#define VR_DESCRIPTOR_H

#include "formats/extent_type.h"
#include "vixDiskLib.h"

#include <stdbool.h>

#define VR_NO_PARENT 0xffffffffu
#define VR_DESCRIPTOR_MAX (4u << 20) /* bytes; 62 TiB in extents of 2 GiB take 1.2 MB */
#define VR_EXTENTS_MAX 65536u

typedef struct {
   vr_access access;
   vr_extent_type type;
   uint64_t sectors;
   uint64_t offset; /* of a flat extent's first sector in its file */
   char *name;      /* UTF-8; NULL for ZERO */
} vr_extent_line;

typedef struct {
   char **lines;
   size_t line_count;
   size_t line_room;
   uint32_t cid;
   uint32_t parent_cid;
   char *create_type;
   char *parent_hint; /* UTF-8; NULL when none */
   vr_extent_line *extents;
   size_t extent_count;
   uint64_t capacity; /* sum of the extents' sectors */
} vr_descriptor;

/* Parses `length` bytes of text, up to a NUL. vr_descriptor_free frees everything in `out`. */
VixError vr_descriptor_parse(const char *text, size_t length, vr_descriptor *out);
/* Copies what is in the lines now. */
VixError vr_descriptor_copy(const vr_descriptor *d, vr_descriptor *out);
void vr_descriptor_free(vr_descriptor *d);
/* Renders the text to store; the caller's to free. NULL when out of memory. */
char *vr_descriptor_text(const vr_descriptor *d, size_t *length);

/* Puts `line` at index `at`. Owns `line`, also on failure; NULL is out of memory. */
VixError vr_descriptor_insert_line(vr_descriptor *d, size_t at, char *line);

/* A value of header or ddb, unquoted; the caller's to free. NULL when absent. */
char *vr_descriptor_get(const vr_descriptor *d, const char *key);
/* Replaces the line of `key`, or adds it: ddb.* at the end, others after the first lines.
 * VIX_E_FILE_NAME_INVALID when the value does not fit between quotes on one line. */
VixError vr_descriptor_set(vr_descriptor *d, const char *key, const char *value, bool quoted);
VixError vr_descriptor_set_cid(vr_descriptor *d, const char *key, uint32_t value);
/* Converts the names and the hint to UTF-8 and sets the encoding, before new names are added. */
VixError vr_descriptor_make_utf8(vr_descriptor *d);
/* Replaces the name in the line of extent `index`; the parsed name stays. */
VixError vr_descriptor_rename_extent(vr_descriptor *d, size_t index, const char *name);
/* Adds an extent after the last one; owns `line`, also on failure. */
VixError vr_descriptor_add_extent(vr_descriptor *d, char *line, uint64_t sectors);
/* Replaces the sectors of extent `index`. */
VixError vr_descriptor_set_extent_sectors(vr_descriptor *d, size_t index, uint64_t sectors);

#endif
