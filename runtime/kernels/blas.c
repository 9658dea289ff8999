// SPDX-License-Identifier: MIT
// Loading a BLAS, testing it, and handing it products.  C = A·B in rows is C' = B'·A' in columns.
#include "blas.h"

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "loops.h"
#include "nablua/clock.h"
#include "nablua/environment.h"
#include "nablua/interrupt.h"
#include "nablua/kernels.h"
#include "nablua/memory.h"

// In multiplications.  LARGE: the least product that is worth somebody else's call, 128×128×128.  SHARE: the least part
// that is worth a thread.  MOST: how many pass before the next look for an interrupt; at the few 10⁹ a second of a
// slow core these are some hundredths of a second.
static const double LARGE = 1 << 21, SHARE = 1 << 19, MOST = 1 << 28;

static enum { UNKNOWN, ABSENT, PRESENT } state;
static Blas blas;
static const char *of;  // whose library it is, where that is known

// OpenBLAS starts its threads when it is loaded, unless the environment says that one is enough; beside our pool they
// would only get in the way.
void *nb_blas_load(const char *name) {
  static const char variable[] = "OPENBLAS_NUM_THREADS";
  bool set = getenv(variable);
  if (!set) setenv(variable, "1", 1);
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!set) unsetenv(variable);
  if (!library) return NULL;
  void *symbol = dlsym(library, "openblas_set_num_threads");
  void (*set_threads)(int);
  memcpy(&set_threads, &symbol, sizeof symbol);
  if (symbol) set_threads(1);
  return library;
}

static void multiply(BlasGemm *gemm, DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c,
                     int64_t ldc) {
  static const float one_f = 1, zero_f = 0;
  static const double one_d = 1, zero_d = 0;
  bool single = dtype == NB_F32;
  int64_t a_row = a.transposed ? m : k, b_row = b.transposed ? k : n;  // a single row may say anything of the next
  int rows = (int)m, columns = (int)n, inner = (int)k, lda = (int)(a.ld < a_row ? a_row : a.ld);
  int ldb = (int)(b.ld < b_row ? b_row : b.ld), to = (int)(ldc < n ? n : ldc);
  gemm(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &columns, &rows, &inner,
       single ? (const void *)&one_f : &one_d, b.data, &ldb, a.data, &lda, single ? (const void *)&zero_f : &zero_d, c,
       &to, 1, 1);
}

// ---- the test ----

static double element(DType dtype, const void *data, int64_t i) {
  return dtype == NB_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void set(DType dtype, void *data, int64_t i, double value) {
  if (dtype == NB_F32)
    ((float *)data)[i] = (float)value;
  else
    ((double *)data)[i] = value;
}

// All four forms of a product against the sums of their terms; C is full of NaN before.
static bool is_right(BlasGemm *gemm, DType dtype, int64_t m, int64_t n, int64_t k, char *space) {
  char *x = space, *y = x + m * k * 8, *z = y + k * n * 8;
  for (int64_t i = 0; i < m * k; i++) set(dtype, x, i, (double)(i * 37 % 101) / 50 - 1);
  for (int64_t i = 0; i < k * n; i++) set(dtype, y, i, (double)(i * 53 % 97) / 48 - 1);
  for (int form = 0; form < 4; form++) {
    bool ta = form & 1, tb = form & 2;
    for (int64_t i = 0; i < m * n; i++) set(dtype, z, i, (double)NAN);
    multiply(gemm, dtype, m, n, k, (GemmMatrix){x, ta ? m : k, ta}, (GemmMatrix){y, tb ? k : n, tb}, z, n);
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        double sum = 0, bound = 0;
        for (int64_t p = 0; p < k; p++) {
          double term = element(dtype, x, ta ? p * m + i : i * k + p) * element(dtype, y, tb ? j * k + p : p * n + j);
          sum += term;
          bound += fabs(term);
        }
        double far = (dtype == NB_F32 ? 1.2e-7 : 2.3e-16) * (2 + sqrt((double)k)) * bound;
        if (!(fabs(element(dtype, z, i * n + j) - sum) <= far)) return false;
      }
  }
  return true;
}

static bool passes(const char *name, const Blas *b, Error *err) {
  static const int64_t sizes[][3] = {{1, 1, 1}, {1, 7, 5}, {9, 1, 4}, {5, 3, 70}, {17, 33, 65}, {64, 96, 33}};
  size_t bytes = (size_t)3 * 96 * 96 * 8;
  char *space = nb_alloc(bytes, err);
  if (!space) return false;
  bool ok = true;
  for (int i = 0; ok && i < 2 * COUNT(sizes); i++) {
    const int64_t *s = sizes[i / 2];
    DType dtype = i % 2 ? NB_F64 : NB_F32;
    if (!is_right(b->gemm[i % 2], dtype, s[0], s[1], s[2], space))
      ok = nb_fail(err, NB_ERROR_STATE, "%s gives wrong products (%s, %lld×%lld by %lld×%lld)", name,
                   nb_dtype_name(dtype), (long long)s[0], (long long)s[2], (long long)s[2], (long long)s[1]);
  }
  nb_free(space, bytes);
  return ok;
}

