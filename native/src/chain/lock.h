/* Who may open a disk: flock on the file that holds a descriptor. A dead process holds none. */
#ifndef VR_LOCK_H
#define VR_LOCK_H

#include "os/file.h"

/* For as long as the file is open. VIX_E_FILE_ALREADY_LOCKED when another holds it. */
VixError vr_lock_for_writing(const vr_file *file);
/* Whether somebody has it open for writing, now: VIX_E_FILE_ALREADY_LOCKED. Holds nothing. */
VixError vr_lock_is_free(const vr_file *file);
void vr_unlock(const vr_file *file);

#endif
