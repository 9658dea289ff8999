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

#include "hooks.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "state.h"

static const double peace = 1;  // seconds
enum { INSTRUCTIONS_A_LOOK = 1000, LEVELS_A_LOOK = 100 };

// A coroutine that runs, and who waits for it: on the stack of the function of C that does.
struct Resumed {
  lua_State *from, *co, *before;  // before: the one that ran
  bool closes;                    // what it has left open is being closed, nothing else runs in it
  struct Resumed *outer;
};

static void begin_peace(Session *s) {
  s->peace_until = nb_clock() + peace;
  nb_interrupt_clear();  // operators may be needed to clean up
}

// Functions of C that call in protected mode, and where among its values the function stands that each calls.
static struct {
  lua_CFunction caller;
  int place;
} protecting[] = {{NULL, 2}, {NULL, 4}, {NULL, 1}};  // pcall, xpcall, native.protected
enum { PROTECTING = sizeof protecting / sizeof *protecting };

// Whether the function on top of the stack, which the frame `ar` has called, closes what an error left open: it stands
// above the function that was called in protected mode, whose values are there still.  Pops it.
static bool is_after_error(lua_State *L, lua_Debug *ar) {
  bool is = false;
  lua_getinfo(L, "f", ar);
  lua_CFunction caller = lua_tocfunction(L, -1);
  lua_pop(L, 1);
  for (int i = 0; caller && i < PROTECTING && !is; i++) {
    if (protecting[i].caller != caller || !lua_getlocal(L, ar, protecting[i].place)) continue;
    lua_Debug f;
    lua_pushvalue(L, -2);
    lua_getinfo(L, ">u", &f);
    is = !f.isvararg || !lua_rawequal(L, -1, -2);  // a function with varargs moves up when it is called
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return is;
}

// Whether a __close handler is among the functions that run in a coroutine.
static bool has_handler(lua_State *L) {
  lua_Debug ar;
  bool called = false;  // the function below in the list, called by this one, is on top of the stack
  if (!lua_checkstack(L, 8)) return false;
  for (int level = 0; level < LEVELS_A_LOOK && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "nS", &ar);
    if (called && *ar.what == 'C') {
      if (is_after_error(L, &ar)) return true;
    } else if (called) {
      lua_pop(L, 1);
    }
    if (ar.name && strcmp(ar.namewhat, "metamethod") == 0 && strcmp(ar.name, "close") == 0) return true;
    called = lua_getinfo(L, "f", &ar);
  }
  if (called) lua_pop(L, 1);
  return false;
}

// Whether a __close handler runs: the function that runs in L or one that called it, from another coroutine perhaps.
static bool is_closing(const Session *s, lua_State *L) {
  if (s->unwinding || has_handler(L)) return true;
  for (const Resumed *r = s->resumed; r; r = r->outer)
    if (r->closes || has_handler(r->from)) return true;
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
  if (s->peace_until == 0 && is_closing(s, L)) {
    begin_peace(s);
    s->owed = true;
  }
  if (s->peace_until == 0 || nb_clock() >= s->peace_until) return false;
  if (s->owed) return is_closing(s, L);
  look_later(L);
  return true;
}

// Whether an operator that was stopped is to be applied all the same, since a __close handler needs it.
static bool put_off(void *state) {
  lua_State *L = state;
  Session *s = session_of(L);
  if (s->interrupted != 1 || !is_closing(s, L)) return false;
  if (s->peace_until > 0 && nb_clock() >= s->peace_until) return false;
  if (s->peace_until == 0) {
    begin_peace(s);
    s->owed = true;
  }
  nb_interrupt_clear();
  return true;
}

