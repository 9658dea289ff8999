// SPDX-License-Identifier: MIT
// Trying out how Lua lays out tables.
#include "peek.h"

enum { VALUE_BYTES = 16, NODE_BYTES = 24, HINT = 0x800000, A_TABLE = 5, MOST = 256 };

static int log_nodes(const Peek *p) {
  return p->head.sizes >> 24 & 0xFF;
}

Peek nb_peek(const void *table) {
  Peek p;
  memcpy(&p.head, table, sizeof p.head);
  size_t limit = p.head.sizes >> 32, size = limit;
  if (p.head.sizes & HINT)
    for (size = 1; size < limit;) size *= 2;
  p.array_bytes = size * VALUE_BYTES;
  p.node_bytes = ((size_t)1 << log_nodes(&p)) * NODE_BYTES;
  return p;
}

void nb_peek_copy(const Peek *p, char *contents) {
  memcpy(contents, p->head.node, p->node_bytes);
  if (p->array_bytes) memcpy(contents + p->node_bytes, p->head.array, p->array_bytes);
}

// Whether the contents hold a value with this first word at a place.
static bool has_word(const char *contents, size_t at, const void *word) {
  return memcmp(contents + at, &word, sizeof word) == 0;
}

// A table of three in a row, two by name and a metatable, at index `t`: whether its memory is as expected.
static bool looks_right(lua_State *L, int t, const Peek *p) {
  char contents[MOST];
  if ((p->head.sizes & 0xFF) != A_TABLE || log_nodes(p) != 1 || p->array_bytes != 3 * (size_t)VALUE_BYTES) return false;
  lua_getmetatable(L, t);
  bool right = p->head.metatable == lua_topointer(L, -1);
  lua_pop(L, 1);
  if (!right) return false;
  nb_peek_copy(p, contents);
  for (int i = 1; i <= 3; i++) {
    lua_rawgeti(L, t, i);
    right = right && has_word(contents, p->node_bytes + (size_t)(i - 1) * VALUE_BYTES, lua_topointer(L, -1));
    lua_pop(L, 1);
  }
  int found = 0;
  for (int i = 0; i < 2; i++) {
    const char *name = i ? "second" : "first";
    lua_pushstring(L, name);
    lua_pushvalue(L, -1);
    lua_rawget(L, t);
    for (size_t n = 0; n < 2; n++)
      found += has_word(contents, n * NODE_BYTES, lua_topointer(L, -1)) &&
               has_word(contents, n * NODE_BYTES + VALUE_BYTES, lua_topointer(L, -2));
    lua_pop(L, 2);
  }
  return right && found == 2;
}

// Whether changes of the table at index `t` are seen.
static bool sees_changes(lua_State *L, int t) {
  char contents[MOST];
  const void *table = lua_topointer(L, t);
  Peek p = nb_peek(table);
  nb_peek_copy(&p, contents);
  bool seen = nb_peek_same(table, &p, contents);
  for (int i = 0; i < 2; i++) {
    lua_newtable(L);
    if (i)
      lua_rawseti(L, t, 2);
    else
      lua_setfield(L, t, "second");
    seen = seen && !nb_peek_same(table, &p, contents);
    p = nb_peek(table);
    nb_peek_copy(&p, contents);
  }
  lua_newtable(L);
  lua_setfield(L, t, "third");
  seen = seen && !nb_peek_same(table, &p, contents);
  p = nb_peek(table);
  if (p.node_bytes + p.array_bytes > sizeof contents) return false;
  nb_peek_copy(&p, contents);
  lua_newtable(L);
  lua_setmetatable(L, t);
  return seen && !nb_peek_same(table, &p, contents);
}

bool nb_peek_works(lua_State *L) {
  static enum { UNKNOWN, NO, YES } works;
  if (works || sizeof(void *) != 8 || sizeof(lua_Number) != 8) return works == YES;
  int t = lua_gettop(L) + 1;
  luaL_checkstack(L, 8, "compile");
  lua_createtable(L, 3, 2);
  for (int i = 1; i <= 3; i++) {
    lua_newtable(L);
    lua_rawseti(L, t, i);
  }
  lua_newtable(L);
  lua_setfield(L, t, "first");
  lua_newtable(L);
  lua_setfield(L, t, "second");
  lua_newtable(L);
  lua_setmetatable(L, t);
  Peek p = nb_peek(lua_topointer(L, t));
  works = lua_version(L) == 504 && looks_right(L, t, &p) && sees_changes(L, t) ? YES : NO;
  lua_settop(L, t - 1);
  return works == YES;
}
