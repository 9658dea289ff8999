// SPDX-License-Identifier: MIT
// Matrix products against the plain triple loop in double, in a process for each instruction set.
#define _GNU_SOURCE
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu.h"
#include "gemm.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/parallel.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint32_t seed = 1;

static int64_t random_below(int64_t n) {
  seed = seed * 1664525u + 1013904223u;
  return (int64_t)(seed >> 8) % n;
}

static double random_value(void) {
  return (double)random_below(2001) / 1000 - 1;
}

static double get(DType dtype, const void *data, int64_t i) {
  return dtype == NB_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void set(DType dtype, void *data, int64_t i, double value) {
  if (dtype == NB_F32)
    ((float *)data)[i] = (float)value;
  else
    ((double *)data)[i] = value;
}

// A matrix of its own malloc block, exactly as long as it needs, so that sanitizers see overruns.
typedef struct Matrix {
  DType dtype;
  int64_t rows, columns, ld, length;
  bool transposed;
  void *data;
} Matrix;

static Matrix matrix_new(DType dtype, int64_t rows, int64_t columns, bool transposed, int64_t pad) {
  int64_t outer = transposed ? columns : rows, inner = transposed ? rows : columns;
  Matrix a = {dtype, rows, columns, inner + pad, 0, transposed, NULL};
  a.length = outer > 0 && inner > 0 ? (outer - 1) * a.ld + inner : 0;
  a.data = malloc((size_t)a.length * nb_dtype_size(dtype) + 1);
  assert_non_null(a.data);
  for (int64_t i = 0; i < a.length; i++) set(dtype, a.data, i, random_value());
  return a;
}

static int64_t at(const Matrix *a, int64_t i, int64_t j) {
  return a->transposed ? j * a->ld + i : i * a->ld + j;
}

static GemmMatrix view(const Matrix *a) {
  return (GemmMatrix){a->data, a->ld, a->transposed};
}

// Its elements row by row, as doubles.
static double *plain(const Matrix *a) {
  double *out = malloc((size_t)(a->rows * a->columns) * sizeof *out + 1);
  assert_non_null(out);
  for (int64_t i = 0; i < a->rows; i++)
    for (int64_t j = 0; j < a->columns; j++) out[i * a->columns + j] = get(a->dtype, a->data, at(a, i, j));
  return out;
}

// Sums and what bounds their rounding, by the triple loop.
static void oracle(const Matrix *a, const Matrix *b, double *sum, double *bound) {
  int64_t m = a->rows, n = b->columns, k = a->columns;
  double *x = plain(a), *y = plain(b);
  for (int64_t i = 0; i < m; i++, sum += n, bound += n) {
    for (int64_t j = 0; j < n; j++) sum[j] = bound[j] = 0;
    for (int64_t p = 0; p < k; p++)
      for (int64_t j = 0; j < n; j++) {
        double term = x[i * k + p] * y[p * n + j];
        sum[j] += term;
        bound[j] += fabs(term);
      }
  }
  free(x);
  free(y);
}

// Multiplies with 1 to `threads` threads, every other time with a bias; returns how many of C's elements were wrong, or
// were written between its rows.
static int64_t errors_of_product(const Matrix *a, const Matrix *b, Matrix *c, int threads) {
  Error err = {0};
  int64_t errors = 0, m = a->rows, n = b->columns, k = a->columns;
  double eps = (c->dtype == NB_F32 ? 1.2e-7 : 2.3e-16) * (2 + sqrt((double)k));
  double *sum = malloc((size_t)(m * n) * sizeof *sum + 1), *bound = malloc((size_t)(m * n) * sizeof *bound + 1);
  assert_non_null(sum);
  assert_non_null(bound);
  oracle(a, b, sum, bound);
  Matrix bias = matrix_new(c->dtype, 1, n, false, 0);
  for (int t = 1; t <= threads; t++) {
    bool plus = (t + m + n) % 2;
    assert_true(nb_set_threads(t));
    for (int64_t i = 0; i < c->length; i++) set(c->dtype, c->data, i, 77);
    assert_true(nb_gemm_bias(c->dtype, m, n, k, view(a), view(b), plus ? bias.data : NULL, c->data, c->ld, &err));
    for (int64_t i = 0; i < m; i++) {
      for (int64_t j = 0; j < n; j++) {
        double more = plus ? get(c->dtype, bias.data, j) : 0, want = sum[i * n + j] + more;
        errors += !(fabs(get(c->dtype, c->data, i * c->ld + j) - want) <= eps * (bound[i * n + j] + fabs(more)));
      }
      for (int64_t j = n; n > 0 && j < c->ld && i + 1 < m; j++) errors += get(c->dtype, c->data, i * c->ld + j) != 77;
    }
  }
  free(bias.data);
  free(sum);
  free(bound);
  return errors;
}

static void check(DType dtype, int64_t m, int64_t n, int64_t k, int64_t pad, int threads) {
  for (int t = 0; t < 4; t++) {
    Matrix a = matrix_new(dtype, m, k, t & 1, pad), b = matrix_new(dtype, k, n, t & 2, pad);
    Matrix c = matrix_new(dtype, m, n, false, pad);
    int64_t errors = errors_of_product(&a, &b, &c, threads);
    if (errors)
      fail_msg("%s %lld×%lld×%lld%s%s, pad %lld, up to %d threads: %lld wrong", nb_dtype_name(dtype), (long long)m,
               (long long)n, (long long)k, t & 1 ? ", A transposed" : "", t & 2 ? ", B transposed" : "", (long long)pad,
               threads, (long long)errors);
    free(a.data);
    free(b.data);
    free(c.data);
  }
}

static void check_both(int64_t m, int64_t n, int64_t k, int64_t pad, int threads) {
  check(NB_F32, m, n, k, pad, threads);
  check(NB_F64, m, n, k, pad, threads);
}

static void all_tiny_sizes_are_right(void **state) {
  (void)state;
  for (int64_t m = 0; m <= 13; m++)
    for (int64_t n = 0; n <= 13; n++)
      for (int64_t k = 0; k <= 9; k += 1 + k / 5) check_both(m, n, k, (m + n + k) % 3, 1);
}

// With a bias, and operands with any strides.
static void tiny_products_take_a_bias(void **state) {
  (void)state;
  float x[400], y[400], bias[16], c[65];
  for (size_t i = 0; i < COUNT(x); i++) x[i] = (float)random_value(), y[i] = (float)random_value();
  for (size_t i = 0; i < COUNT(bias); i++) bias[i] = (float)random_value();
  for (int64_t m = 1; m <= 12; m++)
    for (int64_t n = 1; n <= 12; n++)
      for (int64_t k = 0; k <= 12; k++) {
        GemmTiny g = {m, n, k, random_below(20), random_below(3), random_below(20), random_below(9)};
        if (!nb_gemm_is_tiny(m, n, k)) continue;
        for (int with = 0; with < 2; with++) {
          c[m * n] = 5;
          nb_gemm_tiny(&g, x, y, with ? bias : NULL, c);
          assert_true(c[m * n] == 5);
          for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
              double want = with ? (double)bias[j] : 0;
              for (int64_t p = 0; p < k; p++) want += (double)x[i * g.xr + p * g.xk] * (double)y[p * g.yk + j * g.yc];
              assert_true(fabs((double)c[i * n + j] - want) <= 1e-6 * (double)(k + 1));
            }
        }
      }
}

