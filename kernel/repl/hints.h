// SPDX-License-Identifier: MIT
// What is shown beside the text that is typed: how it may go on, by what was typed before, and the parameters of the
// call that the cursor is in.
#ifndef NABLUA_HINTS_H
#define NABLUA_HINTS_H

#include <stdbool.h>
#include <stddef.h>

#include "lines.h"
#include "session.h"

// May stand behind the cursor; NULL when nothing is known.  Valid until the history changes.
typedef struct Suggestion {
  const char *text;
  size_t length;
} Suggestion;

void hints_open(Session *s);

// Which of them are shown.
void hints_set(bool suggestions, bool calls);

// Whether an input is typed, and not a line that a program asks for.
void hints_for_input(bool input);
bool hints_are_for_input(void);

// The rest of the last input that begins like the block, when the cursor is at its end; inside of a block the rest of
// a line.  It is shown in its colour, so only with colours.
Suggestion hints_suggestion(const Lines *lines);

// The parameters of the innermost call around the cursor, as help shows them, or NULL; then it can be painted.
const char *hints_call(const Lines *lines);
void hints_paint_call(int width);

#endif
