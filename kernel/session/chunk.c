// SPDX-License-Identifier: MIT
// Finding top-level statements and declarations by their tokens, and writing the function around them.
#include "chunk.h"

#include <stdlib.h>
#include <string.h>

#include "lexer.h"

// ---- statements ----

typedef struct Declaration {
  int first, last;  // tokens of its names, attributes among them
  size_t end;       // byte behind it
} Declaration;

struct Chunk {
  const char *code;
  size_t length;
  Token *tokens;  // without comments; TOKEN_END closes them
  int count, capacity;
  Declaration *declarations;
  int declared, declared_capacity;
  int last_statement;   // its first token, or -1
  bool quiet, assigns;  // assigns: the last statement is an assignment
};

static bool is(const Chunk *c, int i, const char *text) {
  return lexer_is(c->code, &c->tokens[i], text);
}

static bool is_one(const char *code, const Token *t, const char *const *words) {
  for (; *words; words++)
    if (lexer_is(code, t, *words)) return true;
  return false;
}

static bool is_any(const Chunk *c, int i, const char *const *words) {
  return is_one(c->code, &c->tokens[i], words);
}

static bool read_tokens(Chunk *c) {
  for (size_t at = 0;;) {
    Token t = lexer_next(c->code, c->length, at);
    at = t.end;
    if (t.kind == TOKEN_COMMENT) continue;
    if (c->count == c->capacity) {
      int capacity = c->capacity ? c->capacity * 2 : 64;
      Token *bigger = realloc(c->tokens, (size_t)capacity * sizeof *bigger);
      if (!bigger) return false;
      c->tokens = bigger;
      c->capacity = capacity;
    }
    c->tokens[c->count++] = t;
    if (t.kind == TOKEN_END) return true;
  }
}

// 1 for what opens a block or brackets, -1 for what closes them; "while" and "for" open theirs with "do".
static int step_of(const char *code, const Token *t) {
  static const char *const openers[] = {"function", "if", "do", "repeat", NULL}, *const closers[] = {"end", "until",
                                                                                                     NULL};
  if (t->kind == TOKEN_KEYWORD) return is_one(code, t, openers) ? 1 : is_one(code, t, closers) ? -1 : 0;
  if (t->kind != TOKEN_OPERATOR || t->end - t->begin != 1) return 0;
  char c = code[t->begin];
  return c == '(' || c == '{' || c == '[' ? 1 : c == ')' || c == '}' || c == ']' ? -1 : 0;
}

static int step(const Chunk *c, int i) {
  return step_of(c->code, &c->tokens[i]);
}

// From an opening token to behind the one that closes it.
static int skip_nested(const Chunk *c, int i) {
  int depth = 0;
  for (; c->tokens[i].kind != TOKEN_END; i++) {
    depth += step(c, i);
    if (depth <= 0) return i + 1;
  }
  return i;
}

// What stands between operands.
static const char *const binary[] = {"+",  "-",  "*",   "/",  "//", "%", "^", "..", "==", "~=", "<", ">",
                                     "<=", ">=", "and", "or", "&",  "|", "~", "<<", ">>", ",",  NULL};

// One expression or several with commas; stops at what cannot continue them.
static int skip_expressions(const Chunk *c, int i) {
  static const char *const unary[] = {"-", "#", "~", "not", NULL}, *const literals[] = {"nil", "true", "false", "...",
                                                                                        NULL};
  bool operand = true, suffixes = false;  // expecting an operand; the one before can be called and indexed
  for (;;) {
    const Token *t = &c->tokens[i];
    if (t->kind == TOKEN_END) return i;
    if (operand) {
      if (is_any(c, i, unary)) {
        i++;
        continue;
      }
      operand = false;
      suffixes = t->kind == TOKEN_NAME || is(c, i, "(");
      if (is(c, i, "function") || is(c, i, "(") || is(c, i, "{"))
        i = skip_nested(c, i);
      else if (t->kind == TOKEN_NAME || t->kind == TOKEN_NUMBER || t->kind == TOKEN_STRING || is_any(c, i, literals))
        i++;
      else
        return i;  // no expression
    } else if (suffixes && (is(c, i, ".") || is(c, i, ":"))) {
      i += c->tokens[i + 1].kind == TOKEN_NAME ? 2 : 1;
    } else if (suffixes && (is(c, i, "(") || is(c, i, "[") || is(c, i, "{"))) {
      i = skip_nested(c, i);
    } else if (suffixes && t->kind == TOKEN_STRING) {
      i++;
    } else if (is_any(c, i, binary)) {
      operand = true;
      i++;
    } else {
      return i;
    }
  }
}

