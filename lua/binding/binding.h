// SPDX-License-Identifier: MIT
// What the files of the binding share: tensors as userdata, errors at the user's line.
//
// A tensor is a userdata of one pointer that holds one reference.  It is pushed empty and filled
// afterwards, so that a Lua error in between leaves a valid object.  A C function here has one
// shape: check the arguments, call the library, push the results.
#ifndef NABLUA_BINDING_H
#define NABLUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "nablua/op.h"
#include "nablua/optimize.h"
#include "nablua/tensor.h"

// Pushes an empty tensor userdata; the caller fills the slot with an owned reference.
Tensor **nb_new_tensor(lua_State *L);

// The same where the metatable of tensors is at hand, at stack index `metatable`.
Tensor **nb_new_tensor_of(lua_State *L, int metatable);

// Pushes a tensor of one number and no dimension, of its own memory.  Its metatable is at stack index `metatable`.
void nb_push_scalar_of(lua_State *L, int metatable, DType dtype, const void *value);

// Pushes `t`, an owned reference, which is released if Lua has no memory for the userdata.
void nb_push_tensor(lua_State *L, Tensor *t);

// Lets the next tensor tell Lua's collector how many bytes this one holds.  Call it once a slot
// from nb_new_tensor is filled with fresh memory.
void nb_feed_collector(const Tensor *t);

// The tensor at `index`, borrowed; NULL when there is none.
Tensor *nb_test_tensor(lua_State *L, int index);

// The same; raises an error when it is none, or a released one.
Tensor *nb_check_tensor(lua_State *L, int index);

// The value at `index` where it is a scalar of whose tensor nobody has asked yet, and its dtype; else NULL.
const char *nb_bare_scalar(lua_State *L, int index, DType *dtype);

// Throws with the user's source line in front and the network's layer behind.
int nb_raise(lua_State *L, const Error *err);
int nb_raisef(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));

// "a number", "a tensor", "nil": what the user passed, for error sentences.
const char *nb_kind_of(lua_State *L, int index);

// Of the strings in a NULL-ended list, the one nearest to `name`, or NULL when none is near.
const char *nb_nearest(const char *name, const char *const *list);

// Adds a function for each operator to the table on top, in-place forms as name_; internal rows go
// to the table below it.
void nb_open_ops(lua_State *L);

// Adds to the table on top: `nablua.core`, which becomes `nb`.
void nb_open_core(lua_State *L);

// Adds to the table on top: `nablua.native`, what Lua sources of the module use and users do not.
void nb_open_tensor(lua_State *L);
void nb_open_raise(lua_State *L);
void nb_open_raster(lua_State *L);
void nb_open_process(lua_State *L);
void nb_open_rows(lua_State *L);
void nb_open_machine(lua_State *L);
void nb_open_io(lua_State *L);
void nb_open_inspect(lua_State *L);
void nb_open_observe(lua_State *L);
void nb_open_anomaly(lua_State *L);
void nb_open_measure(lua_State *L);
void nb_open_callback(lua_State *L);
void nb_open_custom(lua_State *L);
void nb_open_compile(lua_State *L);
void nb_open_optimizer(lua_State *L);

// The tensor's metatable, that of scalars, and the table of its methods.
void nb_push_metatable(lua_State *L);
void nb_push_scalar_metatable(lua_State *L);
void nb_open_metatable(lua_State *L);         // makes that of tensors, with its finalizer
void nb_open_scalar_metatable(lua_State *L);  // makes that of scalars of all that is in that of tensors by then
void nb_push_methods(lua_State *L);

// Pushes the tensor's rows as text, at most `columns` wide.
void nb_push_text(lua_State *L, const Tensor *t, int columns);

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

// t[key] and t[key] = value; the tensor is at stack index 1, the key at 2, the value at 3.
int nb_index_get(lua_State *L);
int nb_index_set(lua_State *L);

// The addresses that stand for nb.ALL and nb.NEW.
void *nb_index_all(void);
void *nb_index_new(void);

// nb.grad(J, {a, b}, options): dJ/da, dJ/db; one tensor in place of the list gives one gradient.
int nb_lua_grad(lua_State *L);

// The numbers of an update rule from stack index `at` on: kind, the names of what is remembered, then lr, weight_decay,
// momentum, dampening, nesterov, beta1, beta2, eps, decoupled.
OptimizerRule nb_rule_at(lua_State *L, int at);

// Whether somebody looks at single operators in what L runs.
bool nb_observed(lua_State *L);

// The interpreter state that last called into the library: the one whose line a node remembers.
void nb_enter(lua_State *L);
lua_State *nb_entered(void);

// Pushes a list of the modules whose calls are on the stack, outermost first; returns their number.
int nb_push_modules(lua_State *L);

// What inspection tells Lua of nodes and calls: a node of the tape as a userdata; the fields source and line of the
// table on top; an address as a number; an argument that is no tensor.
void nb_push_node(lua_State *L, Node *n);
void nb_set_site(lua_State *L, Site site);
void nb_push_id(lua_State *L, const void *object);
void nb_push_plain(lua_State *L, const Param *p, const Value *v);

#endif
