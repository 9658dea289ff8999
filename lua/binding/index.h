// SPDX-License-Identifier: MIT
// Indexing tensors.
#ifndef NABLUA_INDEX_H
#define NABLUA_INDEX_H

#include <lua.h>

// t[key] and t[key] = value; the tensor is at stack index 1, the key at 2, the value at 3.
int nb_index_get(lua_State *L);
int nb_index_set(lua_State *L);

// The addresses that stand for nb.ALL and nb.NEW.
void *nb_index_all(void);
void *nb_index_new(void);

#endif
