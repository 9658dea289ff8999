// SPDX-License-Identifier: MIT
// What inspection tells Lua of nodes and calls.
#ifndef NABLUA_INSPECT_H
#define NABLUA_INSPECT_H

#include <lua.h>

#include "nablua/op.h"

// What inspection tells Lua of nodes and calls: a node of the tape as a userdata; the fields source and line of the
// table on top; an address as a number.
void nb_push_node(lua_State *L, Node *n);
void nb_set_site(lua_State *L, Site site);
void nb_push_id(lua_State *L, const void *object);

// A list of tensors, false where there is none.
void nb_push_tensors(lua_State *L, Tensor *const *list, int count);

// Adds to the table on top what is known of an operator that was applied: inputs args outputs modules source line op
// in_place order.
struct Applied;
void nb_push_applied(lua_State *L, const struct Applied *a);

// Whether somebody looks at single operators in what L runs.
bool nb_observed(lua_State *L);

// Whether a profile is under way.
bool nb_profiled(void);

#endif
