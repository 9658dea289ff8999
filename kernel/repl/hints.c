// SPDX-License-Identifier: MIT
// Both hints are looked for at every key, so each looks no further than a bounded stretch of text.
#include "hints.h"

#include <readline/history.h>
#include <readline/readline.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "canvas.h"

static Session *session;
static bool suggests = true, shows_calls = true, for_input = true;

void hints_open(Session *s) {
  session = s;
}

void hints_set(bool suggestions, bool calls) {
  suggests = suggestions;
  shows_calls = calls;
}

void hints_for_input(bool input) {
  for_input = input;
}

bool hints_are_for_input(void) {
  return for_input;
}

// ---- suggestions ----

enum { ENTRIES = 5000, BYTES = 1 << 18, LONGEST_LINE = 1000 };  // how far back they are looked for

// The rest of the last line in `text` that begins like `begin`, blanks before it apart.
static Suggestion line_like(const char *text, size_t length, const char *begin, size_t n) {
  Suggestion s = {0};
  for (size_t at = 0; at < length;) {
    const char *end = memchr(text + at, '\n', length - at);
    size_t stop = end ? (size_t)(end - text) : length;
    while (at < stop && (text[at] == ' ' || text[at] == '\t')) at++;
    if (stop - at > n && memcmp(text + at, begin, n) == 0) s = (Suggestion){text + at + n, stop - at - n};
    at = stop + 1;
  }
  return s;
}

static Suggestion input_like(void) {
  for (int i = history_length - 1; i >= 0 && i >= history_length - ENTRIES; i--) {
    const HIST_ENTRY *entry = history_get(history_base + i);
    if (entry && strncmp(entry->line, rl_line_buffer, (size_t)rl_end) == 0 && entry->line[rl_end])
      return (Suggestion){entry->line + rl_end, strlen(entry->line + rl_end)};
  }
  return (Suggestion){0};
}

Suggestion hints_suggestion(const Lines *lines) {
  size_t point = (size_t)rl_point;
  int line = lines_find(lines, point);
  if (!canvas_is_colored() || !suggests || block_in_commands() || point != lines_end(lines, line))
    return (Suggestion){0};
  size_t begin = lines->items[line].begin;
  while (begin < point && (lines->text[begin] == ' ' || lines->text[begin] == '\t')) begin++;
  if (point - begin < 2 || point - begin > LONGEST_LINE) return (Suggestion){0};
  Suggestion s = {0};
  if (point == lines->length && lines->length < LONGEST_LINE * 10) s = input_like();
  if (s.text || lines->count == 1) return s;
  const char *typed = lines->text + begin;
  size_t n = point - begin, above = lines->items[line].begin, from = above > BYTES ? above - BYTES : 0, looked = 0;
  s = line_like(lines->text + from, above - from, typed, n);
  for (int i = history_length - 1; !s.text && i >= 0 && looked < BYTES; i--) {
    const HIST_ENTRY *entry = history_get(history_base + i);
    size_t length = entry ? strlen(entry->line) : 0;
    if (entry && length < BYTES) s = line_like(entry->line, length, typed, n);
    looked += length + 16;
  }
  return s;
}

// ---- calls ----

enum { LINES_BACK = 30, DEEP = 64, LONGEST_NAME = 200 };

// A bracket that is open, the commas behind it, and how many blocks were begun since.
typedef struct Open {
  size_t at;
  int commas, blocks;
} Open;

static struct {
  char name[LONGEST_NAME + 1];  // what is called, as it is written
  char *signature;              // of that, or NULL
  int argument;                 // where the cursor is, from 0
} call;

static bool is_word(const char *text, size_t length, const char *words) {
  size_t n = strcspn(words, " ");
  for (; *words; words += n + (words[n] == ' '), n = strcspn(words, " "))
    if (n == length && memcmp(words, text, n) == 0) return true;
  return false;
}

// Follows one token; returns the depth after it.
static int follow(Open *open, int depth, const char *text, size_t begin, size_t end, SessionColor color) {
  Open *top = depth > 0 ? &open[depth - 1] : NULL;
  if (color == SESSION_KEYWORD && top) {
    if (is_word(text + begin, end - begin, "function do then repeat")) top->blocks++;
    if (is_word(text + begin, end - begin, "end until elseif") && top->blocks > 0) top->blocks--;
  }
  if (color != SESSION_PLAIN || end != begin + 1) return depth;
  char c = text[begin];
  if (strchr("([{", c) && depth < DEEP)
    open[depth++] = (Open){.at = begin};
  else if (strchr(")]}", c) && depth > 0)
    depth--;
  else if (c == ',' && top && top->blocks == 0)
    top->commas++;
  return depth;
}

