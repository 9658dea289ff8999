// SPDX-License-Identifier: MIT
// Update rules as Lua gives them.
#ifndef NABLUA_OPTIMIZER_H
#define NABLUA_OPTIMIZER_H

#include <lua.h>

#include "nablua/optimize.h"

// The numbers of an update rule from stack index `at` on: kind, the names of what is remembered, then lr, weight_decay,
// momentum, dampening, nesterov, beta1, beta2, eps, decoupled.
OptimizerRule nb_rule_at(lua_State *L, int at);

#endif
