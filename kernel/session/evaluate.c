// SPDX-License-Identifier: MIT
// Evaluating inputs and files: their commands, their Lua, and what becomes of their values.
#include <ctype.h>
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "debugger.h"
#include "history.h"
#include "input.h"
#include "native.h"
#include "pasted.h"
#include "record.h"
#include "show.h"

// What Lua calls the input of this number; without its "=" it is the key of the table of sources.
typedef struct InputName {
  char text[32];
} InputName;

static InputName name_of_input(const Session *s) {
  InputName name;
  snprintf(name.text, sizeof name.text, "=input %d", s->number);
  return name;
}

// ---- what Lua calls ----

static int compile_protected(lua_State *L) {
  compile(L, session_of(L), lua_touserdata(L, 1));
  return 1;
}

int evaluate_code(lua_State *L) {
  Session *s = session_of(L);
  InputName name = name_of_input(s);
  Source source = {.name = name.text};
  size_t length;
  const char *code = luaL_checklstring(L, 1, &length);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; i < s->command_line; i++) luaL_addchar(&b, '\n');  // lines count from the input's first
  luaL_addlstring(&b, code, length);
  luaL_pushresult(&b);
  lua_replace(L, 1);
  source.code = lua_tolstring(L, 1, &source.length);
  int arguments = lua_gettop(L) - 1;
  compile(L, s, &source);
  lua_insert(L, 2);
  lua_call(L, arguments, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

int watch_inputs(lua_State *L) {
  session_of(L)->watched = lua_toboolean(L, 1);
  return 0;
}

static int before_input(lua_State *L) {
  push_module(L, "nablua.session.commands");
  lua_getfield(L, -1, "before_input");
  lua_call(L, 0, 0);
  return 0;
}

int next_input(lua_State *L) {
  const Sink *sink = &session_of(L)->sink;
  const char *text = luaL_checkstring(L, 1);
  if (sink->next_input) sink->next_input(sink->user, text, lua_toboolean(L, 2));
  lua_pushboolean(L, sink->next_input != NULL);
  return 1;
}

// sources[name] = the text on top; of inputs the last ones are kept, up to the number sources.last.
static void keep_source(lua_State *L, const Session *s, const char *name) {
  enum { MOST = 2000 };
  push_session_table(L, "sources");
  lua_insert(L, -2);
  lua_setfield(L, -2, name);
  if (s->apart) return;
  lua_pushinteger(L, s->number);
  lua_setfield(L, -2, "last");
  lua_pushfstring(L, "input %d", s->number - MOST);
  lua_pushnil(L);
  lua_rawset(L, -3);
}

int remember_code(lua_State *L) {
  Session *s = session_of(L);
  InputName name = name_of_input(s);
  luaL_checkstring(L, 1);
  lua_pushvalue(L, 1);
  keep_source(L, s, name.text + 1);
  return 0;
}

// Whether the value at index 1 is a page of help that a command made.
static bool is_page(lua_State *L) {
  int field = luaL_getmetafield(L, 1, "__name");
  bool page = field == LUA_TSTRING && strcmp(lua_tostring(L, -1), "page") == 0;
  if (field != LUA_TNIL) lua_pop(L, 1);
  return page;
}

static int show_input_values(lua_State *L) {
  Session *s = session_of(L);
  int count = lua_gettop(L);
  if (count == 0 || (count == 1 && lua_isnil(L, 1))) return 0;
  if (!s->apart) {
    lua_pushglobaltable(L);
    lua_pushliteral(L, "_");
    lua_pushvalue(L, 1);
    lua_rawset(L, -3);  // whatever the user forbids to assign
    lua_pop(L, 1);
    push_module(L, "nablua.session.results");
    lua_getfield(L, -1, "keep");
    lua_pushinteger(L, s->number);
    lua_pushvalue(L, 1);
    lua_call(L, 2, 0);
    lua_pop(L, 1);
  }
  if (lua_toboolean(L, lua_upvalueindex(1))) return 0;  // hidden
  luaL_checkstack(L, 20, NULL);
  if (count == 1) {
    push_bundle(L, s, 1);
  } else {  // several: their texts, a line each
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
      push_bundle(L, s, i);
      lua_getfield(L, -1, "text/plain");
      lua_remove(L, -2);
      luaL_addvalue(&b);
      if (i < count) luaL_addchar(&b, '\n');
    }
    luaL_pushresult(&b);
    lua_createtable(L, 0, 1);
    lua_insert(L, -2);
    lua_setfield(L, -2, "text/plain");
  }
  Bundle b = read_bundle(L, s);
  if (s->sink.page && count == 1 && is_page(L)) {
    s->sink.page(s->sink.user, &b);
    return 0;
  }
  if (s->more_follows) {  // the value of an input is its last
    record_bundle(L, s, "display", NULL);
    s->sink.display(s->sink.user, &b, NULL, false);
    return 0;
  }
  record_bundle(L, s, "value", NULL);
  if (!s->apart) remember_output(s, b.items[0].data, b.items[0].length);
  s->sink.value(s->sink.user, s->beside > 0 ? s->beside : s->number, &b);
  return 0;
}