static void sizes_around_the_edges_of_tiles_are_right(void **state) {
  static const int64_t sizes[] = {1, 2, 3, 5, 11, 12, 13, 15, 16, 17, 23, 31, 32, 33, 47, 63, 64, 65};
  (void)state;
  for (size_t i = 0; i < COUNT(sizes); i++)
    for (size_t j = 0; j < COUNT(sizes); j++)
      check_both(sizes[i], sizes[j], sizes[(i * 7 + j * 3) % COUNT(sizes)], 0, 1);
}

static void sizes_around_the_edges_of_blocks_are_right(void **state) {
  static const int64_t sizes[][3] = {{191, 257, 383}, {192, 256, 384}, {193, 255, 385}, {385, 40, 769}, {40, 2050, 30},
                                     {30, 1025, 200}, {500, 9, 400},   {7, 600, 800},   {260, 260, 1},  {1, 700, 900},
                                     {900, 1, 700},   {2, 1030, 500},  {700, 3, 500},   {3, 5, 5000},   {400, 2, 2},
                                     {64, 256, 784},  {784, 256, 64},  {64, 784, 256},  {64, 10, 128},  {128, 10, 64}};
  (void)state;
  for (size_t i = 0; i < COUNT(sizes); i++) check_both(sizes[i][0], sizes[i][1], sizes[i][2], (int64_t)i % 2 * 5, 3);
}