// The brackets that are open at the cursor, as far as the lines above tell.
static int open_brackets(const Lines *l, Open *open) {
  int line = lines_find(l, (size_t)rl_point), depth = 0;
  int first = line > LINES_BACK ? line - LINES_BACK : 0;
  for (int i = line; i >= first; i--)
    if (lines_end(l, i) - l->items[i].begin > LINES_COLORED) return 0;
  const Line *from = &l->items[first];
  size_t begin, end = from->span_end > from->span_begin ? from->span_end : from->begin;
  SessionColor color;
  while (end < (size_t)rl_point && session_color(l->text, l->length, end, &begin, &end, &color)) {
    bool inside = color == SESSION_STRING || color == SESSION_COMMENT;
    if (begin >= (size_t)rl_point) break;
    if (end > (size_t)rl_point && (inside || color == SESSION_COMMAND)) break;
    depth = follow(open, depth, l->text, begin, end, color);
  }
  return depth;
}

// Whether something that can be called stands before the bracket.
static bool is_called(const char *text, size_t at) {
  while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\t')) at--;
  unsigned char c = at > 0 ? (unsigned char)text[at - 1] : 0;
  return c == '_' || c == ')' || c == ']' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

const char *hints_call(const Lines *l) {
  Open open[DEEP];
  if (!shows_calls || !for_input || !session || block_in_commands()) return NULL;
  int depth = open_brackets(l, open);
  bool named = false;  // an argument in the table that ends the call
  while (depth > 0 && l->text[open[depth - 1].at] == '{' && !is_called(l->text, open[depth - 1].at)) {
    named = true;
    depth--;
  }
  const Open *o = depth > 0 ? &open[depth - 1] : NULL;
  if (!o || o->blocks > 0 || l->text[o->at] == '[' || !is_called(l->text, o->at)) return NULL;
  size_t begin = l->items[lines_find(l, o->at)].begin;
  if (o->at - begin > LONGEST_NAME) begin = o->at - LONGEST_NAME;
  size_t length = o->at - begin;
  call.argument = named || l->text[o->at] == '{' ? -1 : o->commas;
  if (strlen(call.name) != length || memcmp(call.name, l->text + begin, length) != 0 || memchr(call.name, 0, length)) {
    memcpy(call.name, l->text + begin, length);
    call.name[length] = '\0';
    free(call.signature);
    call.signature = session_signature(session, call.name, length);
  }
  return call.signature;
}

// The parameter of this number, -1 for the last, as bytes of the signature.
static void find_parameter(const char *s, int number, size_t *begin, size_t *end) {
  const char *open = strchr(s, '(');
  int depth = 0, now = 0;
  if (!open) open = strchr(s, '{');
  *begin = *end = 0;
  if (!open || !open[1] || open[1] == ')') return;
  *begin = (size_t)(open + 1 - s);
  for (size_t i = *begin;; i++) {
    bool close = s[i] == '\0' || (depth == 0 && strchr(")}", s[i]) && s[i + 1] == '\0');
    if (close || (s[i] == ',' && depth <= 0)) {
      *end = i;
      if (close || now == number) return;
      now++;
      *begin = i + 1 + strspn(s + i + 1, " ");
    }
    depth += (s[i] == '(' || s[i] == '{') - (s[i] == ')' || s[i] == '}');
  }
}

// Puts a piece as far as there is room, and says so where there is too little; the room that is left.
static int put_piece(const char *text, size_t length, int room, int style) {
  if (length <= (size_t)room) return room - canvas_put_cut(text, length, room, style);
  canvas_put_cut(text, length, room - 3, style);
  canvas_put_cut("...", 3, 3, STYLE_NOTE);
  return 0;
}

// One row; of a signature that is longer, what precedes the parameter that is typed gives way to it.
void hints_paint_call(int width) {
  enum { NARROW = 8 };
  const char *s = call.signature, *open = strchr(s, '(');
  size_t begin, end, length = strlen(s);
  find_parameter(s, call.argument, &begin, &end);
  int room = width > NARROW ? width - 1 : NARROW;
  size_t head = open ? (size_t)(open + 1 - s) : 0;
  if (end + 3 > (size_t)room && head > 0 && head + NARROW < begin && head + NARROW < (size_t)room) {
    room -= canvas_put_cut(s, head, room, STYLE_NOTE);
    room -= canvas_put_cut("... ", 4, room, STYLE_NOTE);
  } else {
    room = put_piece(s, begin, room, STYLE_NOTE);
  }
  if (room > 3) room = put_piece(s + begin, end - begin, room, STYLE_BRACKET);
  if (room > 3) put_piece(s + end, length - end, room, STYLE_NOTE);
}
