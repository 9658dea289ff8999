// SPDX-License-Identifier: MIT
// Stopping what runs: a hook that is set when it is asked for, on the coroutine that runs.
//
// The hook raises an error once, or an operator of C does, whose poll has failed.  What then unwinds, __close handlers
// first of all, may finish in peace for a while; pcall and its kin do not swallow the error, so that a loop of them
// ends too.  A second interrupt ends the peace.  What is being written as a whole, and a __close handler that runs
// already, are waited for: the error is owed until then.
#include "interrupts.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "state.h"

static const double peace = 1;  // seconds
enum { INSTRUCTIONS_A_LOOK = 1000, LEVELS_A_LOOK = 100 };

static void begin_peace(Session *s) {
  s->peace_until = nb_clock() + peace;
  nb_interrupt_clear();  // operators may be needed to clean up
}

// Whether a __close handler runs, the function of the hook or one that called it.
static bool is_closing(lua_State *L) {
  lua_Debug ar;
  for (int level = 0; level < LEVELS_A_LOOK && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "n", &ar);
    if (ar.name && strcmp(ar.namewhat, "metamethod") == 0 && strcmp(ar.name, "close") == 0) return true;
  }
  return false;
}

// A function of C that begins may be what closes something; its end is as good a place for an error.
static bool is_begin_in_c(lua_State *L, lua_Debug *ar) {
  if (ar->event != LUA_HOOKCALL) return false;
  lua_getinfo(L, "S", ar);
  return *ar->what == 'C';
}

static void stop_hook(lua_State *L, lua_Debug *ar);

static void look_later(lua_State *L) {
  lua_sethook(L, stop_hook, LUA_MASKCOUNT, INSTRUCTIONS_A_LOOK);
}

// Whether the first interrupt raises nothing here.
static bool must_wait(lua_State *L, Session *s) {
  if (nb_interrupt_is_held()) {
    look_later(L);
    return true;
  }
  if (s->peace_until == 0 && nb_interrupt_is_raised()) begin_peace(s);
  if (s->peace_until == 0 && is_closing(L)) {
    begin_peace(s);
    s->owed = true;
  }
  if (s->peace_until == 0 || nb_clock() >= s->peace_until) return false;
  if (s->owed) return is_closing(L);
  look_later(L);
  return true;
}

// Set until the evaluation ends; on a coroutine that slept then, until it wakes.
static void stop_hook(lua_State *L, lua_Debug *ar) {
  Session *s = session_of(L);
  if (!s->interrupted) {
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  if ((s->interrupted == 1 && must_wait(L, s)) || is_begin_in_c(L, ar)) return;
  bool over = s->peace_until > 0 && nb_clock() >= s->peace_until;
  if (s->interrupted == 1 && !over)
    begin_peace(s);
  else if (s->interrupted == 1)
    nb_interrupt();
  s->owed = false;
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

// ---- reading where nobody can be asked ----

static void refuse_hook(lua_State *L, lua_Debug *ar) {
  lua_sethook(L, NULL, 0, 0);
  luaL_where(L, ar->event == LUA_HOOKRET ? 1 : 0);
  lua_pushliteral(L, "standard input cannot be read: this client takes no questions, so nobody can be asked here");
  lua_concat(L, 2);
  lua_error(L);
}

// Lua's own functions report that a file cannot be read as a value, which a program may not look at: this is an error.
bool session_may_read(Session *s) {
  if (!s->deaf) return true;
  lua_State *running = s->running ? s->running : s->L;
  if (!s->interrupted) lua_sethook(running, refuse_hook, LUA_MASKRET | LUA_MASKCOUNT, 1);
  return false;
}

// Whether the error on the top of the stack is an interrupt's, whose peace has begun then.
static bool is_of_interrupt(lua_State *L, Session *s) {
  const char *message = s->interrupted && lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  if (!message || !strstr(message, "interrupted")) return false;
  if (s->peace_until == 0) begin_peace(s);
  return true;
}

// ---- coroutines ----
//
// coroutine.resume and .wrap tell which coroutine runs; one that is resumed after an interrupt is armed as well, and so
// is the one that goes on then.

// Calls coroutine.resume, which stands below as many arguments, the coroutine first.
static void resume(lua_State *L, Session *s, lua_State *co, int arguments) {
  lua_State *before = s->running;
  s->running = co;
  if (s->interrupted) arm(co);
  lua_call(L, arguments, LUA_MULTRET);
  s->running = before;
  if (s->interrupted) arm(L);
}

// Closes what a coroutine that died of an error has left open.
static void close_dead(Session *s, lua_State *co) {
  if (lua_status(co) == LUA_OK || lua_status(co) == LUA_YIELD) return;
  lua_State *before = s->running;
  s->running = co;
  lua_resetthread(co);
  s->running = before;
}

static int resume_tracked(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  resume(L, s, co, lua_gettop(L) - 1);
  if (!lua_toboolean(L, 1) && is_of_interrupt(L, s)) {
    close_dead(s, co);  // nobody else gets to do it
    return lua_error(L);
  }
  return lua_gettop(L);
}

static int call_wrapped(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, lua_upvalueindex(2));
  lua_pushvalue(L, lua_upvalueindex(1));  // coroutine.resume
  lua_insert(L, 1);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 2);
  resume(L, s, co, lua_gettop(L) - 1);
  if (lua_toboolean(L, 1)) return lua_gettop(L) - 1;
  is_of_interrupt(L, s);
  close_dead(s, co);
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
  if (!lua_toboolean(L, 1) && is_of_interrupt(L, session_of(L))) return lua_error(L);
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
