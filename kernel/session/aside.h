// SPDX-License-Identifier: MIT
// Functions of debug that stand before Lua's own and call it where no hook of the program sees that call, which is none
// of the program's.  Their upvalue 1 is Lua's own; they have read their arguments, which it would count by one too
// many.
#ifndef NABLUA_ASIDE_H
#define NABLUA_ASIDE_H

#include <lauxlib.h>

// Puts below the arguments a state without a hook, Lua's own and the state that is meant, which it returns: the first
// argument, or else the one that asks.
lua_State *prepare_aside(lua_State *L);

// Calls Lua's own there, and leaves what it returns, or its error, behind that state; the status.
int call_aside(lua_State *L);

// Sets, for each name, the function over that of debug.
void replace_in_debug(lua_State *L, const luaL_Reg *functions);

#endif
