// SPDX-License-Identifier: MIT
// table.sort as Lua's own, but an interrupt stops it; plain numbers are sorted apart, which is faster than Lua's.
#include <lauxlib.h>
#include <limits.h>
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

// ---- what is compared by Lua ----
//
// Quicksort as the manual describes table.sort: not stable, and an order that contradicts itself is an error where it
// leads out of the list.  The list is at index 1, the function that compares, or nil, at index 2.

// Whether the value at index a comes before the one at b.
static bool before(lua_State *L, int a, int b) {
  if (lua_isnil(L, 2)) {
    if (nb_interrupted()) luaL_error(L, "interrupted");
    return lua_compare(L, a, b, LUA_OPLT);
  }
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  lua_call(L, 2, 1);
  bool result = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return result;
}

// Puts the two values on the top at places i and k of the list, the upper one first.
static void put_two(lua_State *L, lua_Integer i, lua_Integer k) {
  lua_seti(L, 1, i);
  lua_seti(L, 1, k);
}

// Puts the values of two places in order, i < k.
static void order(lua_State *L, lua_Integer i, lua_Integer k) {
  lua_geti(L, 1, i);
  lua_geti(L, 1, k);
  if (before(L, -1, -2))
    put_two(L, i, k);
  else
    lua_pop(L, 2);
}

// Parts what lies between `low` and the pivot, which is on the top and at high - 1.  Returns the pivot's new place.
static lua_Integer part(lua_State *L, lua_Integer low, lua_Integer high) {
  lua_Integer i = low, k = high - 1;
  for (;;) {
    while (lua_geti(L, 1, ++i), before(L, -1, -2)) {
      if (i == high - 1) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    while (lua_geti(L, 1, --k), before(L, -3, -1)) {
      if (k < i) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    if (k < i) break;
    put_two(L, i, k);
  }
  lua_pop(L, 1);
  lua_geti(L, 1, high - 1);
  lua_insert(L, -2);
  put_two(L, high - 1, i);
  lua_pop(L, 1);  // the pivot
  return i;
}

// Sorts low..high; `seed` chooses pivots where the middle was a bad one.
static void sort_places(lua_State *L, lua_Integer low, lua_Integer high, lua_Unsigned seed) {
  enum { SHORT = 100 };
  while (low < high) {
    order(L, low, high);
    if (high - low == 1) return;
    lua_Integer quarter = (high - low) / 4, pivot = low + (high - low) / 2;
    if (seed && quarter > 0) pivot = low + quarter + (lua_Integer)(seed % (lua_Unsigned)(2 * quarter));
    order(L, low, pivot);
    order(L, pivot, high);
    if (high - low == 2) return;
    lua_geti(L, 1, pivot);
    lua_pushvalue(L, -1);
    lua_geti(L, 1, high - 1);
    put_two(L, pivot, high - 1);
    lua_Integer length = high - low, middle = part(L, low, high), shorter;
    if (middle - low < high - middle) {
      sort_places(L, low, middle - 1, seed);
      shorter = middle - low;
      low = middle + 1;
    } else {
      sort_places(L, middle + 1, high, seed);
      shorter = high - middle;
      high = middle - 1;
    }
    if (length > SHORT && shorter < length / 128) seed = seed * 6364136223846793005u + 1442695040888963407u;
  }
}

// ---- table.sort ----

static bool has(lua_State *L, const char *metamethod) {
  if (luaL_getmetafield(L, 1, metamethod) == LUA_TNIL) return false;
  lua_pop(L, 1);
  return true;
}

// Sorts n plain numbers.  False, and nothing is changed, where they are not such.
static bool sort_plain(lua_State *L, size_t n) {
  if (has(L, "__index") || has(L, "__newindex") || has(L, "__len")) return false;
  Number *list = lua_newuserdatauv(L, 2 * n * sizeof *list, 0);
  lua_rawgeti(L, 1, 1);
  bool integers = lua_isinteger(L, -1), plain = read_numbers(L, list, n, integers);
  if (plain) write_numbers(L, sort_numbers(L, list, list + n, n, integers), n, integers);
  return plain;
}

// table.sort(list [, less])
static int sort(lua_State *L) {
  bool table = lua_istable(L, 1);
  if (!table && !(has(L, "__index") && has(L, "__newindex") && has(L, "__len"))) luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer n = luaL_len(L, 1);
  if (n < 2) return 0;
  luaL_argcheck(L, n < INT_MAX, 1, "array too big");
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  if (n > LONG && table && lua_isnil(L, 2) && sort_plain(L, (size_t)n)) return 0;
  lua_settop(L, 2);
  luaL_checkstack(L, 40, NULL);
  sort_places(L, 1, n, 0);
  return 0;
}

void open_sort(lua_State *L) {
  lua_getglobal(L, "table");
  lua_pushcfunction(L, sort);
  lua_setfield(L, -2, "sort");
  lua_pop(L, 1);
}
