// SPDX-License-Identifier: MIT
// Errors in the user's terms: their source line in front, the network's layer behind.
#include "raise.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/printable.h"
#include "open.h"
#include "sites.h"
#include "visits.h"

static const char describe_key, call_key, kept_key;

// Pushes what the message on top of the stack is about: the modules that run, or the function that the user's code has
// called, which stands below the level of that.  The key of what describes it; NULL, and nothing pushed, for neither.
static const void *push_subject(lua_State *L, int user_level) {
  lua_Debug ar;
  if (nb_push_modules(L) > 0) return &describe_key;
  lua_pop(L, 1);
  if (user_level < 1 || !lua_getstack(L, user_level - 1, &ar)) return NULL;
  lua_getinfo(L, "f", &ar);
  return &call_key;
}

// Appends what describe(modules, message) says, " (in layer ...)" and where shapes do not fit a table of the layers, or
// describe_call(function, message): written in Lua, where both are known.  If it fails the error goes without.
static void add_place(lua_State *L, int user_level) {
  const void *key = push_subject(L, user_level);
  if (!key) return;
  lua_rawgetp(L, LUA_REGISTRYINDEX, key);
  lua_insert(L, -2);
  lua_pushvalue(L, -3);
  if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1)) {
    lua_concat(L, 2);
  } else {
    lua_pop(L, 1);
  }
}

// Replaces the text on top of the stack by its printable form: it may name files and quote what they hold.
static void make_printable(lua_State *L) {
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  if (nb_is_printable(text, length)) return;
  size_t room = length * NB_PRINTABLE_GROWTH + 1;
  char *out = lua_newuserdatauv(L, room, 0);
  lua_pushlstring(L, out, nb_printable_message(text, length, out, room));
  lua_replace(L, -3);
  lua_pop(L, 1);
}

// Throws the message on top of the stack.
static int throw_message(lua_State *L) {
  lua_Debug ar;
  luaL_checkstack(L, 20, NULL);
  make_printable(L);
  int level = nb_user_level(L, &ar);
  if (level >= 0) {
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  add_place(L, level);
  return lua_error(L);
}

void nb_keep(lua_State *L) {
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);  // the key exists: no memory is needed
}

void nb_push_kept(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key);
  lua_pushboolean(L, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
}

void nb_kept_aside(lua_State *V) {
  lua_rawgetp(V, LUA_REGISTRYINDEX, &kept_key);
}

void nb_kept_back(lua_State *V) {
  lua_rawsetp(V, LUA_REGISTRYINDEX, &kept_key);
}

int nb_raise(lua_State *L, const Error *err) {
  if (err->kind == NB_ERROR_CALLBACK) {
    nb_push_kept(L);
    return lua_error(L);
  }
  lua_pushstring(L, err->message);
  if (err->kind == NB_ERROR_INTERRUPT) return lua_error(L);
  return throw_message(L);
}

int nb_raisef(lua_State *L, const char *format, ...) {
  Error err;
  va_list ap;
  va_start(ap, format);
  vsnprintf(err.message, sizeof err.message, format, ap);
  va_end(ap);
  lua_pushstring(L, err.message);
  return throw_message(L);
}

const char *nb_check_text(lua_State *L, int index, const char *what) {
  size_t length;
  const char *text = luaL_checklstring(L, index, &length);
  if (strlen(text) == length) return text;
  lua_pushlstring(L, text, length);
  make_printable(L);
  lua_pushfstring(L, "%s must not hold a zero byte, got \"%s\"", what, lua_tostring(L, -1));
  return throw_message(L), NULL;
}

// native.raise(message)
static int raise_message(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  return throw_message(L);
}

static int set(lua_State *L, const void *key) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
  return 0;
}

static int set_describe(lua_State *L) {
  return set(L, &describe_key);
}

static int set_describe_call(lua_State *L) {
  return set(L, &call_key);
}

void nb_open_raise(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"raise", raise_message}, {"set_describe", set_describe}, {"set_describe_call", set_describe_call}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_pushboolean(L, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
}
