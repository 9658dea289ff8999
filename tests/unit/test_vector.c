// SPDX-License-Identifier: MIT
// Vector functions against libm in double, over all magnitudes, in a process for each instruction set.
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu.h"
#include "vector.h"

enum { N = 1000 };

static double logistic(double x) {
  return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
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
  } functions[] = {{vector_exp, exp, ulps, 2},          {vector_tanh, tanh, ulps, 2},
                   {vector_sigmoid, logistic, ulps, 2}, {vector_expm1, expm1, ulps, 2},
                   {vector_log, log, ulps, 2},          {vector_log1p, log1p, ulps, 2},
                   {vector_sin, sin, ulps, 2},          {vector_cos, cos, ulps, 2},
                   {vector_erf, erf, ulps, 2},          {vector_softplus, softplus, ulps, 4},
                   {vector_gelu, gelu, ulps, 8},        {vector_gelu_slope, gelu_slope, off_by, 2e-7},
                   {vector_tan, tan, ulps, 0.51},       {vector_atan, atan, ulps, 0.51},
                   {vector_asin, asin, ulps, 0.51},     {vector_acos, acos, ulps, 0.51},
                   {vector_sinh, sinh, ulps, 0.51},     {vector_cosh, cosh, ulps, 0.51}};
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

// Both zeros, both infinities, NaN, the ends of the domains, and the smallest and largest numbers, as libm has them.
static void test_as_libm(void **state) {
  static const struct {
    VectorMap *map;
    double (*exact)(double);
  } functions[] = {{vector_expm1, expm1}, {vector_log, log},   {vector_log1p, log1p}, {vector_sin, sin},
                   {vector_cos, cos},     {vector_erf, erf},   {vector_tan, tan},     {vector_atan, atan},
                   {vector_asin, asin},   {vector_acos, acos}, {vector_sinh, sinh},   {vector_cosh, cosh}};
  const float x[] = {0,      -0.0f,  INFINITY, -INFINITY, NAN,      1,        -1,       -2,     -1e-45f,
                     1e-45f, 1e-39f, -1e-39f,  3.4e38f,   -3.4e38f, 10000.0f, 10001.0f, 88.72f, 88.73f};
  enum { EDGES = sizeof x / sizeof *x };
  (void)state;
  for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
    float y[EDGES];
    functions[f].map(EDGES, y, x);
    for (int i = 0; i < EDGES; i++) {
      double want = functions[f].exact((double)x[i]);
      if (!isnan(want) && !signbit(want) != !signbit(y[i])) fail_msg("function %zu: the sign of %g", f, (double)x[i]);
      if (ulps(y[i], want) > 2) fail_msg("function %zu of %g is %g", f, (double)x[i], (double)y[i]);
    }
  }
}

// Angles near multiples of π/2, where hardly a digit is left after the reduction.
static void test_angles(void **state) {
  double quarter = 2 * atan(1);
  (void)state;
  for (int n = 1; n < 7000; n++) {
    float x[3] = {0, (float)(n * quarter), 0}, s[3], c[3];
    x[0] = nextafterf(x[1], 0);
    x[2] = nextafterf(x[1], INFINITY);
    vector_sin(3, s, x);
    vector_cos(3, c, x);
    for (int i = 0; i < 3; i++)
      if (ulps(s[i], sin((double)x[i])) > 2 || ulps(c[i], cos((double)x[i])) > 2) fail_msg("of %a", (double)x[i]);
  }
}

// Powers of all magnitudes, of numbers and of infinities, zeros and negative numbers, one power for all or one for
// each.
static void test_powers(void **state) {
  static const float ends[] = {0,        -0.0f,     1,   -1,     2,       -2,        0.5f, 3,
                               INFINITY, -INFINITY, NAN, 1e-40f, 3.4e38f, 0x1p-126f, -8.5f};
  enum { ENDS = sizeof ends / sizeof *ends };
  float x[N], y[N], all[N], one[N];
  (void)state;
  for (int run = 0; run < 60; run++) {
    for (int i = 0; i < N; i++) {
      x[i] = (float)exp(sin(run * 37 + i * 7) * (run % 2 ? 88 : 1));
      y[i] = (float)(sin(run * 11 + i * 3) * (run % 3 ? 3 : 100));
      if (run >= 50 && i % 3 == 0) x[i] = ends[(i + run) % ENDS];
      if (run >= 50 && i % 5 == 0) y[i] = ends[(i * 7 + run) % ENDS];
    }
    vector_pow(N, all, x, y, false);
    for (int i = 0; i < N; i++) {
      double want = pow((double)x[i], (double)y[i]);
      if (ulps(all[i], want) > 0.51) fail_msg("%a ^ %a is %a", (double)x[i], (double)y[i], (double)all[i]);
      vector_pow(1, one, x + i, y + i, true);
      assert_true(isnan(want) ? isnan(one[0]) : memcmp(one, all + i, sizeof *one) == 0);
    }
    vector_pow(N, one, x, y + 1, true);
    for (int i = 0; i < N; i++) {
      double want = pow((double)x[i], (double)y[1]);
      if (ulps(one[i], want) > 0.51) fail_msg("%a ^ %a is %a", (double)x[i], (double)y[1], (double)one[i]);
    }
    vector_pow(N, x, x, y, false);
    for (int i = 0; i < N; i++) assert_true(isnan(all[i]) ? isnan(x[i]) : memcmp(x + i, all + i, sizeof *x) == 0);
  }
}

// Rows of a softmax: e^(x − less) with its sum, and the largest element, of all lengths.
static void test_rows(void **state) {
  float x[100] = {0}, y[100], most = -INFINITY;
  (void)state;
  for (int n = 0; n <= 100; n++) {
    double sum = 0, want = 0;
    most = -INFINITY;
    for (int i = 0; i < n; i++) {
      x[i] = (float)sin(i * 7 + n) * 30;
      most = x[i] > most ? x[i] : most;
    }
    assert_true(vector_largest(n, x) == most);
    float total = vector_exp_less(n, y, x, most);
    for (int i = 0; i < n; i++) {
      assert_true(ulps(y[i], exp((double)(x[i] - most))) <= 2);
      sum += (double)y[i];
      want += exp((double)(x[i] - most));
    }
    assert_true(fabs((double)total - sum) <= 1e-6 * sum && fabs(sum - want) <= 1e-6 * want);
  }
  for (int at = 0; at < 100; at += 11) {
    for (int i = 0; i < 100; i++) x[i] = -INFINITY;
    assert_true(vector_largest(100, x) == -INFINITY && vector_exp_less(100, y, x, 0) == 0);
    assert_true(vector_exp_less(100, y, x, INFINITY) == 0);
    x[at] = NAN;
    x[(at + 50) % 100] = 3;
    assert_true(vector_largest(100, x) == 3);
    assert_true(isnan(vector_exp_less(100, y, x, 3)) && isnan(y[at]) && y[(at + 50) % 100] == 1);
  }
}

int main(void) {
  static const char *const levels[] = {"portable", "avx2", "avx512"};
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_accuracy), cmocka_unit_test(test_ends),
                                     cmocka_unit_test(test_as_libm),  cmocka_unit_test(test_angles),
                                     cmocka_unit_test(test_rows),     cmocka_unit_test(test_powers)};
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
