/*
 * Remembers which blocks of 64 KiB were written through a handle.
 *
 * On a handle that has written, the host's answer about allocated blocks may be older than the write
 * (as with VDDK). So what was written here counts as allocated too.
 *
 *    pages of 1 GiB, made at their first write:   | NULL | page | NULL | page | ...
 *    page:                                        a bit for each block
 */
#ifndef VR_NFC_WRITTEN_H
#define VR_NFC_WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
   uint64_t **pages;
   size_t count;
   bool any;
} vr_written;

/* False without memory. */
bool vr_written_init(vr_written *w, uint64_t capacity_bytes);
void vr_written_free(vr_written *w);
/* Marks bytes of the disk; false without memory. */
bool vr_written_mark(vr_written *w, uint64_t offset, uint64_t bytes);
/* True if some of these bytes, rounded out to blocks, were written. */
bool vr_written_has(const vr_written *w, uint64_t offset, uint64_t bytes);

#endif
