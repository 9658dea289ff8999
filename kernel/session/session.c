// SPDX-License-Identifier: MIT
// Evaluating in a Lua state: protected, interruptible, errors in the user's terms.
#include "session.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nablua/interrupt.h"
#include "nablua_lua.h"

struct Session {
  lua_State *L;
  lua_State *volatile running;   // the coroutine that runs: the one a hook must be set on
  volatile sig_atomic_t active;  // evaluating: an interrupt has something to stop
  volatile sig_atomic_t interrupted;
  Sink sink;
  bool full_traceback;
};

static const char session_key;

static Session *session_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &session_key);
  Session *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

// ---- interrupts ----

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

static void track_coroutines(lua_State *L) {
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "resume");
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, wrap_tracked, 1);
  lua_setfield(L, -3, "wrap");
  lua_pushcclosure(L, resume_tracked, 1);
  lua_setfield(L, -2, "resume");
  lua_pop(L, 1);
}

// ---- errors ----

static bool is_library(const char *source) {
  return strncmp(source, "=nablua", 7) == 0 || strcmp(source, "=[C]") == 0;
}

static void add_frame(luaL_Buffer *b, lua_State *L, lua_Debug *ar) {
  luaL_addstring(b, "\n  ");
  luaL_addstring(b, ar->short_src);
  if (ar->currentline > 0) {
    lua_pushfstring(L, ":%d", ar->currentline);
    luaL_addvalue(b);
  }
  if (*ar->what == 'm') {
    luaL_addstring(b, " in the main chunk");
  } else if (*ar->namewhat) {
    lua_pushfstring(L, " in %s '%s'", ar->namewhat, ar->name);
    luaL_addvalue(b);
  } else {
    luaL_addstring(b, " in a function");
  }
}

// The message handler: the message, then the user's frames, innermost first.
static int explain_error(lua_State *L) {
  enum { SHOWN = 12, VISITED = 200 };  // finding a level takes time in proportion to it
  Session *s = session_of(L);
  luaL_Buffer b;
  lua_Debug ar;
  int shown = 0;
  if (s->interrupted) {
    lua_pushliteral(L, "interrupted");
    return 1;
  }
  const char *message = lua_tostring(L, 1);
  if (!message) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_isstring(L, -1))
      message = lua_tostring(L, -1);
    else
      message = lua_pushfstring(L, "error: %s is no text", luaL_typename(L, 1));
  }
  luaL_buffinit(L, &b);
  luaL_addstring(&b, message);
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    if (shown == SHOWN || level == VISITED) {
      luaL_addstring(&b, "\n  ... and more");
      break;
    }
    lua_getinfo(L, "Sln", &ar);
    if (!s->full_traceback && is_library(ar.source)) continue;
    add_frame(&b, L, &ar);
    shown++;
  }
  luaL_pushresult(&b);
  return 1;
}

// ---- evaluating ----

// Calls the function below its `arguments` on the stack; the results replace them.  Reports errors.
static SessionStatus protected_call(Session *s, int arguments, int results) {
  lua_State *L = s->L;
  int handler = lua_gettop(L) - arguments;
  lua_pushcfunction(L, explain_error);
  lua_insert(L, handler);
  nb_interrupt_clear();
  s->interrupted = 0;
  s->running = L;
  s->active = 1;
  int status = lua_pcall(L, arguments, results, handler);
  s->active = 0;
  lua_sethook(L, NULL, 0, 0);
  nb_interrupt_clear();
  lua_remove(L, handler);
  if (status == LUA_OK && !s->interrupted) return SESSION_OK;
  bool stopped = s->interrupted;
  s->interrupted = 0;
  if (status == LUA_OK) return SESSION_INTERRUPTED;
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  if (stopped)
    s->sink.error(s->sink.user, "interrupted", 11);
  else if (text)
    s->sink.error(s->sink.user, text, length);
  else
    s->sink.error(s->sink.user, "error", 5);
  lua_pop(L, 1);
  return stopped ? SESSION_INTERRUPTED : SESSION_ERROR;
}

// show(value): its text, through the display module.
static int show_values(lua_State *L) {
  Session *s = session_of(L);
  int count = lua_gettop(L);
  for (int i = 1; i <= count; i++) {
    size_t length;
    if (lua_isnil(L, i) && count == 1) break;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "nablua.display");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "text");
    lua_pushvalue(L, i);
    lua_call(L, 1, 1);
    const char *text = luaL_tolstring(L, -1, &length);
    s->sink.value(s->sink.user, text, length);
    lua_settop(L, count);
  }
  if (count > 0) {
    lua_pushvalue(L, 1);
    lua_setglobal(L, "_");
  }
  return 0;
}

