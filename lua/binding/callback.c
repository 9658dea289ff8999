// SPDX-License-Identifier: MIT
// Calling Lua from within the library; hooks of tensors.
#include "callback.h"

#include "cycles.h"
#include "flags.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "open.h"

bool nb_call_lua(lua_CFunction f, void *data, Error *err) {
  lua_State *L = nb_entered();
  if (!L || !lua_checkstack(L, 10)) return nb_fail(err, NB_ERROR_MEMORY, "no memory for Lua's stack");
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, data);
  int status = lua_pcall(L, 1, 0, 0);
  nb_enter(L);  // the function may have run coroutines, which entered too and are gone
  if (status == LUA_OK) return true;
  nb_keep(L);
  return nb_fail(err, NB_ERROR_CALLBACK, "an error in a Lua function");
}

Held nb_hold(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *home = lua_tothread(L, -1);
  lua_pop(L, 1);
  return (Held){home, nb_held_add(L)};
}

void nb_push_held(lua_State *L, Held held) {
  nb_held_push(L, held.ref);
}

// In the main thread, since the one that made the reference may be gone.  luaL_unref writes to keys that exist.
void nb_let_go(Held held) {
  nb_held_remove(held.home, held.ref);
}

// ---- hooks ----

typedef struct HookCall {
  const Held *function;
  Tensor *grad, *out;
} HookCall;

static int call_hook(lua_State *L) {
  HookCall *c = lua_touserdata(L, 1);
  nb_push_held(L, *c->function);
  if (lua_isnil(L, -1)) {  // garbage, of a tape that a finalizer walks once more
    c->out = nb_tensor_retain(c->grad);
    return 0;
  }
  nb_push_tensor(L, nb_tensor_retain(c->grad));
  lua_call(L, 1, 1);
  if (lua_isnil(L, -1)) {
    c->out = nb_tensor_retain(c->grad);
    return 0;
  }
  Tensor *t = nb_test_tensor(L, -1);
  if (!t) return nb_raisef(L, "a hook must return a tensor, the new gradient, or nothing, got %s", nb_kind_of(L, -1));
  c->out = nb_tensor_retain(t);
  return 0;
}

static Tensor *hook_called(void *user, Tensor *grad, Error *err) {
  HookCall c = {user, grad, NULL};
  return nb_call_lua(call_hook, &c, err) ? c.out : NULL;
}

static void hook_released(void *user) {
  Held *function = user;
  nb_let_go(*function);
  nb_free(function, sizeof *function);
}

static int held_by_hook(const HookFunction *f) {
  return f->call == hook_called ? ((const Held *)f->user)->ref : 0;
}

static const char handle_name[] = "nablua.hook";

static int remove_hook(lua_State *L) {
  Hook **h = luaL_checkudata(L, 1, handle_name);
  nb_hook_remove(*h);
  nb_note_flags();
  return 0;
}

static int collect_handle(lua_State *L) {
  nb_hook_release(luaL_checkudata(L, 1, handle_name));
  return 0;
}

// t:register_hook(f)
static int register_hook(lua_State *L) {
  Error err;
  Tensor *t = nb_check_tensor(L, 1);
  lua_settop(L, 2);
  if (!lua_isfunction(L, 2) && luaL_getmetafield(L, 2, "__call") == LUA_TNIL)
    return nb_raisef(L, "register_hook: needs a function, got %s", nb_kind_of(L, 2));
  Hook **h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = NULL;
  luaL_setmetatable(L, handle_name);
  nb_cycles_pace(L);
  lua_pushvalue(L, 2);
  Held held = nb_hold(L), *function = nb_alloc(sizeof *function, &err);
  if (function) {
    *function = held;
    *h = nb_tensor_hook(t, (HookFunction){hook_called, hook_released, function}, &err);
    if (!*h) nb_free(function, sizeof *function);
  }
  nb_note_flags();
  nb_note_box(L, 1);
  if (*h) return 1;
  nb_let_go(held);
  return nb_raise(L, &err);
}

void nb_open_callback(lua_State *L) {
  nb_held_kinds.of_hook = held_by_hook;
  luaL_newmetatable(L, handle_name);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, remove_hook);
  lua_setfield(L, -2, "remove");
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, collect_handle);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pushliteral(L, "hook");
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
  nb_push_methods(L);
  lua_pushcfunction(L, register_hook);
  lua_setfield(L, -2, "register_hook");
  lua_pop(L, 1);
}
