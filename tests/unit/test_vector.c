// SPDX-License-Identifier: MIT
// Vector functions against libm in double, over all magnitudes, in a process for each instruction set.
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vector.h"

enum { N = 1000 };

static double logistic(double x) {
  return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double expm1_below(double x) {
  return x > 0 ? 0 : expm1(x);
}

static double softplus(double x) {
  return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double gelu(double x) {
  return isinf(x) ? fmax(x, 0) : 0.5 * x * erfc(-x * sqrt(0.5));
}

static double gelu_slope(double x) {
  return isinf(x) ? x > 0 : 0.5 * erfc(-x * sqrt(0.5)) + x * exp(-x * x / 2) / sqrt(8 * atan(1));
}

// The distance in units of the last place of `want` as f32.
static double ulps(float got, double want) {
  float rounded = (float)want;
  int exponent = 0;
  if (isnan(want)) return isnan(got) ? 0 : 1e9;
  if (got == rounded) return 0;
  if (isinf(rounded) || !isfinite(got)) return 1e9;
  if (want == 0) return fabs((double)got) / ldexp(1, -149);
  frexp(want, &exponent);
  return fabs((double)got - want) / ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

static double off_by(float got, double want) {
  return isnan(want) ? !isnan(got) : fabs((double)got - want);
}

static void test_accuracy(void **state) {
  static const struct {
    VectorMap *map;
    double (*exact)(double);
    double (*distance)(float, double);
    double most;
  } functions[] = {{vector_exp, exp, ulps, 2},
                   {vector_tanh, tanh, ulps, 2},
                   {vector_sigmoid, logistic, ulps, 2},
                   {vector_expm1, expm1_below, ulps, 2},
                   {vector_softplus, softplus, ulps, 4},
                   {vector_gelu, gelu, ulps, 8},
                   {vector_gelu_slope, gelu_slope, off_by, 2e-7}};
  (void)state;
  for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
    double worst = 0;
    for (uint32_t base = 0, runs = 0; runs < 300; base += 14316557u, runs++) {  // 2^32/300 apart
      float x[N], y[N];
      for (int i = 0; i < N; i++) {
        uint32_t bits = base + (uint32_t)i * 14309u;
        memcpy(&x[i], &bits, sizeof bits);
      }
      functions[f].map(N, y, x);
      for (int i = 0; i < N; i++) worst = fmax(worst, functions[f].distance(y[i], functions[f].exact((double)x[i])));
      functions[f].map(N, x, x);  // in place
      for (int i = 0; i < N; i++) assert_memory_equal(&x[i], &y[i], isnan(y[i]) ? 0 : sizeof x[i]);
    }
    if (worst > functions[f].most) print_error("function %zu: off by %g\n", f, worst);
    assert_true(worst <= functions[f].most);
  }
}

static void test_ends(void **state) {
  float x[] = {INFINITY, -INFINITY, NAN, 0, 88.8f, -110, -87.5f}, y[7];
  (void)state;
  vector_exp(7, y, x);
  assert_true(isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 1 && isinf(y[4]) && y[5] == 0 && y[6] > 0);
  vector_tanh(7, y, x);
  assert_true(y[0] == 1 && y[1] == -1 && isnan(y[2]) && y[3] == 0 && y[4] == 1);
  vector_sigmoid(7, y, x);
  assert_true(y[0] == 1 && y[1] == 0 && isnan(y[2]) && y[3] == 0.5f && y[4] == 1);
}

int main(void) {
  static const char *const levels[] = {"portable", "avx2", "avx512"};
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_accuracy), cmocka_unit_test(test_ends)};
  int failed = 0;
  for (size_t i = 0; i < 3; i++) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      setenv("NABLUA_CPU", levels[i], 1);
      exit(cmocka_run_group_tests_name(levels[i], tests, NULL, NULL) ? 1 : 0);
    }
    failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
  }
  return failed != 0;
}
