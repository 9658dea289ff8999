// SPDX-License-Identifier: MIT
// Tensors as userdata of one pointer, which holds one reference.
//
// One is pushed empty and filled afterwards, so that a Lua error in between leaves a valid object.
#ifndef NABLUA_USERDATA_H
#define NABLUA_USERDATA_H

#include <lauxlib.h>
#include <lua.h>

#include "nablua/tensor.h"

// Pushes an empty tensor userdata; the caller fills the slot with an owned reference.
Tensor **nb_new_tensor(lua_State *L);

// The same where the metatable of tensors is at hand, at stack index `metatable`.
Tensor **nb_new_tensor_of(lua_State *L, int metatable);

// Pushes a tensor of one number and no dimension, of its own memory.  Its metatable is at stack index `metatable`.
void nb_push_scalar_of(lua_State *L, int metatable, DType dtype, const void *value);

// Pushes `t`, an owned reference, which is released if Lua has no memory for the userdata.
void nb_push_tensor(lua_State *L, Tensor *t);

#ifdef NB_HOSTILE
extern int nb_collect_every;  // tensors made between two whole collections; 0: as in other builds
#endif

// Lets the next tensor tell Lua's collector how many bytes this one holds.  Call it once a slot
// from nb_new_tensor is filled with fresh memory.
void nb_feed_collector(const Tensor *t);

// After an error of memory: collects all garbage, and tells whether there was some, so that what failed may be tried
// again.  Nothing may be half-made, as finalizers run.
bool nb_collect_for(lua_State *L, const Error *err);

// Whether what an interrupt has stopped before it changed anything is to be tried once more, since the interrupt waits.
bool nb_stop_is_put_off(lua_State *L, const Error *err);

// Fills an empty slot with a tensor of fresh memory; raises an error where there is none.
void nb_fill_slot(lua_State *L, Tensor **slot, const Layout *layout);

// The tensor at `index`, borrowed; NULL when there is none.
Tensor *nb_test_tensor(lua_State *L, int index);

// The same; raises an error when it is none, or a released one.
Tensor *nb_check_tensor(lua_State *L, int index);

// The userdata at `index` that is of the kind whose __gc is `collect`; NULL when it is another's.  What Lua's collector
// calls, users can find and call with anything.
void *nb_collected_by(lua_State *L, int index, lua_CFunction collect);

// For whoever looks for cycles (cycles.h): what to call when all garbage is wanted, and when a state closes.
typedef struct BoxWatcher {
  void (*collect)(lua_State *L);
  void (*closed)(void);
} BoxWatcher;
void nb_watch_boxes(const BoxWatcher *watcher);

// While it is on, the userdata of tensors that are made can be found by nb_push_box; nb_note_box adds an older one.
void nb_note_boxes(bool on);
void nb_note_box(lua_State *L, int index);

// Calls f for the tensor of every userdata, in all Lua states; `registry` stands for the state that it is of.
void nb_each_box(void (*f)(void *user, Tensor *t, const void *box, const void *registry), void *user);

// Pushes the userdata; false, and nothing pushed, when it was not noted or is garbage.
bool nb_push_box(lua_State *L, const void *box);

// The value at `index` where it is a scalar of whose tensor nobody has asked yet, and its dtype; else NULL.
const char *nb_bare_scalar(lua_State *L, int index, DType *dtype);

// "a number", "a tensor", "nil": what the user passed, for error sentences.
const char *nb_kind_of(lua_State *L, int index);

// The tensor's metatable, that of scalars, and the table of its methods.
void nb_push_metatable(lua_State *L);
void nb_push_scalar_metatable(lua_State *L);
void nb_open_metatable(lua_State *L);         // makes that of tensors, with its finalizer
void nb_open_scalar_metatable(lua_State *L);  // makes that of scalars of all that is in that of tensors by then
void nb_push_methods(lua_State *L);
void nb_set_methods(lua_State *L);  // takes the table on top for it

// Makes the metatable of a kind of userdata, registered under `name`: its finalizer, and the functions that its values
// have as methods (NULL: none).
void nb_make_class(lua_State *L, const char *name, lua_CFunction finalizer, const luaL_Reg *methods);

#endif
