// SPDX-License-Identifier: MIT
// Where vi's motions lead from the cursor, and what its text objects are: places in a block, which nothing here
// changes.
#ifndef NABLUA_MOTIONS_H
#define NABLUA_MOTIONS_H

#include <stdbool.h>

typedef struct Motion {
  int to;
  bool inclusive;  // the character at `to` belongs to what an operator works on
  bool lines;      // whole lines do
  bool fails;
} Motion;

// The keys of motions; after f, F, t, T and g another one is read.
extern const char motion_keys[];

// Where a key moves; `explicit` when a count was typed, `operating` when an operator works on what is passed.
Motion motion_of(int key, int count, bool explicit, bool operating);

// Whether the cursor is at the last character of its word, which is then as long as a motion to the word's end.
bool motion_at_word_end(bool big);

// The text objects i and a: words, quotes, brackets and paragraphs, from *begin to *end; *lines: whole lines.
bool motion_object(bool around, int key, int count, int *begin, int *end, bool *lines);

#endif
