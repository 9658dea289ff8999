// SPDX-License-Identifier: MIT
// What an evaluation adds to the history, where one is open.
#ifndef NABLUA_HISTORY_H
#define NABLUA_HISTORY_H

#include "session.h"

// The input of the session's number, and the text of its value.
void remember_input(Session *s, const char *code, size_t length);
void remember_output(Session *s, const char *text, size_t length);

#endif
