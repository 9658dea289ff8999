// SPDX-License-Identifier: MIT
// What a front end asks of the session while somebody types: is it complete, what completes it, what is it, what
// colours has it.  The first byte places the cursor.  Small inputs are evaluated too, with little memory and time.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Session *session;

static void swallow(void *user, int number, const Bundle *value) {
  (void)user, (void)number;
  if (strlen(value->items[0].type) == 0) abort();
}

static void swallow_error(void *user, const Problem *problem) {
  (void)user;
  if (!problem->message || !problem->frames) abort();
}

static void on_alarm(int number) {
  (void)number;
  if (session) session_interrupt(session);
}

// Nothing that reaches outside: files, processes, the terminal.
static const char harmless[] =
    "io, os, require, package, debug, dofile, loadfile, print, input, display, load = nil;"
    "nb.save, nb.load, nb.threads, nb.sleep, data = nil; string.rep = nil; nb.memory{limit=1e8};";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int runs;
  if (size < 1) return 0;
  size_t cursor = data[0], begin, end, at = 0;
  const char *code = (const char *)data + 1;
  size_t length = size - 1;
  if (session && ++runs % 200 == 0) {  // what inputs leave behind
    session_free(session);
    session = NULL;
  }
  if (!session) {
    char reason[256];
    Sink sink = {.value = swallow, .error = swallow_error};
    if (!(session = session_new(&sink, reason, sizeof reason))) abort();
    session_eval(session, harmless, strlen(harmless));
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGVTALRM, &action, NULL);
  }
  Completions completions;
  Bundle bundle;
  SessionColor color;
  int indent;
  session_complete(session, code, length, cursor, &completions);
  if (completions.begin > completions.end || completions.end > length) abort();
  session_inspect(session, code, length, cursor, cursor % 2, &bundle);
  while (session_color(code, length, at, &begin, &end, &color)) {
    if (begin < at || end <= begin || end > length) abort();
    at = end;
  }
  size_t first = 0;
  while (first < length && strchr(" \t\r\n", code[first]) && code[first]) first++;
  bool command = first < length && code[first] == '%';  // these write files
  if (session_is_complete(session, code, length, &indent) == SESSION_COMPLETE && length < 200 && !command) {
    struct itimerval soon = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}}, never = {0};
    setitimer(ITIMER_VIRTUAL, &soon, NULL);
    session_eval(session, code, length);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
  }
  return 0;
}
