// SPDX-License-Identifier: MIT
// UTF-8: what is valid, where its characters begin, and how wide a terminal shows them.
#ifndef NABLUA_UNICODE_H
#define NABLUA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>

// ---- what is valid ----

// NULL when the text is valid as it is; else a copy from malloc with U+FFFD for each maximal run that is not.
char *unicode_clean(const char *text, size_t length, size_t *new_length);

// How many bytes at the end begin a character that more bytes could complete: 0 to 3.
size_t unicode_open_tail(const char *text, size_t length);

// ---- where characters begin ----

// The most bytes, `length` at most, that cut no character of the text, which goes on or has its NUL there.
size_t unicode_cut(const char *text, size_t length);

// From code points to bytes and back, clamped to the text.
size_t unicode_bytes(const char *text, size_t length, long long points);
long long unicode_points(const char *text, size_t bytes);

// ---- how wide they are ----

// The bytes of the character at `text`, at least 1; *columns gets how many it takes.  What is no character, or moves
// the cursor, counts as one byte in one column.  The C library knows widths where LC_CTYPE is a locale of UTF-8.
size_t unicode_character(const char *text, size_t length, int *columns);

// The columns of a text in one line.
int unicode_columns(const char *text);

// What a terminal is sent for the character at `text` where its own bytes would move the cursor, steer or be no
// character: ^A, \u{202e}, \xff, in ASCII; with `ascii` for all that is none.  Returns its length, 0 for what is sent
// as it is.
size_t unicode_shown(const char *text, size_t length, bool ascii, char shown[16]);

#endif
