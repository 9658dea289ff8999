// SPDX-License-Identifier: MIT
// What must not be left half-done in Lua: calls that an interrupt waits for.
//
// The wait ends with a to-be-closed value, so that errors pass with their traceback.  A coroutine that dies of an error
// closes nothing: there the error is caught and raised again.
#include "whole.h"

#include "binding.h"
#include "nablua/interrupt.h"
#include "nablua/modes.h"
#include "open.h"

static const char held_key, flushed_key, undo_key;

// An interrupt that has waited comes now.  The hook that it set looks every so many instructions meanwhile, and in a
// loop of always as many it would find nothing but the inside of such calls.
static void let_go(lua_State *L) {
  nb_interrupt_let();
  if (nb_interrupted() && lua_gethook(L))
    lua_sethook(L, lua_gethook(L), LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int let(lua_State *L) {
  let_go(L);
  return 0;
}

static int let_flushed(lua_State *L) {
  nb_flush_more(-1);
  return let(L);
}

// Pushes a metatable that says what closing does.
static void push_closing(lua_State *L, lua_CFunction f) {
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, f);
  lua_setfield(L, -2, "__close");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

// Pushes the value whose closing ends the wait.  The library's first source is loaded before anything is opened.
static void push_held(lua_State *L, bool flush) {
  const char *key = flush ? &flushed_key : &held_key;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TNIL) return;
  lua_pop(L, 1);
  lua_newuserdatauv(L, 0, 0);
  push_closing(L, flush ? let_flushed : let);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static bool is_main(lua_State *L) {
  bool main = lua_pushthread(L);
  lua_pop(L, 1);
  return main;
}

static int call_whole(lua_State *L, int arguments, bool flush) {
  int at = lua_gettop(L) - arguments;
  if (!is_main(L)) {
    nb_interrupt_hold();
    nb_flush_more(flush);
    int status = lua_pcall(L, arguments, LUA_MULTRET, 0);
    nb_flush_more(-flush);
    let_go(L);
    return status == LUA_OK ? lua_gettop(L) - at + 1 : lua_error(L);
  }
  push_held(L, flush);
  lua_insert(L, at);
  lua_toclose(L, at);
  nb_interrupt_hold();
  nb_flush_more(flush);
  lua_call(L, arguments, LUA_MULTRET);
  return lua_gettop(L) - at;
}

int nb_call_whole(lua_State *L, int arguments) {
  return call_whole(L, arguments, false);
}

// native.whole(f, ...): what f returns, called so that an interrupt comes before it or after it.  It cannot yield.
static int whole(lua_State *L) {
  luaL_checkany(L, 1);
  return nb_call_whole(L, lua_gettop(L) - 1);
}

// native.settle(f, ...): the same for what moves numbers that are kept from step to step: operators in it flush, see
// modes.h.
static int settle(lua_State *L) {
  luaL_checkany(L, 1);
  return call_whole(L, lua_gettop(L) - 1, true);
}

static int run_undo(lua_State *L) {
  lua_getiuservalue(L, 1, 1);
  nb_call_whole(L, 0);
  return 0;
}

// native.undoing(f): a to-be-closed value; f() is called when it is closed, as a whole.
static int undoing(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_newuserdatauv(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &undo_key);
  lua_setmetatable(L, -2);
  return 1;
}

void nb_open_whole(lua_State *L) {
  static const luaL_Reg functions[] = {{"whole", whole}, {"settle", settle}, {"undoing", undoing}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  push_closing(L, run_undo);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &undo_key);
}
