/* Locks a disk: flock on the file that holds its descriptor. The lock ends with the process. */
#ifndef VR_LOCK_H
#define VR_LOCK_H

#include "os/file.h"

/* Locks for as long as the file is open. VIX_E_FILE_ALREADY_LOCKED when another has the lock. */
VixError vr_lock_for_writing(const vr_file *file);
/* Keeps writers away for as long as the file is open. VIX_E_FILE_ALREADY_LOCKED when one has it open. */
VixError vr_lock_for_reading(const vr_file *file);
/* VIX_E_FILE_ALREADY_LOCKED if another has it open for writing now. Takes no lock. */
VixError vr_lock_is_free(const vr_file *file);
void vr_unlock(const vr_file *file);

#endif
