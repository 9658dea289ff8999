// SPDX-License-Identifier: MIT
// How the input that is being edited looks: coloured as Lua, its lines below each other, with the menu of completions,
// a suggestion or the call that is being written.  Of a block taller than the screen a part is shown, which follows
// the cursor.  Built where readline edits.
#ifndef NABLUA_DRAWING_H
#define NABLUA_DRAWING_H

#include <stdbool.h>

#include "lines.h"
#include "session.h"

// What a search shows below the block.
typedef struct DrawingSearch {
  const char *label, *text;
  int begin, end;  // bytes of the block that it has found; equal: none
} DrawingSearch;

// The next drawing begins where the cursor is.  `continued` is the prompt of further lines; NULL: as before.
void drawing_begin(const char *continued);

// Draws readline's line; what is below it is cleared.
void drawing_redraw(void);

// Draws it, unless bytes that were typed meanwhile will change it at once; then drawing_catch_up does.
void drawing_key(void);
void drawing_catch_up(void);

// Draws it for the last time, without what only editing needs, and goes to the row below.
void drawing_finish(const char *behind);

// Whether that was done since an input was begun: some of readline's own commands end an input, too.
bool drawing_is_finished(void);

// After the terminal has become wider or narrower.
void drawing_resized(void);

// Shows the search until it is called with NULL.
void drawing_search(const DrawingSearch *search);

// The lines of readline's line as it is now; NULL without memory.
const Lines *drawing_lines(void);

// How many bytes from the beginning nothing has changed since it was last asked.
size_t drawing_unchanged(void);

// How many rows of the block fit on the screen.
int drawing_height(void);

// What the user has set: whether brackets are marked.
void drawing_mark_brackets(bool mark);

#endif
