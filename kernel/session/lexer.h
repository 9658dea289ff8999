// SPDX-License-Identifier: MIT
// Lua's tokens with their places, for whatever looks at a text before Lua does: colours, captures of locals,
// indentation.
#ifndef NABLUA_LEXER_H
#define NABLUA_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef enum TokenKind {
  TOKEN_END,
  TOKEN_NAME,
  TOKEN_KEYWORD,
  TOKEN_NUMBER,
  TOKEN_STRING,
  TOKEN_COMMENT,
  TOKEN_OPERATOR,
  TOKEN_BAD,  // a byte that starts nothing
} TokenKind;

typedef struct Token {
  TokenKind kind;
  bool open;          // a string or comment that does not end
  size_t begin, end;  // bytes
} Token;

// The token at or after byte `at`, spaces skipped; TOKEN_END when there is none.
Token lexer_next(const char *code, size_t length, size_t at);

// Whether the token is this keyword, name or operator.  Most are told apart by their first byte.
static inline bool lexer_is(const char *code, const Token *t, const char *text) {
  size_t n = t->end - t->begin;
  if (n == 0 || code[t->begin] != *text || t->kind == TOKEN_STRING) return false;
  return strncmp(code + t->begin, text, n) == 0 && text[n] == '\0';
}

// Of a token that is an open long string or comment, in a text that has grown: where it closes, looked for from `from`
// on; 0 where it does not.
size_t lexer_close(const char *code, size_t length, size_t begin, size_t from);

#endif
