/* Reads the words of one line of a descriptor. */
#ifndef VR_DESCRIPTOR_LINES_H
#define VR_DESCRIPTOR_LINES_H

#include <stdbool.h>
#include <stdint.h>

const char *vr_skip_blanks(const char *p);
/* Whether `line` assigns `key`; where its value starts then goes to *value. */
bool vr_line_assigns(const char *line, const char *key, const char **value);
/* These move *p past the word and the blanks after it, or leave it and are false. */
bool vr_take_word(const char **p, const char *word);
bool vr_take_number(const char **p, uint64_t *out);
/* Whether the line describes an extent; where its sectors are written then goes to *number. */
bool vr_is_extent_line(const char *line, const char **number);

#endif
