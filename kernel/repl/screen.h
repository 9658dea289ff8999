// SPDX-License-Identifier: MIT
// What is written to the terminal passes here and is counted, so that a value shown with an id can be redrawn where
// it stands, whatever was printed below it.
//
// Where standard output is no terminal, or one that cannot move its cursor, a value is written when it is first
// shown and, if it was updated, once more at the input's end.
#ifndef NABLUA_SCREEN_H
#define NABLUA_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// Takes stdout and stderr over; to be called before anything keeps them.
void screen_open(void);

// Lets a value's place in the output be updated no more, and clear_output reach no further back than here: an input
// begins.
void screen_begin(void);

// The same for a program that writes to the terminal itself.
void screen_lend(void);

// Writes the last states of what was updated, where that could not be done in place.
void screen_finish(void);

// Shows a text of whole lines; one with an id in the place of the text that was shown with it, if that is an update.
void screen_show(const char *text, size_t length, const char *id, bool update);

// A line that stands below all that is written until another takes its place, or none: NULL.  It may hold colours, and
// is narrower than the terminal.
void screen_set_footer(const char *text);

// Goes to the beginning of a line.
void screen_fresh_line(void);

// Clears what was written since screen_begin; with `wait` when something more is written.
void screen_clear(bool wait);

// Makes the terminal put what is pasted in brackets, or no longer.
void screen_accept_pastes(bool accept);

// Whether what is written goes to a terminal that can move its cursor; to another no escape sequence may be sent.
bool screen_can_move_cursor(void);

// The stream that stdout was: the terminal itself.
FILE *screen_stream(void);

typedef struct ScreenSize {
  int rows, columns;
} ScreenSize;

ScreenSize screen_size(void);

#endif
