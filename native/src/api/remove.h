/* Moves and deletes the files of one link, which vr_link_load has opened for writing. */
#ifndef VR_REMOVE_H
#define VR_REMOVE_H

#include "chain/link.h"

/* Deletes all files, or none when one cannot be deleted. */
VixError vr_link_remove(vr_link *link, bool outside);
/* Renames all files after `dst`, or none. The link is only good for closing then. */
VixError vr_link_rename(vr_link *link, const char *dst);

#endif
