// SPDX-License-Identifier: MIT
// UTF-8: what is valid, and places counted in code points, as clients count them.
#ifndef NABLUA_UNICODE_H
#define NABLUA_UNICODE_H

#include <stddef.h>

// NULL when the text is valid as it is; else a copy from malloc with U+FFFD for each maximal run that is not.
char *unicode_clean(const char *text, size_t length, size_t *new_length);

// How many bytes at the end begin a character that more bytes could complete: 0 to 3.
size_t unicode_open_tail(const char *text, size_t length);

// From code points to bytes and back, clamped to the text.
size_t unicode_bytes(const char *text, size_t length, long long points);
long long unicode_points(const char *text, size_t bytes);

#endif
