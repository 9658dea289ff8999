// SPDX-License-Identifier: MIT
// Editing with readline, where it was built in and the terminal can: what is drawn, what keys do and how bytes come is
// told to it here.
#include "editor.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "footer.h"
#include "plain.h"
#include "screen.h"
#include "stop.h"

#ifdef NABLUA_EDITOR_READLINE
#include <langinfo.h>
#include <locale.h>
#include <readline/history.h>
#include <readline/readline.h>

#include "block.h"
#include "bytes.h"
#include "canvas.h"
#include "drawing.h"
#include "hints.h"
#include "keys.h"
#include "search.h"
#include "settings.h"
#include "vi.h"
#elif defined NABLUA_EDITOR_LIBEDIT
#include <editline/readline.h>
#endif

static Session *session;

// What the user asks for, or "12> " and as many columns that end in "| ".
static void make_prompts(int number, char *prompt, char *continued, size_t size) {
  char *own = session_prompt(session, false), *own_continued = session_prompt(session, true);
  snprintf(prompt, size, "%d> ", number);
  size_t n = strlen(prompt);
  snprintf(continued, size, "%*s| ", (int)n - 2, "");
  if (own) snprintf(prompt, size, "%s", own);
  if (own_continued) snprintf(continued, size, "%s", own_continued);
  free(own);
  free(own_continued);
}

#ifndef NABLUA_EDITOR_READLINE

void editor_open(Session *s, bool color) {
  (void)color;
  session = s;
}

static char *read_input(Session *s, const char *prompt, const char *continued) {
#ifdef NABLUA_EDITOR_LIBEDIT
  if (screen_can_move_cursor() && isatty(STDIN_FILENO)) return plain_read(s, prompt, continued, readline);
#endif
  return plain_read(s, prompt, continued, plain_line);
}

void editor_prefill(const char *text) {
  puts(text);
}

void editor_unread(const char *bytes, size_t length) {
  (void)bytes, (void)length;
}

ssize_t editor_take(char *bytes, size_t size) {
  (void)bytes, (void)size;
  return 0;
}

void editor_remember(const char *input) {
#ifdef NABLUA_EDITOR_LIBEDIT
  add_history(input);
#else
  (void)input;
#endif
}

void editor_forget(void) {
#ifdef NABLUA_EDITOR_LIBEDIT
  clear_history();
#endif
}

void editor_set_older(void (*load)(void)) {
  (void)load;
}

static char *edited_line(const char *prompt) {
  (void)prompt;
  return NULL;
}

static bool edits(void) {
  return false;
}

#else

static char *prefilled;  // what the next input begins as

static int insert_prefilled(void) {
  if (!prefilled) return 0;
  rl_insert_text(prefilled);
  free(prefilled);
  prefilled = NULL;
  drawing_redraw();
  return 0;
}

void editor_prefill(const char *text) {
  free(prefilled);
  prefilled = strdup(text);
}

void editor_unread(const char *bytes, size_t length) {
  bytes_unread(bytes, length);
}

ssize_t editor_take(char *bytes, size_t size) {
  return (ssize_t)bytes_take(bytes, size);
}

// Whether a terminal is there that can be drawn on.
static bool edits(void) {
  return isatty(STDIN_FILENO) && screen_can_move_cursor();
}

// ---- what readline asks for ----

// What is paused waits for the user, and serves visitors meanwhile.
static void wait_for_key(void) {
  session_serve(session);
  drawing_catch_up();
}

static void redisplay(void) {
  vi_settle();
  drawing_key();
}

static void suspend(void) {
  screen_accept_pastes(false);
}

static void resume(void) {
  screen_accept_pastes(true);
  drawing_begin(NULL);
  drawing_redraw();
}

static char *no_completion(const char *text, int state) {
  (void)text, (void)state;
  return NULL;
}

// Whether the user's locale says UTF-8, or nothing at all, as in a container; screen_open has set one that does.
static bool terminal_is_utf8(void) {
  static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  const char *name = NULL;
  for (int i = 0; i < 3 && !(name && *name); i++) name = getenv(names[i]);
  if (!name || !*name) return true;
  locale_t locale = newlocale(LC_CTYPE_MASK, name, (locale_t)0);
  if (!locale) return strcasestr(name, "utf") != NULL;
  bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
  freelocale(locale);
  return utf8;
}

