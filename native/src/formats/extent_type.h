/* The formats of an extent and the access to it, as the lines of a descriptor name them. */
#ifndef VR_EXTENT_TYPE_H
#define VR_EXTENT_TYPE_H

typedef enum {
   VR_EXTENT_FLAT,
   VR_EXTENT_SPARSE,
   VR_EXTENT_ZERO,
   VR_EXTENT_COWD,
   VR_EXTENT_SESPARSE
} vr_extent_type;

typedef enum { VR_ACCESS_RW, VR_ACCESS_RDONLY, VR_ACCESS_NONE } vr_access;

#endif
