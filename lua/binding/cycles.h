// SPDX-License-Identifier: MIT
// Cycles through C: what only the library's references and Lua's together keep alive.
#ifndef NABLUA_CYCLES_H
#define NABLUA_CYCLES_H

#include <lua.h>

#include "nablua/references.h"

// What a hook or an object of an argument holds of Lua, by its place in the table of what is held; 0 when it is not the
// binding's.
typedef struct HeldKinds {
  int (*of_hook)(const HookFunction *f);
  int (*of_object)(const Object *object);
} HeldKinds;
extern HeldKinds nb_held_kinds;

// Called before something more is held: now and then, when much is, looks for cycles.
void nb_cycles_pace(lua_State *L);

// Looks for cycles now, with a whole collection by Lua.
void nb_cycles_break(lua_State *L);

// ---- what is held: a table in the registry, whose places are numbers ----

int nb_held_add(lua_State *L);  // takes the value on top
void nb_held_push(lua_State *L, int place);
void nb_held_remove(lua_State *L, int place);

#endif
