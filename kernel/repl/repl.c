// SPDX-License-Identifier: MIT
// The prompt: read an input, evaluate it, again.
#include "repl.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "editor.h"

static void give_up(int number) {
  (void)number;
  editor_interrupt();
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool repl_colors(void) {
  const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return isatty(STDOUT_FILENO) && !(none && *none) && terminal && strcmp(terminal, "dumb") != 0;
}

void repl_run(Session *s) {
  struct sigaction at_prompt = {.sa_handler = give_up}, evaluating;
  bool color = repl_colors();
  if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
  editor_open(s, color);
  sigaction(SIGINT, NULL, &evaluating);
  for (;;) {
    sigaction(SIGINT, &at_prompt, NULL);
    char *input = editor_read(session_next_number(s));
    sigaction(SIGINT, &evaluating, NULL);
    if (!input) break;
    if (input[strspn(input, " \t\r\n")]) {
      editor_remember(input);
      double begin = now();
      session_eval(s, input, strlen(input));
      double took = now() - begin;
      if (took > 1 && isatty(STDOUT_FILENO)) printf(color ? "\033[90m%.1f s\033[0m\n" : "%.1f s\n", took);
    }
    free(input);
  }
  putchar('\n');
}
