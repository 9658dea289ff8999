// SPDX-License-Identifier: MIT
// Sums of several vectors against one number after the other, of all lengths, in a process for each instruction set.
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu.h"
#include "nablua/addup.h"

enum { MOST = 150, TERMS = 5 };

// Each number is that of an addition in the order of the terms, rounded once; the first term is written over.
static void test_f32(void **state) {
  (void)state;
  for (int n = 0; n <= MOST; n++) {
    float x[TERMS][MOST + 1], want[MOST + 1];
    const void *term[TERMS];
    for (int terms = 1; terms <= TERMS; terms++) {
      for (int q = 0; q < terms; q++) {
        term[q] = x[q];
        for (int i = 0; i <= MOST; i++) x[q][i] = (float)(sin(i * 7 + q + n) * pow(10, (i + q) % 5));
      }
      for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int q = 0; q < terms; q++) sum += (double)x[q][i];
        want[i] = (float)(sum / terms);
      }
      want[n] = x[0][n];  // what is behind stays
      nb_add_up(NB_F32, term, terms, 1.0 / terms, x[0], n);
      for (int i = 0; i <= n; i++)
        if (fabsf(x[0][i] - want[i]) > 1.2e-7f * fabsf(want[i]))
          fail_msg("%d of %d: %g, not %g", i, n, x[0][i], want[i]);
    }
  }
}

static void test_f64(void **state) {
  double a[MOST], b[MOST], to[MOST];
  const void *term[] = {a, b};
  (void)state;
  for (int i = 0; i < MOST; i++) a[i] = 1.0 / (i + 1), b[i] = i * 1e9;
  nb_add_up(NB_F64, term, 2, 2, to, MOST);
  for (int i = 0; i < MOST; i++)
    if (to[i] != 2 * (a[i] + b[i])) fail_msg("%d: %.17g", i, to[i]);
}

int main(void) {
  static const char *const levels[] = {"portable", "avx2", "avx512"};
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_f64)};
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
