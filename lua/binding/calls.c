// SPDX-License-Identifier: MIT
// Calls of modules, and who hears of them.
#include <string.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua_lua.h"
#include "open.h"
#include "sites.h"
#include "visits.h"

static bool traced;  // somebody listens to the calls of modules
static const Quiet *quieter;
static bool looks;  // one of these is there
static const char trace_key;

// trace(module, whether it enters, its input or result)
static void tell_trace(lua_State *L, bool enters, int base) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &trace_key);
  lua_pushvalue(L, 1);
  lua_pushboolean(L, enters);
  if (enters)
    lua_pushvalue(L, base >= 2 ? 2 : 1);
  else if (lua_gettop(L) - 3 > base)
    lua_pushvalue(L, base + 1);
  else
    lua_pushnil(L);
  lua_call(L, 3, 0);
}

// native.trace(f): f hears of every call of a module; nil ends it.
static int trace(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  traced = !lua_isnil(L, 1);
  looks = traced || quieter;
  lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
  return 0;
}

void nb_calls_aside(lua_State *V) {
  lua_pushboolean(V, traced);
  lua_rawgetp(V, LUA_REGISTRYINDEX, &trace_key);
  traced = false;
  looks = quieter != NULL;
}

void nb_calls_back(lua_State *V) {
  lua_rawsetp(V, LUA_REGISTRYINDEX, &trace_key);
  traced = lua_toboolean(V, -1);
  looks = traced || quieter;
  lua_pop(V, 1);
}

// ---- calls in which no code of the user's runs ----

void nablua_on_quiet(const Quiet *q) {
  quieter = q;
  looks = traced || quieter;
}

void nb_caught(lua_State *L) {
  if (quieter) quieter->caught(quieter->user, L);
}

// What is known of functions and metatables, by their addresses, which stay theirs while the library holds them;
// nothing where more than one Lua state was opened.
enum { LEAF = 1, CHAIN, CLASS, KINDS = 1024 };
static struct {
  const void *what;
  int kind;
} known[KINDS];
static int known_count, states;

static inline int slot_of(const void *what) {
  unsigned i = (unsigned)((uintptr_t)what * 0x9E3779B97F4A7C15u >> 54);
  while (known[i].what && known[i].what != what) i = (i + 1) & (KINDS - 1);
  return (int)i;
}

static void know(const void *what, int kind) {
  if (states > 1 || known_count >= KINDS / 2) return;
  int slot = slot_of(what);
  known_count += known[slot].what == NULL;
  known[slot].what = what;
  known[slot].kind = kind;
}

// native.leaf(metatable, forward, chain): of a class whose forward calls nothing but operators and the library; or,
// with `chain`, the modules 1, 2, ... of its own, one after the other.  Of one that is not the library's it says
// nothing.
static int leaf(lua_State *L) {
  lua_Debug ar;
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  if (!lua_getinfo(L, ">S", &ar) || strncmp(ar.source, "=nablua", 7) != 0) return 0;
  know(lua_topointer(L, 1), CLASS);
  know(lua_topointer(L, 2), lua_toboolean(L, 3) ? CHAIN : LEAF);
  return 0;
}

// Whether what a chain calls are modules alone.
static bool has_modules_alone(lua_State *L, int module) {
  int top = lua_gettop(L), count = (int)lua_rawlen(L, module);
  bool all = count < 1000 && lua_checkstack(L, 2 * count);
  for (int i = 1; all && i <= count; i++) {
    lua_rawgeti(L, module, i);
    all = lua_getmetatable(L, -1) && known[slot_of(lua_topointer(L, -1))].kind == CLASS;
  }
  lua_settop(L, top);
  return all;
}

// Whether the forward at an index runs the library's code alone, but for what modules do that it calls, whoever
// listens. Where somebody rests already, the arguments are what such a call has given.
static bool is_closed_call(lua_State *L, int arguments, int forward, bool rests) {
  int kind = known[slot_of(lua_topointer(L, forward))].kind;
  if (kind == 0) return false;
  for (int voice = 0; voice < NB_VOICES && !rests; voice++)  // in such a call nobody begins to listen
    if (nb_is_heard((Voice)voice)) return false;
  for (int i = 2; i <= arguments + 1 && !rests; i++)
    if (!nb_test_tensor(L, i) && (lua_type(L, i) == LUA_TTABLE || lua_type(L, i) == LUA_TUSERDATA)) return false;
  return kind == LEAF || has_modules_alone(L, 1);
}

// Calls the forward at index `base` + 1, with somebody who looks.
static __attribute__((noinline)) void call_seen(lua_State *L, int arguments, int base) {
  int told = 0;
  if (quieter && !traced) {
    bool rests = lua_gethookmask(L) == 0, closed = is_closed_call(L, arguments, base + 1, rests);
    if (rests != closed) told = quieter->begins(quieter->user, L, closed);
  }
  if (traced) tell_trace(L, true, base);
  lua_call(L, arguments + 1, LUA_MULTRET);
  if (traced) tell_trace(L, false, base);
  if (told && quieter) quieter->ends(quieter->user, L, told);
}

// The __call of modules: self:forward(...).  A C function, so that it stays on the stack with its
// module at index 1, where nb_push_modules finds it.
static int module_call(lua_State *L) {
  int arguments = lua_gettop(L) - 1;
  nb_note_call(L);
  lua_getfield(L, 1, "forward");
  if (lua_isnil(L, -1)) return nb_raisef(L, "this module has no forward method; define function M:forward(x) ... end");
  luaL_checkstack(L, arguments + 6, NULL);
  lua_pushvalue(L, 1);
  for (int i = 2; i <= arguments + 1; i++) lua_pushvalue(L, i);
  int base = arguments + 1;
  if (looks)
    call_seen(L, arguments, base);
  else
    lua_call(L, arguments + 1, LUA_MULTRET);
  return lua_gettop(L) - base;
}

// native.module_address(m): what nodes know the module by whose call made them; another may have it when this one is
// gone.
static int module_address(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushinteger(L, (lua_Integer)(intptr_t)lua_topointer(L, 1));
  return 1;
}

// native.last_order(): the order of the node that was made last.
static int last_order(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)nb_last_order());
  return 1;
}

// What list_index gives: upvalue 1 is the class.
static int index_list(lua_State *L) {
  if (lua_isinteger(L, 2) && lua_tointeger(L, 2) < 0)
    lua_rawgeti(L, 1, (lua_Integer)lua_rawlen(L, 1) + 1 + lua_tointeger(L, 2));
  else
    lua_gettable(L, lua_upvalueindex(1));
  return 1;
}

// native.list_index(class): the __index of modules that are lists, whose negative indices count from the end.
static int list_index(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushcclosure(L, index_list, 1);
  return 1;
}

// native.hold_site(["too" or "alone"]), native.let_site(): the function that calls is at work for a while; sites.h.
static int hold_site(lua_State *L) {
  static const char *const names[] = {[NB_HOLD] = "", [NB_HOLD_TOO] = "too", [NB_HOLD_ALONE] = "alone", NULL};
  nb_hold_site(L, (Hold)luaL_checkoption(L, 1, "", names));
  return 0;
}

static int let_site(lua_State *L) {
  (void)L;
  nb_let_site();
  return 0;
}

void nb_open_calls(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"module_call", module_call}, {"trace", trace},       {"module_address", module_address},
      {"last_order", last_order},   {"leaf", leaf},         {"list_index", list_index},
      {"hold_site", hold_site},     {"let_site", let_site}, {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  if (++states > 1) memset(known, 0, sizeof known);
  nb_set_call(L, module_call);
}
