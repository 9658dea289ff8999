// SPDX-License-Identifier: MIT
// The table of lines, brought up to date edit by edit, is the one that is made of the text at once.
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"

enum { ROOM = 4096 };

static unsigned long long random_state = 88172645463325252ULL;

static size_t below(size_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (size_t)(random_state % limit);
}

static void free_lines(Lines *l) {
  free(l->items);
  free(l->text);
  *l = (Lines){0};
}

static void compare(const Lines *l, const char *text, size_t length) {
  Lines fresh = {0};
  assert_true(lines_update(&fresh, text, length));
  assert_int_equal(l->count, fresh.count);
  assert_int_equal(l->length, length);
  assert_memory_equal(l->text, text, length);
  for (int i = 0; i < fresh.count; i++) {
    const Line *a = &l->items[i], *b = &fresh.items[i];
    assert_int_equal(a->begin, b->begin);
    bool inside = b->span_end > b->span_begin;
    assert_int_equal(a->span_end > a->span_begin, inside);
    if (!inside) continue;
    assert_int_equal(a->span_begin, b->span_begin);
    assert_int_equal(a->span_end, b->span_end);
    assert_int_equal(a->color, b->color);
    assert_true(b->span_begin < b->begin && b->begin < b->span_end);
  }
  free_lines(&fresh);
}

// By the lines' ends alone: an independent count.
static void check_begins(const Lines *l) {
  size_t at = 0;
  for (int i = 0; i < l->count; i++) {
    assert_int_equal(l->items[i].begin, at);
    assert_int_equal(lines_find(l, at), i);
    at = lines_end(l, i);
    assert_true(i + 1 == l->count ? at == l->length : l->text[at] == '\n');
    assert_int_equal(lines_find(l, at), i);
    at++;
  }
}

static void test_edits_give_what_the_whole_text_gives(void **state) {
  static const char *const pieces[] = {"\n", "\n",  "\n", "[[",  "]]",  "[=[", "]=]", "--", "--[[", "'", "\"",
                                       "\\", "\\z", "x",  " = ", "end", "%",   "?",   "-",  "[",    "]", " "};
  enum { PIECES = sizeof pieces / sizeof *pieces };
  static char text[ROOM + 64];
  (void)state;
  for (int round = 0; round < 60; round++) {
    Lines lines = {0};
    size_t length = 0;
    for (int step = 0; step < 300; step++) {
      size_t at = below(length + 1), gone = below(4) == 0 ? below(length - at + 1) % 30 : 0;
      memmove(text + at, text + at + gone, length - at - gone);
      length -= gone;
      for (size_t n = below(5); n > 0 && length < ROOM; n--) {
        const char *piece = pieces[below(PIECES)];
        size_t size = strlen(piece);
        memmove(text + at + size, text + at, length - at);
        memcpy(text + at, piece, size);
        length += size;
        at += size;
      }
      text[length] = '\0';
      assert_true(lines_update(&lines, text, length));
      compare(&lines, text, length);
      check_begins(&lines);
    }
    free_lines(&lines);
  }
}

static void test_what_has_not_changed_is_known(void **state) {
  Lines lines = {.unchanged = (size_t)-1};
  (void)state;
  assert_true(lines_update(&lines, "a\nb\nc", 5));
  lines.unchanged = (size_t)-1;
  assert_true(lines_update(&lines, "a\nb\nc", 5));
  assert_true(lines.unchanged == (size_t)-1);
  assert_true(lines_update(&lines, "a\nb\ncd", 6));
  assert_int_equal(lines.unchanged, 5);
  assert_true(lines_update(&lines, "a\nx\ncd", 6));
  assert_int_equal(lines.unchanged, 2);
  free_lines(&lines);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_edits_give_what_the_whole_text_gives),
                                     cmocka_unit_test(test_what_has_not_changed_is_known)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
