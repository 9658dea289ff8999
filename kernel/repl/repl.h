// SPDX-License-Identifier: MIT
// The prompt.
#ifndef NABLUA_REPL_H
#define NABLUA_REPL_H

#include "session.h"

// Reads and evaluates inputs until the end of standard input.
void repl_run(Session *s);

// A line for the program that runs, to be freed; NULL at the end of input.  The time it takes is not the input's.
char *repl_ask(const char *prompt, bool hidden);

// An input at a prompt of what is paused; see Sink.
bool repl_paused(void *session, const char *prompt, char **input, size_t *length);

// Whether the terminal shows colours and nobody asked for none.
bool repl_colors(void);

#endif
