/* Passwords, session ids and tickets: wiped when they are no longer needed, and in no core. */
#ifndef VR_SECRET_H
#define VR_SECRET_H

#include <stdlib.h>
#include <string.h>

static inline void vr_wipe(void *secret, size_t bytes)
{
   explicit_bzero(secret, bytes);
}

/* Wipes and frees a string of malloc. NULL does nothing. */
static inline void vr_wipe_text(char *secret)
{
   if (secret) {
      explicit_bzero(secret, strlen(secret));
      free(secret);
   }
}

/* A copy that is in no core dump and, where the limits allow it, in no swap. NULL: no memory. */
char *vr_secret_keep(const char *secret);
/* Wipes it and gives its pages back. NULL does nothing. */
void vr_secret_forget(char *secret);

#endif
