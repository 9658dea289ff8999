// SPDX-License-Identifier: MIT
// What a function finds outside, and whether it is still the same.
//
// A guard is a userdata made by walking from a function: the upvalues of Lua functions, the fields and metatables of
// tables, and of globals and of the library's tables those whose names the code mentions.
//
//   function ──► upvalue net ──► net[1] ──► weight, bias, in_features ...
//            └─► _ENV, by the names it asks for ──► lr ──► lr.v
//
// It holds what it saw, so that no address becomes another's, and is held by its owner alone, so that what reaches
// itself through it can be collected.  What has a way of its own to be written to is not looked at but counted: the
// flags and hooks of tensors, the hooks of modules, the options of optimizers.
#ifndef NABLUA_GUARD_H
#define NABLUA_GUARD_H

#include "binding.h"

typedef struct Guard Guard;

// Pushes a guard over what the function at `f` finds outside, and over the tables and functions that are keys of the
// table at `roots` (0: none).  NULL, with the clause why not on top, where something cannot be watched.
Guard *nb_push_guard(lua_State *L, int f, int roots);

// Whether all is as it was seen.  It may say no where only the order of a table's fields is another.
bool nb_guard_holds(const Guard *g);

// The same of the guard at `index`, looking closer: false with the name of what is another on top ("lr.v").
bool nb_guard_holds_all(lua_State *L, int index);

// The function that a compiled one stands for is kept under this key of its table.
void *nb_guard_function_key(void);

void nb_open_guard(lua_State *L);

#endif