static int remember_source(lua_State *L) {
  const Source *source = lua_touserdata(L, 1);
  lua_pushlstring(L, source->code, source->length);
  keep_source(L, session_of(L), source->name + 1);
  return 0;
}

// Runs the function below its arguments, then shows what it returned unless that is hidden.
static SessionStatus call_and_show(Session *s, int arguments, bool hidden) {
  lua_State *L = s->L;
  int top = lua_gettop(L) - arguments - 1;
  SessionStatus status = protected_call(s, arguments, LUA_MULTRET);
  if (status == SESSION_OK && lua_gettop(L) > top) {
    lua_pushboolean(L, hidden);
    lua_pushcclosure(L, show_input_values, 1);
    lua_insert(L, top + 1);
    status = protected_call(s, lua_gettop(L) - top - 1, 0);
  }
  lua_settop(L, top);
  return status;
}

// run_command(line): hands a line such as "%time x" to the commands module; its results are shown.
static int run_command(lua_State *L) {
  push_module(L, "nablua.session.commands");
  lua_getfield(L, -1, "run");
  lua_pushvalue(L, 1);
  lua_call(L, 1, LUA_MULTRET);
  return lua_gettop(L) - 2;
}

// Says once of each module's name that it now means something else; the library itself does not mind.
static int note_hidden_modules(lua_State *L) {
  push_session_table(L, "modules");
  push_session_table(L, "kept");
  int modules = lua_gettop(L) - 1, kept = modules + 1;
  for (lua_pushnil(L); lua_next(L, modules); lua_pop(L, 1)) {
    lua_pushglobaltable(L);
    lua_pushvalue(L, -3);
    lua_rawget(L, -2);
    bool same = lua_rawequal(L, -1, -3);
    lua_pop(L, 2);
    lua_pushvalue(L, -2);
    bool local = lua_rawget(L, kept) != LUA_TNIL;
    lua_pop(L, 1);
    if (same && !local) continue;
    const char *name = lua_tostring(L, -2);
    printf("%s now hides the module, still at nb.%s\n", name, name);
    lua_pushnil(L);
    lua_setfield(L, modules, name);
  }
  return 0;
}