// Set until the evaluation ends; on a coroutine that slept then, until it wakes.
static void stop_hook(lua_State *L, lua_Debug *ar) {
  Session *s = session_of(L);
  if (!s->interrupted) {
    settle_hooks(s, L);
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

void deliver_interrupt(Session *s) {
  if (s->active)
    interrupt_what_runs(s);
  else if (s->within)
    s->awaited = 1;
}

void session_interrupt(Session *s) {
  note_interrupt(s);
  deliver_interrupt(s);
}

void forgive_interrupt(Session *s) {
  nb_interrupt_clear();
  s->interrupted = 0;
  s->peace_until = 0;
  s->owed = false;
}

bool session_interrupted(const Session *s) {
  return s->interrupted;
}

// ---- reading where nobody can be asked ----

static void refuse_hook(lua_State *L, lua_Debug *ar) {
  settle_hooks(session_of(L), L);
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
// coroutine.resume and .wrap as Lua's own, but they tell which coroutine runs; one that is resumed after an interrupt
// is armed as well, and so is the one that goes on then.

// A coroutine is about to run, or to be closed.
static void enter(lua_State *L, Session *s, Resumed *r, lua_State *co, bool closes) {
  *r = (Resumed){L, co, s->running, closes, s->resumed};
  s->running = co;
  s->resumed = r;
  if (s->interrupted)
    arm_stop(co);
  else if (s->called)
    arm_visit(s, co);
  if (s->debugging) s->watcher->enter(s, co, NULL);
}

static void leave(Session *s, const Resumed *r) {
  s->running = r->before;
  s->resumed = r->outer;
  if (s->interrupted)
    arm_stop(r->from);
  else if (s->called)
    arm_visit(s, r->from);
  if (s->debugging) s->watcher->enter(s, r->from, r->co);
}

int waiting_states(const Session *s, lua_State **states, int most) {
  int count = 0;
  if (s->running && count < most) states[count++] = s->running;
  for (const Resumed *r = s->resumed; r && count < most; r = r->outer) states[count++] = r->from;
  return count;
}

bool any_waiting(const Session *s, bool (*is)(lua_State *L)) {
  for (const Resumed *r = s->resumed; r; r = r->outer)
    if (is(r->from)) return true;
  return false;
}

// Resumes the coroutine with the arguments on the top of L.  Their place take its results, whose number is returned, or
// its error: -1.
static int resume(lua_State *L, Session *s, lua_State *co, int arguments) {
  int results = 0;
  if (!lua_checkstack(co, arguments)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, co, arguments);
  Resumed r;
  enter(L, s, &r, co, false);
  int status = lua_resume(co, L, arguments, &results);
  leave(s, &r);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, results);
  return results;
}

// Closes what a coroutine has left open; the status is Lua's, an error is on the top of co.
static int close_coroutine(lua_State *L, Session *s, lua_State *co) {
  Resumed r;
  enter(L, s, &r, co, true);
#if LUA_VERSION_RELEASE_NUM >= 50406
  int status = lua_closethread(co, L);
#else
  int status = lua_resetthread(co);
#endif
  leave(s, &r);
  return status;
}

// The same of one that died of the error on the top of L; an error of that takes its place.
static void close_dead(lua_State *L, Session *s, lua_State *co) {
  if (lua_status(co) == LUA_OK || lua_status(co) == LUA_YIELD) return;
  lua_xmove(L, co, 1);
  close_coroutine(L, s, co);
  lua_xmove(co, L, 1);
}

static int resume_tracked(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  int results = resume(L, s, co, lua_gettop(L) - 1);
  if (results < 0 && is_of_interrupt(L, s)) {
    close_dead(L, s, co);  // nobody else gets to do it
    return lua_error(L);
  }
  lua_pushboolean(L, results >= 0);
  lua_insert(L, results < 0 ? -2 : -(results + 1));
  return results < 0 ? 2 : results + 1;
}

// Whether a coroutine runs, or has resumed the one that does.
static bool is_under_way(lua_State *L, lua_State *co) {
  lua_Debug ar;
  return co == L || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar));
}

// coroutine.close
static int close_tracked(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  if (is_under_way(L, co)) return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
  bool closed = close_coroutine(L, session_of(L), co) == LUA_OK;
  lua_pushboolean(L, closed);
  if (closed) return 1;
  lua_xmove(co, L, 1);
  return 2;
}

// What coroutine.wrap gives: upvalue 1 is the coroutine.
static int call_wrapped(lua_State *L) {
  Session *s = session_of(L);
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int results = resume(L, s, co, lua_gettop(L));
  if (results >= 0) return results;
  is_of_interrupt(L, s);
  close_dead(L, s, co);
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
  lua_pushcclosure(L, call_wrapped, 1);
  return 1;
}

// ---- protected calls ----
//
// As Lua's own, whose names errors and tracebacks give, but an interrupt passes through.

// `below`: how many values stand below true and the results.
static int after_protected(lua_State *L, int status, lua_KContext below) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)below;
  Session *s = session_of(L);
  if (is_of_interrupt(L, s)) return lua_error(L);
  if (s->debugging) s->watcher->caught(s, L);
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

// The message handler of pcall while errors that somebody catches stop.
static int see_error(lua_State *L) {
  Session *s = session_of(L);
  luaL_tolstring(L, 1, NULL);
  s->watcher->error(s, L, true, lua_tostring(L, -1));
  lua_settop(L, 1);
  return 1;
}

// pcall(f, ...) then.
static int call_seen(lua_State *L) {
  int arguments = lua_gettop(L) - 1;
  lua_pushcfunction(L, see_error);
  lua_pushboolean(L, 1);
  lua_rotate(L, 1, 2);
  return after_protected(L, lua_pcallk(L, arguments, LUA_MULTRET, 1, 1, after_protected), 1);
}

// pcall(f, ...)
static int call_protected(lua_State *L) {
  luaL_checkany(L, 1);
  if (session_of(L)->watcher->wants_raised(session_of(L), L)) return call_seen(L);
  lua_pushboolean(L, 1);
  lua_insert(L, 1);
  return after_protected(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, after_protected), 0);
}

// xpcall(f, handler, ...)
static int call_handled(lua_State *L) {
  int arguments = lua_gettop(L) - 2;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushboolean(L, 1);
  lua_pushvalue(L, 1);
  lua_rotate(L, 3, 2);
  return after_protected(L, lua_pcallk(L, arguments, LUA_MULTRET, 2, 2, after_protected), 2);
}

// ---- putting them in place ----

void know_protected_call(lua_State *L) {
  push_module(L, "nablua.native");
  lua_getfield(L, -1, "protected");
  protecting[2].caller = lua_tocfunction(L, -1);
  lua_pop(L, 2);
}

void open_interrupts(lua_State *L) {
  static const luaL_Reg basic[] = {{"pcall", call_protected}, {"xpcall", call_handled}, {NULL, NULL}},
                        coroutines[] = {
                            {"resume", resume_tracked}, {"wrap", wrap_tracked}, {"close", close_tracked}, {NULL, NULL}};
  protecting[0].caller = call_protected;
  protecting[1].caller = call_handled;
  nb_interrupt_on_stopped(put_off);
  know_stop_hook(stop_hook);
  lua_pushglobaltable(L);
  luaL_setfuncs(L, basic, 0);
  lua_getglobal(L, "coroutine");
  luaL_setfuncs(L, coroutines, 0);
  lua_pop(L, 2);
}
