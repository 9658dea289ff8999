// SPDX-License-Identifier: MIT
// table.sort as Lua's own, but an interrupt stops it; plain numbers are sorted apart, which is faster than Lua's.
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "interrupts.h"
#include "nablua/interrupt.h"

enum { LONG = 20000 };  // shorter lists are sorted in milliseconds

// An integer or a float, as all of the list are.
typedef union Number {
  lua_Integer i;
  lua_Number x;
} Number;

// Merges the sorted runs [0, half) and [half, n).
static void merge(const Number *from, Number *to, size_t half, size_t n, bool integers) {
  size_t a = 0, b = half;
  for (size_t k = 0; k < n; k++) {
    bool second = a == half;
    if (!second && b < n) second = integers ? from[b].i < from[a].i : from[b].x < from[a].x;
    to[k] = from[second ? b++ : a++];
  }
}

// Bottom-up merge sort between two arrays; returns the one that is sorted.
static Number *sort_numbers(lua_State *L, Number *list, Number *other, size_t n, bool integers) {
  for (size_t run = 1; run < n; run *= 2) {
    for (size_t at = 0; at < n; at += 2 * run) {
      size_t length = n - at < 2 * run ? n - at : 2 * run;
      merge(list + at, other + at, run < length ? run : length, length, integers);
      if (at % (1 << 16) == 0 && nb_interrupted()) luaL_error(L, "interrupted");
    }
    Number *swap = list;
    list = other;
    other = swap;
  }
  return list;
}

// Reads the list of n at index 1 when it is of one kind of number, without NaN.
static bool read_numbers(lua_State *L, Number *list, size_t n, bool integers) {
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    bool fits = lua_type(L, -1) == LUA_TNUMBER && lua_isinteger(L, -1) == integers;
    if (integers)
      list[i].i = lua_tointeger(L, -1);
    else
      list[i].x = lua_tonumber(L, -1);
    if (!integers && list[i].x != list[i].x) fits = false;
    lua_pop(L, 1);
    if (!fits) return false;
  }
  return true;
}

static void write_numbers(lua_State *L, const Number *list, size_t n, bool integers) {
  for (size_t i = 0; i < n; i++) {
    if (integers)
      lua_pushinteger(L, list[i].i);
    else
      lua_pushnumber(L, list[i].x);
    lua_rawseti(L, 1, (lua_Integer)i + 1);
  }
}

static int less(lua_State *L) {
  lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
  return 1;
}

// table.sort(list [, less]); upvalue 1 is Lua's own, which a hook can stop when it calls something that compares.
static int sort(lua_State *L) {
  size_t n = lua_istable(L, 1) && lua_isnoneornil(L, 2) ? lua_rawlen(L, 1) : 0;
  if (n > LONG) {
    lua_settop(L, 1);
    if (!luaL_getmetafield(L, 1, "__index") && !luaL_getmetafield(L, 1, "__newindex") &&
        !luaL_getmetafield(L, 1, "__len")) {
      Number *list = lua_newuserdatauv(L, 2 * n * sizeof *list, 0);
      lua_rawgeti(L, 1, 1);
      bool integers = lua_isinteger(L, -1);
      if (read_numbers(L, list, n, integers)) {
        write_numbers(L, sort_numbers(L, list, list + n, n, integers), n, integers);
        return 0;
      }
    }
    lua_settop(L, 1);
    lua_pushcfunction(L, less);
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

void open_sort(lua_State *L) {
  wrap_function(L, "table", "sort", sort);
}
