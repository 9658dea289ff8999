// SPDX-License-Identifier: MIT
// Tokens and statements of an input: by hand, and against Lua itself, which judges the same texts.
#include <cmocka.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.h"
#include "lexer.h"

// ---- tokens ----

typedef struct Sample {
  TokenKind kind;
  const char *text;
} Sample;

static void expect_tokens(const char *code, const Sample *expected) {
  size_t length = strlen(code), at = 0;
  for (;; expected++) {
    Token t = lexer_next(code, length, at);
    assert_int_equal(t.kind, expected->kind);
    if (t.kind == TOKEN_END) return;
    if (t.end - t.begin != strlen(expected->text) || memcmp(code + t.begin, expected->text, t.end - t.begin) != 0)
      fail_msg("\"%.*s\" where \"%s\" should be", (int)(t.end - t.begin), code + t.begin, expected->text);
    at = t.end;
  }
}

static void test_tokens_are_lua_s(void **state) {
  (void)state;
  expect_tokens("local x<const> =0x1p-4 ..'a\\'b' -- c\n::l:: a//=b", (const Sample[]){{TOKEN_KEYWORD, "local"},
                                                                                       {TOKEN_NAME, "x"},
                                                                                       {TOKEN_OPERATOR, "<"},
                                                                                       {TOKEN_NAME, "const"},
                                                                                       {TOKEN_OPERATOR, ">"},
                                                                                       {TOKEN_OPERATOR, "="},
                                                                                       {TOKEN_NUMBER, "0x1p-4"},
                                                                                       {TOKEN_OPERATOR, ".."},
                                                                                       {TOKEN_STRING, "'a\\'b'"},
                                                                                       {TOKEN_COMMENT, "-- c"},
                                                                                       {TOKEN_OPERATOR, "::"},
                                                                                       {TOKEN_NAME, "l"},
                                                                                       {TOKEN_OPERATOR, "::"},
                                                                                       {TOKEN_NAME, "a"},
                                                                                       {TOKEN_OPERATOR, "//"},
                                                                                       {TOKEN_OPERATOR, "="},
                                                                                       {TOKEN_NAME, "b"},
                                                                                       {TOKEN_END, NULL}});
  expect_tokens(
      "[==[ ]] ]=] ]==]--[[ a\nb ]]x",
      (const Sample[]){
          {TOKEN_STRING, "[==[ ]] ]=] ]==]"}, {TOKEN_COMMENT, "--[[ a\nb ]]"}, {TOKEN_NAME, "x"}, {TOKEN_END, NULL}});
  expect_tokens("a...b~=c", (const Sample[]){{TOKEN_NAME, "a"},
                                             {TOKEN_OPERATOR, "..."},
                                             {TOKEN_NAME, "b"},
                                             {TOKEN_OPERATOR, "~="},
                                             {TOKEN_NAME, "c"},
                                             {TOKEN_END, NULL}});
}

static void test_what_does_not_end_is_open(void **state) {
  static const char *const open[] = {"[[ a", "[==[ ]]", "--[[ a", "'a", "\"a\\\n", "'a\nb'"};
  static const char *const closed[] = {"[[ a]]", "'a'", "-- a", "\"a\\\nb\"", "--[[]]"};
  (void)state;
  for (size_t i = 0; i < sizeof open / sizeof *open; i++)
    if (!lexer_next(open[i], strlen(open[i]), 0).open) fail_msg("<%s> is said to end", open[i]);
  for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
    if (lexer_next(closed[i], strlen(closed[i]), 0).open) fail_msg("<%s> is said not to end", closed[i]);
}

// Of any bytes, tokens come in order, are not empty, and lie inside; what lies between them is space.
static void test_tokens_cover_any_bytes(void **state) {
  static const char bytes[] = "ab1.0xEe+-=~<>/:'\"\\[]=-()\n \t#\xE2\x88\x87\x80;,%{}\0!@$";
  char code[60];
  uint32_t seed = 1;
  (void)state;
  for (int round = 0; round < 20000; round++) {
    size_t length = seed % sizeof code, at = 0;
    for (size_t i = 0; i < length; i++) {
      seed = seed * 1664525u + 1013904223u;
      code[i] = bytes[(seed >> 16) % (sizeof bytes - 1)];
    }
    seed = seed * 1664525u + 1013904223u;
    for (Token t; (t = lexer_next(code, length, at)).kind != TOKEN_END; at = t.end) {
      assert_true(t.begin >= at && t.end > t.begin && t.end <= length);
      for (size_t i = at; i < t.begin; i++) assert_non_null(memchr(" \t\r\n\f\v", code[i], 6));
    }
    for (size_t i = at; i < length; i++) assert_non_null(memchr(" \t\r\n\f\v", code[i], 6));
  }
}

// ---- statements ----

static char *text_of(Text *t) {
  text_add(t, "", 1);
  assert_false(t->failed);
  return t->data;
}

static int no_locals(void *user, const char *name, size_t length) {
  (void)user, (void)name, (void)length;
  return 0;
}

typedef struct Input {
  const char *code;
  const char *kept;  // the names of its top-level locals, in order, a space behind each
  bool value, quiet;
} Input;

