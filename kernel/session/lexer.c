// SPDX-License-Identifier: MIT
// Splitting Lua text into tokens, without judging it: what is wrong is left for Lua to say.
#include "lexer.h"

#include <string.h>

static const char *const keywords[] = {"and",      "break",  "do",   "else", "elseif", "end",  "false", "for",
                                       "function", "goto",   "if",   "in",   "local",  "nil",  "not",   "or",
                                       "repeat",   "return", "then", "true", "until",  "while"};

// The longest first.
static const char *const operators[] = {"...", "..", "==", "~=", "<=", ">=", "<<", ">>", "//", "::"};

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Behind the first ]=*] of this level from `at` on, or 0.
static size_t closing_bracket(const char *code, size_t length, size_t at, size_t level) {
  for (const char *end; at < length && (end = memchr(code + at, ']', length - at));) {
    size_t i = (size_t)(end - code), k = i + 1;
    while (k < length && code[k] == '=' && k - i - 1 < level) k++;
    if (k - i - 1 == level && k < length && code[k] == ']') return k + 1;
    at = i + 1;
  }
  return 0;
}

// The end of [[...]], [=[...]=] from `at`, or 0 when no long bracket opens there.
static size_t long_bracket(const char *code, size_t length, size_t at, bool *open) {
  size_t level = 0, i = at + 1;
  while (i < length && code[i] == '=') i++, level++;
  if (i >= length || code[i] != '[') return 0;
  size_t end = closing_bracket(code, length, i + 1, level);
  if (!end) *open = true;
  return end ? end : length;
}

static size_t quoted(const char *code, size_t length, size_t at, bool *open) {
  char quote = code[at];
  for (size_t i = at + 1; i < length; i++) {
    if (code[i] == quote) return i + 1;
    if (code[i] == '\n') {
      *open = true;
      return i;
    }
    if (code[i] != '\\' || i + 1 >= length) continue;
    i++;
    // \z skips spaces and line ends
    if (code[i] == 'z')
      while (i + 1 < length && strchr(" \t\r\n\v\f", code[i + 1]) && code[i + 1]) i++;
  }
  *open = true;
  return length;
}

static size_t number(const char *code, size_t length, size_t at) {
  bool hex = code[at] == '0' && at + 1 < length && (code[at + 1] == 'x' || code[at + 1] == 'X');
  size_t i = at + (hex ? 2 : 0);
  while (i < length) {
    char c = code[i];
    bool exponent = hex ? c == 'p' || c == 'P' : c == 'e' || c == 'E';
    if (exponent && i + 1 < length && (code[i + 1] == '+' || code[i + 1] == '-'))
      i += 2;
    else if (is_hex(c) || is_letter(c) || (c == '.' && !(i + 1 < length && code[i + 1] == '.')))
      i++;
    else
      break;
  }
  return i;
}

size_t lexer_close(const char *code, size_t length, size_t begin, size_t from) {
  size_t level = 0, i = begin + (code[begin] == '-' ? 3 : 1);
  while (code[i++] == '=') level++;
  return closing_bracket(code, length, from > i ? from : i, level);
}

Token lexer_next(const char *code, size_t length, size_t at) {
  while (at < length && code[at] && strchr(" \t\r\n\v\f", code[at])) at++;
  Token t = {.kind = TOKEN_END, .begin = at, .end = at};
  if (at >= length) return t;
  char c = code[at];
  if (is_letter(c)) {
    size_t i = at;
    while (i < length && (is_letter(code[i]) || is_digit(code[i]))) i++;
    t.kind = TOKEN_NAME;
    t.end = i;
    for (size_t k = 0; k < sizeof keywords / sizeof *keywords; k++)
      if (lexer_is(code, &t, keywords[k])) t.kind = TOKEN_KEYWORD;
    return t;
  }
  if (is_digit(c) || (c == '.' && at + 1 < length && is_digit(code[at + 1]))) {
    t.kind = TOKEN_NUMBER;
    t.end = number(code, length, at);
    return t;
  }
  if (c == '"' || c == '\'') {
    t.kind = TOKEN_STRING;
    t.end = quoted(code, length, at, &t.open);
    return t;
  }
  if (c == '[' && (t.end = long_bracket(code, length, at, &t.open)) > 0) {
    t.kind = TOKEN_STRING;
    return t;
  }
  if (c == '-' && at + 1 < length && code[at + 1] == '-') {
    t.kind = TOKEN_COMMENT;
    if (at + 2 < length && code[at + 2] == '[' && (t.end = long_bracket(code, length, at + 2, &t.open)) > 0) return t;
    const char *line_end = memchr(code + at, '\n', length - at);
    t.end = line_end ? (size_t)(line_end - code) : length;
    return t;
  }
  for (size_t k = 0; k < sizeof operators / sizeof *operators; k++) {
    size_t n = strlen(operators[k]);
    if (length - at >= n && memcmp(code + at, operators[k], n) == 0) {
      t.kind = TOKEN_OPERATOR;
      t.end = at + n;
      return t;
    }
  }
  t.kind = c && strchr("+-*/%^#&~|<>=(){}[];:,.", c) ? TOKEN_OPERATOR : TOKEN_BAD;
  t.end = at + 1;
  return t;
}
