// SPDX-License-Identifier: MIT
// Texts as the front ends see them: what is UTF-8, beside iconv; cuts and widths, beside the Unicode standard's
// examples.
#include <cmocka.h>
#include <iconv.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "unicode.h"

#define TEXT(s) (s), sizeof(s) - 1

static bool is_valid(const char *text, size_t length) {
  size_t n;
  char *clean = unicode_clean(text, length, &n);
  free(clean);
  return !clean;
}

static bool iconv_takes(iconv_t to, char *text, size_t length) {
  char out[64], *at = out;
  size_t room = sizeof out;
  iconv(to, NULL, NULL, NULL, NULL);
  return iconv(to, &text, &length, &at, &room) != (size_t)-1 && length == 0;
}

// Every first two bytes; behind them the bounds of all ranges that the standard names.
static void test_what_is_valid_is_what_iconv_takes(void **state) {
  static const unsigned char bounds[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xE0, 0xFF};
  (void)state;
  iconv_t to = iconv_open("UTF-16LE", "UTF-8");
  assert_true(to != (iconv_t)-1);
  for (unsigned i = 0; i < 1U << 16; i++) {
    char text[4] = {(char)(i >> 8), (char)i};
    assert_int_equal(is_valid(text, 1), iconv_takes(to, text, 1));
    assert_int_equal(is_valid(text, 2), iconv_takes(to, text, 2));
    for (size_t k = 0; k < sizeof bounds; k++) {
      text[2] = (char)bounds[k];
      assert_int_equal(is_valid(text, 3), iconv_takes(to, text, 3));
      for (size_t m = 0; m < sizeof bounds && (unsigned char)text[0] >= 0xEF; m++) {
        text[3] = (char)bounds[m];
        assert_int_equal(is_valid(text, 4), iconv_takes(to, text, 4));
      }
    }
  }
  iconv_close(to);
}

// Tables 3-8 to 3-11 of the standard: one U+FFFD for each maximal run.
static void test_each_bad_run_becomes_one_mark(void **state) {
#define BAD "\xEF\xBF\xBD"
  static const struct {
    const char *text;
    size_t length;
    const char *clean;
  } cases[] = {
      {TEXT("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), BAD BAD BAD BAD BAD BAD BAD BAD "A"},
      {TEXT("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), BAD BAD BAD BAD BAD BAD BAD BAD "A"},
      {TEXT("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), BAD BAD BAD BAD BAD "A" BAD BAD "B"},
      {TEXT("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), BAD BAD BAD BAD "A"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t length;
    char *clean = unicode_clean(cases[i].text, cases[i].length, &length);
    assert_non_null(clean);
    assert_string_equal(clean, cases[i].clean);
    assert_int_equal(length, strlen(cases[i].clean));
    free(clean);
  }
}

static const char *const characters[] = {"a", "\u00e9", "\u2207", "\uFFFF", "\U0001F600", "\U0010FFFF"};

static void test_only_a_character_that_was_begun_waits_for_more(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof characters / sizeof *characters; i++) {
    char text[8] = "a";
    size_t length = strlen(characters[i]);
    memcpy(text + 1, characters[i], length);
    for (size_t n = 1; n <= length; n++) assert_int_equal(unicode_open_tail(text, 1 + n), n < length ? n : 0);
  }
  assert_int_equal(unicode_open_tail("", 0), 0);
  assert_int_equal(unicode_open_tail(TEXT("\x80\x80\x80")), 0);
  assert_int_equal(unicode_open_tail(TEXT("a\xC0")), 0);      // can never be right
  assert_int_equal(unicode_open_tail(TEXT("a\xED\xA0")), 0);  // nor can half a pair
}

static void test_a_cut_leaves_characters_whole(void **state) {
  static const size_t cuts[] = {0, 1, 1, 1, 4, 5, 5, 7};
  (void)state;
  for (size_t n = 0; n < sizeof cuts / sizeof *cuts; n++) assert_int_equal(unicode_cut("a\u4e2db\u00e9", n), cuts[n]);
}

static void test_places_in_bytes_and_in_code_points(void **state) {
  static const char text[] = "a\u2207\U0001F600z";
  static const size_t at[] = {0, 1, 4, 8, 9};
  (void)state;
  for (int i = 0; i < 5; i++) {
    assert_int_equal(unicode_bytes(text, strlen(text), i), at[i]);
    assert_int_equal(unicode_points(text, at[i]), i);
  }
  assert_int_equal(unicode_bytes(text, strlen(text), 1000), strlen(text));
  assert_int_equal(unicode_bytes(text, strlen(text), -1), 0);
}

static void test_widths_are_those_of_a_terminal(void **state) {
  static const struct {
    const char *text;
    size_t length, bytes;
    int columns;
  } cases[] = {
      {TEXT("ab"), 1, 1},         {TEXT("\u00e9"), 2, 1}, {TEXT("\u2207x"), 3, 1}, {TEXT("\u4e2d"), 3, 2},  // wide
      {TEXT("\uff21"), 3, 2},                            // full width
      {TEXT("\U0001F600"), 4, 2},                        // an emoji
      {TEXT("\u0301"), 2, 0},                            // combines with what is before
      {TEXT("\x01"), 1, 1},                              // moves nothing
      {TEXT("\x00"), 1, 1},       {TEXT("\xFF"), 1, 1},  // no character
      {TEXT("\xE4\xB8"), 1, 1},                          // cut
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int columns = -1;
    assert_int_equal(unicode_character(cases[i].text, cases[i].length, &columns), cases[i].bytes);
    assert_int_equal(columns, cases[i].columns);
  }
  assert_int_equal(unicode_columns(""), 0);
  assert_int_equal(unicode_columns("e\u0301 \u4e2d\u6587!"), 7);
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_valid_is_what_iconv_takes),
      cmocka_unit_test(test_each_bad_run_becomes_one_mark),
      cmocka_unit_test(test_only_a_character_that_was_begun_waits_for_more),
      cmocka_unit_test(test_a_cut_leaves_characters_whole),
      cmocka_unit_test(test_places_in_bytes_and_in_code_points),
      cmocka_unit_test(test_widths_are_those_of_a_terminal),
  };
  setlocale(LC_CTYPE, "C.UTF-8");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
