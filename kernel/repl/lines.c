// SPDX-License-Identifier: MIT
// The table of lines is brought up to date from the first line that changed to the first behind the change that begins
// as it did before; those after it only move.
#include "lines.h"

#include <stdlib.h>
#include <string.h>

// What differs between the text before and now: [begin, old_end) has become [begin, end).
typedef struct Change {
  size_t begin, old_end, end;
} Change;

static size_t common_prefix(const char *a, const char *b, size_t most) {
  enum { STRIDE = 4096 };
  size_t n = 0;
  while (n + STRIDE <= most && memcmp(a + n, b + n, STRIDE) == 0) n += STRIDE;
  while (n < most && a[n] == b[n]) n++;
  return n;
}

static size_t common_suffix(const char *a_end, const char *b_end, size_t most) {
  enum { STRIDE = 4096 };
  size_t n = 0;
  while (n + STRIDE <= most && memcmp(a_end - n - STRIDE, b_end - n - STRIDE, STRIDE) == 0) n += STRIDE;
  while (n < most && a_end[-(ptrdiff_t)n - 1] == b_end[-(ptrdiff_t)n - 1]) n++;
  return n;
}

// Takes the text over.  False without memory, the table then being of no use.
static bool replace_text(Lines *l, const char *text, size_t length, const Change *c) {
  if (length + 1 > l->room) {
    size_t room = (length + 1) * 2;
    char *bigger = realloc(l->text, room);
    if (!bigger) return false;
    l->text = bigger;
    l->room = room;
  }
  memmove(l->text + c->end, l->text + c->old_end, l->length - c->old_end);
  memcpy(l->text + c->begin, text + c->begin, c->end - c->begin);
  l->length = length;
  l->text[length] = '\0';
  return true;
}

// Lines that are found anew, until they take the place of old ones.
typedef struct Found {
  Line *items;
  int count, capacity;
  bool failed;
} Found;

static void add_line(Found *f, Line line) {
  if (f->count == f->capacity) {
    int capacity = f->capacity * 2 + 16;
    Line *bigger = realloc(f->items, (size_t)capacity * sizeof *bigger);
    if (!bigger) {
      f->failed = true;
      return;
    }
    f->items = bigger;
    f->capacity = capacity;
  }
  f->items[f->count++] = line;
}

static size_t next_line_end(const Lines *l, size_t at) {
  const char *end = memchr(l->text + at, '\n', l->length - at);
  return end ? (size_t)(end - l->text) : l->length;
}

// Whether the old line *old, in its new place, begins as the new one does.
static bool is_as_before(const Lines *l, const Change *c, int *old, const Line *now) {
  if (now->begin < c->end) return false;
  size_t begin = now->begin - c->end + c->old_end;
  while (*old < l->count && l->items[*old].begin < begin) (*old)++;
  if (*old == l->count || l->items[*old].begin != begin) return false;
  const Line *before = &l->items[*old];
  bool inside = now->span_end > now->span_begin, was_inside = before->span_end > before->span_begin;
  if (inside != was_inside) return false;
  return !inside || (before->color == now->color && before->span_end >= c->old_end &&
                     before->span_end - c->old_end + c->end == now->span_end);
}

// Looks at the lines from the one at `at` on, which begins inside of no token.  Returns the old line from which on all
// is as it was; the span of that line as it is now goes to *span.
static int look(const Lines *l, const Change *c, size_t at, Found *f, Line *span) {
  int old = lines_find(l, c->old_end);
  size_t line_end = next_line_end(l, at);
  add_line(f, (Line){.begin = at});
  for (;;) {
    size_t begin = l->length, end = l->length;
    SessionColor color = SESSION_PLAIN;
    bool more = false;
    if (line_end - f->items[f->count - 1].begin <= LINES_COLORED)
      more = session_color(l->text, l->length, at, &begin, &end, &color);
    else
      begin = end = line_end < l->length ? line_end + 1 : l->length;
    while (line_end < l->length && line_end < end) {  // lines that begin before the token, or in it
      Line line = {.begin = line_end + 1};
      if (line.begin > begin && line.begin < end) line.span_begin = begin, line.span_end = end, line.color = color;
      if (is_as_before(l, c, &old, &line)) {
        *span = line;
        return old;
      }
      add_line(f, line);
      if (f->failed) return l->count;
      line_end = next_line_end(l, line.begin);
    }
    if (!more && end >= l->length) return l->count;
    at = end;
  }
}

// Moves what an old line says to where it is now; the token that the first of them begins in may begin elsewhere.
static void move_line(Line *line, const Change *c, const Line *span) {
  bool inside = line->span_end > line->span_begin;
  line->begin += c->end - c->old_end;
  if (!inside) return;
  line->span_end += c->end - c->old_end;
  if (line->span_end == span->span_end)
    line->span_begin = span->span_begin;
  else
    line->span_begin += c->end - c->old_end;
}

// Puts the lines found in the place of the old ones from `first` up to before `rest`.
static bool splice(Lines *l, int first, int rest, const Found *f) {
  int count = first + f->count + l->count - rest;
  if (count > l->capacity) {
    int capacity = count * 2;
    Line *bigger = realloc(l->items, (size_t)capacity * sizeof *bigger);
    if (!bigger) return false;
    l->items = bigger;
    l->capacity = capacity;
  }
  memmove(l->items + first + f->count, l->items + rest, (size_t)(l->count - rest) * sizeof *l->items);
  memcpy(l->items + first, f->items, (size_t)f->count * sizeof *f->items);
  l->count = count;
  return true;
}

bool lines_update(Lines *l, const char *text, size_t length) {
  size_t most = length < l->length ? length : l->length;
  Change c = {.begin = common_prefix(l->text ? l->text : "", text, most)};
  if (l->count > 0 && c.begin == length && c.begin == l->length) return true;
  size_t tail = most > c.begin ? common_suffix(l->text + l->length, text + length, most - c.begin) : 0;
  c.old_end = l->length - tail;
  c.end = length - tail;
  if (c.begin < l->unchanged) l->unchanged = c.begin;
  // From a line that begins inside of no token and above the change: a token that ended there may go on now.
  int first = l->count > 0 ? lines_find(l, c.begin > 0 ? c.begin - 1 : 0) : 0;
  while (first > 0 && l->items[first].span_end > l->items[first].span_begin)
    first = lines_find(l, l->items[first].span_begin);
  // Whether the first line that is not blank is a command is seen from the beginning only.
  if (first > 0 && strspn(text, " \t\r\n") >= l->items[first].begin) first = 0;
  size_t at = l->count > 0 ? l->items[first].begin : 0;
  Found found = {0};
  Line span = {0};
  bool done = replace_text(l, text, length, &c);
  if (done) {
    int rest = look(l, &c, at, &found, &span);
    for (int i = rest; i < l->count; i++) move_line(&l->items[i], &c, &span);
    done = !found.failed && splice(l, first, rest, &found);
  }
  free(found.items);
  if (!done) l->count = 0, l->length = 0;
  return done;
}

int lines_find(const Lines *l, size_t at) {
  int low = 0, high = l->count;
  while (high - low > 1) {
    int middle = low + (high - low) / 2;
    if (l->items[middle].begin <= at)
      low = middle;
    else
      high = middle;
  }
  return low;
}

size_t lines_end(const Lines *l, int line) {
  return line + 1 < l->count ? l->items[line + 1].begin - 1 : l->length;
}
