// SPDX-License-Identifier: MIT
// The lines of the block that is edited, and which of them begin inside a long string or comment, kept from key to key:
// what a key costs follows what it changed, not how long the block is.
#ifndef NABLUA_LINES_H
#define NABLUA_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "session.h"

typedef struct Line {
  size_t begin;
  size_t span_begin, span_end;  // of the token that the line begins inside of; equal: of none
  SessionColor color;           // its colour
} Line;

typedef struct Lines {
  Line *items;  // at least one, after the first update
  int count, capacity;
  char *text;  // as it was at the last update
  size_t length, room;
  size_t unchanged;  // bytes from the beginning that no update has touched since this was set
} Lines;

// Compares the text with that of the last update and looks anew at the lines that differ.  False without memory.
bool lines_update(Lines *l, const char *text, size_t length);

// The line that byte `at` is in, from 0.
int lines_find(const Lines *l, size_t at);

// Where the line ends: at its '\n', or at the text's end.
size_t lines_end(const Lines *l, int line);

// Lines that are longer have no colours: finding them would take as long as the line.
enum { LINES_COLORED = 1 << 14 };

#endif
