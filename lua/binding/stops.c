// SPDX-License-Identifier: MIT
// Telling a Lua function what is applied and walked back while stops are armed, for lua/inspect/stop.lua.
#include "arguments.h"
#include "callback.h"
#include "inspect.h"
#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/tape.h"
#include "open.h"

static const char handler_key;

typedef struct Visit {
  Node *node;
  Tensor *const *grad, *const *given;
} Visit;

static int deliver_applied(lua_State *L) {
  const Applied *a = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key);
  lua_createtable(L, 0, 12);
  nb_push_applied(L, a);
  lua_call(L, 1, 0);
  return 0;
}

// What the node still has of its operands.
static void push_saved(lua_State *L, const Node *n) {
  lua_newtable(L);
  for (TensorWalk w = nb_tensors_of(n->op, n->args); nb_next_tensor(&w);) {
    if (!(*w.slot)->storage) continue;
    nb_push_tensor(L, nb_tensor_retain(*w.slot));
    lua_rawseti(L, -2, w.edge + 1);
  }
}

static int deliver_visited(lua_State *L) {
  const Visit *v = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key);
  lua_createtable(L, 0, 12);
  lua_pushstring(L, v->node->op->name);
  lua_setfield(L, -2, "op");
  lua_pushinteger(L, (lua_Integer)v->node->order);
  lua_setfield(L, -2, "order");
  nb_set_site(L, v->node->site);
  nb_push_tensors(L, v->grad, NB_MAX_OUTPUTS);
  lua_setfield(L, -2, "grads");
  nb_push_tensors(L, v->given, v->node->edge_count);
  lua_setfield(L, -2, "given");
  push_saved(L, v->node);
  lua_setfield(L, -2, "inputs");
  lua_call(L, 1, 0);
  return 0;
}

static bool on_applied(void *user, const Applied *a, Error *err) {
  (void)user;
  return nb_call_lua(deliver_applied, (void *)(uintptr_t)a, err);
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  Visit v = {n, grad, given};
  (void)user;
  return nb_call_lua(deliver_visited, &v, err);
}

static Listener ear = {.voice = NB_OUTER, .applied = on_applied, .visited = on_visited};

// native.stops(f): f is called with a table for every operator and backward rule, and may raise an error; nil ends it.
static int stops(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  nb_unlisten(&ear);
  if (!lua_isnil(L, 1)) {
    nb_tell_unrepeatable("it is looked at by a stop");
    nb_listen(&ear);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
  return 0;
}

void nb_open_stops(lua_State *L) {
  lua_pushcfunction(L, stops);
  lua_setfield(L, -2, "stops");
}
