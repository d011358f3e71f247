/* The settings of the library from InitEx to Exit, read from its configuration file. */
#ifndef VR_SETTINGS_H
#define VR_SETTINGS_H

#include "nfc/config.h"
#include "vixDiskLib.h"

#include <stdbool.h>

typedef struct {
   bool ready;           /* InitEx has succeeded */
   bool outside_extents; /* vreplica.extents.allowOutside */
   char *lab_root;       /* vreplica.lab.root, NULL when there is none */
   vr_nfc_config nfc;    /* of connections to hosts */
} vr_settings;

const vr_settings *vr_settings_get(void);
/* Reads `name=value` lines; # starts a comment. Names that only VDDK knows are ignored. NULL for no
 * configuration file. */
VixError vr_settings_load(const char *config_file);
void vr_settings_forget(void);

#endif
