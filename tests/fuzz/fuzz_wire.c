// SPDX-License-Identifier: MIT
// What a client may send: frames of any bytes (split at 0xFF), or a header of the known requests with any content.
// Every message that is one gets exactly one busy and one idle, and at most one reply.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Kernel kernel;

// Nothing that reaches outside: files, processes, commands.
static const char harmless[] =
    "require('nablua.session.commands').run = function() end;"
    "io, os, require, package, debug, dofile, loadfile, input, load = nil;"
    "nb.save, nb.load, nb.threads, nb.sleep, data = nil; string.rep = nil; nb.memory{limit=1e8};";

static void on_alarm(int number) {
  (void)number;
  if (kernel.session) session_interrupt(kernel.session);
}

static void ignore(int number) {
  (void)number;
}

static void open_session(void) {
  char reason[256];
  Sink sink = kernel_sink(&kernel);
  if (!(kernel.session = session_new(&sink, reason, sizeof reason))) abort();
  session_eval_apart(kernel.session, harmless, strlen(harmless), NULL);
}

static void open_kernel(void) {
  struct sigaction alarm = {.sa_handler = on_alarm}, nothing = {.sa_handler = ignore};
  FILE *err = stderr;
  int descriptors[] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
  sigaction(SIGVTALRM, &alarm, NULL);
  sigaction(SIGINT, &nothing, NULL);
  kernel.evaluator = pthread_self();
  kernel.quit = eventfd(0, EFD_NONBLOCK);
  kernel.answered = eventfd(0, EFD_NONBLOCK);
  kernel.has_history = true;  // none is kept
  pthread_mutex_init(&kernel.lock, NULL);
  pthread_cond_init(&kernel.changed, NULL);
  kernel.wire = wire_new("");
  if (!(kernel.outbox = outbox_new(kernel.wire))) abort();
  outbox_attach(kernel.outbox);
  // The fuzzer's own words go where they went; what the cells print still is the outbox's.
  dup2(descriptors[0], STDOUT_FILENO);
  dup2(descriptors[1], STDERR_FILENO);
  stderr = err;
  int null = open("/dev/null", O_WRONLY);
  dup2(null, kernel_log_descriptor());
}

// A message of frames that 0xFF separates.
static void split(Frames *f, const uint8_t *data, size_t size) {
  for (size_t begin = 0, i = 0; i <= size; i++) {
    if (i < size && data[i] != 0xFF) continue;
    frames_add_bytes(f, data + begin, i - begin);
    begin = i + 1;
  }
}

static void known(Frames *f, unsigned kind, const uint8_t *data, size_t size) {
  char header[200];
  size_t count = 0;
  while (request_name(count)) count++;
  const char *type = request_name(kind % (count + 2));
  if (!type) type = kind % (count + 2) == count ? "input_reply" : "no_such_request";
  int n = snprintf(header, sizeof header, "{\"msg_id\":\"1\",\"msg_type\":\"%s\"}", type);
  frames_add_bytes(f, "me", 2);
  frames_add_bytes(f, "<IDS|MSG>", 9);
  frames_add_bytes(f, "", 0);
  frames_add_bytes(f, header, (size_t)n);
  frames_add_bytes(f, "{}", 2);
  frames_add_bytes(f, "{}", 2);
  frames_add_bytes(f, data, size);
}

// Takes everything that would be sent and counts.
static void collect(int *busy, int *idle, int *replies) {
  Channel channel;
  Frames f;
  int wait;
  *busy = *idle = *replies = 0;
  while (outbox_take(kernel.outbox, &channel, &f, &wait)) {
    if (channel == SHELL) ++*replies;
    zmq_msg_t *last = &f.items[f.count - 1];
    *busy += channel == IOPUB &&
             memmem(zmq_msg_data(last), zmq_msg_size(last), "{\"execution_state\":\"busy\"}", 26) != NULL;
    *idle += channel == IOPUB &&
             memmem(zmq_msg_data(last), zmq_msg_size(last), "{\"execution_state\":\"idle\"}", 26) != NULL;
    frames_free(&f);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static unsigned long long runs;
  int busy, idle, replies;
  if (size < 2) return 0;
  if (!kernel.wire) open_kernel();
  if (kernel.session && ++runs % 200 == 0) {  // what inputs leave behind
    session_free(kernel.session);
    kernel.session = NULL;
  }
  if (!kernel.session) open_session();
  Frames f = {0};
  if (data[0] & 1)
    split(&f, data + 1, size - 1);
  else
    known(&f, data[1], data + 2, size - 2);
  struct itimerval soon = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}}, never = {0};
  setitimer(ITIMER_VIRTUAL, &soon, NULL);
  request_handle(&kernel, data[0] & 2 ? CONTROL : SHELL, &(Job){.frames = f, .number = runs});
  setitimer(ITIMER_VIRTUAL, &never, NULL);
  atomic_store(&kernel.stopping, false);
  kernel.abort_through = 0;
  collect(&busy, &idle, &replies);
  if (busy != idle || busy > 1 || replies > busy) abort();
  return 0;
}
