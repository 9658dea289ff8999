// SPDX-License-Identifier: MIT
// A protected call, whose error becomes the user's terms: the message, then the user's frames with their source lines.
#include "call.h"

#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "nablua/interrupt.h"
#include "nablua_lua.h"
#include "record.h"
#include "unicode.h"

static const char problem_key;  // what is known of the last error, in the registry, until it is reported

// ---- frames ----

static bool is_library(const char *source) {
  return strncmp(source, "=nablua", 7) == 0 || strcmp(source, "=[C]") == 0;
}

// Pushes line `number` of a text without its surrounding spaces, or an empty string.
static void push_line(lua_State *L, const char *text, size_t length, int number) {
  const char *line = text, *end = text + length, *stop;
  for (int i = 1; i < number && line; i++) {
    line = memchr(line, '\n', (size_t)(end - line));
    if (line) line++;
  }
  if (!line) line = end;
  stop = memchr(line, '\n', (size_t)(end - line));
  if (!stop) stop = end;
  while (line < stop && strchr(" \t\r", *line)) line++;
  while (stop > line && strchr(" \t\r", stop[-1])) stop--;
  enum { LONGEST = 100 };
  if (stop - line > LONGEST) {
    lua_pushfstring(L, "%s…", lua_pushlstring(L, line, unicode_cut(line, LONGEST)));
    lua_remove(L, -2);
  } else {
    lua_pushlstring(L, line, (size_t)(stop - line));
  }
}

// Pushes the source line of a frame: of an input that the session remembers, or of a file.
static void push_source_line(lua_State *L, const lua_Debug *ar) {
  size_t length;
  if (*ar->source == '=') {
    push_session_table(L, "sources");
    lua_getfield(L, -1, ar->source + 1);
    const char *text = lua_tolstring(L, -1, &length);
    if (text)
      push_line(L, text, length, ar->currentline);
    else
      lua_pushliteral(L, "");
    lua_replace(L, -3);
    lua_pop(L, 1);
    return;
  }
  FILE *f = *ar->source == '@' ? fopen(ar->source + 1, "r") : NULL;
  char line[512] = "";
  for (int i = 1; f && i <= ar->currentline; i++) {
    do {
      if (!fgets(line, sizeof line, f)) *line = '\0';
    } while (*line && !strchr(line, '\n') && strlen(line) == sizeof line - 1 && i < ar->currentline);
    if (!*line) break;
  }
  if (f) fclose(f);
  push_line(L, line, strlen(line), 1);
}

static void add_frame(luaL_Buffer *b, lua_State *L, lua_Debug *ar) {
  if (luaL_bufflen(b) > 0) luaL_addchar(b, '\n');
  luaL_addstring(b, ar->short_src);
  if (ar->currentline > 0) {
    lua_pushfstring(L, ":%d", ar->currentline);
    luaL_addvalue(b);
  }
  if (*ar->namewhat && ar->name) {
    const char *name = strncmp(ar->name, "_G.", 3) == 0 ? ar->name + 3 : ar->name;
    lua_pushfstring(L, " in %s '%s'", strcmp(ar->namewhat, "method") == 0 ? "method" : "function", name);
    luaL_addvalue(b);
  }
  if (ar->currentline > 0) {
    push_source_line(L, ar);
    if (lua_rawlen(L, -1) > 0) {
      lua_pushliteral(L, "\n    ");
      lua_insert(L, -2);
      lua_concat(L, 2);
    }
    luaL_addvalue(b);
  }
}

static void push_frames(lua_State *L, const Session *s) {
  enum { SHOWN = 12, VISITED = 200 };  // finding a level takes time in proportion to it
  luaL_Buffer b;
  lua_Debug ar;
  int shown = 0;
  luaL_buffinit(L, &b);
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    if (shown == SHOWN || level == VISITED) {
      luaL_addstring(&b, "\n... and more");
      break;
    }
    lua_getinfo(L, "Sln", &ar);
    if (!s->full_traceback && is_library(ar.source)) continue;
    add_frame(&b, L, &ar);
    shown++;
  }
  luaL_pushresult(&b);
}

// ---- the message ----

// Pushes the error value at index 1 as text, without calling anything that could fail.
static void push_message(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER) {
    lua_pushvalue(L, 1);
    lua_tostring(L, -1);
  } else if (luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING) return;
    lua_pop(L, 1);
    lua_pushfstring(L, "an error value, a %s, that gives no text", luaL_typename(L, 1));
  } else if (lua_isnil(L, 1)) {
    lua_pushliteral(L, "error was called without a message");
  } else {
    lua_pushfstring(L, "the error value is a %s, not a message", luaL_typename(L, 1));
  }
}

// Of a message and the error value: lets the debugger keep the frames, for %debug.  Gives a better message and, of an
// error without frames, its place.
static int tell_debugger(lua_State *L) {
  push_module(L, "nablua.session.debugger");
  lua_getfield(L, -1, "note_error");
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_call(L, 2, 2);
  return 2;
}