// Whether the input is a name alone, or may hold a word of another language that is nil here without an error.
static bool may_name_nothing(const char *code, size_t length) {
  static const char *const words[] = {"True", "False", "None"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (memmem(code, length, words[i], strlen(words[i]))) return true;
  for (size_t i = 0; i < length; i++)
    if (!isalnum((unsigned char)code[i]) && !memchr("_. \t\r\n", code[i], 6)) return false;
  return length < 200;
}

// Says of names that are nil what was meant, where that is known.
static int note_undefined_names(lua_State *L) {
  push_module(L, "nablua.session.suggest");
  lua_getfield(L, -1, "of_input");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  if (lua_isstring(L, -1)) puts(lua_tostring(L, -1));
  return 0;
}

// ---- evaluating ----

static SessionStatus remember(Session *s, const Source *source) {
  lua_pushcfunction(s->L, remember_source);
  lua_pushlightuserdata(s->L, (void *)(uintptr_t)source);
  SessionStatus status = protected_call(s, 1, 0);
  debugger_note_source(s, source->name);
  return status;
}

// Whether the input is exit, quit, exit() or quit(), and these are no names of the user's.
static bool asks_to_leave(lua_State *L, const char *code, size_t length) {
  while (length > 0 && strchr(" \t\r\n", code[length - 1])) length--;
  if (length == 6 && code[4] == '(' && code[5] == ')') length = 4;
  if (length != 4 || (memcmp(code, "exit", 4) != 0 && memcmp(code, "quit", 4) != 0)) return false;
  push_session_table(L, "kept");
  lua_pushglobaltable(L);
  bool free = true;
  for (int table = -2; table < 0; table++) {
    lua_pushlstring(L, code, 4);
    free = lua_rawget(L, table - 1) == LUA_TNIL && free;
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  return free;
}

// Evaluates what stands from byte `at` on.
static SessionStatus eval_from(Session *s, const Source *source, size_t at) {
  lua_State *L = s->L;
  const char *code = source->code;
  size_t length = source->length, end, counted = 0;
  SessionStatus status = remember(s, source);
  s->command_line = 0;
  while (status == SESSION_OK && command_at(s, code, length, &at, &end, NULL) != NO_COMMAND) {
    for (; counted < at; counted++) s->command_line += code[counted] == '\n';
    lua_pushcfunction(L, run_command);
    lua_pushlstring(L, code + at, end - at);
    status = call_and_show(s, 1, false);
    at = end;
  }
  if (status != SESSION_OK || at == length) return status;
  if (asks_to_leave(L, code + at, length - at)) {
    lua_pushcfunction(L, run_command);
    lua_pushliteral(L, "%exit");
    return call_and_show(s, 1, false);
  }
  // Lines count from the input's first, so the rest is compiled behind as many line ends.
  Text rest = {0};
  for (size_t i = 0; i < at; i++)
    if (code[i] == '\n') text_add(&rest, "\n", 1);
  add_lua(code + at, length - at, &rest);
  Source lua = {rest.failed ? "" : rest.data, rest.length, source->name};
  lua_pushcfunction(L, compile_protected);
  lua_pushlightuserdata(L, &lua);
  status = protected_call(s, 1, 1);
  bool hidden = s->chunk && chunk_is_quiet(s->chunk);
  forget_chunk(s);
  if (status == SESSION_OK) status = call_and_show(s, 0, hidden);
  text_free(&rest);
  return status;
}

// Whether the text is what a prompt showed, prompts included, and nothing that Lua understands.
static bool is_pasted(Session *s, const char *code, size_t length) {
  return pasted_begins(code, length) && judge(s, code, length, NULL) == SESSION_INVALID;
}

static int end_record(lua_State *L) {
  record_printed(L, session_of(L));
  return 0;
}

static SessionStatus eval(Session *s, const char *code, size_t length, const char *name) {
  lua_State *L = s->L;
  SessionStatus status = SESSION_OK;
  int top = lua_gettop(L);
  sig_atomic_t outer = s->within;
  s->within = 1;
  if (s->watched && !s->apart) {
    lua_pushcfunction(L, before_input);
    protected_call(s, 0, 0);
  }
  if (is_pasted(s, code, length)) {  // input by input
    Text clean = {0};
    for (size_t at = 0, begin = 0; status == SESSION_OK && pasted_next(code, length, &at, &clean) && !clean.failed;
         begin = clean.length) {
      s->more_follows = at < length;
      status = eval_from(s, &(Source){clean.data, clean.length, name}, begin);
    }
    s->more_follows = false;
    text_free(&clean);
  } else {
    status = eval_from(s, &(Source){code, length, name}, skip_mark(code, length));
  }
  lua_pushcfunction(L, settle_values);
  protected_call(s, 0, 0);
  lua_pushcfunction(L, end_record);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
  lua_pushcfunction(L, note_hidden_modules);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
  if (status == SESSION_OK && !s->apart && !s->leaves && may_name_nothing(code, length)) {
    lua_pushcfunction(L, note_undefined_names);
    lua_pushlstring(L, code, length);
    lua_pcall(L, 1, 0, 0);
  }
  lua_settop(L, top);
  s->within = outer;
  if (!outer) s->awaited = 0;  // nothing is left that it could stop
  return status;
}

SessionStatus session_eval(Session *s, const char *code, size_t length) {
  s->number++;
  remember_input(s, code, length);
  return eval(s, code, length, name_of_input(s).text);
}

SessionStatus session_eval_apart(Session *s, const char *code, size_t length, const Sink *sink) {
  Sink before = s->sink;
  bool apart = s->apart;
  int beside = s->beside;
  if (sink) s->sink = *sink;
  s->apart = true;
  s->beside = 0;
  SessionStatus status = eval(s, code, length, "=code");
  s->apart = apart;
  s->beside = beside;
  s->sink = before;
  return status;
}

SessionStatus eval_in_frame(Session *s, const char *code, size_t length) {
  s->more_follows = true;  // its value is one of several of the input that is paused
  SessionStatus status = eval(s, code, length, "=paused");
  s->more_follows = false;
  return status;
}

SessionStatus session_eval_beside(Session *s, const char *prompt, int number, const char *code, size_t length) {
  enum { MOST = 200 };
  char name[80];
  snprintf(name, sizeof name, "%s input %d", prompt, number - MOST);
  push_session_table(s->L, "sources");
  lua_pushnil(s->L);
  lua_setfield(s->L, -2, name);
  lua_pop(s->L, 1);
  snprintf(name, sizeof name, "=%s input %d", prompt, number);
  bool apart = s->apart;
  s->apart = true;
  s->beside = number;
  SessionStatus status = eval(s, code, length, name);
  s->apart = apart;
  s->beside = 0;
  return status;
}

int session_next_number(const Session *s) {
  return s->number + 1;
}