static const Input inputs[] = {
    {"local a = 1", "a ", false, false},
    {"local a, b = 1, 2 local c", "a b c ", false, false},
    {"local a <const>, b <close> = {}, nil", "a ", false, false},  // what is closed is not kept
    {"local b <close> = nil local c", "c ", false, false},
    {"local function f() local inner = 1 return inner end", "f ", false, false},
    {"local t = { local_ = 1, ['local'] = 'local x' }", "t ", false, false},
    {"do local hidden = 1 end local seen = 2", "seen ", false, false},
    {"for i = 1, 3 do local x = i end local y", "y ", false, false},
    {"local s = [[\nlocal no = 1\n]] -- local neither = 2\nlocal z = s", "s z ", false, false},
    {"if true then local x = 1 elseif false then local y = 1 else local z = 1 end", "", false, false},
    {"while false do local x = 1 end repeat local y = 1 until true", "", false, false},
    {"local f = function(...) local a, b = ... return a end", "f ", false, false},
    {"local a = 1; local b = a; local c = b;", "a b c ", false, true},
    {"local x <const> = {}; local y = #x", "x y ", false, false},
    {"goto done; local skipped = 1 ::done::", "skipped ", false, false},
    {"1 + 1", "", true, false},
    {"1 + 1;", "", true, true},
    {"local a = 2 a * 3", "a ", true, false},
    {"local f = print f (1)", "f ", true, false},
    {"('x'):rep(3)", "", true, false},
    {"{ 1, 2 }", "", true, false},
    {"function() end", "", true, false},
    {"-5", "", true, false},
    {"not nil", "", true, false},
    {"#'abc'", "", true, false},
    {"...", "", true, false},
    {"x = 1", "", false, false},
    {"return 1, 2", "", false, false},
    {"break_ = 1 local b = break_", "b ", false, false},
    {"", "", false, false},
    {"-- nothing", "", false, false},
};

// What the chunk hands over: closures, whose upvalues are the new locals.
static char kept[200];

static int keep(lua_State *L) {
  const char *name;
  for (int i = 1; (name = lua_getupvalue(L, 1, i)); i++) {
    snprintf(kept + strlen(kept), sizeof kept - strlen(kept), "%s ", name);
    lua_pop(L, 1);
  }
  return 0;
}

static int values(lua_State *L) {
  return lua_gettop(L);
}

// Compiles, calls and compares.
static void run_wrapped(const Input *in, Chunk *c) {
  Text wrapped = {0};
  lua_State *L = luaL_newstate();
  kept[0] = '\0';
  assert_true(chunk_wrapped(c, in->value, no_locals, NULL, &wrapped));
  if (luaL_loadstring(L, text_of(&wrapped)) != LUA_OK) fail_msg("<%s>: %s", in->code, lua_tostring(L, -1));
  lua_pushcfunction(L, keep);
  lua_pushcfunction(L, values);
  // The chunk returns its function, or is it.
  if (lua_pcall(L, 2, LUA_MULTRET, 0) == LUA_OK && lua_isfunction(L, -1)) lua_pcall(L, 0, LUA_MULTRET, 0);
  if (strcmp(kept, in->kept) != 0) fail_msg("<%s> keeps \"%s\", not \"%s\"", in->code, kept, in->kept);
  lua_close(L);
  text_free(&wrapped);
}

static void test_the_locals_of_the_top_are_kept_and_no_others(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    if (strstr(inputs[i].code, "goto") || strstr(inputs[i].code, "print f")) continue;  // they need the globals
    Chunk *c = chunk_new(inputs[i].code, strlen(inputs[i].code));
    assert_non_null(c);
    run_wrapped(&inputs[i], c);
    chunk_free(c);
  }
}

static void test_the_last_expression_is_found_and_the_rest_is_untouched(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    const Input *in = &inputs[i];
    Text plain = {0}, value = {0};
    lua_State *L = luaL_newstate();
    Chunk *c = chunk_new(in->code, strlen(in->code));
    chunk_plain(c, false, &plain);
    assert_string_equal(text_of(&plain), in->code);
    if (in->value && !chunk_ends_in_expression(c)) fail_msg("<%s> is said to end in no expression", in->code);
    if (chunk_is_quiet(c) != in->quiet) fail_msg("<%s> is said to be %squiet", in->code, in->quiet ? "not " : "");
    if (in->value) {
      chunk_plain(c, true, &value);
      if (luaL_loadstring(L, text_of(&value)) != LUA_OK) fail_msg("<%s>: %s", in->code, lua_tostring(L, -1));
    }
    lua_close(L);
    chunk_free(c);
    text_free(&plain);
    text_free(&value);
  }
}

static void test_depth_is_that_of_open_blocks_and_brackets(void **state) {
  static const struct {
    const char *code;
    int depth;
  } samples[] = {{"x = 1", 0},
                 {"if a then", 1},
                 {"if a then b() else", 1},
                 {"f(function()", 2},
                 {"for i = 1, 2 do if x then", 2},
                 {"repeat", 1},
                 {"repeat until x", 0},
                 {"t = { 1, { 2,", 2},
                 {"do end end", 0},
                 {"-- if x then", 0},
                 {"s = 'function('", 0},
                 {"while a do end", 0},
                 {"local function f(", 2}};
  (void)state;
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
    Chunk *c = chunk_new(samples[i].code, strlen(samples[i].code));
    if (chunk_depth(c) != samples[i].depth)
      fail_msg("<%s> is %d deep, not %d", samples[i].code, chunk_depth(c), samples[i].depth);
    chunk_free(c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tokens_are_lua_s),
      cmocka_unit_test(test_what_does_not_end_is_open),
      cmocka_unit_test(test_tokens_cover_any_bytes),
      cmocka_unit_test(test_the_locals_of_the_top_are_kept_and_no_others),
      cmocka_unit_test(test_the_last_expression_is_found_and_the_rest_is_untouched),
      cmocka_unit_test(test_depth_is_that_of_open_blocks_and_brackets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
