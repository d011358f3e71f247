/* Creates the files of new disks and of new extents of split disks. */
#ifndef VR_CREATE_H
#define VR_CREATE_H

#include "chain/link.h"

typedef struct {
   VixDiskLibDiskType type;
   uint64_t capacity;
   const char *adapter;   /* "lsilogic" ... */
   unsigned hw_version;
   const vr_link *parent; /* NULL for a base disk */
} vr_create_plan;

/* VIX_E_FILE_NAME_INVALID or VIX_E_INVALID_UTF8_STRING for a path that no descriptor can hold. */
VixError vr_check_name(const char *path);
/* Tells whether a disk of this plan can be created, files of the same name apart. */
VixError vr_create_check(const char *path, const vr_create_plan *plan);
/* Creates a disk. Leaves no files on failure. After success the files are on stable storage. */
VixError vr_create(const char *path, const vr_create_plan *plan);
/* The number of extents of a split disk of so many sectors. */
uint64_t vr_split_extents(uint64_t sectors);
/* An error if this process could not open a disk of so many extents: an open disk has all of them
 * open at once. */
VixError vr_check_extents(uint64_t extents);
/* Creates one more extent of a split disk, of up to `most` sectors; *line is its line for the
 * descriptor, the caller's to free. */
VixError vr_create_split_extent(const char *path, VixDiskLibDiskType type, uint64_t index,
   uint64_t most, uint64_t *sectors, char **line);
void vr_remove_split_extent(const char *path, VixDiskLibDiskType type, uint64_t index);
/* The bytes that a disk of this type and capacity needs for `held` bytes of grains. */
VixError vr_create_space(VixDiskLibDiskType type, uint64_t capacity, uint64_t held, uint64_t *bytes);
const char *vr_adapter_name(VixDiskLibAdapterType type);

#endif
