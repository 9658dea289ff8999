// SPDX-License-Identifier: MIT
// Calls that the debugger passes quickly.
//
// With a breakpoint set anywhere every call passes here, and looking at its source would cost more than many a call.
// Functions of the library are known by their addresses, which stay theirs while a table holds them.
#include "dull.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

enum { DULL = 1024 };

static const void *dull[DULL];
static const char dull_key;
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

bool is_dull_call(const lua_Debug *ar) {
  if (!is_quick) return false;
  const void *function = function_of(ar);
  int slot = slot_of(function);
  return dull[slot] == function || dull[slot ^ 1] == function;
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

void note_dull(lua_State *L, lua_Debug *ar) {
  if (!is_quick || !lua_checkstack(L, 4)) return;
  lua_getinfo(L, "f", ar);
  const void *function = lua_topointer(L, -1);
  is_quick = function == function_of(ar);
  if (is_quick && may_be_held(L, ar)) {
    int slot = slot_of(function);
    if (dull[slot] && !dull[slot ^ 1]) slot ^= 1;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &dull_key) != LUA_TTABLE) {
      lua_pop(L, 1);
      lua_createtable(L, DULL, 0);
      lua_pushvalue(L, -1);
      lua_rawsetp(L, LUA_REGISTRYINDEX, &dull_key);
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, slot + 1);
    lua_pop(L, 1);
    dull[slot] = function;
  }
  lua_pop(L, 1);
}

void forget_dull(lua_State *L) {
  memset(dull, 0, sizeof dull);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &dull_key);
}
