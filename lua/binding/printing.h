// SPDX-License-Identifier: MIT
// A tensor as text.
#ifndef NABLUA_PRINTING_H
#define NABLUA_PRINTING_H

#include <lua.h>

#include "nablua/tensor.h"

// Pushes the tensor's rows as text, at most `columns` wide.
void nb_push_text(lua_State *L, const Tensor *t, int columns);

#endif
