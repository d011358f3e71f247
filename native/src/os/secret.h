/* Wipes passwords, session ids and tickets out of memory when they are no longer needed. */
#ifndef VR_SECRET_H
#define VR_SECRET_H

#include <stdlib.h>
#include <string.h>

static inline void vr_wipe(void *secret, size_t bytes)
{
   explicit_bzero(secret, bytes);
}

/* Wipes and frees a string. NULL does nothing. */
static inline void vr_wipe_text(char *secret)
{
   if (secret) {
      explicit_bzero(secret, strlen(secret));
      free(secret);
   }
}

#endif
