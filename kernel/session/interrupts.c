// SPDX-License-Identifier: MIT
// Stopping what runs: a hook that is set when it is asked for, on the coroutine that runs.
#include <lauxlib.h>
#include <lua.h>

#include "nablua/interrupt.h"
#include "session_private.h"

// Stays armed until the evaluation ends, so that a pcall in a loop does not outlive it.
static void stop_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_pushliteral(L, "interrupted");
  lua_error(L);
}

static void arm(lua_State *L) {
  lua_sethook(L, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

void session_interrupt(Session *s) {
  if (!s->active) return;
  s->interrupted = 1;
  nb_interrupt();
  arm(s->L);
  lua_State *running = s->running;
  if (running && running != s->L) arm(running);
}

// coroutine.resume and .wrap tell which coroutine runs; a coroutine resumed after an interrupt is
// armed as well.
static int resume_tracked(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, 1), *before = s->running;
  luaL_argexpected(L, co, 1, "coroutine");
  s->running = co;
  if (s->interrupted) arm(co);
  int arguments = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, arguments, LUA_MULTRET);
  s->running = before;
  return lua_gettop(L);
}

static int call_wrapped(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, lua_upvalueindex(2)), *before = s->running;
  s->running = co;
  if (s->interrupted) arm(co);
  int arguments = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(1));  // coroutine.resume
  lua_insert(L, 1);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 2);
  lua_call(L, arguments + 1, LUA_MULTRET);
  s->running = before;
  if (lua_toboolean(L, 1)) return lua_gettop(L) - 1;
  if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) lua_resetthread(co);
  lua_settop(L, 2);
  if (lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int wrap_tracked(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, -2);
  lua_pushcclosure(L, call_wrapped, 2);
  return 1;
}

void track_coroutines(lua_State *L) {
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "resume");
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, wrap_tracked, 1);
  lua_setfield(L, -3, "wrap");
  lua_pushcclosure(L, resume_tracked, 1);
  lua_setfield(L, -2, "resume");
  lua_pop(L, 1);
}
