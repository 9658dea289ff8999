// SPDX-License-Identifier: MIT
// The kernel's life: it binds, starts its threads, evaluates what comes, and ends.
#include "kernel.h"

#include <execinfo.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "event.h"

static Kernel *the_kernel;  // for signal handlers

// ---- signals ----

// Interrupts come as signals to the thread that evaluates, whoever got them first.
static void on_interrupt(int number) {
  (void)number;
  Kernel *k = the_kernel;
  if (!pthread_equal(pthread_self(), k->evaluator))
    pthread_kill(k->evaluator, SIGINT);
  else if (k->session)
    session_interrupt(k->session);
}

static void on_attention(int number) {
  (void)number;
  Kernel *k = the_kernel;
  if (k->session && pthread_equal(pthread_self(), k->evaluator)) session_attend(k->session);
}

static void on_end(int number) {
  (void)number;
  kernel_stop(the_kernel);
}

static void on_broken_pipe(int number) {
  (void)number;  // whoever wrote gets an error; ignoring the signal instead would be inherited by child programs
}

// The process dies of this signal; where it happened goes to who started it.
static void on_crash(int number) {
  void *frames[64];
  kernel_log("crashed: %s", strsignal(number));
  backtrace_symbols_fd(frames, backtrace(frames, 64), kernel_log_descriptor());
  if (the_kernel->session) session_end_programs(the_kernel->session);
  kernel_signal_programs(SIGTERM);
  signal(number, SIG_DFL);
  raise(number);
}

static void handle(int number, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  sigaction(number, &action, NULL);
}

// From the first socket on, which may be a file, until somebody removes it, signals that end the kernel wait.
static void hold_ends(sigset_t *before) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &ends, before);
}

static void handle_signals(void) {
  handle(SIGINT, on_interrupt, SA_RESTART);
  handle(SIGURG, on_attention, SA_RESTART);
  handle(SIGTERM, on_end, SA_RESTART);
  handle(SIGHUP, on_end, SA_RESTART);
  handle(SIGPIPE, on_broken_pipe, SA_RESTART);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers report better
  static char stack[1 << 16];
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&own, NULL);
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
    handle(crashes[i], on_crash, SA_ONSTACK | (int)SA_RESETHAND);
#else
  (void)on_crash;
#endif
}

// ---- evaluating ----

static void evaluate(Kernel *k) {
  for (Job *job; (job = queue_next(k)) != NULL;) request_evaluate(k, job);
  Session *session = kernel_take_session(k);  // an interrupt may still come
  session_end_programs(session);
  session_free(session);
  kernel_note_closed(k);
}

// A cell called os.exit: what was said so far still goes out, and programs are ended.
static void on_exit_called(void) {
  Kernel *k = the_kernel;
  if (!pthread_equal(pthread_self(), k->evaluator)) return;
  kernel_take_session(k);  // its state may be closed
  kernel_note_closed(k);
  kernel_stop(k);
  for (;;) pause();
}

// ---- starting ----

static bool start_session(Kernel *k, char *reason, size_t size) {
  Sink sink = kernel_sink(k);
  sink.visit = request_visit;
  sink.paused = kernel_paused;
  if (!(k->session = session_new(&sink, reason, size))) return false;
  session_set_display(k->session, false, true, 100);
  return true;
}

static bool start_thread(pthread_t *thread, void *(*run)(void *), Kernel *k) {
  // Signals are for the thread that evaluates.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool ok = pthread_create(thread, NULL, run, k) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return ok;
}

int kernel_run(const char *connection_file) {
  char reason[1024];
  const char *parent = getenv("JPY_PARENT_PID");
  pthread_t control;
  Kernel *k = the_kernel = calloc(1, sizeof *k);
  if (!k || sodium_init() < 0) {
    fprintf(stderr, "nablua-kernel: out of memory\n");
    return 1;
  }
  if (parent && atoi(parent) == getppid() && getppid() != 1) k->parent = getppid();
  json_object_seed(0);
  k->evaluator = pthread_self();
  k->quit = event_new();
  k->answered = event_new();
  k->replied = event_new();
  pthread_mutex_init(&k->lock, NULL);
  pthread_cond_init(&k->changed, NULL);
  sigset_t before;
  hold_ends(&before);
  if (!connection_open(&k->connection, connection_file, reason, sizeof reason)) {
    fprintf(stderr, "nablua-kernel: %s\n", reason);
    return 1;
  }
  k->wire = wire_new(k->connection.key);
  if (!(k->outbox = outbox_new(k->wire))) {
    fprintf(stderr, "nablua-kernel: cannot take over standard output and error\n");
    return 1;
  }
  session_trace_to(kernel_log_descriptor());  // what is written to the streams becomes messages, of which it tells
  if (!kernel_open_input(k)) kernel_log("standard input cannot be the client");
  if (!start_session(k, reason, sizeof reason)) {
    kernel_log("%s", reason);
    return 1;
  }
  handle_signals();
  if (!start_thread(&k->io, io_thread, k) || !start_thread(&k->heartbeat, heartbeat_thread, k) ||
      !start_thread(&control, control_thread, k)) {
    kernel_log("cannot start a thread");
    _exit(1);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (k->connection.registration_port && !connection_register(&k->connection, k->wire, reason, sizeof reason)) {
    kernel_log("%s", reason);
    _exit(1);
  }
  atexit(on_exit_called);
  evaluate(k);
  for (;;) pause();  // the control thread ends the process
}
