// SPDX-License-Identifier: MIT
// The session and its tables in the registry, found from any of its Lua states.
#include "state.h"

static const char session_key, tables_key;

void state_open(lua_State *L, Session *s) {
  static const char *const tables[] = {"kept",   "sources", "held",     "modules", "standard", "comms",
                                       "inputs", "outputs", "visitors", "frames",  "stamps",   NULL};
  lua_pushlightuserdata(L, s);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &session_key);
  lua_createtable(L, 0, sizeof tables / sizeof *tables);
  for (int i = 0; tables[i]; i++) {
    lua_newtable(L);
    lua_setfield(L, -2, tables[i]);
  }
  lua_getfield(L, -1, "inputs");
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
  lua_getglobal(L, "require");
  lua_setfield(L, -2, "require");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &tables_key);
}

Session *session_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &session_key);
  Session *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

void push_session_table(lua_State *L, const char *name) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &tables_key);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

void push_module(lua_State *L, const char *name) {
  push_session_table(L, "require");
  lua_pushstring(L, name);
  lua_call(L, 1, 1);
}
