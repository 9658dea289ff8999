// SPDX-License-Identifier: MIT
// A BLAS is used when it computes right; else there is a sentence, and our own products.
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blas.h"
#include "gemm.h"
#include "nablua/parallel.h"

static double *fresh(int64_t count) {
  double *data = malloc((size_t)count * sizeof *data);
  assert_non_null(data);
  for (int64_t i = 0; i < count; i++) data[i] = (double)rand() / RAND_MAX - 0.5;
  return data;
}

// Whether nb_gemm of these sizes, with rows `pad` longer than they need be, gives the sums of their terms.
static bool is_right(int64_t m, int64_t n, int64_t k, int64_t pad, bool ta, bool tb) {
  Error err;
  int64_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
  double *a = fresh((ta ? k : m) * lda), *b = fresh((tb ? n : k) * ldb), *c = fresh(m * ldc), *bias = fresh(n);
  double outside = pad ? c[n] : 0;
  assert_true(nb_gemm_bias(NB_F64, m, n, k, (GemmMatrix){a, lda, ta}, (GemmMatrix){b, ldb, tb}, bias, c, ldc, &err));
  bool right = !pad || c[n] == outside;
  for (int64_t i = 0; i < m; i += 7)
    for (int64_t j = 0; j < n; j += 5) {
      double sum = bias[j];
      for (int64_t p = 0; p < k; p++) sum += a[ta ? p * lda + i : i * lda + p] * b[tb ? j * ldb + p : p * ldb + j];
      right = right && fabs(c[i * ldc + j] - sum) < 1e-12 * (double)k;
    }
  free(a);
  free(b);
  free(c);
  free(bias);
  return right;
}

static void test_a_wrong_one_is_found_out(void **state) {
  (void)state;
  Error err;
  Blas b;
  assert_false(nb_blas_open(WRONG_BLAS, &b, &err));
  assert_non_null(strstr(err.message, "wrong products"));
  assert_false(nb_blas_open("libm.so.6", &b, &err));
  assert_non_null(strstr(err.message, "libm.so.6 is no BLAS"));
  assert_false(nb_blas_open("no-such-library.so", &b, &err));
  assert_non_null(strstr(err.message, "no-such-library.so"));
}

static char said[500];

static void listen(const char *sentence) {
  snprintf(said, sizeof said, "%s", sentence);
}

// Whether it is quicker is this machine's affair; products are right either way.
static void test_one_that_is_named_is_tried_with_the_first_large_product(void **state) {
  (void)state;
  Error err;
  Blas b;
  if (!nb_blas_open("libblas.so.3", &b, &err)) skip();
  // It is chosen once in a process.
  pid_t child = fork();
  if (child == 0) {
    setenv("NABLUA_BLAS", "libblas.so.3", 1);
    nb_on_notice(listen);
    nb_blas_offer();
    exit(is_right(200, 150, 130, 0, false, true) && is_right(150, 203, 130, 3, true, false) && !*said ? 0 : 1);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_a_wrong_one_is_ignored_with_a_sentence(void **state) {
  nb_blas_offer();
  (void)state;
  assert_int_equal(setenv("NABLUA_BLAS", WRONG_BLAS, 1), 0);
  nb_on_notice(listen);
  assert_true(is_right(200, 150, 130, 0, false, true));
  assert_non_null(strstr(said, "NABLUA_BLAS: " WRONG_BLAS " gives wrong products"));
  assert_non_null(strstr(said, "going on without it"));
}

static void test_a_right_one_serves_large_products(void **state) {
  (void)state;
  Error err;
  Blas b;
  if (!nb_blas_open("libblas.so.3", &b, &err)) skip();
  nb_blas_use(&b);
  GemmMatrix any = {NULL, 200, false}, far = {NULL, INT64_C(1) << 31, false};
  assert_true(nb_blas_serves(200, 150, 130, any, any, 150));
  assert_false(nb_blas_serves(20, 15, 13, any, any, 15));
  assert_false(nb_blas_serves(200, 150, 130, any, far, 150));
  for (int threads = 1; threads <= 3; threads++) {
    nb_set_threads(threads);
    for (int form = 0; form < 4; form++) {
      assert_true(is_right(200, 150, 130, 0, form & 1, form & 2));
      assert_true(is_right(150, 203, 130, 3, form & 1, form & 2));
    }
    assert_true(is_right(1, 3000, 1000, 0, false, false));
    assert_true(is_right(3000, 1, 1000, 0, false, false));
  }
  nb_blas_use(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_that_is_named_is_tried_with_the_first_large_product),
                                     cmocka_unit_test(test_a_wrong_one_is_found_out),
                                     cmocka_unit_test(test_a_wrong_one_is_ignored_with_a_sentence),
                                     cmocka_unit_test(test_a_right_one_serves_large_products)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
