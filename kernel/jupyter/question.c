// SPDX-License-Identifier: MIT
// Questions to the client: input(), and whatever reads standard input.
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>

#include "event.h"
#include "kernel.h"

// ---- asking ----

static void ask_client(Kernel *k, const char *prompt, bool hidden) {
  Frames f = {0};
  outbox_flush(k->outbox);
  frames_add_idents(&f, k->now.request);
  json_t *content = json_pack("{s:o, s:b}", "prompt", json_text(prompt, strlen(prompt)), "password", hidden);
  if (wire_write(k->wire, &f, "input_request", message_header(k->now.request), content))
    outbox_post(k->outbox, STDIN, &f);
  else
    frames_free(&f);
}

// Waits for a line that was sent after the question; an interrupt or the kernel's end ends the waiting.
char *kernel_ask(void *kernel, const char *prompt, bool hidden, size_t *length) {
  Kernel *k = kernel;
  char *line = NULL;
  pthread_mutex_lock(&k->lock);
  free(k->answer);
  k->answer = NULL;
  k->asking = true;
  pthread_mutex_unlock(&k->lock);
  event_clear(k->answered);
  ask_client(k, prompt, hidden);
  while (!line && !session_interrupted(k->session) && !atomic_load(&k->stopping) &&
         (!k->pausing || session_is_held(k->session))) {
    struct pollfd ready = {k->answered, POLLIN, 0};
    session_serve(k->session);
    if (poll(&ready, 1, 20) > 0) event_clear(k->answered);
    pthread_mutex_lock(&k->lock);
    line = k->answer;
    *length = k->answer_length;
    k->answer = NULL;
    pthread_mutex_unlock(&k->lock);
  }
  pthread_mutex_lock(&k->lock);
  k->asking = false;
  pthread_mutex_unlock(&k->lock);
  if (line && strcmp(line, "\x04") == 0) {  // Ctrl-D, as consoles send the end of input
    free(line);
    line = NULL;
  }
  return line;
}

bool kernel_paused(void *kernel, const char *prompt, char **input, size_t *length) {
  Kernel *k = kernel;
  if (!prompt) {
    queue_wait(k);
    return true;
  }
  k->pausing = true;
  *input = kernel_ask(k, prompt, false, length);
  k->pausing = false;
  return *input || !session_is_held(k->session) || atomic_load(&k->stopping);
}

// ---- standard input ----

static void drop_given(Kernel *k) {
  free(k->given);
  k->given = NULL;
}

static bool ask_for_line(Kernel *k) {
  k->given_at = 0;
  k->given = kernel_ask(k, "", false, &k->given_length);
  clearerr_unlocked(stdin);                          // a visitor may have read in vain meanwhile
  if (k->given) k->given[k->given_length++] = '\n';  // in the place of its NUL
  return k->given != NULL;
}

static ssize_t read_given(void *cookie, char *buffer, size_t size) {
  Kernel *k = cookie;
  if (!pthread_equal(pthread_self(), k->evaluator) || !k->now.request) return 0;
  if (!session_may_read(k->session) || (!k->given && !ask_for_line(k))) return 0;  // the end of the file
  size_t left = k->given_length - k->given_at, n = left < size ? left : size;
  memcpy(buffer, k->given + k->given_at, n);
  k->given_at += n;
  if (k->given_at == k->given_length) drop_given(k);
  return (ssize_t)n;
}

bool kernel_open_input(Kernel *k) {
  FILE *in = fopencookie(k, "r", (cookie_io_functions_t){.read = read_given});
  if (!in) return false;
  stdin = in;
  return true;
}

void kernel_drop_input(Kernel *k) {
  drop_given(k);
  __fpurge(stdin);
  clearerr(stdin);
}
