// SPDX-License-Identifier: MIT
// Stopping what runs: a hook that is set when it is asked for, on the coroutine that runs.
//
// The hook raises an error once.  What then unwinds, __close handlers first of all, may finish in peace for a while;
// pcall and its kin do not swallow the error, so that a loop of them ends too.  A second interrupt ends the peace.
#include "interrupts.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "state.h"

static const double peace = 1;  // seconds
enum { INSTRUCTIONS_A_LOOK = 1000 };

// Set until the evaluation ends.
static void stop_hook(lua_State *L, lua_Debug *ar) {
  Session *s = session_of(L);
  (void)ar;
  if (s->interrupted == 1) {
    if (s->peace_until == 0) {
      s->peace_until = nb_clock() + peace;
      nb_interrupt_clear();  // operators may be needed to clean up
    } else if (nb_clock() < s->peace_until) {
      lua_sethook(L, stop_hook, LUA_MASKCOUNT, INSTRUCTIONS_A_LOOK);
      return;
    } else {
      nb_interrupt();
    }
  }
  lua_pushliteral(L, "interrupted");
  lua_error(L);
}

static void arm(lua_State *L) {
  lua_sethook(L, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

void session_interrupt(Session *s) {
  if (!s->active) return;
  s->interrupted = s->interrupted ? 2 : 1;
  s->interrupts++;
  nb_interrupt();
  arm(s->L);
  lua_State *running = s->running;
  if (running && running != s->L) arm(running);
}

bool session_interrupted(const Session *s) {
  return s->interrupted;
}

// Raises the error on the top of the stack again if it is an interrupt's.
static void pass_on(lua_State *L, const Session *s) {
  const char *message = s->interrupted && lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  if (message && strstr(message, "interrupted")) lua_error(L);
}

// ---- coroutines ----
//
// coroutine.resume and .wrap tell which coroutine runs; one that is resumed after an interrupt is armed as well.

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
  if (!lua_toboolean(L, 1)) pass_on(L, s);
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

// ---- protected calls ----

static int after_protected(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  if (!lua_toboolean(L, 1)) pass_on(L, session_of(L));
  return lua_gettop(L);
}

// pcall and xpcall: upvalue 1 is Lua's own.
static int call_protected(lua_State *L) {
  int arguments = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_callk(L, arguments, LUA_MULTRET, 0, after_protected);
  return after_protected(L, LUA_OK, 0);
}

// ---- putting them in place ----

void wrap_function(lua_State *L, const char *module, const char *name, lua_CFunction f) {
  lua_getglobal(L, module);
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, f, 1);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void open_interrupts(lua_State *L) {
  wrap_function(L, "_G", "pcall", call_protected);
  wrap_function(L, "_G", "xpcall", call_protected);
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "resume");
  lua_pushcclosure(L, wrap_tracked, 1);
  lua_setfield(L, -2, "wrap");
  lua_pop(L, 1);
  wrap_function(L, "coroutine", "resume", resume_tracked);
}
