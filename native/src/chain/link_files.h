/* Holds the files of a chain apart, and locks them. */
#ifndef VR_LINK_FILES_H
#define VR_LINK_FILES_H

#include "chain/link.h"

/* An error if a write to one part of `leaf` would change another: VIX_E_DISK_INVALIDDISK where two of
 * its extents share a place in a file, VIX_E_DISK_INVALIDCHAIN where it shares a file with a link of
 * `parents`, which may be NULL. */
VixError vr_link_check_files(const vr_link *leaf, const vr_link *parents);
/* Locks the extents of a link that is open for writing: other descriptors may name them too. */
VixError vr_link_lock_files(const vr_link *leaf);
/* Keeps writers away from these links, which a child needs as they are. */
VixError vr_link_lock_parents(const vr_link *parents);
void vr_link_unlock(const vr_link *links);
/* *shares: a file of `link` belongs to `chain` too. */
VixError vr_link_shares_file(const vr_link *link, const vr_link *chain, bool *shares);

#endif
