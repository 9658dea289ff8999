// SPDX-License-Identifier: MIT
// Calling Lua from within the library: hooks and operators that users write.
//
// The library calls a C function, which calls Lua in protected mode.  What Lua raises is kept, the library comes back
// with NB_ERROR_CALLBACK and everything released, and nb_raise throws what was kept: the same value, not a copy of its
// text.
#ifndef NABLUA_CALLBACK_H
#define NABLUA_CALLBACK_H

#include "binding.h"

// Calls f(L) with `data` as a light userdata at index 1.  It may leave results for nobody; on failure `err` is filled.
bool nb_call_lua(lua_CFunction f, void *data, Error *err);

// A Lua value that C holds.
typedef struct Held {
  lua_State *home;  // the main thread, which lives as long as the registry
  int ref;
} Held;

// Holds the value on top, which is popped.
Held nb_hold(lua_State *L);

void nb_push_held(lua_State *L, Held held);

// Lets go; allowed at any time, finalizers included, and raises no error.
void nb_let_go(Held held);

#endif
