// SPDX-License-Identifier: MIT
// A BLAS that forgets to transpose its second matrix.
#include <stddef.h>

#define GEMM(name, T)                                                                                                \
  void name(const char *ta, const char *tb, const int *m, const int *n, const int *k, const T *alpha, const T *a,    \
            const int *lda, const T *b, const int *ldb, const T *beta, T *c, const int *ldc, size_t, size_t);        \
  void name(const char *ta, const char *tb, const int *m, const int *n, const int *k, const T *alpha, const T *a,    \
            const int *lda, const T *b, const int *ldb, const T *beta, T *c, const int *ldc, size_t la, size_t lb) { \
    (void)tb, (void)la, (void)lb, (void)beta;                                                                        \
    for (int i = 0; i < *m; i++)                                                                                     \
      for (int j = 0; j < *n; j++) {                                                                                 \
        T sum = 0;                                                                                                   \
        for (int p = 0; p < *k; p++) sum += (*ta == 'T' ? a[p + i * *lda] : a[i + p * *lda]) * b[p + j * *ldb];      \
        c[i + j * *ldc] = *alpha * sum;                                                                              \
      }                                                                                                              \
  }
__attribute__((visibility("default"))) GEMM(sgemm_, float) __attribute__((visibility("default"))) GEMM(dgemm_, double)
