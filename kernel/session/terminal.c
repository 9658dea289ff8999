// SPDX-License-Identifier: MIT
// The settings of the terminal, kept in lua/terminal.lua; while nobody has set one, that module is not loaded.
#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <string.h>

#include "call.h"
#include "state.h"

static const char module[] = "nablua.terminal";

// Pushes a function of the module's state; false, and nothing, while it is not loaded.
static bool push_function(lua_State *L, const char *name) {
  int top = lua_gettop(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, module) == LUA_TTABLE && luaL_getmetafield(L, -1, "state") == LUA_TTABLE) {
    lua_getfield(L, -1, name);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
    return true;
  }
  lua_settop(L, top);
  return false;
}

// Takes the string on the top, if it is one.
static char *take_string(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  char *copy = text ? strdup(text) : NULL;
  lua_pop(L, 1);
  return copy;
}

// Stock Lua's prompts may be anything that becomes a string.
static int stock_prompt(lua_State *L) {
  lua_pushglobaltable(L);
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) == LUA_TNIL) return 0;
  luaL_tolstring(L, -1, NULL);
  return 1;
}

char *session_prompt(Session *s, bool continued) {
  lua_State *L = s->L;
  int arguments = 1;
  if (push_function(L, "prompt")) {
    lua_pushboolean(L, continued);
    lua_pushinteger(L, session_next_number(s));
    arguments = 2;
  } else {
    lua_pushcfunction(L, stock_prompt);
    lua_pushstring(L, continued ? "_PROMPT2" : "_PROMPT");
  }
  return protected_call(s, arguments, 1) == SESSION_OK ? take_string(L) : NULL;
}

int session_terminal_changes(Session *s) {
  if (!push_function(s->L, "changes")) return 0;
  int changes = (int)lua_tointeger(s->L, -1);
  lua_pop(s->L, 1);
  return changes;
}

char *session_terminal_setting(Session *s, const char *name) {
  if (!push_function(s->L, "text")) return NULL;
  lua_pushstring(s->L, name);
  return protected_call(s, 1, 1) == SESSION_OK ? take_string(s->L) : NULL;
}

void session_terminal_keys(Session *s, void (*see)(void *user, const char *keys, const char *command), void *user) {
  lua_State *L = s->L;
  if (!push_function(L, "keys") || protected_call(s, 0, 1) != SESSION_OK) return;
  for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    see(user, lua_tostring(L, -2), lua_tostring(L, -1));
    lua_pop(L, 3);
  }
  lua_pop(L, 2);
}

char *session_terminal_press(Session *s, const char *keys, const char *text, size_t length, size_t *cursor) {
  lua_State *L = s->L;
  if (!push_function(L, "press")) return NULL;
  lua_pushstring(L, keys);
  lua_pushlstring(L, text, length);
  lua_pushinteger(L, (lua_Integer)*cursor);
  if (protected_call(s, 3, 2) != SESSION_OK) return NULL;
  lua_Integer at = lua_tointeger(L, -1);
  lua_pop(L, 1);
  char *changed = take_string(L);
  if (changed && at >= 0 && (size_t)at <= strlen(changed)) *cursor = (size_t)at;
  return changed;
}
