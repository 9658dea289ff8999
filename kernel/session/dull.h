// SPDX-License-Identifier: MIT
// Functions whose calls the debugger need not look at, while it looks for breakpoints alone.
#ifndef NABLUA_DULL_H
#define NABLUA_DULL_H

#include <lua.h>
#include <stdbool.h>

// Whether the function that a frame runs is one; takes a few instructions.
bool is_dull_call(const lua_Debug *ar);

// Notes that the one of a frame is, where that may be kept; its source is known, and it has no breakpoint.
void note_dull(lua_State *L, lua_Debug *ar);

// Breakpoints have changed.
void forget_dull(lua_State *L);

#endif
