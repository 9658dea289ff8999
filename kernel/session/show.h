// SPDX-License-Identifier: MIT
// Values in their representations, and the globals that show them.
#ifndef NABLUA_SHOW_H
#define NABLUA_SHOW_H

#include "state.h"

// Pushes a bundle, { type = data, ... }, of the value at `index`.
void push_bundle(lua_State *L, Session *s, int index);

// The bundle at the top of the stack, valid while it stays there.
Bundle read_bundle(lua_State *L, Session *s);

// Draws the last states of values that are updated while something runs.
int settle_values(lua_State *L);

// display, update_display, clear_output, input, breakpoint as globals.
void open_display(lua_State *L);

#endif