static void random_sizes_are_right(void **state) {
  (void)state;
  for (int i = 0; i < 60; i++)
    check(i & 1 ? NB_F64 : NB_F32, random_below(150), random_below(150), random_below(300), random_below(4), 3);
}

// Zeros of one operand must not hide what is not finite in the other.
static void nan_and_infinity_spread(void **state) {
  static const int64_t sizes[][3] = {{2, 1, 4}, {5, 7, 3}, {40, 33, 50}, {200, 300, 400}, {1, 90, 70}, {90, 1, 70}};
  (void)state;
  for (size_t i = 0; i < COUNT(sizes); i++) {
    int64_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
    for (int t = 0; t < 8; t++) {
      Error err;
      Matrix a = matrix_new(NB_F32, m, k, t & 1, 0), b = matrix_new(NB_F32, k, n, t & 2, 0);
      Matrix c = matrix_new(NB_F32, m, n, false, 0);
      int64_t row = random_below(m), column = random_below(n), p = random_below(k);
      const Matrix *hot = t & 4 ? &a : &b, *cold = t & 4 ? &b : &a;
      memset(cold->data, 0, (size_t)cold->length * sizeof(float));
      set(NB_F32, hot->data, t & 4 ? at(hot, row, p) : at(hot, p, column), INFINITY);
      assert_true(nb_gemm(NB_F32, m, n, k, view(&a), view(&b), c.data, c.ld, &err));
      for (int64_t x = 0; x < m; x++)
        for (int64_t y = 0; y < n; y++) {
          double value = get(NB_F32, c.data, x * c.ld + y);
          if (t & 4 ? x == row : y == column)
            assert_true(isnan(value));
          else
            assert_true(value == 0);
        }
      free(a.data);
      free(b.data);
      free(c.data);
    }
  }
}

static void repeats_bit_for_bit(void **state) {
  (void)state;
  for (int threads = 1; threads <= 3; threads++) {
    Error err;
    Matrix a = matrix_new(NB_F32, 301, 500, false, 0), b = matrix_new(NB_F32, 500, 290, true, 0);
    Matrix c = matrix_new(NB_F32, 301, 290, false, 0), d = matrix_new(NB_F32, 301, 290, false, 0);
    assert_true(nb_set_threads(threads));
    assert_true(nb_gemm(NB_F32, 301, 290, 500, view(&a), view(&b), c.data, 290, &err));
    for (int i = 0; i < 5; i++) {
      assert_true(nb_gemm(NB_F32, 301, 290, 500, view(&a), view(&b), d.data, 290, &err));
      assert_memory_equal(c.data, d.data, 301 * 290 * sizeof(float));
    }
    free(a.data);
    free(b.data);
    free(c.data);
    free(d.data);
  }
}

