// SPDX-License-Identifier: MIT
// The prompt: lines until the input is complete, then evaluation.
#include "repl.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NABLUA_EDITOR_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#endif

typedef struct Text {
  char *data;
  size_t length, capacity;
} Text;

static bool append(Text *t, const char *data, size_t length) {
  if (t->length + length + 1 > t->capacity) {
    size_t capacity = (t->length + length + 1) * 2;
    char *bigger = realloc(t->data, capacity);
    if (!bigger) return false;
    t->data = bigger;
    t->capacity = capacity;
  }
  memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = '\0';
  return true;
}

// Ctrl-C at the prompt gives the line up.
static volatile sig_atomic_t given_up;

static void give_up(int number) {
  (void)number;
  given_up = 1;
}

#ifdef NABLUA_EDITOR_READLINE
static int end_line_when_given_up(void) {
  if (given_up) {
    rl_replace_line("", 0);
    rl_done = 1;
  }
  return 0;
}
#endif

// A line without its newline, to be freed; NULL at the end of input.
static char *read_line(const char *prompt) {
#ifdef NABLUA_EDITOR_READLINE
  if (isatty(STDIN_FILENO)) {
    rl_signal_event_hook = end_line_when_given_up;
    return readline(prompt);
  }
#endif
  char *line = NULL;
  size_t size = 0;
  fputs(prompt, stdout);
  fflush(stdout);
  ssize_t n = getline(&line, &size, stdin);
  if (n < 0) {
    bool interrupted = errno == EINTR && given_up;
    clearerr(stdin);
    free(line);
    return interrupted ? strdup("") : NULL;
  }
  if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
  return line;
}

// "?name" and "name?" as help("name").
static bool help_request(Text *input) {
  char name[128];
  const char *begin = input->data, *end = begin + input->length;
  while (begin < end && isspace((unsigned char)*begin)) begin++;
  while (end > begin && isspace((unsigned char)end[-1])) end--;
  if (end == begin || (*begin != '?' && end[-1] != '?')) return false;
  while (begin < end && *begin == '?') begin++;
  while (end > begin && end[-1] == '?') end--;
  size_t n = (size_t)(end - begin);
  if (n >= sizeof name) return false;
  for (size_t i = 0; i < n; i++)
    if (!isalnum((unsigned char)begin[i]) && !strchr("_.:", begin[i])) return false;
  memcpy(name, begin, n);
  name[n] = '\0';
  char code[192];
  int length = snprintf(code, sizeof code, n ? "help(\"%s\")" : "help()", name);
  input->length = 0;
  return append(input, code, (size_t)length);
}

// One input of one or more lines.  False at the end of input.
static bool read_input(Session *s, Text *input) {
  input->length = 0;
  for (;;) {
    char *line = read_line(input->length ? "| " : "> ");
    if (given_up) {
      given_up = 0;
      input->length = 0;
      putchar('\n');
      free(line);
      continue;
    }
    if (!line) return false;
    if ((input->length && !append(input, "\n", 1)) || !append(input, line, strlen(line))) {
      fputs("nablua: there is no memory for this line\n", stderr);
      input->length = 0;
    }
    bool blank = !*line && input->length > 0;
    free(line);
    if (input->length == 0 || help_request(input)) return true;
    if (blank || session_is_complete(s, input->data, input->length) != SESSION_INCOMPLETE) return true;
  }
}

void repl_run(Session *s) {
  Text input = {0};
  struct sigaction at_prompt = {.sa_handler = give_up}, evaluating;
#ifdef NABLUA_EDITOR_READLINE
  rl_readline_name = "nablua";
#endif
  sigaction(SIGINT, NULL, &evaluating);
  for (;;) {
    sigaction(SIGINT, &at_prompt, NULL);
    bool more = read_input(s, &input);
    sigaction(SIGINT, &evaluating, NULL);
    if (!more) break;
    if (input.length == 0) continue;
#ifdef NABLUA_EDITOR_READLINE
    add_history(input.data);
#endif
    session_eval(s, input.data, input.length);
  }
  putchar('\n');
  free(input.data);
}
