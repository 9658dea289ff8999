// SPDX-License-Identifier: MIT
// Evaluating in a Lua state: protected, interruptible, with top-level locals that stay.
#include "session.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lexer.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua_lua.h"
#include "pasted.h"
#include "session_private.h"

static const char session_key, tables_key;

Session *session_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &session_key);
  Session *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

void push_session_table(lua_State *L, const char *name) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &tables_key);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

// ---- calling ----

// Tells the sink of the error on the top of the stack: explain_error's table, or a text where Lua could not call it.
static void report(Session *s, bool stopped) {
  lua_State *L = s->L;
  Problem p = {"Error", "error", ""};
  int top = lua_gettop(L);
  luaL_checkstack(L, 4, NULL);
  if (lua_istable(L, -1)) {
    static const char *const fields[] = {"name", "message", "frames"};
    const char **slots[] = {&p.name, &p.message, &p.frames};
    for (int i = 0; i < 3; i++)
      if (lua_getfield(L, top, fields[i]) == LUA_TSTRING) *slots[i] = lua_tostring(L, -1);
  } else if (lua_type(L, -1) == LUA_TSTRING) {
    p.message = lua_tostring(L, -1);
  }
  if (stopped) {
    p.name = "Interrupted";
    p.message = "interrupted";
  }
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
  s->running = L;
  s->active = 1;
  int status = lua_pcall(L, arguments, results, handler);
  s->active = 0;
  lua_sethook(L, NULL, 0, 0);
  nb_interrupt_clear();
  lua_remove(L, handler);
  bool stopped = s->interrupted;
  s->interrupted = 0;
  if (status == LUA_OK) return stopped ? SESSION_INTERRUPTED : SESSION_OK;
  report(s, stopped);
  lua_pop(L, 1);
  return stopped ? SESSION_INTERRUPTED : SESSION_ERROR;
}

// ---- locals that stay ----
//
// kept[name] = { f, i, constant }: upvalue i of the closure f is the variable.

// keep(f [, name]): the upvalues of f are variables to keep; with a name, a constant one.
static int keep(lua_State *L) {
  const char *constant = lua_tostring(L, 2), *name;
  push_session_table(L, "kept");
  int kept = lua_gettop(L);
  bool found = false;
  for (int i = 1; (name = lua_getupvalue(L, 1, i)) != NULL; i++) {
    lua_pop(L, 1);
    if (strcmp(name, "_ENV") == 0 || (constant && strcmp(name, constant) != 0)) continue;
    found = true;
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, i);
    lua_rawseti(L, -2, 2);
    lua_pushboolean(L, constant != NULL);
    lua_rawseti(L, -2, 3);
    lua_setfield(L, kept, name);
  }
  if (found || !constant) return 0;
  // Lua puts constants such as 5 in the code, without a variable: make one.
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  int value = lua_gettop(L);
  lua_pushfstring(L, "local %s=... return function()return %s end", constant, constant);
  if (luaL_loadstring(L, lua_tostring(L, -1)) != LUA_OK) return lua_error(L);
  lua_pushvalue(L, value);
  lua_call(L, 1, 1);
  lua_pushcfunction(L, keep);
  lua_insert(L, -2);
  lua_pushvalue(L, 2);
  lua_call(L, 2, 0);
  return 0;
}

static int values(lua_State *L) {
  return lua_gettop(L);
}

