// SPDX-License-Identifier: MIT
// The pool: every item is done exactly once, whatever the sizes and the threads; parts repeat; an interrupt ends a job;
// a fork has a pool of its own.  The thread sanitizer looks on.
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nablua/interrupt.h"
#include "nablua/parallel.h"

enum { MOST = 100000 };

typedef struct Count {
  int times[MOST];  // each is written by who has its part
  atomic_int calls;
  atomic_long smallest;
} Count;

static Count count;

static void tick(int64_t begin, int64_t end, void *ctx) {
  Count *c = ctx;
  for (int64_t i = begin; i < end; i++) c->times[i]++;
  atomic_fetch_add(&c->calls, 1);
  long n = (long)(end - begin), least = atomic_load(&c->smallest);
  while (n < least && !atomic_compare_exchange_weak(&c->smallest, &least, n)) {
  }
}

static void reset(void) {
  memset(count.times, 0, sizeof count.times);
  atomic_store(&count.calls, 0);
  atomic_store(&count.smallest, MOST);
}

static void expect_each_once(int64_t n) {
  for (int64_t i = 0; i < MOST; i++)
    if (count.times[i] != (i < n)) fail_msg("item %d of %d was done %d times", (int)i, (int)n, count.times[i]);
}

static void test_every_item_is_done_once(void **state) {
  static const int64_t sizes[] = {0, 1, 2, 7, 64, 1000, 4097, MOST}, grains[] = {0, 1, 3, 64, 1000, MOST};
  static const int threads[] = {1, 2, 3, 4, 7};
  (void)state;
  for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
    assert_true(nb_set_threads(threads[t]));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
      for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
        reset();
        nb_parallel_for(sizes[s], grains[g], tick, &count);
        expect_each_once(sizes[s]);
      }
  }
}

static void test_parts_are_no_smaller_than_the_grain(void **state) {
  (void)state;
  assert_true(nb_set_threads(4));
  reset();
  nb_parallel_for(10000, 1500, tick, &count);
  expect_each_once(10000);
  // What is left at the end of a part may be less; a whole part may not.
  assert_in_range(atomic_load(&count.calls), 1, 8);
}

// Job after job without a pause between them: one that begins late must not take part in the next.
static void test_many_short_jobs_do_not_meet(void **state) {
  (void)state;
  for (int i = 0; i < 3000; i++) {
    assert_true(nb_set_threads(1 + i % 5));
    int64_t n = 1 + i * 7 % 500;
    reset();
    nb_parallel_for(n, 1 + i % 3, tick, &count);
    for (int64_t k = 0; k < n; k++)
      if (count.times[k] != 1) fail_msg("job %d: item %d was done %d times", i, (int)k, count.times[k]);
    assert_int_equal(count.times[n], 0);
  }
}

static void add_up(int64_t begin, int64_t end, void *ctx) {
  float sum = 0, *sums = ctx;
  for (int64_t i = begin; i < end; i++) sum += 1.0f / (float)(i + 1);
  sums[begin] = sum;
}

static void test_parts_depend_on_the_sizes_alone(void **state) {
  static float first[5000], again[5000];
  (void)state;
  assert_true(nb_set_threads(3));
  nb_parallel_for(5000, 16, add_up, first);
  for (int i = 0; i < 50; i++) {
    memset(again, 0, sizeof again);
    nb_parallel_for(5000, 16, add_up, again);
    assert_memory_equal(first, again, sizeof first);
  }
}

static void interrupt_first(int64_t begin, int64_t end, void *ctx) {
  (void)begin, (void)end;
  if (atomic_fetch_add((atomic_int *)ctx, 1) == 0) nb_interrupt();
}

static void test_an_interrupt_skips_what_is_left(void **state) {
  atomic_int calls = 0;
  (void)state;
  assert_true(nb_set_threads(2));
  nb_parallel_for(1 << 20, 1, interrupt_first, &calls);
  assert_true(nb_interrupted());
  assert_true(atomic_load(&calls) >= 1);
  assert_true(atomic_load(&calls) < 1 << 12);
  nb_interrupt_clear();
  reset();
  nb_parallel_for(MOST, 1, tick, &count);
  expect_each_once(MOST);
}

static void test_a_number_of_threads_outside_the_range_is_refused(void **state) {
  (void)state;
  assert_true(nb_set_threads(2));
  assert_false(nb_set_threads(0));
  assert_false(nb_set_threads(-1));
  assert_false(nb_set_threads(257));
  assert_int_equal(nb_threads(), 2);
}

// Where the parent's threads were when it forked, at the lock or asleep, must not matter.
static void test_a_child_process_has_threads_of_its_own(void **state) {
  (void)state;
  assert_true(nb_set_threads(4));
  for (int i = 0; i < 40; i++) {
    nb_parallel_for(MOST, 1, tick, &count);
    if (i % 2) usleep(3000);
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      reset();
      nb_parallel_for(MOST, 1, tick, &count);
      for (int k = 0; k < MOST; k++)
        if (count.times[k] != 1) _exit(1);
      _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("child %d did not finish: status %d", i, status);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_item_is_done_once),
      cmocka_unit_test(test_parts_are_no_smaller_than_the_grain),
      cmocka_unit_test(test_many_short_jobs_do_not_meet),
      cmocka_unit_test(test_parts_depend_on_the_sizes_alone),
      cmocka_unit_test(test_an_interrupt_skips_what_is_left),
      cmocka_unit_test(test_a_number_of_threads_outside_the_range_is_refused),
      cmocka_unit_test(test_a_child_process_has_threads_of_its_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
