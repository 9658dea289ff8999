// SPDX-License-Identifier: MIT
// Calls of modules, and who hears of them.
#include "binding.h"
#include "open.h"
#include "sites.h"
#include "visits.h"

static bool traced;  // somebody listens to the calls of modules
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
  lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
  return 0;
}

void nb_calls_aside(lua_State *V) {
  lua_pushboolean(V, traced);
  lua_rawgetp(V, LUA_REGISTRYINDEX, &trace_key);
  traced = false;
}

void nb_calls_back(lua_State *V) {
  lua_rawsetp(V, LUA_REGISTRYINDEX, &trace_key);
  traced = lua_toboolean(V, -1);
  lua_pop(V, 1);
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
  if (traced) tell_trace(L, true, base);
  lua_call(L, arguments + 1, LUA_MULTRET);
  if (traced) tell_trace(L, false, base);
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

// native.hold_site(), native.let_site(): the function that calls is at work for a while; sites.h.
static int hold_site(lua_State *L) {
  nb_hold_site(L);
  return 0;
}

static int let_site(lua_State *L) {
  (void)L;
  nb_let_site();
  return 0;
}

void nb_open_calls(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"module_call", module_call},
      {"trace", trace},
      {"module_address", module_address},
      {"last_order", last_order},
      {"hold_site", hold_site},
      {"let_site", let_site},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  nb_set_call(L, module_call);
}
