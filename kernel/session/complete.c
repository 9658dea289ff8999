// SPDX-License-Identifier: MIT
// Completion and help at a cursor: the looking is done in Lua, see lua/session/complete.lua.
#include <glob.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"
#include "show.h"

// files(prefix): the paths that begin with it, folders with "/" at their end.
int matching_files(lua_State *L) {
  const char *prefix = luaL_checkstring(L, 1);
  luaL_Buffer b;
  glob_t found;
  luaL_buffinit(L, &b);
  for (const char *c = prefix; *c; c++) {
    if (strchr("*?[\\", *c)) luaL_addchar(&b, '\\');
    luaL_addchar(&b, *c);
  }
  luaL_addchar(&b, '*');
  luaL_pushresult(&b);
  lua_newtable(L);
  if (glob(lua_tostring(L, -2), GLOB_MARK, NULL, &found) != 0) return 1;
  luaL_checkstack(L, 4, NULL);
  for (size_t i = 0; i < found.gl_pathc && i < 500; i++) {
    lua_pushstring(L, found.gl_pathv[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  globfree(&found);
  return 1;
}

typedef struct Spot {
  const char *code;
  size_t length, cursor;
  bool source;
} Spot;

enum { ENOUGH = 1 << 14 };  // bytes around the cursor; the time that looking takes grows with their square

// Of code that is long, what is near its cursor, from the beginning of a line where there is one.
static Spot near_cursor(const char *code, size_t length, size_t cursor, bool source) {
  if (cursor > length) cursor = length;
  if (cursor > ENOUGH) {
    const char *begin = code + cursor - ENOUGH, *line = memchr(begin, '\n', ENOUGH);
    if (line) begin = line + 1;
    length -= (size_t)(begin - code);
    cursor -= (size_t)(begin - code);
    code = begin;
  }
  if (length > cursor + ENOUGH) length = cursor + ENOUGH;
  return (Spot){code, length, cursor, source};
}

// Leaves the answer in the session's tables, where its texts stay alive.
static void hold(lua_State *L, const char *name) {
  push_session_table(L, "held");
  lua_insert(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

static void require(lua_State *L, const char *module, const char *field) {
  push_module(L, module);
  lua_getfield(L, -1, field);
  lua_remove(L, -2);
}

// spot → the number of bytes to replace, the matches
static int complete(lua_State *L) {
  const Spot *spot = lua_touserdata(L, 1);
  require(L, "nablua.session.complete", "complete");
  lua_pushlstring(L, spot->code, spot->cursor);
  lua_call(L, 1, 2);
  lua_pushvalue(L, -1);
  hold(L, "matches");
  return 2;
}

static const char *text_field(lua_State *L, const char *name) {
  lua_getfield(L, -1, name);
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1);
  return text ? text : "";
}

void session_complete(Session *s, const char *code, size_t length, size_t cursor, Completions *out) {
  lua_State *L = s->L;
  if (cursor > length) cursor = length;
  Spot spot = near_cursor(code, length, cursor, false);
  int top = lua_gettop(L);
  *out = (Completions){cursor, cursor, 0, NULL};
  lua_pushcfunction(L, complete);
  lua_pushlightuserdata(L, &spot);
  if (lua_pcall(L, 1, 2, 0) == LUA_OK && lua_istable(L, -1)) {
    int count = (int)lua_rawlen(L, -1);
    Completion *items = realloc(s->completions, (size_t)(count + 1) * sizeof *items);
    if (items) {
      s->completions = items;
      for (int i = 0; i < count; i++) {
        lua_rawgeti(L, -1, i + 1);
        items[i] = (Completion){text_field(L, "text"), text_field(L, "kind"), text_field(L, "note")};
        lua_pop(L, 1);
      }
      *out = (Completions){cursor - (size_t)lua_tointeger(L, -2), cursor, count, items};
    }
  }
  lua_settop(L, top);
}

static int inspect(lua_State *L) {
  const Spot *spot = lua_touserdata(L, 1);
  require(L, "nablua.session.complete", "name_at");
  lua_pushlstring(L, spot->code, spot->cursor);
  lua_pushlstring(L, spot->code + spot->cursor, spot->length - spot->cursor);
  lua_call(L, 2, 1);
  if (lua_isnil(L, -1)) return 1;
  require(L, "nablua.session.commands", "explain");
  lua_insert(L, -2);
  lua_pushboolean(L, spot->source);
  lua_call(L, 2, 1);
  lua_pushvalue(L, -1);
  hold(L, "page");
  return 1;
}

bool session_inspect(Session *s, const char *code, size_t length, size_t cursor, bool source, Bundle *out) {
  lua_State *L = s->L;
  Spot spot = near_cursor(code, length, cursor, source);
  int top = lua_gettop(L);
  lua_pushcfunction(L, inspect);
  lua_pushlightuserdata(L, &spot);
  bool found = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1);
  if (found) *out = read_bundle(L, s);
  lua_settop(L, top);
  return found;
}

static int signature(lua_State *L) {
  const Spot *spot = lua_touserdata(L, 1);
  require(L, "nablua.session.signature", "of");
  lua_pushlstring(L, spot->code, spot->length);
  lua_call(L, 1, 1);
  return 1;
}

char *session_signature(Session *s, const char *text, size_t length) {
  lua_State *L = s->L;
  Spot spot = {.code = text, .length = length};
  int top = lua_gettop(L);
  lua_pushcfunction(L, signature);
  lua_pushlightuserdata(L, &spot);
  char *found = NULL;
  if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING) found = strdup(lua_tostring(L, -1));
  lua_settop(L, top);
  return found;
}
