// SPDX-License-Identifier: MIT
// A BLAS for large matrix products: only one that computes right, and only where it is quicker than our own tiles.
//
// By itself it is looked for on machines without AVX2, when the first large product comes.  NABLUA_BLAS names a library
// to try on any machine, or says "off".
#ifndef NABLUA_BLAS_H
#define NABLUA_BLAS_H

#include "gemm.h"

// Fortran's sgemm and dgemm: all arguments by address, column-major, the lengths of strings at the end.
typedef void BlasGemm(const char *ta, const char *tb, const int *m, const int *n, const int *k, const void *alpha,
                      const void *a, const int *lda, const void *b, const int *ldb, const void *beta, void *c,
                      const int *ldc, size_t, size_t);
typedef struct Blas {
  BlasGemm *gemm[2];  // f32, f64
} Blas;

// Loads a library without threads of its own; NULL where there is none.
void *nb_blas_load(const char *name);

// Finds its products and tests them; false with a sentence when one is wrong or missing.
bool nb_blas_open(const char *name, Blas *into, Error *err);

// Large products go to this one from now on; NULL: to our own tiles.
void nb_blas_use(const Blas *b);

// Whether products of this size go to a BLAS, which has 32 bits for each; the first that could decides for all.
bool nb_blas_serves(int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, int64_t ldc);

// From now on products are asked for here first.
void nb_blas_offer(void);

#endif
