// SPDX-License-Identifier: MIT
// An input that is read line by line is judged as one that is there at once, and judging takes time as its length.
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

static void see_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number, (void)value;
}

static void see_error(void *user, const Problem *problem) {
  (void)user, (void)problem;
}

static int open_session(void **state) {
  char reason[256];
  Sink sink = {.value = see_value, .error = see_error};
  *state = session_new(&sink, reason, sizeof reason);
  return *state ? 0 : -1;
}

static int close_session(void **state) {
  session_free(*state);
  return 0;
}

static char *repeated(const char *begin, const char *line, size_t times) {
  size_t first = strlen(begin), n = strlen(line);
  char *text = malloc(first + n * times + 1);
  assert_non_null(text);
  memcpy(text, begin, first + 1);
  for (size_t i = 0; i < times; i++) memcpy(text + first + i * n, line, n + 1);
  return text;
}

// Reads the text as a prompt does; where judging all of it says that it ends, reading must say so, too.
static void read_by_lines(Session *s, const char *text, bool is_short) {
  SessionGrowth growth = {0};
  for (const char *end = text; *end;) {
    end = strchr(end, '\n') ? strchr(end, '\n') : text + strlen(text);
    size_t length = (size_t)(end - text);
    SessionCompleteness all = session_is_complete(s, text, length, NULL);
    bool goes_on = session_goes_on(s, text, length, &growth);
    if (all == SESSION_COMPLETE || is_short) assert_int_equal(goes_on, all == SESSION_INCOMPLETE);
    if (all == SESSION_INCOMPLETE) assert_true(goes_on);
    if (!goes_on) return;
    if (*end) end++;
  }
}

static void lines_are_judged_as_the_whole(void **state) {
  static const char *const inputs[] = {
      "function f()\n  return 1\nend\n",
      "x = {\n  '}',\n  \"\\\"}\",\n  [[ } ]],\n}\n",
      "x = [==[\n]]\n]=]\n]==]\n",
      "--[[\nend\n]] x = 1\n",
      "x = 'a\\\nb'\n",
      "x = 'a\\z\n   b'\n",
      "x = 'broken\nlocal y\n",
      "if a then\n  b(\n    1,\n    2)\nelse\n  repeat x = 1 until x\nend\n",
      "for i = 1, 2 do\n  while x do\n  end\nend\n",
      "x = 1 +\n 2 ..\n 'a'\n",
      "x =\n 1\n",
      "f{\n a = function()\n end }\n",
      "function f()\n  x = = 1\n  return\nend\n",
      "end\nx = 1\n",
      "x = )\n",
      "%time for i = 1, 2 do\n x = 1\nend\n",
      "goto done\n::done::\n",
      "x = a and\n not b\n",
      "return 1,\n 2\n",
      ">>> x = 1\n>>> y = 2\n",
      "x = [=\n",
      "local x <const> = {\n}\n",
  };
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    read_by_lines(*state, inputs[i], true);
    char *open = repeated("function f()\n", "  y = {1, 'a]]'} -- end\n", 300),
         *text = NULL;  // too long to be judged at once
    size_t length = strlen(open) + strlen(inputs[i]);
    assert_non_null(text = malloc(length + 16));
    snprintf(text, length + 16, "%s%send\n", open, inputs[i]);
    read_by_lines(*state, text, false);
    free(text);
    free(open);
  }
}

static double seconds_to_judge(Session *s, const char *begin, const char *line, size_t bytes) {
  char *text = repeated(begin, line, bytes / strlen(line));
  int indent;
  clock_t begun = clock();
  session_is_complete(s, text, strlen(text), &indent);
  double seconds = (double)(clock() - begun) / CLOCKS_PER_SEC;
  free(text);
  return seconds > 0.01 ? seconds : 0.01;
}

static void judging_takes_time_as_the_length(void **state) {
  static const struct {
    const char *begin, *line;
  } inputs[] = {{"", "x = 1\n"},      {"x = {", "1, "},
                {"x = ", "("},        {"", "local x = 1\n"},
                {"", "f(1)\n"},       {"function f()\n", "x = 1\n"},
                {"", "while x "},     {"x = [[", "]=\n"},
                {"", ">>> x = 1\n"},  {"", ">>> f(\n"},
                {"", "1> x = = 1\n"}, {"f", ".a"},
                {"x = 'a\\z", " \n"}, {"", "%time x\n"},
                {"", "[=["},          {"", "if x then "},
                {"", "for x "},       {"x = ", "not "},
                {"", "\\"},           {"", "x"}};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    double small = seconds_to_judge(*state, inputs[i].begin, inputs[i].line, 200000);
    double large = seconds_to_judge(*state, inputs[i].begin, inputs[i].line, 2000000);
    if (large > 20 * small) fail_msg("%s%s: %.3f s and %.3f s", inputs[i].begin, inputs[i].line, small, large);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_are_judged_as_the_whole),
      cmocka_unit_test(judging_takes_time_as_the_length),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
