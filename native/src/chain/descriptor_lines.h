/* Reads the words of one line of a descriptor. */
#ifndef VR_DESCRIPTOR_LINES_H
#define VR_DESCRIPTOR_LINES_H

#include <stdbool.h>
#include <stdint.h>

const char *vr_skip_blanks(const char *p);
/* True if `line` assigns `key`; *value is then the start of the value. */
bool vr_line_assigns(const char *line, const char *key, const char **value);
/* True if the value can stand between quotes on one line. */
bool vr_is_quotable(const char *value);
/* Move *p past the word and the blanks after it; else leave *p and return false. */
bool vr_take_word(const char **p, const char *word);
bool vr_take_number(const char **p, uint64_t *out);
/* True if the line describes an extent; *number is then the start of its count of sectors. */
bool vr_is_extent_line(const char *line, const char **number);

#endif
