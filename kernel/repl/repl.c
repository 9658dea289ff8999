// SPDX-License-Identifier: MIT
// The prompt: read an input, evaluate it, again.
#include "repl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "editor.h"
#include "folders.h"
#include "footer.h"
#include "screen.h"
#include "stop.h"

static Session *session;

// At the prompt, where a function of the user's may run that a key has called.
static void give_up(int number) {
  (void)number;
  session_interrupt(session);
  stop_input();
}

static double asked_for;  // seconds that the user was asked while the input ran

char *repl_ask(const char *prompt, bool hidden) {
  double begin = session_clock();
  char *line = editor_ask(prompt, hidden);
  asked_for += session_clock() - begin;
  return line;
}

// At a paused prompt an interrupt gives up what was typed, and nothing else.
static void give_up_line(int number) {
  (void)number;
  stop_input();
}

bool repl_paused(void *user, const char *prompt, char **input, size_t *length) {
  if (!prompt) {
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return true;
  }
  struct sigaction at_prompt = {.sa_handler = give_up_line}, evaluating;
  double begin = session_clock();
  screen_finish();
  screen_fresh_line();
  sigaction(SIGINT, &at_prompt, &evaluating);
  footer_wait();
  *input = editor_read_paused(user, prompt);
  footer_go_on();
  sigaction(SIGINT, &evaluating, NULL);
  if (*input && **input) editor_remember(*input);
  screen_begin();
  *length = *input ? strlen(*input) : 0;
  asked_for += session_clock() - begin;
  return *input;
}

bool repl_colors(void) {
  const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return isatty(STDOUT_FILENO) && !(none && *none) && terminal && strcmp(terminal, "dumb") != 0;
}

// How many inputs of the history are read at a start, and when older ones are wanted.
enum { FIRST_INPUTS = 1000, MOST_INPUTS = 200000 };

static int recalled;

static void recall(void *user, const HistoryEntry *entry) {
  (void)user;
  recalled++;
  editor_remember(entry->input);
}

// All inputs, those of this session among them; a start waits for some of them only.
static void recall_all(void) {
  editor_forget();
  session_history(session, &(HistoryQuery){.kind = HISTORY_TAIL, .count = MOST_INPUTS}, recall, NULL);
}

static void open_history(Session *s) {
  char reason[512];
  if (!isatty(STDIN_FILENO)) return;
  if (!session_history_open(s, NULL, reason, sizeof reason)) {
    printf("the history is not kept: %s\n", reason);
    return;
  }
  recalled = 0;
  session_history(s, &(HistoryQuery){.kind = HISTORY_TAIL, .count = FIRST_INPUTS}, recall, NULL);
  if (recalled == FIRST_INPUTS) editor_set_older(recall_all);
}

// What the user wants before the first prompt: init.lua in the folder for settings.
static void run_init_file(Session *s) {
  char path[1024];
  bool known = folder_path(path, sizeof path, "XDG_CONFIG_HOME", ".config", "nablua/init.lua");
  if (known && access(path, R_OK) == 0) session_run_file(s, path, false);
}

void repl_run(Session *s) {
  struct sigaction at_prompt = {.sa_handler = give_up}, evaluating;
  bool color = repl_colors();
  session = s;
  editor_open(s, color);
  session_allow_leaving(s);
  run_init_file(s);
  open_history(s);
  sigaction(SIGINT, NULL, &evaluating);
  for (;;) {
    sigaction(SIGINT, &at_prompt, NULL);
    char *input = editor_read(session_next_number(s));
    sigaction(SIGINT, &evaluating, NULL);
    if (!input) break;
    if (input[strspn(input, " \t\r\n")]) {
      editor_remember(input);
      screen_begin();
      double begin = session_clock();
      asked_for = 0;
      footer_begin(s, true);
      session_eval(s, input, strlen(input));
      footer_end();
      screen_finish();
      screen_fresh_line();
      double took = session_clock() - begin - asked_for;
      if (took > 1 && isatty(STDOUT_FILENO)) printf(color ? "\033[90m%.1f s\033[0m\n" : "%.1f s\n", took);
    }
    free(input);
    if (session_leaves(s)) return;
  }
  putchar('\n');
}
