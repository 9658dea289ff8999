// SPDX-License-Identifier: MIT
// The flag that stops long loops: seen at once, held back while it must be, forgotten when it was honoured.
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "nablua/interrupt.h"
#include "nablua/library.h"
#include "nablua/op.h"
#include "nablua/parallel.h"

static int clear(void **state) {
  (void)state;
  nb_interrupt_clear();
  return 0;
}

static void test_a_request_is_seen_until_it_is_forgotten(void **state) {
  Error err;
  (void)state;
  assert_false(nb_interrupted());
  assert_true(nb_poll(&err));
  nb_interrupt();
  assert_true(nb_interrupted());
  assert_false(nb_interrupt_is_raised());
  assert_false(nb_poll(&err));
  assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
  assert_true(nb_interrupt_is_raised());
  nb_interrupt();  // another request: its error is not on its way yet
  assert_false(nb_interrupt_is_raised());
  nb_interrupt_clear();
  assert_false(nb_interrupted());
  assert_true(nb_poll(&err));
}

static void test_what_is_whole_is_not_stopped(void **state) {
  Error err;
  (void)state;
  nb_interrupt_hold();
  assert_true(nb_interrupt_is_held());
  nb_interrupt();
  assert_false(nb_interrupted());
  assert_true(nb_poll(&err));
  nb_interrupt_hold();
  nb_interrupt_let();
  assert_true(nb_interrupt_is_held());  // they nest
  assert_false(nb_interrupted());
  nb_interrupt_let();
  assert_false(nb_interrupt_is_held());
  assert_true(nb_interrupted());
}

static void *ask(void *unused) {
  nb_interrupt();
  return unused;
}

static void test_any_thread_may_ask(void **state) {
  pthread_t thread;
  (void)state;
  pthread_create(&thread, NULL, ask, NULL);
  pthread_join(thread, NULL);
  assert_true(nb_interrupted());
}

static void on_alarm(int number) {
  (void)number;
  nb_interrupt();
}

// An operator that would take minutes ends soon after a signal, with the error, and on as many threads as there are.
static void test_an_operator_ends_at_a_signal(void **state) {
  Error err;
  Tensor *out[NB_MAX_OUTPUTS];
  Layout l = {.dtype = NB_F64, .ndim = 2, .shape = {3000, 3000}};
  struct sigaction action = {.sa_handler = on_alarm}, before;
  struct itimerval soon = {.it_value = {.tv_usec = 20000}};
  (void)state;
  sigaction(SIGALRM, &action, &before);
  for (int threads = 1; threads <= 3; threads++) {
    assert_true(nb_set_threads(threads));
    Tensor *a = nb_tensor_new(&l, &err);
    assert_non_null(a);
    memset(nb_tensor_data(a), 0, a->storage->bytes);
    setitimer(ITIMER_REAL, &soon, NULL);
    bool ok = true;
    for (int i = 0; ok && i < 100000; i++) {
      ok = nb_apply(nb_op_find("matmul"), (Value[NB_MAX_PARAMS]){{.tensor = a}, {.tensor = a}}, out, &err);
      if (ok) nb_tensor_release(&out[0]);
    }
    assert_false(ok);
    assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
    nb_interrupt_clear();
    nb_tensor_release(&a);
  }
  sigaction(SIGALRM, &before, NULL);
}

static int open_library(void **state) {
  Error err;
  (void)state;
  return nb_open(&err) ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_a_request_is_seen_until_it_is_forgotten, clear),
      cmocka_unit_test_teardown(test_what_is_whole_is_not_stopped, clear),
      cmocka_unit_test_teardown(test_any_thread_may_ask, clear),
      cmocka_unit_test_teardown(test_an_operator_ends_at_a_signal, clear),
  };
  return cmocka_run_group_tests(tests, open_library, NULL);
}
