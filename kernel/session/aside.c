// SPDX-License-Identifier: MIT
// A call of Lua's own in a state of its own.
#include "aside.h"

lua_State *prepare_aside(lua_State *L) {
  if (!lua_isthread(L, 1)) {
    lua_pushthread(L);
    lua_insert(L, 1);
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_sethook(lua_newthread(L), NULL, 0, 0);  // a new state has the hook of the one that made it
  lua_insert(L, 1);
  return lua_tothread(L, 3);
}

int call_aside(lua_State *L) {
  lua_State *aside = lua_tothread(L, 1);
  lua_xmove(L, aside, lua_gettop(L) - 1);
  int status = lua_pcall(aside, lua_gettop(aside) - 1, LUA_MULTRET, 0);
  lua_xmove(aside, L, lua_gettop(aside));
  return status;
}

void replace_in_debug(lua_State *L, const luaL_Reg *functions) {
  lua_getglobal(L, "debug");
  for (const luaL_Reg *f = functions; f->name; f++) {
    lua_getfield(L, -1, f->name);
    lua_pushcclosure(L, f->func, 1);
    lua_setfield(L, -2, f->name);
  }
  lua_pop(L, 1);
}
