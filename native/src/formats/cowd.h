/*
 * COWD extents, the delta links of ESX before VMFS 6: sparse tables behind another header.
 *
 *    header (4 sectors) | GD | GT (4096 entries) | grain | grain | GT | ...
 *
 * Grains are one sector as made here and by ESX. There is no redundant directory and no zero grain;
 * tables are added when they are needed.
 */
#ifndef VR_COWD_H
#define VR_COWD_H

#include "formats/sparse.h"

#define VR_COWD_SECTORS_MAX UINT32_MAX

/* Decodes a header, and checks what can be checked without the file. */
VixError vr_cowd_decode(const uint8_t *header, vr_sparse_header *out, uint64_t *free_sector);
/* Writes header and directory of a new extent into an empty file. */
VixError vr_cowd_format(vr_file *file, uint64_t capacity);

#endif
