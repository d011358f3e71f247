/* Converts names from the encoding of a descriptor to UTF-8, which paths have here. */
#ifndef VR_ENCODING_H
#define VR_ENCODING_H

#include "vixDiskLib.h"

#include <stdbool.h>

bool vr_is_utf8(const char *text);
/* `encoding` NULL means UTF-8. VIX_E_DISK_ENCODING where it is unknown or the text is not in it.
 * The result is the caller's to free. */
VixError vr_to_utf8(const char *text, const char *encoding, char **out);

#endif
