// SPDX-License-Identifier: MIT
// Text as sentences show it: what steers a terminal is written out, the rest stays, and a cut is between characters.
#include <cmocka.h>
#include <string.h>

#include "nablua/error.h"
#include "nablua/printable.h"

static void test_what_steers_is_written_out(void **state) {
  (void)state;
  static const struct {
    const char *text, *want;
  } cases[] = {{"plain é√😀", "plain é√😀"},
               {"\x1b[31m", "\\x1b[31m"},
               {"a\nb\tc\r", "a\\nb\\tc\\r"},
               {"\x7f\x01", "\\x7f\\x01"},
               {"\xc2\x9b", "\\u{9b}"},
               {"\xe2\x80\xae", "\\u{202e}"},
               {"\xe2\x81\xa6", "\\u{2066}"},
               {"\xff\xc0\x80", "\\xff\\xc0\\x80"},  // no UTF-8, and an overlong zero
               {"\xed\xa0\x80", "\\xed\\xa0\\x80"},  // half of a pair
               {"cut \xe2\x82", "cut \\xe2\\x82"}};
  char out[64];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_string_equal(nb_printable(cases[i].text, out, sizeof out), cases[i].want);
}

static void test_a_cut_is_between_characters(void **state) {
  (void)state;
  char out[64];
  assert_string_equal(nb_printable("éééé", out, 9), "éééé");
  assert_string_equal(nb_printable("éééé", out, 8), "éé...");
  assert_string_equal(nb_printable("éééé", out, 4), "...");
  assert_string_equal(nb_printable("a\x1b"
                                   "bc",
                                   out, 7),
                      "a...");
}

static void test_all_sentences_are_printable(void **state) {
  (void)state;
  Error err;
  nb_fail(&err, NB_ERROR_FILE, "cannot open %s:\n%s", "\x1b]0;x\a", "\tlines stay");
  assert_string_equal(err.message, "cannot open \\x1b]0;x\\x07:\n\tlines stay");
  nb_fail_more(&err, "%c", 0x9b);
  assert_non_null(strstr(err.message, "stay\\x9b"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_steers_is_written_out),
                                     cmocka_unit_test(test_a_cut_is_between_characters),
                                     cmocka_unit_test(test_all_sentences_are_printable)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
