// SPDX-License-Identifier: MIT
// Stopping what runs: a hook that is set when it is asked for, on the coroutine that runs.
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

bool session_interrupted(const Session *s) {
  return s->interrupted;
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

// ---- other programs ----

// Waits for the child in short sleeps, which a signal ends; an interrupt ends `target`, the child or its group.
static int wait_for(const Session *s, pid_t child, pid_t target, bool *stopped) {
  struct timespec nap = {.tv_nsec = 200000};
  int status;
  *stopped = false;
  for (int after = 0;;) {
    pid_t done = waitpid(child, &status, WNOHANG);
    if (done != 0) return done < 0 ? -1 : status;
    if (s->interrupted) {
      *stopped = true;
      if (after == 0) kill(target, SIGTERM);
      if (++after == 50) kill(target, SIGKILL);
    }
    nanosleep(&nap, NULL);
    if (nap.tv_nsec < 20000000) nap.tv_nsec += nap.tv_nsec / 4;
  }
}

// os.execute([command]) as Lua's own, but an interrupt stops it; the C library's system() would ignore one.
static int execute(lua_State *L) {
  const Session *s = session_of(L);
  const char *command = luaL_optstring(L, 1, NULL);
  pid_t child;
  bool stopped;
  if (!command) {
    lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
    return 1;
  }
  fflush(NULL);
  if (s->sink.program) s->sink.program(s->sink.user);
  char *const arguments[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
  // At a terminal Ctrl-C reaches all that runs there; elsewhere what the command starts must be ended with it.
  bool group = !isatty(STDIN_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  if (group) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  int failure = posix_spawn(&child, "/bin/sh", NULL, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  errno = failure;
  if (failure) return luaL_execresult(L, -1);
  int status = wait_for(s, child, group ? -child : child, &stopped);
  if (stopped) return luaL_error(L, "interrupted");
  errno = 0;
  return luaL_execresult(L, status);
}

void track_programs(lua_State *L) {
  lua_getglobal(L, "os");
  lua_pushcfunction(L, execute);
  lua_setfield(L, -2, "execute");
  lua_pop(L, 1);
}