static void small_products_do_not_allocate_and_large_ones_report_no_memory(void **state) {
  (void)state;
  Error err = {0};
  Matrix a = matrix_new(NB_F64, 400, 400, false, 0), b = matrix_new(NB_F64, 400, 400, true, 0);
  Matrix c = matrix_new(NB_F64, 400, 400, false, 0);
  size_t live = nb_memory_stats().live;
  nb_memory_fail_at(1);
  assert_true(nb_gemm(NB_F64, 32, 32, 32, view(&a), view(&b), c.data, 400, &err));
  assert_false(nb_gemm(NB_F64, 400, 400, 400, view(&a), view(&b), c.data, 400, &err));
  assert_int_equal(err.kind, NB_ERROR_MEMORY);
  nb_memory_fail_at(0);
  assert_int_equal(nb_memory_stats().live, live);
  free(a.data);
  free(b.data);
  free(c.data);
}

// C = and += A·B with B packed for products of few or many rows.
static void packed_operands_give_the_same_products(void **state) {
  (void)state;
  for (int i = 0; i < 200; i++) {
    DType dtype = i % 2 ? NB_F32 : NB_F64;
    int64_t m = i % 3 ? 1 + random_below(40) : 1 + i % 5, n = 1 + random_below(300), k = 1 + random_below(600);
    Matrix a = matrix_new(dtype, m, k, i & 8, i % 4), b = matrix_new(dtype, k, n, i & 2, i % 3);
    Matrix c = matrix_new(dtype, m, n, false, i % 5), want = matrix_new(dtype, m, n, false, 0);
    Error err = {0};
    GemmPacked packed;
    bool add = i & 4;
    double *before = plain(&c);
    assert_true(nb_gemm(dtype, m, n, k, view(&a), view(&b), want.data, n, &err));
    assert_true(nb_gemm_pack(dtype, m, n, k, view(&b), &packed, &err));
    for (int64_t q = 0; q < c.length; q++)
      if (q % c.ld >= n) set(dtype, c.data, q, 77);
    nb_gemm_packed(m, view(&a), &packed, c.data, c.ld, add);
    nb_gemm_unpack(&packed);
    for (int64_t q = 0; q < c.length; q++) {
      double expected = 77;
      if (q % c.ld < n) {
        int64_t at = q / c.ld * n + q % c.ld;
        expected = get(dtype, want.data, at) + (add ? before[at] : 0);
      }
      if (fabs(get(dtype, c.data, q) - expected) > (dtype == NB_F32 ? 1e-4 : 1e-12))
        fail_msg("%s %lld×%lld×%lld, element %lld: %g, expected %g", nb_dtype_name(dtype), (long long)m, (long long)n,
                 (long long)k, (long long)q, get(dtype, c.data, q), expected);
    }
    free(before);
    free(a.data);
    free(b.data);
    free(c.data);
    free(want.data);
  }
}

typedef struct Pile {
  Matrix *a, *b;
  char *c;
  int64_t each;
} Pile;

static void place_of(void *ctx, int64_t i, const void **a, const void **b, void **c) {
  const Pile *p = ctx;
  *a = p->a[i].data;
  *b = p->b[i].data;
  *c = p->c + i * p->each;
}

// A batch is what its products are one by one.
static void batches_give_the_same_products(void **state) {
  enum { COUNT = 7 };
  (void)state;
  for (int i = 0; i < 200; i++) {
    DType dtype = i % 2 ? NB_F32 : NB_F64;
    int64_t most = i % 5 ? 40 : 300, m = 1 + random_below(most), n = 1 + random_below(most), k = 1 + random_below(most);
    if (i % 7 == 0) m = n = 2, k = 3;
    Matrix a[COUNT], b[COUNT], want = matrix_new(dtype, m, n, false, 0), c = matrix_new(dtype, COUNT * m, n, false, 0);
    Error err = {0};
    for (int j = 0; j < COUNT; j++) {
      a[j] = matrix_new(dtype, m, k, i & 2, i % 3);
      b[j] = matrix_new(dtype, k, n, i & 4, i % 4);
    }
    Pile p = {a, b, c.data, m * n * (int64_t)nb_dtype_size(dtype)};
    assert_true(nb_gemm_batch(dtype, m, n, k, view(&a[0]), view(&b[0]), COUNT, place_of, &p, &err));
    for (int j = 0; j < COUNT; j++) {
      assert_true(nb_gemm(dtype, m, n, k, view(&a[j]), view(&b[j]), want.data, n, &err));
      for (int64_t q = 0; q < m * n; q++) {
        double expected = get(dtype, want.data, q), got = get(dtype, c.data, j * m * n + q);
        assert_true(fabs(got - expected) <= 1e-5 * (double)k);
      }
    }
    for (int j = 0; j < COUNT; j++) {
      free(a[j].data);
      free(b[j].data);
    }
    free(want.data);
    free(c.data);
  }
}