static int is_kept(void *user, const char *name, size_t length) {
  lua_State *L = user;
  lua_pushlstring(L, name, length);
  int kept = lua_rawget(L, -2) == LUA_TTABLE;
  if (kept) {
    lua_rawgeti(L, -1, 3);
    kept = lua_toboolean(L, -1) ? 2 : 1;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return kept;
}

// Joins the upvalues of the function on the top to the kept variables of the same names.
static void join(lua_State *L) {
  const char *name;
  int f = lua_gettop(L);
  push_session_table(L, "kept");
  for (int i = 1; (name = lua_getupvalue(L, f, i)) != NULL; i++) {
    lua_pop(L, 1);
    if (lua_getfield(L, f + 1, name) == LUA_TTABLE) {
      lua_rawgeti(L, -1, 1);
      lua_rawgeti(L, -2, 2);
      lua_upvaluejoin(L, f, i, -2, (int)lua_tointeger(L, -1));
      lua_pop(L, 2);
    }
    lua_pop(L, 1);
  }
  lua_settop(L, f);
}

// ---- compiling ----

static void forget_chunk(Session *s) {
  chunk_free(s->chunk);
  s->chunk = NULL;
  text_free(&s->text);
}

static void begin_chunk(lua_State *L, Session *s, const char *code, size_t length) {
  forget_chunk(s);
  if (!(s->chunk = chunk_new(code, length))) luaL_error(L, "not enough memory for this input");
}

// Compiles the input as it is, or as an expression.  Leaves nothing, or the message.
static bool check(lua_State *L, Session *s, bool value, const char *source) {
  s->text.length = 0;
  chunk_plain(s->chunk, value, &s->text);
  if (s->text.failed) luaL_error(L, "not enough memory for this input");
  int status = luaL_loadbufferx(L, s->text.data ? s->text.data : "", s->text.length, source, "t");
  if (status == LUA_OK) {
    lua_pop(L, 1);
  } else if (lua_istable(L, -1)) {  // nested too deep: an error that explain_error has seen
    lua_getfield(L, -1, "message");
    lua_remove(L, -2);
  }
  return status == LUA_OK;
}

// Whether the input is right, with a value or without.  Leaves nothing, or the message.
static bool choose(lua_State *L, Session *s, bool *value, const char *source) {
  *value = false;
  if (chunk_ends_in_expression(s->chunk)) {
    if (check(L, s, true, source)) return *value = true;
    if (check(L, s, false, source)) {
      lua_pop(L, 1);
      return true;
    }
    // Of the two messages the one about what was meant: the one that got further, which a lone expression's has.
    const char *with = lua_tostring(L, -2), *without = lua_tostring(L, -1);
    bool open = strstr(with, "near <eof>") && !strstr(without, "near <eof>");
    lua_pop(L, open ? 1 : 0);
    if (!open) lua_remove(L, -2);
    return false;
  }
  return check(L, s, false, source);
}

typedef struct Source {
  const char *code;
  size_t length;
  const char *name;
} Source;

// Leaves the function that an input is.
static void compile(lua_State *L, Session *s, const Source *source) {
  bool value;
  begin_chunk(L, s, source->code, source->length);
  if (!choose(L, s, &value, source->name)) lua_error(L);
  push_session_table(L, "kept");
  s->text.length = 0;
  bool fits = chunk_wrapped(s->chunk, value, is_kept, L, &s->text);
  lua_pop(L, 1);
  if (!fits) luaL_error(L, "the input names more than 240 locals of earlier inputs; use globals or a table for some");
  if (s->text.failed) luaL_error(L, "not enough memory for this input");
  if (luaL_loadbufferx(L, s->text.data, s->text.length, source->name, "t") != LUA_OK) lua_error(L);
  lua_pushcfunction(L, keep);
  lua_pushcfunction(L, values);
  lua_call(L, 2, 1);
  join(L);
}

static int compile_protected(lua_State *L) {
  compile(L, session_of(L), lua_touserdata(L, 1));
  return 1;
}

// ---- inputs ----

// evaluate(code): what commands use to run code as the input that they are part of.
static int evaluate(lua_State *L) {
  Session *s = session_of(L);
  char name[32];
  snprintf(name, sizeof name, "=input %d", s->number);
  Source source = {.name = name};
  source.code = luaL_checklstring(L, 1, &source.length);
  lua_settop(L, 1);
  compile(L, s, &source);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

// remember(code): what the input of this number is from now on, for %history and the frames of errors.
static int remember_code(lua_State *L) {
  Session *s = session_of(L);
  char name[32];
  luaL_checkstring(L, 1);
  snprintf(name, sizeof name, "input %d", s->number);
  push_session_table(L, "sources");
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, name);
  return 0;
}

// The value of a kept variable, by name; nil when there is none.
static int local_value(lua_State *L) {
  push_session_table(L, "kept");
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) != LUA_TTABLE) return 0;
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  return lua_getupvalue(L, -2, (int)lua_tointeger(L, -1)) ? 1 : 0;
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
  char name[32];
  if (count == 0 || (count == 1 && lua_isnil(L, 1))) return 0;
  if (!s->apart) {
    lua_pushvalue(L, 1);
    lua_setglobal(L, "_");
    snprintf(name, sizeof name, "_%d", s->number);
    lua_pushvalue(L, 1);
    lua_setglobal(L, name);
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
    s->sink.display(s->sink.user, &b, NULL, false);
    return 0;
  }
  if (!s->apart) remember_output(s, b.items[0].data, b.items[0].length);
  s->sink.value(s->sink.user, s->number, &b);
  return 0;
}

static int remember_source(lua_State *L) {
  const Source *source = lua_touserdata(L, 1);
  push_session_table(L, "sources");
  lua_pushlstring(L, source->code, source->length);
  lua_setfield(L, -2, source->name + 1);
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
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nablua.session.commands");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "run");
  lua_pushvalue(L, 1);
  lua_call(L, 1, LUA_MULTRET);
  return lua_gettop(L) - 2;
}

static bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Whether a whole input of one line asks for help: name? or name??
static bool asks_at_end(const char *code, size_t length) {
  while (length > 0 && is_space(code[length - 1])) length--;
  if (length < 2 || code[length - 1] != '?' || memchr(code, '\n', length)) return false;
  while (length > 0 && code[length - 1] == '?') length--;
  for (size_t i = 0; i < length; i++)
    if (!(code[i] == '_' || code[i] == '.' || code[i] == ':' || code[i] == ' ' || (code[i] >= '0' && code[i] <= '9') ||
          ((code[i] | 32) >= 'a' && (code[i] | 32) <= 'z')))
      return false;
  return true;
}

// The line at `at` when it is a command, and where the next one begins.  Commands stand before any Lua.
static bool command_line(const char *code, size_t length, size_t *at, size_t *end) {
  while (*at < length && is_space(code[*at])) (*at)++;
  if (*at == length) return false;
  if (code[*at] != '%' && code[*at] != '?' && !asks_at_end(code + *at, length - *at)) return false;
  const char *stop = memchr(code + *at, '\n', length - *at);
  *end = stop ? (size_t)(stop - code) : length;
  return true;
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

// ---- completeness ----

static int check_protected(lua_State *L) {
  Session *s = session_of(L);
  const Source *source = lua_touserdata(L, 1);
  bool value;
  begin_chunk(L, s, source->code, source->length);
  return choose(L, s, &value, source->name) ? 0 : lua_error(L);
}

// Whether the text ends in "\\", or in "\\z" and spaces.
static bool continues_string(const char *code, size_t length) {
  if (length > 0 && code[length - 1] == '\\') return true;
  while (length > 0 && is_space(code[length - 1])) length--;
  return length > 1 && code[length - 1] == 'z' && code[length - 2] == '\\';
}

// Completeness of an input without prompts.
static SessionCompleteness judge(Session *s, const char *code, size_t length, int *indent) {
  static const char mark[] = "<eof>";
  lua_State *L = s->L;
  SessionCompleteness result = SESSION_COMPLETE;
  size_t at = 0, end;
  if (indent) *indent = 0;
  while (command_line(code, length, &at, &end)) at = end;
  Source source = {code + at, length - at, "=input"};
  lua_pushcfunction(L, check_protected);
  lua_pushlightuserdata(L, &source);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    size_t n;
    const char *message = lua_tolstring(L, -1, &n);
    bool open = message && n >= sizeof mark - 1 && strcmp(message + n - (sizeof mark - 1), mark) == 0;
    // A quoted string cannot go on in another line, unless a backslash says so.
    if (open && strstr(message, ": unfinished string near") && !continues_string(source.code, source.length))
      open = false;
    result = open ? SESSION_INCOMPLETE : SESSION_INVALID;
    if (open && indent && s->chunk) *indent = 2 * chunk_depth(s->chunk);
    lua_pop(L, 1);
  }
  forget_chunk(s);
  return result;
}

// ---- evaluating ----

static SessionStatus remember(Session *s, const Source *source) {
  lua_pushcfunction(s->L, remember_source);
  lua_pushlightuserdata(s->L, (void *)(uintptr_t)source);
  return protected_call(s, 1, 0);
}

// Evaluates what stands from byte `at` on.
static SessionStatus eval_from(Session *s, const Source *source, size_t at) {
  lua_State *L = s->L;
  const char *code = source->code;
  size_t length = source->length, end;
  SessionStatus status = remember(s, source);
  while (status == SESSION_OK && command_line(code, length, &at, &end)) {
    lua_pushcfunction(L, run_command);
    lua_pushlstring(L, code + at, end - at);
    status = call_and_show(s, 1, false);
    at = end;
  }
  if (status != SESSION_OK || at == length) return status;
  // Lines count from the input's first, so the rest is compiled behind as many line ends.
  Text rest = {0};
  for (size_t i = 0; i < at; i++)
    if (code[i] == '\n') text_add(&rest, "\n", 1);
  text_add(&rest, code + at, length - at);
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

static SessionStatus eval(Session *s, const char *code, size_t length, const char *name) {
  lua_State *L = s->L;
  SessionStatus status = SESSION_OK;
  int top = lua_gettop(L);
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
    status = eval_from(s, &(Source){code, length, name}, 0);
  }
  lua_pushcfunction(L, settle_values);
  protected_call(s, 0, 0);
  lua_pushcfunction(L, note_hidden_modules);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
  lua_settop(L, top);
  return status;
}

