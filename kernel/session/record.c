// SPDX-License-Identifier: MIT
// What inputs showed, kept for who writes a session down: the table "outputs" has for each of the last inputs a list of
// { kind =, text = } or { kind =, data = a bundle, id = }.  What other programs print is not among it.
#include "record.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "interrupts.h"

enum { MOST_INPUTS = 1000, MOST_TEXT = 1 << 20, MOST_ITEMS = 1000 };

// Pushes the list of the input that runs, made where it is not there.
static void push_list(lua_State *L, Session *s) {
  push_session_table(L, "outputs");
  if (lua_rawgeti(L, -1, s->number) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, s->number);
    lua_pushnil(L);
    lua_rawseti(L, -3, s->number - MOST_INPUTS);
  }
  lua_remove(L, -2);
}

// Adds { kind = kind, field = the value on top, id = id } to the list; the value stays.
static void add_item(lua_State *L, Session *s, const char *kind, const char *field, const char *id) {
  int value = lua_gettop(L);
  push_list(L, s);
  lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
  if (count < MOST_ITEMS) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushvalue(L, value);
    lua_setfield(L, -2, field);
    lua_pushstring(L, id);
    lua_setfield(L, -2, "id");
    lua_rawseti(L, -2, count + 1);
  }
  lua_settop(L, value);
}

void record_printed(lua_State *L, Session *s) {
  if (s->printed.length > 0) {
    lua_pushlstring(L, s->printed.data, s->printed.length);
    s->printed.length = 0;
    add_item(L, s, "text", "text", NULL);
    lua_pop(L, 1);
  }
}

void record_bundle(lua_State *L, Session *s, const char *kind, const char *id) {
  if (s->apart) return;
  luaL_checkstack(L, 8, NULL);
  record_printed(L, s);
  add_item(L, s, kind, "data", id);
}

void record_text(lua_State *L, const char *text, size_t length) {
  Session *s = session_of(L);
  if (s->apart || s->printed.length + length > MOST_TEXT) return;
  text_add(&s->printed, text, length);
}

// ---- what prints ----

// print(...)
static int print(lua_State *L) {
  int count = lua_gettop(L);
  for (int i = 1; i <= count; i++) {
    size_t length;
    const char *text = luaL_tolstring(L, i, &length);
    if (i > 1) {
      putchar('\t');
      record_text(L, "\t", 1);
    }
    fwrite(text, 1, length, stdout);
    record_text(L, text, length);
    lua_pop(L, 1);
  }
  putchar('\n');
  fflush(stdout);
  record_text(L, "\n", 1);
  return 0;
}

static void record_arguments(lua_State *L, int first) {
  int count = lua_gettop(L);
  for (int i = first; i <= count && lua_isstring(L, i); i++) {
    size_t length;
    lua_pushvalue(L, i);  // a number stays one
    const char *text = lua_tolstring(L, -1, &length);
    record_text(L, text, length);
    lua_pop(L, 1);
  }
}

// io.write and file:write are Lua's own, upvalue 1, called as if they stood here; upvalue 2 is io.stdout.
static int write_default(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "_IO_output");
  bool standard = lua_rawequal(L, -1, lua_upvalueindex(2));
  lua_pop(L, 1);
  if (standard) record_arguments(L, 1);
  return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int write_file(lua_State *L) {
  if (lua_rawequal(L, 1, lua_upvalueindex(2))) record_arguments(L, 2);
  return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

// table.name = f, with what was there and io.stdout for upvalues; the table is on top.
static void put(lua_State *L, const char *name, lua_CFunction f, int standard) {
  lua_getfield(L, -1, name);
  lua_pushvalue(L, standard);
  lua_pushcclosure(L, f, 2);
  lua_setfield(L, -2, name);
}

void open_record(lua_State *L) {
  int top = lua_gettop(L);
  lua_pushcfunction(L, print);
  lua_setglobal(L, "print");
  lua_getglobal(L, "io");
  lua_getfield(L, -1, "stdout");
  lua_pushvalue(L, -2);
  put(L, "write", write_default, top + 2);
  lua_getmetatable(L, top + 2);
  lua_getfield(L, -1, "__index");
  put(L, "write", write_file, top + 2);
  lua_settop(L, top);
}
