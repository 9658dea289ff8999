// SPDX-License-Identifier: MIT
// Reading one input, of one or more lines, from whoever sits at the terminal.
#ifndef NABLUA_EDITOR_H
#define NABLUA_EDITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "session.h"

// Prepares editing; `color` allows colours.
void editor_open(Session *s, bool color);

// The next input, to be freed; NULL at the end of input.  `number` is shown in the prompt.
char *editor_read(int number);

// The next input at a prompt of what is paused, the same way; a session that editor_open was not given has no editing.
char *editor_read_paused(Session *s, const char *prompt);

// A line for the program that runs, without history; NULL at the end of input or when given up.
char *editor_ask(const char *prompt, bool hidden);

// What somebody else has read is for the next input, or for whoever takes it before that: of those bytes as many as
// there are.
void editor_unread(const char *bytes, size_t length);
ssize_t editor_take(char *bytes, size_t size);

// Puts an input into the history that the arrow keys bring back.
void editor_remember(const char *input);

// What the next input begins as, for the user to edit.
void editor_prefill(const char *text);

// Empties that history.
void editor_forget(void);

// `load` is called once, when inputs are wanted that are older than those remembered so far: it remembers all.
void editor_set_older(void (*load)(void));

#endif