SessionStatus session_eval(Session *s, const char *code, size_t length) {
  char name[32];
  s->number++;
  snprintf(name, sizeof name, "=input %d", s->number);
  remember_input(s, code, length);
  return eval(s, code, length, name);
}

SessionStatus session_eval_apart(Session *s, const char *code, size_t length, const Sink *sink) {
  Sink before = s->sink;
  if (sink) s->sink = *sink;
  s->apart = true;
  SessionStatus status = eval(s, code, length, "=code");
  s->apart = false;
  s->sink = before;
  return status;
}

int session_next_number(const Session *s) {
  return s->number + 1;
}

// ---- files ----

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
  SessionStatus status = protected_call(s, 1, 0);
  lua_pushcfunction(s->L, settle_values);
  protected_call(s, 0, 0);
  return status;
}

// ---- looking at inputs ----

SessionCompleteness session_is_complete(Session *s, const char *code, size_t length, int *indent) {
  SessionCompleteness result = judge(s, code, length, indent);
  if (result != SESSION_INVALID || !pasted_begins(code, length)) return result;
  Text clean = {0};
  size_t begin = 0, at = 0;
  for (size_t before = 0; pasted_next(code, length, &at, &clean); before = clean.length) begin = before;
  if (!clean.failed) result = judge(s, clean.data + begin, clean.length - begin, indent);
  text_free(&clean);
  return result;
}

bool session_color(const char *code, size_t length, size_t at, size_t *begin, size_t *end, SessionColor *color) {
  static const SessionColor colors[] = {[TOKEN_KEYWORD] = SESSION_KEYWORD,
                                        [TOKEN_NUMBER] = SESSION_NUMBER,
                                        [TOKEN_STRING] = SESSION_STRING,
                                        [TOKEN_COMMENT] = SESSION_COMMENT,
                                        [TOKEN_BAD] = SESSION_PLAIN};
  if (at == 0 && command_line(code, length, &at, end)) {
    *begin = at;
    *color = SESSION_COMMAND;
    return true;
  }
  Token t = lexer_next(code, length, at);
  if (t.kind == TOKEN_END) return false;
  *begin = t.begin;
  *end = t.end;
  *color = colors[t.kind];
  return true;
}

// ---- settings ----

void session_allow_input(Session *s, bool allowed) {
  s->deaf = !allowed;
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
  static const luaL_Reg functions[] = {
      {"evaluate", evaluate}, {"remember", remember_code}, {"local_value", local_value}, {"files", matching_files},
      {"ask", ask_user},      {"send_comm", send_comm},    {"new_comm_id", new_comm_id}, {NULL, NULL}};
  static const char *const tables[] = {"kept", "sources", "standard", "comms", NULL};
  luaL_newlib(L, functions);
  for (int i = 0; tables[i]; i++) {
    push_session_table(L, tables[i]);
    lua_setfield(L, -2, tables[i]);
  }
  return 1;
}

static int open_library(lua_State *L) {
  static const char *const modules[] = {"nn", "optim", "data", "inspect", "plot", "help", NULL};
  static const char *const tables[] = {"kept", "sources", "held", "modules", "standard", "comms", NULL};
  luaL_openlibs(L);
  lua_warning(L, "@on", 0);
  lua_createtable(L, 0, 3);
  for (int i = 0; tables[i]; i++) {
    lua_newtable(L);
    lua_setfield(L, -2, tables[i]);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &tables_key);
  open_interrupts(L);
  open_programs(L);
  open_patterns(L);
  open_sort(L);
  luaL_requiref(L, "nablua", luaopen_nablua, 0);
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

// Lua's allocations count against the same limit as the tensors': an error, before the machine runs out of memory.
static void *allocate(void *user, void *block, size_t before, size_t after) {
  enum { STEP = 1 << 20 };  // the limit is looked at once in so many bytes
  Session *s = user;
  size_t old = block ? before : 0;  // else `before` is the kind of object
  if (after > old && s->lua_bytes + (after - old) > s->look_at) {
    MemoryStats m = nb_memory_stats();
    if (s->lua_bytes + (after - old) + m.live > m.limit) return NULL;
    s->look_at = s->lua_bytes + (after - old) + STEP;
  }
  void *result = s->allocate(s->allocate_user, block, before, after);
  if (result || after == 0) s->lua_bytes += after - old;
  if (s->lua_bytes + 2 * STEP < s->look_at) s->look_at = s->lua_bytes + STEP;
  return result;
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
  s->allocate = lua_getallocf(L, &s->allocate_user);
  lua_setallocf(L, allocate, s);
  s->mimes[0] = (Mime){"text/plain", "", 0};
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
  session_history_close(s);
  forget_chunk(s);
  free(s->completions);
  free(s);
}