// Compiles an input: as an expression when it is one, else as a chunk.  Leaves the function or the message.
static int compile(lua_State *L, const char *code, size_t length) {
  lua_pushliteral(L, "return ");
  lua_pushlstring(L, code, length);
  lua_concat(L, 2);
  size_t size;
  const char *expression = lua_tolstring(L, -1, &size);
  int status = luaL_loadbufferx(L, expression, size, "=input", "t");
  lua_remove(L, -2);
  if (status == LUA_OK) return status;
  lua_pop(L, 1);
  return luaL_loadbufferx(L, code, length, "=input", "t");
}

typedef struct Source {
  const char *code;
  size_t length;
} Source;

static int compile_protected(lua_State *L) {
  const Source *source = lua_touserdata(L, 1);
  if (compile(L, source->code, source->length) != LUA_OK) return lua_error(L);
  return 1;
}

SessionStatus session_eval(Session *s, const char *code, size_t length) {
  lua_State *L = s->L;
  Source source = {code, length};
  int top = lua_gettop(L);
  bool hidden = false;
  for (size_t n = length; n > 0; n--) {
    if (strchr(" \t\r\n", code[n - 1]) && code[n - 1]) continue;
    hidden = code[n - 1] == ';';
    if (hidden) source.length = n - 1;
    break;
  }
  lua_pushcfunction(L, compile_protected);
  lua_pushlightuserdata(L, &source);
  SessionStatus status = protected_call(s, 1, 1);
  if (status == SESSION_OK) status = protected_call(s, 0, LUA_MULTRET);
  if (status == SESSION_OK && lua_gettop(L) > top && !hidden) {
    lua_pushcfunction(L, show_values);
    lua_insert(L, top + 1);
    status = protected_call(s, lua_gettop(L) - top - 1, 0);
  }
  lua_settop(L, top);
  return status;
}

typedef struct Script {
  const char *path;
  char *const *arguments;
  int count;
} Script;

static int run_script(lua_State *L) {
  const Script *script = lua_touserdata(L, 1);
  bool input = strcmp(script->path, "-") == 0;
  lua_createtable(L, script->count, 1);
  lua_pushstring(L, script->path);
  lua_rawseti(L, -2, 0);
  for (int i = 0; i < script->count; i++) {
    lua_pushstring(L, script->arguments[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setglobal(L, "arg");
  if (luaL_loadfilex(L, input ? NULL : script->path, "t") != LUA_OK) return lua_error(L);
  luaL_checkstack(L, script->count, "too many arguments");
  for (int i = 0; i < script->count; i++) lua_pushstring(L, script->arguments[i]);
  lua_call(L, script->count, 0);
  return 0;
}

SessionStatus session_run_file(Session *s, const char *path, char *const *arguments, int count) {
  Script script = {path, arguments, count};
  lua_pushcfunction(s->L, run_script);
  lua_pushlightuserdata(s->L, &script);
  return protected_call(s, 1, 0);
}

SessionCompleteness session_is_complete(Session *s, const char *code, size_t length) {
  static const char mark[] = "<eof>";
  lua_State *L = s->L;
  Source source = {code, length};
  SessionCompleteness result = SESSION_COMPLETE;
  lua_pushcfunction(L, compile_protected);
  lua_pushlightuserdata(L, &source);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    size_t n;
    const char *message = lua_tolstring(L, -1, &n);
    bool open = message && n >= sizeof mark - 1 && strcmp(message + n - (sizeof mark - 1), mark) == 0;
    result = open ? SESSION_INCOMPLETE : SESSION_INVALID;
  }
  lua_pop(L, 1);
  return result;
}

void session_set_traceback(Session *s, bool full) {
  s->full_traceback = full;
}

// ---- opening ----

static int open_library(lua_State *L) {
  static const char *const modules[] = {"nn", "optim", "data", "inspect", "plot", "help", "display", NULL};
  luaL_openlibs(L);
  lua_warning(L, "@on", 0);
  track_coroutines(L);
  luaL_requiref(L, "nablua", luaopen_nablua, 0);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "nb");
  for (int i = 0; modules[i]; i++) {
    if (lua_getfield(L, -1, modules[i]) != LUA_TNIL)
      lua_setglobal(L, modules[i]);
    else
      lua_pop(L, 1);
  }
  return 0;
}

Session *session_new(const Sink *sink, char *reason, size_t size) {
  Session *s = calloc(1, sizeof *s);
  lua_State *L = s ? luaL_newstate() : NULL;
  if (!L) {
    snprintf(reason, size, "there is no memory for an interpreter");
    free(s);
    return NULL;
  }
  s->L = L;
  s->sink = *sink;
  lua_pushlightuserdata(L, s);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &session_key);
  lua_pushcfunction(L, open_library);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
    snprintf(reason, size, "%s", lua_tostring(L, -1) ? lua_tostring(L, -1) : "the library cannot be opened");
    session_free(s);
    return NULL;
  }
  return s;
}

void session_free(Session *s) {
  if (!s) return;
  lua_close(s->L);
  free(s);
}
