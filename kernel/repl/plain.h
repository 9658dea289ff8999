// SPDX-License-Identifier: MIT
// Reading inputs line by line, as the terminal or a pipe gives them.
#ifndef NABLUA_PLAIN_H
#define NABLUA_PLAIN_H

#include "session.h"

// A line without its end, to be freed; NULL at the end of input.
char *plain_line(const char *prompt);

// The next input, of as many lines as it needs; NULL at the end of input.  An empty line belongs to it; at a terminal
// a second one ends it as it is, unless more is on its way.
char *plain_read(Session *s, const char *prompt, const char *continued, char *(*read_line)(const char *prompt));

#endif
