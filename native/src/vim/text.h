/* A growing text. What it held is wiped, also when it moves in memory: requests have passwords. */
#ifndef VR_TEXT_H
#define VR_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
   char *at; /* ends with NUL once something was added */
   size_t length;
   size_t room;
   size_t most;  /* of `length`; 0: 1 MiB */
   bool failed;  /* out of memory, too long, or a character that XML cannot hold */
} vr_text;

/* After a failure the text stays as it is. */
void vr_text_add(vr_text *t, const char *bytes, size_t count);
void vr_text_addf(vr_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a value between two tags, escaped. */
void vr_text_xml(vr_text *t, const char *value);
/* Wipes and frees; the text is empty then. */
void vr_text_free(vr_text *t);

#endif
