// SPDX-License-Identifier: MIT
// Whether an interrupt has come while an input is read.
#ifndef NABLUA_STOP_H
#define NABLUA_STOP_H

#include <stdbool.h>

// Notes an interrupt: the input at the prompt is given up.  Safe in a signal handler.
void stop_input(void);

// The same, and there will be no further input.  Safe in a signal handler.
void stop_inputs(void);

// Whether the input is given up; and whether there will be none.
bool stop_is_asked(void);
bool stop_is_for_good(void);

// An input begins.
void stop_forget(void);

#endif
