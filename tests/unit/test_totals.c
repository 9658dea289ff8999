// SPDX-License-Identifier: MIT
// Totals of f32 against one term after the other in long double, of all lengths, in a process for each instruction set.
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu.h"
#include "totals.h"

enum { MOST = 300 };

static void expect_near(double got, long double want, long double size, int n) {
  if (fabsl((long double)got - want) > 1e-14L * size) fail_msg("of %d: %.17g, not %.17Lg", n, got, want);
}

static void test_sums(void **state) {
  float x[MOST], y[MOST];
  (void)state;
  for (int n = 0; n <= MOST; n++) {
    long double sum = 0, squares = 0, dot = 0, size = 0, product = 1;
    for (int i = 0; i < n; i++) {
      x[i] = (float)sin(i * 5 + n) * (i % 7 ? 1 : 1000), y[i] = (float)cos(i * 3 + n);
      float u = x[i] - 0.25f, v = y[i] - 0.25f;  // rounded to f32, as a mean that is taken off
      sum += (long double)x[i], squares += (long double)x[i] * (long double)x[i];
      dot += (long double)u * (long double)v;
      size += fabsl((long double)u * (long double)v) + fabsl((long double)x[i]);
    }
    expect_near(total_sum(n, x), sum, size, n);
    expect_near(total_squares(n, x), squares, squares, n);
    expect_near(total_dot(n, x, y, 0.25f), dot, size, n);
    for (int i = 0; i < n; i++) product *= (long double)y[i];
    expect_near(total_product(n, y), product, fabsl(product), n);
  }
}

// 2^100 and −2^−100 as often as one another, and ¾: the powers are exact, in any order.
static void test_products_beyond_the_range(void **state) {
  float x[MOST];
  (void)state;
  for (int n = 1; n + 1 <= MOST; n += 2)
    for (int sorted = 0; sorted < 2; sorted++) {
      int pairs = n / 2, negative = 0;
      for (int i = 0; i < 2 * pairs; i++) {
        bool small = sorted ? i >= pairs : i % 2;
        x[i] = small ? -0x1p-100f : 0x1p100f;
        negative ^= small;
      }
      x[2 * pairs] = 0.75f;
      assert_true(total_product(2 * pairs + 1, x) == (negative ? -0.75 : 0.75));
      x[2 * pairs + 1] = 0;
      double nothing = total_product(2 * pairs + 2, x);
      assert_true(nothing == 0 && !signbit(nothing) == !negative);
      x[2 * pairs + 1] = NAN;
      assert_true(isnan(total_product(2 * pairs + 2, x)));
    }
}

int main(void) {
  static const char *const levels[] = {"portable", "avx2", "avx512"};
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_products_beyond_the_range)};
  int failed = 0;
  for (size_t i = 0; i < 3; i++) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      nb_cpu_limit((CpuLevel)i);
      exit(cmocka_run_group_tests_name(levels[i], tests, NULL, NULL) ? 1 : 0);
    }
    failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
  }
  return failed != 0;
}
