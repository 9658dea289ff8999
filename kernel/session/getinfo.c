// SPDX-License-Identifier: MIT
// debug.getinfo as Lua's own, but an input of the prompt is a main chunk, which it is for its user.  Its locals outlive
// it because it is a function within one; modules such as strict.lua ask what a function is before they let it assign.
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <string.h>

#include "aside.h"
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

// getinfo([thread,] function or level [, what])
static int getinfo(lua_State *L) {
  int which = lua_isthread(L, 1) ? 2 : 1;
  const char *what = luaL_optstring(L, which + 1, "");
  luaL_argcheck(L, what[0] != '>', which + 1, "invalid option '>'");
  bool function = lua_isfunction(L, which);
  lua_Integer level = function ? 0 : luaL_checkinteger(L, which);
  lua_settop(L, which + 1);
  lua_State *of = prepare_aside(L);
  bool input = false;
  lua_Debug ar;
  if (function) {
    lua_pushvalue(L, 4);
    input = is_input(L);
  } else if (level >= 0 && level < INT_MAX && lua_checkstack(of, 1) && lua_getstack(of, (int)level, &ar) &&
             lua_getinfo(of, "f", &ar)) {
    lua_xmove(of, L, 1);
    input = is_input(L);
  }
  if (call_aside(L) != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    return message && strstr(message, "(invalid option)") ? luaL_argerror(L, which + 1, "invalid option")
                                                          : lua_error(L);
  }
  if (input && lua_istable(L, -1) && lua_getfield(L, -1, "what") != LUA_TNIL) {
    lua_pushliteral(L, "main");
    lua_setfield(L, -3, "what");
  }
  lua_settop(L, 2);
  return 1;
}

void open_getinfo(lua_State *L) {
  static const luaL_Reg functions[] = {{"getinfo", getinfo}, {NULL, NULL}};
  replace_in_debug(L, functions);
}