// The same for the message on the top of the stack, which is replaced, and the error at index 1; leaves the place or
// nil above it.  Whatever goes wrong in that does not matter here.
static void note_error(lua_State *L) {
  int top = lua_gettop(L);
  lua_pushcfunction(L, tell_debugger);
  lua_pushvalue(L, top);
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 2, 2, 0) == LUA_OK && lua_type(L, top + 1) == LUA_TSTRING)
    lua_remove(L, top);
  else
    lua_settop(L, top);
  lua_settop(L, top + 1);
}

// The message handler: keeps { name=, message=, frames=, value= } of the error at index 1 for whoever reports it.  The
// error itself stays what it is, for __close handlers, and for load, whose errors are no end of anything.
static int explain_error(lua_State *L) {
  Session *s = session_of(L);
  luaL_checkstack(L, 10, NULL);
  push_message(L);
  s->watcher->error(s, L, false, lua_tostring(L, -1));
  lua_settop(L, 1);
  s->unwinding = true;
  lua_createtable(L, 0, 3);
  int problem = lua_gettop(L);
  if (s->interrupted) {
    lua_pushliteral(L, "Interrupted");
    lua_setfield(L, -2, "name");
    lua_pushliteral(L, "interrupted");
  } else {
    push_message(L);
  }
  note_error(L);
  lua_insert(L, -2);
  lua_setfield(L, problem, "message");
  push_frames(L, s);
  if (lua_rawlen(L, -1) == 0 && lua_isstring(L, -2)) lua_pop(L, 1);  // the place instead
  lua_setfield(L, problem, "frames");
  lua_pushvalue(L, 1);
  lua_setfield(L, problem, "value");
  lua_pushvalue(L, problem);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &problem_key);
  lua_settop(L, 1);
  return 1;
}

// ---- calling ----

// Pushes what explain_error kept of the error at `index`, or nil where Lua could not call it; nothing is kept then.
static void push_problem(lua_State *L, int index) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &problem_key) == LUA_TTABLE) {
    lua_getfield(L, -1, "value");
    bool same = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (!same) {
      lua_pop(L, 1);
      lua_pushnil(L);
    }
    lua_pushboolean(L, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &problem_key);
  }
}

void problem_aside(lua_State *V) {
  lua_rawgetp(V, LUA_REGISTRYINDEX, &problem_key);
}

void problem_back(lua_State *V) {
  lua_rawsetp(V, LUA_REGISTRYINDEX, &problem_key);
}

static int keep_problem(lua_State *L) {
  const Problem *p = lua_touserdata(L, 1);
  lua_createtable(L, 0, 3);
  lua_pushstring(L, p->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, p->message);
  lua_setfield(L, -2, "message");
  lua_pushstring(L, p->frames);
  lua_setfield(L, -2, "frames");
  record_bundle(L, session_of(L), "error", NULL);
  return 0;
}

// Whatever goes wrong in that does not matter here.
static void record_problem(lua_State *L, Session *s, const Problem *p) {
  if (s->apart) return;
  lua_pushcfunction(L, keep_problem);
  lua_pushlightuserdata(L, (void *)(uintptr_t)p);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
}

// Tells the sink of the error on the top of the stack.
static void report(Session *s, bool stopped) {
  lua_State *L = s->L;
  Problem p = {"Error", "error", ""};
  int top = lua_gettop(L);
  luaL_checkstack(L, 10, NULL);
  push_problem(L, top);
  if (lua_istable(L, -1)) {
    static const char *const fields[] = {"name", "message", "frames"};
    const char **slots[] = {&p.name, &p.message, &p.frames};
    for (int i = 0; i < 3; i++)
      if (lua_getfield(L, top + 1, fields[i]) == LUA_TSTRING) *slots[i] = lua_tostring(L, -1);
  } else if (lua_type(L, top) == LUA_TSTRING) {
    p.message = lua_tostring(L, top);
  }
  if (stopped) {
    p.name = "Interrupted";
    p.message = "interrupted";
  }
  if (nablua_rank() > 0) p.message = lua_pushfstring(L, "[rank %d] %s", nablua_rank(), p.message);
  record_problem(L, s, &p);
  nablua_failed(p.message);
  s->sink.error(s->sink.user, &p);
  lua_settop(L, top);
}

SessionStatus protected_call(Session *s, int arguments, int results) {
  lua_State *L = s->L;
  int handler = lua_gettop(L) - arguments;
  lua_pushcfunction(L, explain_error);
  lua_insert(L, handler);
  nb_interrupt_clear();
  s->interrupted = 0;
  s->peace_until = 0;
  s->owed = false;
  s->unwinding = false;
  s->steps = 0;
  s->resumed = NULL;
  s->running = L;
  s->active = 1;
  if (s->awaited) {
    s->awaited = 0;
    interrupt_what_runs(s);
  }
  if (s->called) arm_visit(s, L);
  if (s->debugging) s->watcher->enter(s, L, NULL);
  int status = lua_pcall(L, arguments, results, handler);
  s->active = 0;
  clear_hooks(s, L);
  if (s->debugging) s->watcher->over(s);
  nb_interrupt_clear();
  lua_remove(L, handler);
  bool stopped = s->interrupted;
  s->interrupted = 0;
  if (status == LUA_OK) return stopped ? SESSION_INTERRUPTED : SESSION_OK;
  report(s, stopped);
  lua_pop(L, 1);
  return stopped ? SESSION_INTERRUPTED : SESSION_ERROR;
}