bool nb_blas_open(const char *name, Blas *into, Error *err) {
  static const char *const names[] = {"sgemm_", "dgemm_"};
  void *library = nb_blas_load(name);
  if (!library) return nb_fail(err, NB_ERROR_STATE, "%s", dlerror());
  for (int i = 0; i < 2; i++) {
    void *symbol = dlsym(library, names[i]);
    memcpy(&into->gemm[i], &symbol, sizeof symbol);
    if (!symbol) {
      dlclose(library);
      return nb_fail(err, NB_ERROR_STATE, "%s is no BLAS: it has no %s", name, names[i]);
    }
  }
  return passes(name, into, err);
}

// ---- the choice ----

void nb_blas_use(const Blas *b) {
  state = b ? PRESENT : ABSENT;
  of = NULL;
  if (b) blas = *b;
  nb_blas_offer();
}

// Whether it takes clearly less time than our own for a product of middling size.
static bool is_quicker(const Blas *b) {
  enum { SIZE = 160, TIMES = 4 };
  Error ignored;
  double best[2] = {INFINITY, INFINITY};
  size_t bytes = (size_t)3 * SIZE * SIZE * sizeof(float);
  float *x = nb_alloc(bytes, &ignored);
  if (!x) return false;
  for (int i = 0; i < 2 * SIZE * SIZE; i++) x[i] = (float)(i % 7);
  GemmMatrix p = {x, SIZE, false}, q = {x + SIZE * SIZE, SIZE, false};
  for (int i = 0; i < 2 * TIMES; i++) {
    nb_blas_use(i % 2 ? b : NULL);
    double start = nb_clock();
    if (!nb_gemm(NB_F32, SIZE, SIZE, SIZE, p, q, x + 2 * SIZE * SIZE, SIZE, &ignored)) break;
    double took = nb_clock() - start;
    if (took < best[i % 2]) best[i % 2] = took;
  }
  nb_blas_use(NULL);
  nb_free(x, bytes);
  return best[1] < 0.9 * best[0];
}

static void choose(void) {
  static const char *const names[] = {"libopenblas.so.0", "libblas.so.3", "libopenblas.so", "libblas.so"};
  const char *wish = nb_environment("NABLUA_BLAS");
  bool named = wish && *wish;
  nb_blas_use(NULL);  // meanwhile our own serve
  if (named && !strcmp(wish, "off")) return;
  for (int i = 0; i < (named ? 1 : cpu_level() == CPU_PORTABLE ? COUNT(names) : 0); i++) {
    Error err;
    Blas found;
    const char *name = named ? wish : names[i];
    if (!named && !nb_blas_load(name)) continue;
    if (!nb_blas_open(name, &found, &err)) {
      nb_notice("%s%s; going on without it", named ? "NABLUA_BLAS: " : "", err.message);
    } else if (is_quicker(&found)) {
      nb_blas_use(&found);
      of = name;
      return;
    }
  }
}

bool nb_blas_serves(int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, int64_t ldc) {
  if (state == ABSENT || (double)m * (double)n * (double)k < LARGE) return false;
  if (state == UNKNOWN) choose();
  return state == PRESENT && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && a.ld <= INT_MAX && b.ld <= INT_MAX &&
         ldc <= INT_MAX;
}

const char *nb_kernels_way(void) {
  static const char *const levels[CPU_LEVELS] = {"portable", "avx2", "avx512"};
  static char text[160];
  if (state == UNKNOWN) choose();
  const char *whose = state != PRESENT ? "own" : of ? of : "foreign";
  snprintf(text, sizeof text, "%s kernels, %s large products", levels[cpu_level()], whose);
  return text;
}

// ---- products ----

typedef struct Product {
  DType dtype;
  int64_t m, n, k, ldc;
  GemmMatrix a, b;
  char *c;
  bool by_rows;
} Product;

// Rows (or columns) begin..end−1 of C.
static void body(int64_t begin, int64_t end, void *ctx) {
  const Product *j = ctx;
  int64_t size = (int64_t)nb_dtype_size(j->dtype),
          most = (int64_t)(MOST / (double)(j->by_rows ? j->n : j->m) / (double)j->k) + 1;
  for (int64_t i = begin, count; i < end && !nb_interrupted(); i += count) {
    GemmMatrix a = j->a, b = j->b;
    count = end - i < most ? end - i : most;
    if (j->by_rows) {
      a.data = (const char *)a.data + (a.transposed ? i : i * a.ld) * size;
      multiply(blas.gemm[j->dtype != NB_F32], j->dtype, count, j->n, j->k, a, b, j->c + i * j->ldc * size, j->ldc);
    } else {
      b.data = (const char *)b.data + (b.transposed ? i * b.ld : i) * size;
      multiply(blas.gemm[j->dtype != NB_F32], j->dtype, j->m, count, j->k, a, b, j->c + i * size, j->ldc);
    }
  }
}

static bool product(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c, int64_t ldc,
                    Error *err) {
  Product j = {dtype, m, n, k, ldc, a, b, c, m >= n};
  int64_t grain = (int64_t)(SHARE / (double)(m >= n ? n : m) / (double)k) + 1;
  nb_parallel_for(m >= n ? m : n, grain, body, &j);
  return nb_poll(err);
}

void nb_blas_offer(void) {
  static const GemmLibrary library = {nb_blas_serves, product};
  nb_gemm_offer(&library);
}
