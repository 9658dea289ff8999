// SPDX-License-Identifier: MIT
// load, loadfile, dofile and require as Lua's own, but what they are given is text: compiled code, which can do
// anything to this process, is taken only where the program says so with a mode "b".
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <stdlib.h>

#include "interrupts.h"
#include "native.h"
#include "state.h"

enum { PIECE = 5 };  // stack index of the piece of a chunk that Lua is reading

// Nil and the message on the top of the stack, or the function there with `env` for its first upvalue.
static int loaded(lua_State *L, int status, int env) {
  if (status != LUA_OK) {
    luaL_pushfail(L);
    lua_insert(L, -2);
    return 2;
  }
  if (env) {
    lua_pushvalue(L, env);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  }
  return 1;
}

static const char *next_piece(lua_State *L, void *user, size_t *size) {
  (void)user;
  luaL_checkstack(L, 2, "too many nested functions");
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    *size = 0;
    return NULL;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
  lua_replace(L, PIECE);
  return lua_tolstring(L, PIECE, size);
}

// load(chunk [, name [, mode [, env]]])
static int load(lua_State *L) {
  size_t size;
  const char *text = lua_tolstring(L, 1, &size), *mode = luaL_optstring(L, 3, "t");
  int env = lua_isnone(L, 4) ? 0 : 4;
  if (text) return loaded(L, luaL_loadbufferx(L, text, size, luaL_optstring(L, 2, text), mode), env);
  const char *name = luaL_optstring(L, 2, "=(load)");
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, PIECE);
  return loaded(L, lua_load(L, next_piece, NULL, name, mode), env);
}

int load_file(lua_State *L, const char *path, const char *mode) {
  char real[PATH_MAX];
  int status = luaL_loadfilex(L, path, mode);
  if (status != LUA_OK || !path || !realpath(path, real)) return status;
  push_session_table(L, "stamps");
  if (push_file_stamp(L, real)) lua_setfield(L, -2, real);
  lua_pop(L, 1);
  return status;
}

// loadfile([path [, mode [, env]]])
static int loadfile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL), *mode = luaL_optstring(L, 2, "t");
  return loaded(L, load_file(L, path, mode), lua_isnone(L, 3) ? 0 : 3);
}

static int results(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  return lua_gettop(L) - 1;
}

// dofile([path])
static int dofile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  lua_settop(L, 1);
  if (load_file(L, path, "t") != LUA_OK) return lua_error(L);
  lua_callk(L, 0, LUA_MULTRET, 0, results);
  return results(L, LUA_OK, 0);
}

// The searcher of package.path: upvalue 1 is `package`.
static int search_files(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lua_getfield(L, lua_upvalueindex(1), "searchpath");
  lua_pushvalue(L, 1);
  if (lua_getfield(L, lua_upvalueindex(1), "path") != LUA_TSTRING)
    return luaL_error(L, "'package.path' must be a string");
  lua_call(L, 2, 2);
  if (lua_isnil(L, 2)) return 1;  // where it looked
  lua_settop(L, 2);
  const char *path = lua_tostring(L, 2);
  if (load_file(L, path, "t") != LUA_OK)
    return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path, lua_tostring(L, -1));
  lua_insert(L, 2);
  return 2;
}

void open_loading(lua_State *L) {
  static const luaL_Reg functions[] = {{"load", load}, {"loadfile", loadfile}, {"dofile", dofile}, {NULL, NULL}};
  lua_pushglobaltable(L);
  luaL_setfuncs(L, functions, 0);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchers");
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, search_files, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 3);
}
