// SPDX-License-Identifier: MIT
// Calling Lua from outside: the one way into what the user wrote.
#ifndef NABLUA_CALL_H
#define NABLUA_CALL_H

#include "state.h"

// Calls the function below its `arguments` on the stack, so that an interrupt stops it; the results replace them.  An
// error goes to the sink, and nothing is left of the call.
SessionStatus protected_call(Session *s, int arguments, int results);

// What is known of an error on its way: pushed, and popped again behind a visitor.
void problem_aside(lua_State *V);
void problem_back(lua_State *V);

#endif
