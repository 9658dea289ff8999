// SPDX-License-Identifier: MIT
// nb.grad, which becomes a field of `nb`.
#ifndef NABLUA_BACKWARD_H
#define NABLUA_BACKWARD_H

#include <lua.h>

// nb.grad(J, {a, b}, options): dJ/da, dJ/db; one tensor in place of the list gives one gradient.
int nb_lua_grad(lua_State *L);

#endif
