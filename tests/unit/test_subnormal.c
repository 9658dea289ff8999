// SPDX-License-Identifier: MIT
// Numbers below the least normal one: 0 while a thread flushes, for workers as for the caller, and what IEEE 754 says
// of them before, after and beside.
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "nablua/parallel.h"
#include "subnormal.h"

enum { COUNT = 100000 };

static float halves[COUNT];
static volatile float least = 0x1p-126f;

// Half the least normal number, and from the subnormal 2⁻¹²⁷ its double: 2⁻¹²⁷ and 2⁻¹²⁶ by IEEE 754, else both are 0.
static void halve(int64_t begin, int64_t end, void *ctx) {
  volatile float *below = ctx;
  for (int64_t i = begin; i < end; i++) halves[i] = i % 2 ? least * 0.5f : *below * 2;
}

static void expect(float odd, float even) {
  for (int64_t i = 0; i < COUNT; i++)
    if (halves[i] != (i % 2 ? odd : even)) fail_msg("element %d is %a", (int)i, (double)halves[i]);
}

static void test_workers_flush_as_the_caller_does(void **state) {
  (void)state;
  if (!FLOAT_FLUSHES) skip();
  volatile float below = 0x1p-127f;
  for (int threads = 1; threads <= 4; threads++) {
    assert_true(nb_set_threads(threads));
    nb_parallel_for(COUNT, 100, halve, (void *)(uintptr_t)&below);
    expect(0x1p-127f, 0x1p-126f);
    uint64_t before = flush_begin();
    nb_parallel_for(COUNT, 100, halve, (void *)(uintptr_t)&below);
    float_control_set(before);
    expect(0, 0);
    assert_true(least * 0.5f == 0x1p-127f && fpclassify(least * 0.5f) == FP_SUBNORMAL);
    nb_parallel_for(COUNT, 100, halve, (void *)(uintptr_t)&below);
    expect(0x1p-127f, 0x1p-126f);
  }
}

static void test_what_was_comes_back(void **state) {
  (void)state;
  uint64_t before = float_control(), outer = flush_begin();
  assert_true(outer == before);
  uint64_t inner = flush_begin();
  float_control_set(inner);
  if (FLOAT_FLUSHES) assert_true((float_control() & FLOAT_FLUSHES) == FLOAT_FLUSHES);
  float_control_set(outer);
  assert_true(float_control() == before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_workers_flush_as_the_caller_does),
      cmocka_unit_test(test_what_was_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
