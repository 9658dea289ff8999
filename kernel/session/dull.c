// SPDX-License-Identifier: MIT
// Calls that the debugger passes quickly.
//
// With a breakpoint set anywhere every call passes here, and looking at its source would cost more than many a call.
// Functions are known by their addresses, which stay theirs while a table holds them: the library's do.  One of the
// user's must be free to go; a weak table forgets it before another can have its address, and is asked each time.
#include "dull.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

enum { DULL = 1024 };

static const void *dull[DULL], *fleeting[DULL];
static bool is_c[DULL];  // of dull
static const char dull_key, fleeting_key;
static bool is_quick = true;

// The address of the function that a frame runs: where Lua has that frame, its first field points to it on the stack,
// in all of Lua 5.4.  It is compared to Lua's own answer before anything is known by it.
static const void *function_of(const lua_Debug *ar) {
  const void *const *const *frame = (const void *const *const *)(const void *)ar->i_ci;
  return **frame;
}

static int slot_of(const void *function) {
  return (int)((uintptr_t)function * 0x9E3779B97F4A7C15u >> 54);
}

static __attribute__((noinline)) bool is_there(lua_State *L, int slot, const void *function) {
  if (!lua_checkstack(L, 2)) return false;
  bool there = lua_rawgetp(L, LUA_REGISTRYINDEX, &fleeting_key) == LUA_TTABLE;
  if (there) {
    lua_rawgeti(L, -1, slot + 1);
    there = lua_topointer(L, -1) == function;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return there;
}

Dull dull_call(lua_State *L, const lua_Debug *ar) {
  if (!is_quick) return NOT_DULL;
  const void *function = function_of(ar);
  int slot = slot_of(function);
  if (dull[slot] == function) return is_c[slot] ? DULL_C : DULL_LUA;
  if (dull[slot ^ 1] == function) return is_c[slot ^ 1] ? DULL_C : DULL_LUA;
  return fleeting[slot] == function && is_there(L, slot, function) ? DULL_LUA : NOT_DULL;
}

// Whether a table may hold the function on the top for as long as it likes: one in C that holds no coroutine and
// no userdata such as a file, or one of the library's.
static bool may_be_held(lua_State *L, const lua_Debug *ar) {
  if (*ar->what != 'C') return strncmp(ar->source, "=nablua", 7) == 0;
  for (int i = 1; lua_getupvalue(L, -1, i); i++) {
    bool lives = lua_isthread(L, -1) || (lua_isuserdata(L, -1) && !lua_islightuserdata(L, -1));
    lua_pop(L, 1);
    if (lives) return false;
  }
  return true;
}

// Sets the element of one of the two tables to the function on the top.
static void keep(lua_State *L, const char *key, const char *mode, int slot) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_createtable(L, DULL, 0);
    if (mode) {
      lua_createtable(L, 0, 1);
      lua_pushstring(L, mode);
      lua_setfield(L, -2, "__mode");
      lua_setmetatable(L, -2);
    }
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
  }
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, slot + 1);
  lua_pop(L, 1);
}

void note_dull(lua_State *L, lua_Debug *ar) {
  if (!is_quick || !lua_checkstack(L, 5)) return;
  lua_getinfo(L, "f", ar);
  const void *function = lua_topointer(L, -1);
  is_quick = function == function_of(ar);
  int slot = slot_of(function);
  if (is_quick && may_be_held(L, ar)) {
    if (dull[slot] && !dull[slot ^ 1]) slot ^= 1;
    keep(L, &dull_key, NULL, slot);
    dull[slot] = function;
    is_c[slot] = *ar->what == 'C';
  } else if (is_quick) {
    keep(L, &fleeting_key, "v", slot);
    fleeting[slot] = function;
  }
  lua_pop(L, 1);
}

void forget_dull(lua_State *L) {
  memset(dull, 0, sizeof dull);
  memset(fleeting, 0, sizeof fleeting);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &dull_key);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &fleeting_key);
}
