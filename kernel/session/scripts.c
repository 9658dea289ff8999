// SPDX-License-Identifier: MIT
// Ordinary Lua from a command line: files, strings, modules, and the table of its arguments; what the prompt looks like
// and whether it ends.
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "interrupts.h"
#include "nablua_lua.h"
#include "native.h"
#include "show.h"

// ---- arguments ----

typedef struct Arguments {
  char *const *argv;
  int count, script;
} Arguments;

static int set_arguments(lua_State *L) {
  const Arguments *a = lua_touserdata(L, 1);
  lua_pushglobaltable(L);
  lua_pushliteral(L, "arg");
  lua_createtable(L, a->count - a->script, a->script + 1);
  for (int i = 0; i < a->count; i++) {
    lua_pushstring(L, a->argv[i]);
    lua_rawseti(L, -2, i - a->script);
  }
  push_session_table(L, "standard");  // it is no variable of the user's
  lua_pushvalue(L, -3);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  lua_rawset(L, -3);
  return 0;
}

void session_set_arguments(Session *s, char *const *argv, int argc, int script) {
  Arguments a = {argv, argc, script};
  lua_pushcfunction(s->L, set_arguments);
  lua_pushlightuserdata(s->L, &a);
  protected_call(s, 1, 0);
}

// Pushes arg[1], arg[2] ... and returns how many they are.
static int push_arguments(lua_State *L) {
  if (lua_getglobal(L, "arg") != LUA_TTABLE) return luaL_error(L, "'arg' is not a table");
  int table = lua_gettop(L), count = (int)luaL_len(L, table);
  luaL_checkstack(L, count + 3, "too many arguments to script");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return count;
}

// ---- running ----

typedef struct Script {
  const char *path, *code, *name;  // a file, NULL for standard input; or a text and its name
  bool arguments;
} Script;

static int run_script(lua_State *L) {
  const Script *s = lua_touserdata(L, 1);
  int status = s->code ? luaL_loadbufferx(L, s->code, strlen(s->code), s->name, "t") : load_file(L, s->path, "t");
  if (status != LUA_OK) return lua_error(L);
  lua_call(L, s->arguments ? push_arguments(L) : 0, 0);
  return 0;
}

static SessionStatus run(Session *s, const Script *script) {
  lua_pushcfunction(s->L, run_script);
  lua_pushlightuserdata(s->L, (void *)(uintptr_t)script);
  SessionStatus status = protected_call(s, 1, 0);
  lua_pushcfunction(s->L, settle_values);
  protected_call(s, 0, 0);
  // The other ranks of a group would wait for this one.
  if (status != SESSION_OK && nablua_rank() > 0) {
    fflush(NULL);
    nablua_abandon(1);
  }
  return status;
}

SessionStatus session_run_file(Session *s, const char *path, bool arguments) {
  return run(s, &(Script){.path = path, .arguments = arguments});
}

SessionStatus session_run_text(Session *s, const char *code, const char *name) {
  return run(s, &(Script){.code = code, .name = name});
}

static int require_global(lua_State *L) {
  const char *what = lua_touserdata(L, 1), *equals = strchr(what, '='), *module = equals ? equals + 1 : what;
  const char *end = equals ? equals : strchr(what, '-');  // name-version is the global name
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
  lua_pushglobaltable(L);
  lua_pushlstring(L, what, end ? (size_t)(end - what) : strlen(what));
  lua_pushvalue(L, -3);
  lua_settable(L, -3);
  return 0;
}

SessionStatus session_require(Session *s, const char *what) {
  lua_pushcfunction(s->L, require_global);
  lua_pushlightuserdata(s->L, (void *)(uintptr_t)what);
  return protected_call(s, 1, 0);
}

// ---- leaving the prompt ----

void session_allow_leaving(Session *s) {
  s->may_leave = true;
}

bool session_leaves(const Session *s) {
  return s->leaves;
}

int leave(lua_State *L) {
  Session *s = session_of(L);
  if (!s->may_leave) return luaL_error(L, "there is no prompt here to leave; a notebook's menu ends its kernel");
  s->leaves = true;
  return 0;
}
