// SPDX-License-Identifier: MIT
// The seam for matrix products: C = A·B, row-major, f32 or f64.
#ifndef NABLUA_GEMM_H
#define NABLUA_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "nablua/tensor.h"

// A matrix in memory: element (i, j) lies at i·ld + j, or at j·ld + i when transposed.
typedef struct GemmMatrix {
  const void *data;
  int64_t ld;
  bool transposed;
} GemmMatrix;

// C (m×n, contiguous rows ldc apart) = A (m×k) · B (k×n).  C must not overlap A or B.
// Runs on the library's threads.  False when there is no memory for its packing buffers.
bool nb_gemm(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c, int64_t ldc,
             Error *err);

#endif
