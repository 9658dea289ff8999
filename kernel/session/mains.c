// SPDX-License-Identifier: MIT
// An input is compiled as a function inside of another, so that it sees the locals of earlier ones; to whoever asks
// debug.getinfo it is what it is to its writer, a main chunk.  Modules that forbid undeclared globals ask.
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "input.h"
#include "interrupts.h"
#include "state.h"

static const char table_name[] = "mains";

void note_main(lua_State *L) {
  push_session_table(L, table_name);
  if (!lua_getmetatable(L, -1)) {
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  } else {
    lua_pop(L, 1);
  }
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

// Whether the function on the top, which is taken, is an input's.
static bool take_main(lua_State *L) {
  push_session_table(L, table_name);
  lua_insert(L, -2);
  bool found = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return found;
}

// debug.getinfo([thread,] function or level [, what]); upvalue 1 is Lua's own.
static int getinfo_of_inputs(lua_State *L) {
  int count = lua_gettop(L), at = lua_isthread(L, 1) ? 2 : 1;
  lua_State *of = at == 2 ? lua_tothread(L, 1) : L;
  enum { DEEPEST = 1 << 24 };
  bool is_main = false;
  if (lua_isfunction(L, at)) {
    lua_pushvalue(L, at);
    is_main = take_main(L);
  } else if (lua_isinteger(L, at) && lua_tointeger(L, at) >= 0 && lua_tointeger(L, at) < DEEPEST) {
    lua_Debug ar;
    int level = (int)lua_tointeger(L, at);
    if (lua_checkstack(of, 3) && lua_getstack(of, level, &ar)) {
      lua_getinfo(of, "f", &ar);
      if (of != L) lua_xmove(of, L, 1);
      is_main = take_main(L);
    }
    if (of == L) {  // below this function
      lua_pushinteger(L, level + 1);
      lua_replace(L, at);
    }
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, count, 1);
  if (is_main && lua_istable(L, -1) && lua_getfield(L, -1, "what") == LUA_TSTRING) {
    lua_pushliteral(L, "main");
    lua_setfield(L, -3, "what");
  }
  lua_settop(L, 1);
  return 1;
}

static int open_mains(lua_State *L) {
  wrap_function(L, "debug", "getinfo", getinfo_of_inputs);
  return 0;
}

void session_begin_inputs(Session *s) {
  if (s->has_mains) return;
  s->has_mains = true;
  lua_pushcfunction(s->L, open_mains);
  if (lua_pcall(s->L, 0, 0, 0) != LUA_OK) lua_pop(s->L, 1);  // somebody has taken debug away
}
