/* The geometry that a BIOS gives a disk of a size: Virtual Disk Format 5.0 for IDE, the translation
 * of BusLogic for SCSI. */
#ifndef VR_GEOMETRY_H
#define VR_GEOMETRY_H

#include "chain/descriptor.h"

VixDiskLibGeometry vr_geometry(uint64_t capacity, const char *adapter);
/* Sets the geometry in the disk database. */
VixError vr_geometry_store(vr_descriptor *d, uint64_t capacity);

#endif
