/*
 * Checks that everything in a sparse file has a place of its own. Where two entries lead to one place,
 * a write through one of them appears at the other, elsewhere on the disk.
 *
 *    areas    | header, descriptor | GD, GTs |    sorted at the end
 *    grains                          | 1 | . | 1 | 1 |    a bit for each place on the raster of the first grain
 */
#ifndef VR_SPARSE_PLACES_H
#define VR_SPARSE_PLACES_H

#include "formats/sparse.h"

typedef struct {
   uint64_t start; /* sectors */
   uint64_t end;
} vr_area;

typedef struct {
   const vr_sparse *s;
   vr_area *areas;
   size_t count;
   size_t room;
   uint8_t *grains;
   uint64_t raster; /* sector of the first place; UINT64_MAX before the first grain */
   uint64_t places;
   bool twice; /* two grains have one place */
} vr_places;

/* Begins with header, descriptor, directories and tables of an extent. VIX_E_DISK_NEEDSREPAIR when
 * an entry of a directory leads out of the file. Free it in any case. Hold `lock`. */
VixError vr_places_begin(vr_places *p, vr_extent *e);
/* Adds a grain, which begins in the file. */
VixError vr_places_add_grain(vr_places *p, uint32_t sector);
/* True if no two of all that was added share a sector. */
bool vr_places_are_apart(vr_places *p);
void vr_places_free(vr_places *p);

#endif
