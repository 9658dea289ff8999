// SPDX-License-Identifier: MIT
// Places in the block that readline holds as one text.
#ifndef NABLUA_BLOCK_H
#define NABLUA_BLOCK_H

#include <stdbool.h>

// The beginning and the end of the line that byte `at` is in.
int block_line_begin(int at);
int block_line_end(int at);

// The first byte of the line that is no blank, or its end.
int block_indent_end(int at);

// The next character's byte, and that of the one before.
int block_next(int at);
int block_before(int at);

// Bytes from the line's beginning to byte `at` in columns, and back: the byte of line `at` at that column.
int block_column(int at);
int block_at_column(int at, int column);

// Where the next word ends, and where the one that ends before begins: words of letters and digits.
int block_word_end(int at);
int block_word_begin(int at);

// Puts a text in the place of the bytes from `begin` to `end`; one step to undo.
void block_replace(int begin, int end, const char *text);

// Whether vi's keys are commands now and not text, and the other way round.
bool block_is_vi(void);
bool block_in_commands(void);
void block_enter_commands(void);
void block_leave_commands(void);

// What the prompt shows of the mode: ":" for commands in place of ">", or what the inputrc asks for before it.
const char *block_mode_mark(void);

// The keymap of vi's commands; readline's own one makes it step back from an empty last line.
void block_open(void);

#endif
