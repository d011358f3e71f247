/* Geometry that BIOSes give disks of a size: Virtual Disk Format 5.0 for IDE, BusLogic's translation
 * for SCSI. */
#ifndef VR_GEOMETRY_H
#define VR_GEOMETRY_H

#include "chain/descriptor.h"

VixDiskLibGeometry vr_geometry(uint64_t capacity, const char *adapter);
/* Sets the geometry in the disk database. */
VixError vr_geometry_store(vr_descriptor *d, uint64_t capacity);

#endif