static void an_interrupt_stops_a_large_product(void **state) {
  (void)state;
  Error err = {0};
  Matrix a = matrix_new(NB_F32, 600, 600, false, 0), b = matrix_new(NB_F32, 600, 600, false, 0);
  Matrix c = matrix_new(NB_F32, 600, 600, false, 0);
  nb_interrupt();
  assert_false(nb_gemm(NB_F32, 600, 600, 600, view(&a), view(&b), c.data, 600, &err));
  assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
  nb_interrupt_clear();
  assert_int_equal(errors_of_product(&a, &b, &c, 2), 0);
  free(a.data);
  free(b.data);
  free(c.data);
}

// While a stop is asked for a product may go on or fail, but never leave C unfinished and say it is done.
static void an_interrupted_product_is_complete_or_fails(void **state) {
  static const int64_t sizes[] = {1, 2, 5, 12, 40, 90};
  (void)state;
  for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes) * COUNT(sizes) * 4; i++) {
    Error err = {0};
    int64_t m = sizes[i / 4 % 6], n = sizes[i / 24 % 6], k = sizes[i / 144];
    Matrix a = matrix_new(NB_F32, m, k, i & 1, 0), b = matrix_new(NB_F32, k, n, i & 2, 0);
    Matrix c = matrix_new(NB_F32, m, n, false, 0);
    for (int64_t q = 0; q < c.length; q++) set(NB_F32, c.data, q, 7777);
    nb_interrupt();
    bool done = nb_gemm(NB_F32, m, n, k, view(&a), view(&b), c.data, n, &err);
    nb_interrupt_clear();
    for (int64_t q = 0; done && q < c.length; q++) assert_true(get(NB_F32, c.data, q) < 1000);
    assert_true(done || err.kind == NB_ERROR_INTERRUPT);
    free(a.data);
    free(b.data);
    free(c.data);
  }
}

static int run_level(CpuLevel level) {
  static const char *const names[CPU_LEVELS] = {"portable", "avx2", "avx512"};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_tiny_sizes_are_right),
      cmocka_unit_test(tiny_products_take_a_bias),
      cmocka_unit_test(sizes_around_the_edges_of_tiles_are_right),
      cmocka_unit_test(sizes_around_the_edges_of_blocks_are_right),
      cmocka_unit_test(random_sizes_are_right),
      cmocka_unit_test(nan_and_infinity_spread),
      cmocka_unit_test(repeats_bit_for_bit),
      cmocka_unit_test(small_products_do_not_allocate_and_large_ones_report_no_memory),
      cmocka_unit_test(packed_operands_give_the_same_products),
      cmocka_unit_test(batches_give_the_same_products),
      cmocka_unit_test(an_interrupt_stops_a_large_product),
      cmocka_unit_test(an_interrupted_product_is_complete_or_fails),
  };
  nb_cpu_limit(level);
  return cmocka_run_group_tests_name(names[level], tests, NULL, NULL);
}

// The level is looked up once in a process: a child for each.  What this machine lacks falls back
// to what it has.
int main(void) {
  int failed = 0;
  setenv("NABLUA_BLAS", "off", 1);
  for (size_t i = 0; i < CPU_LEVELS; i++) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) exit(run_level((CpuLevel)i) ? 1 : 0);
    failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
  }
  return failed != 0;
}
