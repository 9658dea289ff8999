// SPDX-License-Identifier: MIT
// Functions whose calls the debugger need not look at, while it looks for breakpoints alone.
#ifndef NABLUA_DULL_H
#define NABLUA_DULL_H

#include <lua.h>
#include <stdbool.h>

// Whether the function that a frame of L runs is one, of Lua or of C; takes a few instructions.
typedef enum Dull { NOT_DULL, DULL_LUA, DULL_C } Dull;
Dull dull_call(lua_State *L, const lua_Debug *ar);

// Notes that the one of a frame is, where that may be kept; its source is known, and it has no breakpoint.
void note_dull(lua_State *L, lua_Debug *ar);

// Breakpoints have changed.
void forget_dull(lua_State *L);

#endif
