// SPDX-License-Identifier: MIT
// Text from files and names of files as a sentence may show it: nothing in it moves the cursor of a terminal, changes
// its colours or turns the direction of reading.
//
// Control characters and bytes that are no UTF-8 become \x1b, invisible characters that steer (C1, marks of direction)
// \u{202e}; \n, \t and \r as Lua writes them.  All errors of the library go through this once more (error.h).
#ifndef NABLUA_PRINTABLE_H
#define NABLUA_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>

// A byte of text takes at most so many of its printable form.
enum { NB_PRINTABLE_GROWTH = 4 };

// Writes the printable form of `text` into `out`, which it returns, cut with "..." where `size` (at least 4) is too
// small.
char *nb_printable(const char *text, char *out, size_t size);

// The same of a whole message, whose lines and tabs stay and whose length is given; returns that of `out`.
size_t nb_printable_message(const char *text, size_t length, char *out, size_t size);

// Whether a message is its own printable form.
bool nb_is_printable(const char *text, size_t length);

#endif
