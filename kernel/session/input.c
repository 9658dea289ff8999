// SPDX-License-Identifier: MIT
// An input before it runs: its commands, whether it is complete, its colours, and compiling it with the locals of
// earlier ones.
#include "input.h"

#include <lauxlib.h>
#include <string.h>

#include "lexer.h"
#include "native.h"
#include "pasted.h"

// ---- locals that stay ----
//
// kept[name] = { f, i, constant }: upvalue i of the closure f is the variable.

// Pushes the table of those that the next input sees: of a paused frame's own, or of all.
static void push_kept(lua_State *L, const Session *s) {
  if (s->frame == 0) {
    push_session_table(L, "kept");
    return;
  }
  push_session_table(L, "frames");
  lua_rawgeti(L, -1, s->frame);
  lua_getfield(L, -1, "kept");
  lua_replace(L, -3);
  lua_pop(L, 1);
}

// keep(f [, name]): the upvalues of f are variables to keep in upvalue 1; with a name, a constant one.
static int keep(lua_State *L) {
  const char *constant = lua_tostring(L, 2), *name;
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
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
  lua_pushvalue(L, kept);
  lua_pushcclosure(L, keep, 1);
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
static void join(lua_State *L, const Session *s) {
  const char *name;
  int f = lua_gettop(L);
  push_kept(L, s);
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

int local_value(lua_State *L) {
  push_session_table(L, "kept");
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) != LUA_TTABLE) return 0;
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  return lua_getupvalue(L, -2, (int)lua_tointeger(L, -1)) ? 1 : 0;
}

// ---- compiling ----

