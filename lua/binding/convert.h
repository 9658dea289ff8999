// SPDX-License-Identifier: MIT
// Between Lua values and tensors.
#ifndef NABLUA_CONVERT_H
#define NABLUA_CONVERT_H

#include <lua.h>

#include "nablua/tensor.h"

// Pushes a tensor made from the number, boolean, nested table or tensor at `index`.
// `dtype` NB_DTYPES chooses: bool for booleans, f32 for numbers.
Tensor *nb_push_from_lua(lua_State *L, int index, DType dtype);

// Pushes a tensor of the number, boolean or nested table at `index`, to be written into one of `dtype`: what would
// not fit there keeps its value, so that the operator can refuse it.
Tensor *nb_push_value(lua_State *L, int index, DType dtype);

// Pushes nested tables of the tensor's values.
void nb_push_table(lua_State *L, const Tensor *t);

// Pushes the value of one element: a number (integer or float as the dtype says) or a boolean.
void nb_push_element(lua_State *L, const Tensor *t, int64_t offset);

// Pushes the number at `at`, likewise.
void nb_push_number(lua_State *L, DType dtype, const char *at);

#endif
