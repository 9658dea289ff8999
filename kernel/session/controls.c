// SPDX-License-Identifier: MIT
// The controls of a terminal, in one line: lua/ui/line.lua knows it.
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "call.h"
#include "native.h"

int controls_changed(lua_State *L) {
  Session *s = session_of(L);
  if (s->front.controls) s->front.controls(s->front.user);
  return 0;
}

// Calls the line's function of that name with what follows.
static int call_line(lua_State *L) {
  push_module(L, "nablua.ui.line");
  lua_pushvalue(L, 1);
  lua_gettable(L, -2);
  lua_replace(L, 1);
  lua_pop(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

char *session_controls(Session *s, int columns, bool given, bool paused) {
  lua_State *L = s->L;
  lua_pushcfunction(L, call_line);
  lua_pushliteral(L, "text");
  lua_pushinteger(L, columns);
  lua_pushboolean(L, given);
  lua_pushboolean(L, paused);
  lua_pushboolean(L, s->color);
  if (protected_call(s, 5, 1) != SESSION_OK) return NULL;
  const char *text = lua_tostring(L, -1);
  char *copy = text ? strdup(text) : NULL;
  lua_pop(L, 1);
  return copy;
}

SessionKey session_controls_key(Session *s, const char *key) {
  static const char *const names[] = {
      [SESSION_KEY_LEAVE] = "leave", [SESSION_KEY_PAUSE] = "pause", [SESSION_KEY_STOP] = "stop"};
  enum { NAMES = sizeof names / sizeof *names };
  lua_State *L = s->L;
  lua_pushcfunction(L, call_line);
  lua_pushliteral(L, "key");
  lua_pushstring(L, key);
  if (protected_call(s, 2, 1) != SESSION_OK) return SESSION_KEY_TAKEN;
  const char *name = lua_tostring(L, -1);
  int what = SESSION_KEY_TAKEN;
  for (int i = SESSION_KEY_LEAVE; name && i < NAMES; i++)
    if (strcmp(name, names[i]) == 0) what = i;
  lua_pop(L, 1);
  return (SessionKey)what;
}
