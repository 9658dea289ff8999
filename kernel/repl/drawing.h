// SPDX-License-Identifier: MIT
// How the input that is being edited looks: coloured as Lua, its lines below each other, with the menu of completions
// or a suggestion.  Built where readline edits.
#ifndef NABLUA_DRAWING_H
#define NABLUA_DRAWING_H

#include <stdbool.h>

#include "session.h"

// `color` allows colours.
void drawing_open(bool color);

// The next drawing begins where the cursor is.  `continued` is the prompt of further lines; NULL: as before.
void drawing_begin(const char *continued);

// Draws readline's line; what is below it is cleared.
void drawing_redraw(void);

// Draws it for the last time, without what only editing needs.
void drawing_finish(void);

// ---- the menu of completions ----

// Shows the completions below the text until a key closes them; their texts must stay as long.
void menu_open(const Completions *list);

bool menu_is_open(void);

// Whether one of them was put into the text.
bool menu_has_chosen(void);

// The next (1) or the one before (-1): returns its text, and the bytes of the line that it replaces.
const char *menu_choose(int by, int *begin, int *end);

// ---- the suggestion ----

// What the last input that begins like this one goes on with, or NULL.
const char *drawing_suggestion(void);

#endif