// From a keyword that opens a block at once or with "do" or "then" to behind its end.
static int skip_block(const Chunk *c, int i) {
  bool repeat = is(c, i, "repeat");
  if (is(c, i, "while") || is(c, i, "for"))
    while (c->tokens[i].kind != TOKEN_END && !is(c, i, "do")) i = is(c, i, "function") ? skip_nested(c, i) : i + 1;
  i = skip_nested(c, i);
  return repeat ? skip_expressions(c, i) : i;
}

static bool add_declaration(Chunk *c, int first, int last, int end) {
  if (c->declared == c->declared_capacity) {
    int capacity = c->declared_capacity ? c->declared_capacity * 2 : 8;
    Declaration *bigger = realloc(c->declarations, (size_t)capacity * sizeof *bigger);
    if (!bigger) return false;
    c->declarations = bigger;
    c->declared_capacity = capacity;
  }
  c->declarations[c->declared++] = (Declaration){first, last, c->tokens[end - 1].end};
  return true;
}

// local a <const>, b = ...   Returns what follows, or -1 when there is no memory.
static int skip_local(Chunk *c, int i) {
  if (is(c, i + 1, "function")) {
    int end = skip_nested(c, i + 1);
    return add_declaration(c, i + 2, i + 2, end) ? end : -1;
  }
  int first = i + 1, k = first, last = first;
  while (c->tokens[k].kind == TOKEN_NAME) {
    last = k++;
    if (is(c, k, "<") && c->tokens[k + 1].kind == TOKEN_NAME && is(c, k + 2, ">")) {
      last = k + 2;
      k += 3;
    }
    if (!is(c, k, ",")) break;
    k++;
  }
  if (k == first) return first;
  int end = is(c, k, "=") ? skip_expressions(c, k + 1) : k;
  return add_declaration(c, first, last, end) ? end : -1;
}

// Notes of an assignment that it is one.
static int skip_statement(Chunk *c, int i) {
  static const char *const blocks[] = {"do", "while", "for", "repeat", "if", "function", NULL};
  if (is(c, i, "local")) return skip_local(c, i);
  if (is_any(c, i, blocks)) return skip_block(c, i);
  if (is(c, i, ";") || is(c, i, "break")) return i + 1;
  if (is(c, i, "::") || is(c, i, "goto")) {
    int k = i + 1;
    if (c->tokens[k].kind == TOKEN_NAME) k++;
    if (is(c, i, "::") && is(c, k, "::")) k++;
    return k;
  }
  int k = skip_expressions(c, is(c, i, "return") ? i + 1 : i);
  c->assigns = is(c, k, "=");
  if (c->assigns) k = skip_expressions(c, k + 1);
  return k > i ? k : i + 1;
}

Chunk *chunk_new(const char *code, size_t length) {
  Chunk *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->code = code;
  c->length = length;
  c->last_statement = -1;
  if (!read_tokens(c)) goto fail;
  for (int i = 0; c->tokens[i].kind != TOKEN_END;) {
    c->quiet = is(c, i, ";");
    if (!c->quiet) {
      c->last_statement = i;
      c->assigns = false;
    }
    i = skip_statement(c, i);
    if (i < 0) goto fail;
  }
  return c;
fail:
  chunk_free(c);
  return NULL;
}

void chunk_free(Chunk *c) {
  if (!c) return;
  free(c->tokens);
  free(c->declarations);
  free(c);
}

bool chunk_ends_in_expression(const Chunk *c) {
  static const char *const values[] = {"nil", "true", "false", "not", "function", NULL};
  int i = c->last_statement;
  if (i < 0 || c->assigns || is(c, i, "::")) return false;
  return c->tokens[i].kind != TOKEN_KEYWORD || is_any(c, i, values);
}

bool chunk_is_quiet(const Chunk *c) {
  return c->quiet;
}

int chunk_depth(const Chunk *c) {
  int depth = 0;
  for (int i = 0; i < c->count; i++) {
    depth += step(c, i);
    if (depth < 0) depth = 0;
  }
  return depth;
}

bool growth_is_open(SessionGrowth *seen, const char *code, size_t length) {
  for (;;) {
    Token t;
    if (seen->searched) {  // inside a long string or comment
      size_t end = lexer_close(code, length, seen->at, seen->searched);
      seen->searched = end ? 0 : length;
      if (!end) return true;
      t = (Token){.kind = TOKEN_STRING, .begin = seen->at, .end = end};
    } else {
      t = lexer_next(code, length, seen->at);
    }
    if (t.kind == TOKEN_END) return seen->depth > 0 || seen->wants_more;
    seen->at = t.begin;
    if (t.open) {
      bool quoted = code[t.begin] == '"' || code[t.begin] == '\'';
      seen->searched = quoted ? 0 : length;
      return t.end == length;  // else a line end broke it
    }
    seen->at = t.end;
    if (t.kind == TOKEN_COMMENT) continue;
    seen->depth += step_of(code, &t);
    if (seen->depth < 0) seen->depth = 0;
    seen->wants_more = is_one(code, &t, binary) || lexer_is(code, &t, "=");
  }
}