void editor_open(Session *s, bool color) {
  static const BytesEvents events = {stop_is_asked, wait_for_key, drawing_resized, suspend, resume};
  static const char *const variables[][2] = {{"bell-style", "none"},
                                             {"bind-tty-special-chars", "off"},
                                             {"keyseq-timeout", "50"},
                                             {"convert-meta", "off"},
                                             {"input-meta", "on"},
                                             {"output-meta", "on"},
                                             {"enable-bracketed-paste", "off"},
                                             {"comment-begin", "--"}};
  session = s;
  if (!edits()) return;
  rl_instream = fdopen(STDIN_FILENO, "r");  // its descriptor is what is read
  bool utf8 = terminal_is_utf8();
  char *locale = strdup(setlocale(LC_CTYPE, NULL));
  canvas_open(color, utf8);
  hints_open(s);
  rl_readline_name = "nablua";
  rl_outstream = screen_stream();
  rl_catch_signals = 0;
  rl_catch_sigwinch = 0;
  rl_completion_entry_function = no_completion;
  // The user's inputrc is read last, and has the last word.
  keys_open(s);
  vi_open();
  search_open(keys_want_older);
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) rl_variable_bind(variables[i][0], variables[i][1]);
  rl_initialize();
  for (size_t i = 3; i < 6; i++) rl_variable_bind(variables[i][0], variables[i][1]);  // readline asks the locale
  if (locale) setlocale(LC_CTYPE, locale);
  free(locale);
  rl_variable_bind("byte-oriented", utf8 ? "off" : "on");
  block_open();
  bytes_open(&events);
  rl_redisplay_function = redisplay;
  rl_pre_input_hook = insert_prefilled;
}

// ---- reading ----

// Readline with pastes in brackets, which it asks for only where it draws itself.
static char *read_edited(const char *prompt, const char *continued) {
  drawing_begin(continued);
  vi_begin();
  screen_accept_pastes(true);
  char *line = readline(prompt);
  if (line && !drawing_is_finished()) drawing_finish("");
  screen_accept_pastes(false);
  vi_begin();
  return line;
}

static char *read_input(Session *s, const char *prompt, const char *continued) {
  if (!edits() || !session) return plain_read(s, prompt, continued, plain_line);
  bytes_begin();
  for (;;) {
    char *input = stop_is_for_good() ? NULL : read_edited(prompt, continued);
    if (!stop_is_asked() || stop_is_for_good()) {
      bytes_end();
      if (!stop_is_for_good()) return input;
      free(input);
      return NULL;
    }
    stop_forget();
    free(input);
  }
}

void editor_remember(const char *input) {
  HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
  if (*input && !(last && strcmp(last->line, input) == 0)) add_history(input);
}

void editor_forget(void) {
  clear_history();
}

void editor_set_older(void (*load)(void)) {
  keys_set_older(load);
}

// ---- a history apart from that of inputs, for what is answered and what is typed at a paused prompt ----

static HISTORY_STATE answers;

// Returns that of inputs, for end_answers; NULL where there is no memory for that.
static HISTORY_STATE *begin_answers(void) {
  HISTORY_STATE *inputs = history_get_history_state();
  if (!inputs) return NULL;
  history_set_history_state(&answers);
  keys_leave_older(true);
  return inputs;
}

static void end_answers(HISTORY_STATE *inputs, const char *line) {
  if (line && *line && !stop_is_asked()) editor_remember(line);
  HISTORY_STATE *now = history_get_history_state();
  if (now) answers = *now;
  free(now);
  keys_leave_older(false);
  history_set_history_state(inputs);
  free(inputs);
}

// A line with editing.
static char *edited_line(const char *prompt) {
  HISTORY_STATE *inputs = begin_answers();
  if (!inputs) return NULL;
  keys_ask(true);
  hints_for_input(false);
  char *line = read_edited(prompt, "| ");
  hints_for_input(true);
  keys_ask(false);
  end_answers(inputs, line);
  return line;
}

#endif

char *editor_read(int number) {
  char prompt[256], continued[256];
  stop_forget();
  make_prompts(number, prompt, continued, sizeof prompt);
#ifdef NABLUA_EDITOR_READLINE
  if (edits()) settings_apply(session);
#endif
  return read_input(session, prompt, continued);
}

char *editor_read_paused(Session *s, const char *prompt) {
  char continued[64];
  stop_forget();
  snprintf(continued, sizeof continued, "%*s| ", (int)strlen(prompt) - 2, "");
#ifdef NABLUA_EDITOR_READLINE
  HISTORY_STATE *inputs = edits() ? begin_answers() : NULL;
  char *input = read_input(s, prompt, continued);
  if (inputs) end_answers(inputs, input);
  return input;
#else
  return read_input(s, prompt, continued);
#endif
}

// ---- asking ----

static char *ask(const char *prompt, bool hidden) {
  struct termios before, silent;
  bool quiet = hidden && tcgetattr(STDIN_FILENO, &before) == 0;
  if (quiet) {
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSANOW, &silent);
  }
  if (session && !hidden && edits()) {
    char *line = edited_line(prompt);
    if (!stop_is_asked()) return line;
    free(line);
    return NULL;
  }
  fputs(prompt, stdout);
  fflush(stdout);
  // Not poll alone: a signal may come just before it.
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  while (isatty(STDIN_FILENO) && !stop_is_asked() && poll(&input, 1, 100) <= 0) continue;
  bool given_up = stop_is_asked();
  char *line = given_up ? NULL : plain_line("");
  if (given_up) putchar('\n');
  if (quiet) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    putchar('\n');
  }
  return line;
}

char *editor_ask(const char *prompt, bool hidden) {
  footer_wait();
  char *line = ask(prompt, hidden);
  footer_go_on();
  return line;
}
