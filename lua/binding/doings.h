// SPDX-License-Identifier: MIT
// What a function does beside computing: calls of functions whose doings a replay would leave out.
//
// While a plan is recorded every call is looked at, by a hook, and compared with the functions that are known to do
// something: themselves, so that another name of print is print.
#ifndef NABLUA_DOINGS_H
#define NABLUA_DOINGS_H

#include "binding.h"

// Looks from now on at the calls of the coroutine L and of those that it makes; the Lua functions that are called and
// not the library's become keys of the table at `called`.  Pushes what remembers who looked before.
void nb_doings_watch(lua_State *L, int called);

// Ends it: whoever looked before goes on.  `watch` is the index of what nb_doings_watch pushed.  False when another
// hook took its place, so that calls were missed.
bool nb_doings_leave(lua_State *L, int watch);

void nb_open_doings(lua_State *L);

#endif
