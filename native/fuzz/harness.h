/*
 * What the fuzz targets share: the input becomes a file of a disk in a folder in memory, and the
 * disk is opened, read, queried, written and checked through the public calls.
 */
#ifndef VR_FUZZ_HARNESS_H
#define VR_FUZZ_HARNESS_H

#include <stddef.h>
#include <stdint.h>

/* The input is the whole disk, descriptor included. */
int vr_fuzz_disk(const uint8_t *data, size_t bytes);
/* The input is the one extent of a disk, of the type the descriptor names ("SPARSE" ...). */
int vr_fuzz_extent(const char *type, const uint8_t *data, size_t bytes);

#endif
