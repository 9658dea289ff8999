// SPDX-License-Identifier: MIT
// Reading cells and writing what becomes of them, without a terminal.
#include "cells.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const char *mark;
static char *answers;  // what is left of those to the cell that runs

static void begin(void) {
  fflush(stderr);
  fflush(stdout);
}

static void put(const char *name, const char *data, size_t length) {
  printf("%s %zu\n", name, length);
  fwrite(data, 1, length, stdout);
}

static void put_bundle(const char *kind, const Bundle *b, const char *id) {
  begin();
  printf("%s %s %d%s%s\n", mark, kind, b->count, id ? " " : "", id ? id : "");
  for (int i = 0; i < b->count; i++) put(b->items[i].type, b->items[i].data, b->items[i].length);
  begin();
}

static void value(void *user, int number, const Bundle *b) {
  (void)user, (void)number;
  put_bundle("value", b, NULL);
}

static void page(void *user, const Bundle *b) {
  (void)user;
  put_bundle("page", b, NULL);
}

static void display(void *user, const Bundle *b, const char *id, bool update) {
  (void)user;
  put_bundle(update ? "update" : "display", b, id);
}

static void clear(void *user, bool wait) {
  (void)user;
  begin();
  printf("%s %s\n", mark, wait ? "wait" : "clear");
}

static void error(void *user, const Problem *p) {
  (void)user;
  begin();
  printf("%s error 3\n", mark);
  put("name", p->name, strlen(p->name));
  put("message", p->message, strlen(p->message));
  put("frames", p->frames, strlen(p->frames));
  begin();
}

static char *ask(void *user, const char *prompt, bool hidden, size_t *length) {
  (void)user, (void)hidden;
  fputs(prompt, stdout);
  if (!answers || !*answers) return NULL;
  size_t n = strcspn(answers, "\n");
  char *line = strndup(answers, n);
  *length = line ? n : 0;
  memmove(answers, answers + n + (answers[n] == '\n'), strlen(answers + n + (answers[n] == '\n')) + 1);
  return line;
}

// Answers are inputs of a paused prompt, too; without one more it goes on.
static bool paused(void *user, const char *prompt, char **input, size_t *length) {
  if (prompt) *input = ask(user, prompt, false, length);
  return *input;
}

Sink cells_sink(const char *marker) {
  mark = marker;
  return (Sink){
      .value = value, .page = page, .display = display, .clear = clear, .error = error, .ask = ask, .paused = paused};
}

// So many bytes from a descriptor of our own, so that a program that is run cannot take them; NULL at the end.
static char *take(FILE *from, size_t length) {
  char *text = malloc(length + 1);
  if (text && fread(text, 1, length, from) == length) {
    text[length] = '\0';
    return text;
  }
  free(text);
  return NULL;
}

static Session *session;

static void on_alarm(int number) {
  (void)number;
  session_interrupt(session);
}

// Interrupts what runs after half a second; or not any more.
static void stop_soon(bool soon) {
  struct itimerval timer = {.it_value.tv_usec = soon ? 500000 : 0};
  setitimer(ITIMER_REAL, &timer, NULL);
}

void cells_run(Session *s, const char *marker) {
  int fd = dup(STDIN_FILENO);
  FILE *cells = fd >= 0 ? fdopen(fd, "r") : NULL;
  size_t length, more;
  int interrupt;
  session = s;
  sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
  sigaction(SIGURG, &(struct sigaction){.sa_handler = on_alarm}, NULL);
  dup2(STDOUT_FILENO, STDERR_FILENO);
  if (!freopen("/dev/null", "r", stdin) || !cells) return;
  setvbuf(stderr, NULL, _IONBF, 0);
  for (;;) {
    int found = fscanf(cells, "%zu %zu %d", &length, &more, &interrupt);
    if (found != 3 && ferror(cells) && errno == EINTR) {  // an interrupt that came after the cell it was meant for
      clearerr(cells);
      continue;
    }
    if (found != 3 || fgetc(cells) != '\n') break;
    char *code = take(cells, length);
    free(answers);
    answers = take(cells, more);
    if (!code) break;
    session_allow_pauses(s, more > 0);
    stop_soon(interrupt);
    session_eval(s, code, length);
    stop_soon(false);
    free(code);
    begin();
    printf("%s end\n", marker);
    fflush(stdout);
  }
  free(answers);
  answers = NULL;
  fclose(cells);
}
