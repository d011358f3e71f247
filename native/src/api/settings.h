/* What InitEx was told, for the life of the process's use of the library. */
#ifndef VR_SESSION_H
#define VR_SESSION_H

#include <stdbool.h>

typedef struct {
   bool ready;
   bool outside_extents; /* vreplica.extents.allowOutside */
   char *lab_root;       /* vreplica.lab.root, NULL when there is none */
} vr_session;

const vr_session *vr_session_get(void);

#endif
