// SPDX-License-Identifier: MIT
// The input that is found stands in the block while the search goes on, with what was looked for marked in it.
#include "search.h"

#include <readline/history.h>
#include <readline/readline.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "bytes.h"
#include "drawing.h"
#include "hints.h"
#include "stop.h"
#include "text.h"
#include "unicode.h"

static void (*want_older)(void);
static Text last;  // what was looked for before

void search_open(void (*older)(void)) {
  want_older = older;
}

// ---- comparing ----

// The character at `text` as a small letter; its bytes go to *length.
static wint_t small_letter(const char *text, size_t left, size_t *length) {
  unsigned char c = (unsigned char)*text;
  *length = 1;
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? (wint_t)(c | 32) : (wint_t)c;
  wchar_t wide;
  mbstate_t state = {0};
  size_t n = mbrtowc(&wide, text, left, &state);
  if (n == 0 || n > left) return 0x110000u + c;  // a byte that is no character
  *length = n;
  return towlower((wint_t)wide);
}

// How many bytes of `text` match, or 0.
static size_t match_length(const char *text, size_t length, const Text *wanted) {
  size_t i = 0, k = 0, n, m;
  while (k < wanted->length) {
    if (i >= length) return 0;
    if (small_letter(text + i, length - i, &n) != small_letter(wanted->data + k, wanted->length - k, &m)) return 0;
    i += n;
    k += m;
  }
  return i;
}

// Where the text is found last in an input, in bytes; -1 when it is not.
static int find_in(const char *text, const Text *wanted, int *found) {
  size_t length = strlen(text);
  size_t n;
  wint_t first = small_letter(wanted->data, wanted->length, &n);
  int result = -1;
  for (size_t i = 0; i < length; i += n) {
    if (small_letter(text + i, length - i, &n) != first) continue;
    size_t matched = match_length(text + i, length - i, wanted);
    if (matched == 0) continue;
    result = (int)i;
    *found = (int)matched;
  }
  return result;
}

// ---- searching ----

typedef struct Search {
  Text wanted;
  int at;  // the number of the input that is shown, from 0; history_length: the one that was being typed
  int direction;
  char *typed;  // what stood in the block
  int point;
  bool failed;
  DrawingSearch shown;
} Search;

static const char *line_of(int i) {
  const HIST_ENTRY *entry = i >= 0 && i < history_length ? history_get(history_base + i) : NULL;
  return entry ? entry->line : NULL;
}

static void show_input(Search *s, int i, int begin, int length) {
  s->at = i;
  rl_replace_line(line_of(i), 1);
  rl_point = begin;
  s->shown.begin = begin;
  s->shown.end = begin + length;
  history_set_pos(i);
}

// Looks from input `from` on in the direction, past those that read as the one shown.
static void find(Search *s, int from, bool another) {
  s->failed = false;
  s->shown.begin = s->shown.end = 0;
  if (s->wanted.length == 0) return;
  for (int i = from; i >= 0 && i < history_length; i += s->direction) {
    const char *line = line_of(i);
    int length = 0, at = line ? find_in(line, &s->wanted, &length) : -1;
    if (at < 0 || (another && strcmp(line, rl_line_buffer) == 0)) continue;
    show_input(s, i, at, length);
    return;
  }
  s->failed = true;
  int length = 0, at = find_in(rl_line_buffer, &s->wanted, &length);
  if (at >= 0) s->shown.begin = at, s->shown.end = at + length;
}

static void give_back(Search *s) {
  rl_replace_line(s->typed, 1);
  rl_point = s->point;
  using_history();
}

static void draw(Search *s) {
  s->shown.label = s->failed ? "nothing found: " : s->direction < 0 ? "search back: " : "search forward: ";
  s->shown.text = s->wanted.data ? s->wanted.data : "";
  drawing_search(&s->shown);
  drawing_redraw();
}

// What a key changes; false when the search ends with it.
static bool take_key(Search *s, int key) {
  if (key == ('R' & 31) || key == ('S' & 31)) {
    s->direction = key == ('R' & 31) ? -1 : 1;
    if (s->wanted.length == 0 && last.length > 0) text_add(&s->wanted, last.data, last.length);
    find(s, s->at + s->direction, true);
    return true;
  }
  if (key == 127 || key == '\b') {
    s->wanted.length = s->wanted.length > 0 ? unicode_cut(s->wanted.data, s->wanted.length - 1) : 0;
    if (s->wanted.data) s->wanted.data[s->wanted.length] = '\0';
    find(s, s->direction < 0 ? history_length - 1 : 0, false);
    if (s->wanted.length == 0) give_back(s), s->at = history_length;
    return true;
  }
  if (key < ' ' || key > 255) return false;
  text_add(&s->wanted, &(char){(char)key}, 1);
  if (unicode_open_tail(s->wanted.data, s->wanted.length) > 0) return true;  // the rest of the character comes
  find(s, s->at == history_length && s->direction < 0 ? s->at - 1 : s->at, false);
  return true;
}

// `again`: from the input that is shown on, for what was looked for before.
static int search(int direction, bool again) {
  if (!hints_are_for_input() || (again && last.length == 0)) return rl_ding();
  want_older();
  Search s = {.at = history_length, .direction = direction, .typed = strdup(rl_line_buffer), .point = rl_point};
  if (!s.typed) return 0;
  if (again) {
    s.at = where_history();
    take_key(&s, direction < 0 ? 'R' & 31 : 'S' & 31);
  } else {
    using_history();
  }
  int key;
  do {
    draw(&s);
    key = rl_read_key();
  } while (!stop_is_asked() && key >= 0 && take_key(&s, key));
  drawing_search(NULL);
  if (s.wanted.length > 0) {
    last.length = 0;
    text_add(&last, s.wanted.data, s.wanted.length);
  }
  if (key == ('G' & 31) || stop_is_asked())
    give_back(&s);
  else if (key == '\r' || key == '\n')
    rl_point = rl_end;
  // A lone Esc only ends the search.
  if (key >= 0 && key != ('G' & 31) && (key != '\033' || bytes_are_held())) rl_execute_next(key);
  text_free(&s.wanted);
  free(s.typed);
  return 0;
}

int search_back(int count, int key) {
  (void)count, (void)key;
  return search(-1, false);
}

int search_forward(int count, int key) {
  (void)count, (void)key;
  return search(1, false);
}

int search_again_back(int count, int key) {
  (void)count, (void)key;
  return search(-1, true);
}

int search_again_forward(int count, int key) {
  (void)count, (void)key;
  return search(1, true);
}