// ---- writing ----

// The code from byte `from` to `to`, with `before` before the last statement if that lies there.
static void add_code(const Chunk *c, size_t from, size_t to, const char *before, Text *out) {
  size_t at = before ? c->tokens[c->last_statement].begin : 0;
  if (before && at >= from && at < to) {
    text_add(out, c->code + from, at - from);
    text_put(out, before);
    from = at;
  }
  text_add(out, c->code + from, to - from);
}

// Up to the ";" that hides the value: "return x;" may stand, "return x;;" not.
static size_t code_end(const Chunk *c, bool value) {
  if (!value) return c->length;
  int i = c->count - 1;
  while (i > 0 && is(c, i - 1, ";")) i--;
  return i > 0 && c->quiet ? c->tokens[i - 1].end : c->length;
}

void chunk_plain(const Chunk *c, bool value, Text *out) {
  add_code(c, 0, code_end(c, value), value ? "return " : NULL, out);
}

// The calls that keep what a declaration declares.
static void add_keep(const Chunk *c, const Declaration *d, Text *out) {
  for (int i = d->first; i <= d->last; i++) {
    const Token *t = &c->tokens[i];
    if (t->kind != TOKEN_NAME) continue;
    bool attribute = is(c, i + 1, "<") && c->tokens[i + 2].kind == TOKEN_NAME && i < d->last;
    bool constant = attribute && is(c, i + 2, "const");
    if (!attribute || constant) {
      text_put(out, " " CHUNK_KEEP "(function()return ");
      text_add(out, c->code + t->begin, t->end - t->begin);
      text_put(out, " end");
      if (constant) {
        text_put(out, ",\"");
        text_add(out, c->code + t->begin, t->end - t->begin);
        text_put(out, "\"");
      }
      text_put(out, ")");
    }
    if (attribute) i += 3;
  }
}

enum { MOST_NAMES = 240, NAMES_OF_A_FUNCTION = 150 };  // Lua's limits are 255 upvalues and 200 locals

// Whether the token is the first of its name.
static bool is_first(const Chunk *c, const int *found, int count, int i) {
  size_t n = c->tokens[i].end - c->tokens[i].begin;
  for (int k = 0; k < count; k++) {
    const Token *t = &c->tokens[found[k]];
    if (t->end - t->begin == n && memcmp(c->code + t->begin, c->code + c->tokens[i].begin, n) == 0) return false;
  }
  return true;
}

bool chunk_wrapped(const Chunk *c, bool value, int (*lookup)(void *user, const char *name, size_t length), void *user,
                   Text *out) {
  int found[MOST_NAMES], count = 0, functions = 1;
  text_put(out, "local " CHUNK_KEEP "," CHUNK_VALUES "=... ");
  for (int i = 0; i < c->count; i++) {
    const Token *t = &c->tokens[i];
    if (t->kind != TOKEN_NAME) continue;
    const char *name = c->code + t->begin;
    size_t n = t->end - t->begin;
    int kept = lookup(user, name, n);
    if (!kept || !is_first(c, found, count, i)) continue;
    if (count == MOST_NAMES) return false;
    found[count++] = i;
    if (count % NAMES_OF_A_FUNCTION == 0) {
      text_put(out, "return(function(...)");
      functions++;
    }
    text_put(out, "local ");
    text_add(out, name, n);
    text_put(out, kept == 2 ? "<const> =... " : "=... ");
  }
  text_put(out, "return function(...) ");
  // A call as an argument is no tail call, so that the input is among an error's frames.
  const char *before = value ? "return " CHUNK_VALUES "(" : NULL;
  size_t at = 0, end = code_end(c, value);
  if (value && !c->quiet && c->count > 1) end = c->tokens[c->count - 2].end;  // without a comment
  for (int i = 0; i < c->declared; i++) {
    add_code(c, at, c->declarations[i].end, before, out);
    add_keep(c, &c->declarations[i], out);
    at = c->declarations[i].end;
  }
  add_code(c, at, end, before, out);
  // In the line of the value, whose errors Lua finds at the parenthesis.
  text_put(out, value ? ")end " : "\nend ");
  for (int i = 1; i < functions; i++) text_put(out, "end)(...)");
  return true;
}
