/*
 * Shared by the fuzz targets. Makes the input a file of a disk in a folder in memory, then opens,
 * reads, queries, writes and checks the disk through the public calls.
 */
#ifndef VR_FUZZ_HARNESS_H
#define VR_FUZZ_HARNESS_H

#include <vixDiskLib.h>

#include <stddef.h>
#include <stdint.h>

/* The input is the whole disk, descriptor included. */
int vr_fuzz_disk(const uint8_t *data, size_t bytes);
/* The input is the one extent of a disk, of the type the descriptor names ("SPARSE" ...). */
int vr_fuzz_extent(const char *type, const uint8_t *data, size_t bytes);
/* Writes a whole file; gives the capacity of an open disk. */
void vr_fuzz_put(const char *path, const void *data, size_t bytes);
uint64_t vr_fuzz_capacity(VixDiskLibHandle h);

#endif
