// SPDX-License-Identifier: MIT
// What keys do in a block: Enter, arrows, words, lines, completion, pastes; and the bytes that terminals send for them.
#ifndef NABLUA_KEYS_H
#define NABLUA_KEYS_H

#include <stdbool.h>

#include "session.h"

// Binds the keys, before readline reads the user's inputrc, which may bind them otherwise.
void keys_open(Session *s);

// Whether the next input is a line for a program, which Enter ends always.
void keys_ask(bool asking);

// `load` brings all older inputs into the history; it is called once, when they are first wanted.
void keys_set_older(void (*load)(void));
void keys_want_older(void);

// While a prompt has a history of its own, that of inputs is left alone.
void keys_leave_older(bool leave);

// A line up or down, in the block or at its edges through the history.
int keys_up(int count, int key);
int keys_down(int count, int key);

// Ends the input, or goes on with a new line where it is not complete; `anywhere`, also with the cursor not in the
// last line.
void keys_enter(bool anywhere);

// Begins a line at the cursor, indented as the code before it asks.
void keys_insert_line(void);

// Makes all lines comments and ends the input.
int keys_comment(int count, int key);

// A long text from a terminal without brackets around pastes comes as keys.
bool keys_are_pasted(void);

#endif
