/*
 * Reads seSparse extents, the delta links of ESXi on VMFS 6.
 *
 *    header | volatile header | journal | GD | GTs | free bitmap | back map | grains
 *
 *    GD entry  64 bits: 0 none, else 1 in the top nibble and the table's number
 *    GT entry  64 bits, top nibble: 0 unallocated, 1 unmapped and 2 zero (both zeros), 3 a grain;
 *              its number has the low 12 bits in bits 48-59 and the rest in bits 0-47
 *
 * No public description says how a writer has to keep journal, bitmap and back map, so writing is
 * refused. The fields have the names of qemu's reader of the format.
 */
#ifndef VR_SESPARSE_H
#define VR_SESPARSE_H

#include "formats/extent.h"

typedef struct {
   uint64_t capacity; /* all in sectors */
   uint64_t grain;
   uint64_t table; /* sectors of one grain table */
   uint64_t gd;
   uint64_t gd_size;
   uint64_t tables;
   uint64_t tables_size;
   uint64_t grains;
} vr_sesparse_header;

/* Checks both headers. VIX_E_DISK_NEEDSREPAIR when the journal has to be replayed first. */
VixError vr_sesparse_decode(const uint8_t constant[512], const uint8_t changing[512],
   vr_sesparse_header *out);

#endif
