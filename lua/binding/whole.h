// SPDX-License-Identifier: MIT
// Calls that an interrupt waits for.
#ifndef NABLUA_WHOLE_H
#define NABLUA_WHOLE_H

#include <lua.h>

// Calls the function that stands below `arguments` values, which must not yield, and returns how many results are on
// top of the stack.  Interrupts wait until the C function that runs returns, so that this is the last thing it does.
int nb_call_whole(lua_State *L, int arguments);

#endif
