// SPDX-License-Identifier: MIT
// Whoever looks at the pipes of the kernel's output holds its lock: every call of poll() and read() is watched.
#include <cmocka.h>
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "outbox.h"

static _Thread_local int held;
static int looks, unlocked;

// In place of the C library's, which they call.
int pthread_mutex_lock(pthread_mutex_t *m) {
  static int (*real)(pthread_mutex_t *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
  held++;
  return real(m);
}

int pthread_mutex_unlock(pthread_mutex_t *m) {
  static int (*real)(pthread_mutex_t *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
  held--;
  return real(m);
}

int poll(struct pollfd *fds, nfds_t count, int timeout) {
  static int (*real)(struct pollfd *, nfds_t, int);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "poll");
  looks++;
  unlocked += held == 0;
  return real(fds, count, timeout);
}

// The kernel's output takes the place of this process's, so that it lives in a child.
static int in_child(void) {
  zmq_msg_t header;
  zmq_msg_init(&header);
  Wire *wire = wire_new("key");
  Outbox *o = outbox_new(wire);
  if (!o) return 2;
  outbox_expect_programs(o);
  int before = looks;
  Frames f = {0};
  void (*const calls[])(Outbox *) = {outbox_flush, outbox_collect, outbox_end};
  outbox_begin(o, &header, false);
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    int seen = looks;
    calls[i](o);
    if (looks == seen) return 3;
  }
  outbox_post(o, IOPUB, &f);
  return looks > before && unlocked == 0 ? 0 : 1;
}

static void the_pipes_are_read_under_the_lock(void **state) {
  int status = -1;
  (void)state;
  pid_t child = fork();
  if (child == 0) _exit(in_child());
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_pipes_are_read_under_the_lock)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
