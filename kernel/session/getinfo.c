// SPDX-License-Identifier: MIT
// debug.getinfo as Lua's own, but an input of the prompt is a main chunk, which it is for its user.  Its locals outlive
// it because it is a function within one; modules such as strict.lua ask what a function is before they let it assign.
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <string.h>

#include "interrupts.h"
#include "state.h"

// Whether the function on the top, which is popped, is an input.
static bool is_input(lua_State *L) {
  push_session_table(L, "inputs");
  lua_insert(L, -2);
  bool input = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return input;
}

// getinfo([thread,] function or level [, what]): upvalue 1 is Lua's own, for which this function is a level more.
static int getinfo(lua_State *L) {
  lua_State *of = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
  int which = lua_isthread(L, 1) ? 2 : 1;
  bool input = false;
  lua_Debug ar;
  if (lua_isfunction(L, which)) {
    lua_pushvalue(L, which);
    input = is_input(L);
  } else if (lua_isinteger(L, which)) {
    lua_Integer level = lua_tointeger(L, which);
    if (level >= 0 && level < INT_MAX && lua_checkstack(of, 1) && lua_getstack(of, (int)level, &ar) &&
        lua_getinfo(of, "f", &ar)) {
      lua_xmove(of, L, 1);
      input = is_input(L);
    }
    if (of == L) {
      lua_pushinteger(L, level > 0 ? level + 1 : level);
      lua_replace(L, which);
    }
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  if (input && lua_istable(L, -1) && lua_getfield(L, -1, "what") != LUA_TNIL) {
    lua_pushliteral(L, "main");
    lua_setfield(L, -3, "what");
  }
  lua_settop(L, 1);
  return 1;
}

void open_getinfo(lua_State *L) {
  lua_getglobal(L, "debug");
  lua_getfield(L, -1, "getinfo");
  lua_pushcclosure(L, getinfo, 1);
  lua_setfield(L, -2, "getinfo");
  lua_pop(L, 1);
}
