// SPDX-License-Identifier: MIT
// Opening a session, which calls down into every file beside it, its settings, and closing it.
#include "session.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "debugger.h"
#include "hooks.h"
#include "input.h"
#include "interrupts.h"
#include "nablua/clock.h"
#include "nablua/memory.h"
#include "nablua_lua.h"
#include "native.h"
#include "show.h"
#include "visitors.h"

// ---- settings ----

void session_allow_input(Session *s, bool allowed) {
  s->deaf = !allowed;
}

void session_allow_pauses(Session *s, bool allowed) {
  s->pauses = allowed ? 1 : -1;
}

double session_clock(void) {
  return nb_clock();
}

const char *session_lua_version(void) {
  return LUA_VERSION_MAJOR "." LUA_VERSION_MINOR;
}

void session_set_traceback(Session *s, bool full) {
  s->full_traceback = full;
}

void session_set_display(Session *s, bool color, bool rich, int width) {
  s->color = color;
  s->rich = rich;
  s->width = width;
}

// ---- opening ----

// What the Lua part of the session may ask of this one: the module nablua.session.native.
static int open_native(lua_State *L) {
  static const luaL_Reg functions[] = {{"evaluate", evaluate_code},
                                       {"remember", remember_code},
                                       {"local_value", local_value},
                                       {"files", matching_files},
                                       {"send_comm", send_comm},
                                       {"has_client", has_client},
                                       {"new_comm_id", new_comm_id},
                                       {"json_error", json_error},
                                       {"leave", leave},
                                       {"command", command_end},
                                       {"next_input", next_input},
                                       {"folder", working_folder},
                                       {"set_variable", set_variable},
                                       {"variables", variables},
                                       {"stamp", file_stamp},
                                       {"capture", capture},
                                       {"watch", watch_inputs},
                                       {"set_alarm", set_alarm},
                                       {"controls_changed", controls_changed},
                                       {"execute", execute_program},
                                       {"popen", open_pipe},
                                       {NULL, NULL}};
  static const char *const tables[] = {"kept", "sources", "standard", "comms", "outputs", "stamps", NULL};
  luaL_newlib(L, functions);
  for (int i = 0; tables[i]; i++) {
    push_session_table(L, tables[i]);
    lua_setfield(L, -2, tables[i]);
  }
  return 1;
}

static bool without_environment;

void session_ignore_environment(void) {
  without_environment = true;
}

static int open_library(lua_State *L) {
  static const char *const modules[] = {"nn", "optim", "data", "inspect", "plot", "ui", "help", "dist", NULL};
  lua_pushboolean(L, without_environment);
  lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");  // where Lua's package library looks
  luaL_openlibs(L);
  lua_warning(L, "@on", 0);
  state_open(L, lua_touserdata(L, 1));
  open_hooks(L);
  open_interrupts(L);
  open_programs(L);
  open_loading(L);
  open_patterns(L);
  open_sort(L);
  open_getinfo(L);
  open_record(L);
  open_visitors(L);
  luaL_requiref(L, "nablua", luaopen_nablua, 0);
  know_protected_call(L);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "nb");
  for (int i = 0; modules[i]; i++) {
    if (lua_getfield(L, -1, modules[i]) != LUA_TNIL) {
      push_session_table(L, "modules");
      lua_pushvalue(L, -2);
      lua_setfield(L, -2, modules[i]);
      lua_pop(L, 1);
      lua_setglobal(L, modules[i]);
    } else {
      lua_pop(L, 1);
    }
  }
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_native);
  lua_setfield(L, -2, "nablua.session.native");
  lua_pop(L, 1);
  open_debugger(L);
  open_display(L);
  push_session_table(L, "standard");  // to tell the user's globals from these
  lua_pushglobaltable(L);
  for (lua_pushnil(L); lua_next(L, -2);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -5);
  }
  return 0;
}

enum { LOOK_STEP = 1 << 20 };  // the limit is looked at once in so many bytes of Lua's

// Whether Lua may have so many more bytes beside what the tensors hold.
static __attribute__((noinline)) bool may_have(Session *s, size_t more) {
  MemoryStats m = nb_memory_stats();
  if (s->lua_bytes + more + m.live > m.limit) return false;
  s->look_at = s->lua_bytes + more + LOOK_STEP;
  return true;
}

// Lua's allocations count against the same limit as the tensors': an error, before the machine runs out of memory.
static void *allocate(void *user, void *block, size_t before, size_t after) {
  Session *s = user;
  size_t old = block ? before : 0;  // else `before` is the kind of object
  if (after <= old) {               // which does not fail
    s->lua_bytes -= old - after;
    if (s->lua_bytes + 2 * LOOK_STEP < s->look_at) s->look_at = s->lua_bytes + LOOK_STEP;
    return s->allocate(s->allocate_user, block, before, after);
  }
  if (s->lua_bytes + (after - old) > s->look_at && !may_have(s, after - old)) return NULL;
  void *result = s->allocate(s->allocate_user, block, before, after);
  if (!result) {  // what tensors are done with may serve Lua
    nb_memory_trim();
    result = s->allocate(s->allocate_user, block, before, after);
  }
  if (result) s->lua_bytes += after - old;
  return result;
}

Session *session_new(const Sink *sink, char *reason, size_t size) {
  Session *s = calloc(1, sizeof *s);
  lua_State *L = s ? luaL_newstate() : NULL;
  if (!L || !debugger_open(s)) {
    if (L) lua_close(L);
    snprintf(reason, size, "there is no memory for an interpreter");
    free(s);
    return NULL;
  }
  s->L = L;
  s->sink = s->front = *sink;
  s->level = SESSION_INPUT;
  s->allocate = lua_getallocf(L, &s->allocate_user);
  lua_setallocf(L, allocate, s);
  lua_gc(L, LUA_GCGEN, 10, 30);  // most tensors die young, and the library's own tables never
  s->mimes[0] = (Mime){"text/plain", "", 0};
  lua_pushcfunction(L, open_library);
  lua_pushlightuserdata(L, s);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    snprintf(reason, size, "%s", lua_tostring(L, -1) ? lua_tostring(L, -1) : "the library cannot be opened");
    session_free(s);
    return NULL;
  }
  return s;
}

void session_free(Session *s) {
  if (!s) return;
  if (s->has_timer) timer_delete(s->timer);
  lua_close(s->L);
  session_history_close(s);
  debugger_free(s);
  forget_chunk(s);
  free(s->completions);
  text_free(&s->printed);
  free(s);
}
