// SPDX-License-Identifier: MIT
// Rows of characters with styles, and the fewest bytes that turn what the terminal shows into them.
//
// The rows stand below each other from where the cursor was when canvas_begin was called; the terminal's own rows
// scroll up as they grow.  Nothing that is put here reaches the terminal but as a character: controls are shown.
#ifndef NABLUA_CANVAS_H
#define NABLUA_CANVAS_H

#include <stdbool.h>
#include <stddef.h>

// How characters look; further styles come from canvas_style.
enum {
  STYLE_PLAIN,
  STYLE_KEYWORD,
  STYLE_NUMBER,
  STYLE_STRING,
  STYLE_COMMENT,
  STYLE_COMMAND,
  STYLE_PROMPT,
  STYLE_NOTE,        // what is not part of the text: descriptions, marks
  STYLE_SUGGESTION,  // what could be typed
  STYLE_BRACKET,     // the one at the cursor and its partner
  STYLE_FOUND,       // what a search has found
  STYLE_CHOSEN,      // of a menu
  STYLE_COUNT
};

// Whether colours are allowed, and whether the terminal shows UTF-8; if not, what is no ASCII is shown as \xE2.
void canvas_open(bool color, bool utf8);

bool canvas_is_colored(void);
bool canvas_is_utf8(void);

// Sets what a style sends ("\033[35m"; "" for nothing).  False when it is no SGR sequence.
bool canvas_set_style(int style, const char *code);

// The style for a code that somebody wrote himself; plain when there are too many, or colours are not allowed.
int canvas_style(const char *code, size_t length);

// ---- measuring ----

// One character as it is shown: bytes of the text that it takes, and columns.  A tab fills up to a multiple of 4
// columns, `column` being where it begins.
size_t canvas_measure(const char *text, size_t length, int column, int *columns);

// ---- painting ----

// Begins a picture of rows of so many columns, of which `most` are kept after the first `skip`.
void canvas_start(int width, int skip, int most);

// Puts a character with as many columns as canvas_measure says, in the next row where there is no room; a row that is
// full is followed by another.  False when what follows would not be kept.
bool canvas_put(const char *text, size_t length, int columns, int style);

// Puts a text in one row, cut to `most` columns.  Returns the columns it took.
int canvas_put_cut(const char *text, size_t length, int most, int style);

void canvas_next_row(void);

// The column in the row where the next character goes.
int canvas_column(void);

// Allows so many rows from here on.
void canvas_more(int most);

// How many rows there are, those skipped included.
int canvas_rows(void);

// The terminal's cursor will be here.
void canvas_put_cursor(void);

// ---- showing ----

// Rows are shown from the terminal's cursor on, which is at the beginning of a row.
void canvas_begin(void);

// The terminal has become so wide and wraps what is shown anew.
void canvas_rewrap(int width);

// Sends what differs from what is shown.
void canvas_show(void);

// Sends the picture as running text in the place of what is shown, and leaves the cursor behind it: the terminal wraps
// it where it is wide, and may keep it when it scrolls.
void canvas_print_begin(void);
void canvas_print(const char *text, size_t length, int columns, int style);
void canvas_print_line_end(void);
void canvas_print_end(void);

#endif