void forget_chunk(Session *s) {
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
  if (status == LUA_OK) lua_pop(L, 1);
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

// The globals of the function on the top are the variables of the paused frame, if there is one.
static void set_environment(lua_State *L, const Session *s) {
  if (s->frame == 0) return;
  push_session_table(L, "frames");
  lua_rawgeti(L, -1, s->frame);
  lua_getfield(L, -1, "env");
  lua_replace(L, -3);
  lua_pop(L, 1);
  if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
}

void compile(lua_State *L, Session *s, const Source *source) {
  bool value;
  begin_chunk(L, s, source->code, source->length);
  if (!choose(L, s, &value, source->name)) lua_error(L);
  push_kept(L, s);
  s->text.length = 0;
  bool fits = chunk_wrapped(s->chunk, value, is_kept, L, &s->text);
  lua_pop(L, 1);
  if (!fits) luaL_error(L, "the input names more than 240 locals of earlier inputs; use globals or a table for some");
  if (s->text.failed) luaL_error(L, "not enough memory for this input");
  if (luaL_loadbufferx(L, s->text.data, s->text.length, source->name, "t") != LUA_OK) lua_error(L);
  set_environment(L, s);
  push_kept(L, s);
  lua_pushcclosure(L, keep, 1);
  lua_pushcfunction(L, values);
  lua_call(L, 2, 1);
  join(L, s);
  push_session_table(L, "inputs");
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

// ---- commands ----

static bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Whether a whole input of one line asks for help: name? or name??
static bool asks_at_end(const char *code, size_t length) {
  while (length > 0 && is_space(code[length - 1])) length--;
  if (length < 2 || code[length - 1] != '?' || memchr(code, '\n', length)) return false;
  while (length > 0 && code[length - 1] == '?') length--;
  for (size_t i = 0; i < length; i++)
    if (!(code[i] == '_' || code[i] == '*' || code[i] == '.' || code[i] == ':' || code[i] == ' ' ||
          (code[i] >= '0' && code[i] <= '9') || ((code[i] | 32) >= 'a' && (code[i] | 32) <= 'z')))
      return false;
  return true;
}

size_t skip_mark(const char *code, size_t length) {
  size_t at = length >= 3 && memcmp(code, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
  if (length - at < 2 || memcmp(code + at, "#!", 2) != 0) return at;
  const char *end = memchr(code + at, '\n', length - at);
  return end ? (size_t)(end - code) : length;
}

static bool is_name_byte(char c) {
  return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

// Whether the text begins with x = !..., local x = !... or t.x = !...
static bool assigns_output(const char *code, size_t length) {
  size_t i = 0;
  if (length > 6 && memcmp(code, "local ", 6) == 0) i = 6;
  while (i < length && (is_name_byte(code[i]) || code[i] == '.')) i++;
  if (i == 0) return false;
  while (i < length && code[i] == ' ') i++;
  if (i == length || code[i++] != '=') return false;
  while (i < length && code[i] == ' ') i++;
  return i + 1 < length && code[i] == '!' && code[i + 1] != '=';
}

static bool begins_command(const char *code, size_t length) {
  return strchr("%?!", *code) ? *code != '\0' : asks_at_end(code, length) || assigns_output(code, length);
}

static size_t line_end(const char *code, size_t length, size_t at) {
  const char *stop = memchr(code + at, '\n', length - at);
  return stop ? (size_t)(stop - code) : length;
}

// Behind %name or %%name.
static size_t word_end(const char *code, size_t length, size_t at) {
  while (at < length && code[at] == '%') at++;
  while (at < length && is_name_byte(code[at])) at++;
  return at;
}

static int takes_code(lua_State *L) {
  push_module(L, "nablua.session.commands");
  lua_getfield(L, -1, "takes_code");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

// Whether the command of that name is followed by Lua.
static bool is_followed_by_code(lua_State *L, const char *name, size_t length) {
  lua_pushcfunction(L, takes_code);
  lua_pushlstring(L, name, length);
  bool takes = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return takes;
}

static SessionCompleteness judge_lua(Session *s, const char *code, size_t length, int *indent);

// Moves *end from the end of the first line to that of the line that completes the Lua from `begin` on; false when none
// does.
static bool find_code_end(Session *s, const char *code, size_t length, size_t begin, size_t *end, int *indent) {
  SessionGrowth seen = {0};
  while (growth_is_open(&seen, code + begin, *end - begin) ||
         judge_lua(s, code + begin, *end - begin, NULL) == SESSION_INCOMPLETE) {
    if (*end == length) return judge_lua(s, code + begin, *end - begin, indent) != SESSION_INCOMPLETE;
    *end = line_end(code, length, *end + 1);
  }
  return true;
}

// Whether the text ends in a line without anything.
static bool ends_in_empty_line(const char *code, size_t length) {
  while (length > 0 && (code[length - 1] == ' ' || code[length - 1] == '\t')) length--;
  return length > 0 && code[length - 1] == '\n';
}

CommandState command_at(Session *s, const char *code, size_t length, size_t *at, size_t *end, int *indent) {
  while (*at < length && is_space(code[*at])) (*at)++;
  if (*at == length || !begins_command(code + *at, length - *at)) return NO_COMMAND;
  if (length - *at > 1 && code[*at] == '%' && code[*at + 1] == '%') {
    *end = length;
    return ends_in_empty_line(code + *at, length - *at) ? COMMAND : OPEN_COMMAND;
  }
  *end = line_end(code, length, *at);
  size_t word = word_end(code, length, *at);
  if (code[*at] != '%' || !is_followed_by_code(s->L, code + *at + 1, word - *at - 1)) return COMMAND;
  return find_code_end(s, code, length, word, end, indent) ? COMMAND : OPEN_COMMAND;
}

int command_end(lua_State *L) {
  size_t length, at = 0, end;
  const char *code = luaL_checklstring(L, 1, &length);
  if (command_at(session_of(L), code, length, &at, &end, NULL) == NO_COMMAND) return 0;
  lua_pushinteger(L, (lua_Integer)end);
  return 1;
}

void add_lua(const char *code, size_t length, Text *out) {
  bool asks = length > 1 && code[0] == '=' && code[1] != '=';
  if (asks) text_put(out, "return ");
  text_add(out, code + asks, length - asks);
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

static SessionCompleteness judge_lua(Session *s, const char *code, size_t length, int *indent) {
  static const char mark[] = "<eof>";
  lua_State *L = s->L;
  SessionCompleteness result = SESSION_COMPLETE;
  if (indent) *indent = 0;
  Text lua = {0};
  add_lua(code, length, &lua);
  Source source = {lua.failed || !lua.data ? "" : lua.data, lua.length, "=input"};
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
  text_free(&lua);
  return result;
}

SessionCompleteness judge(Session *s, const char *code, size_t length, int *indent) {
  size_t at = skip_mark(code, length), end;
  CommandState command;
  if (indent) *indent = 0;
  while ((command = command_at(s, code, length, &at, &end, indent)) == COMMAND) at = end;
  return command == OPEN_COMMAND ? SESSION_INCOMPLETE : judge_lua(s, code + at, length - at, indent);
}

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

bool session_goes_on(Session *s, const char *code, size_t length, SessionGrowth *growth) {
  enum { LONG = 4096 };
  size_t first = 0;
  while (first < length && is_space(code[first])) first++;
  if (first < length && begins_command(code + first, length - first))
    return session_is_complete(s, code, length, NULL) == SESSION_INCOMPLETE;
  bool open = growth_is_open(growth, code, length);
  if (open && length > LONG && length < growth->judged + growth->judged / 4) return true;
  growth->judged = length;
  return session_is_complete(s, code, length, NULL) == SESSION_INCOMPLETE;
}

bool session_color(const char *code, size_t length, size_t at, size_t *begin, size_t *end, SessionColor *color) {
  static const SessionColor colors[] = {[TOKEN_KEYWORD] = SESSION_KEYWORD,
                                        [TOKEN_NUMBER] = SESSION_NUMBER,
                                        [TOKEN_STRING] = SESSION_STRING,
                                        [TOKEN_COMMENT] = SESSION_COMMENT,
                                        [TOKEN_BAD] = SESSION_PLAIN};
  if (at == 0) {
    while (at < length && is_space(code[at])) at++;
    if (at < length && begins_command(code + at, length - at)) {
      *begin = at;
      *end = code[at] == '%' ? word_end(code, length, at) : line_end(code, length, at);
      *color = SESSION_COMMAND;
      return true;
    }
  }
  Token t = lexer_next(code, length, at);
  if (t.kind == TOKEN_END) return false;
  *begin = t.begin;
  *end = t.end;
  *color = colors[t.kind];
  return true;
}
