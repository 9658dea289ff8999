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

// C (m×n, contiguous rows ldc apart) = A (m×k) · B (k×n), plus a bias: n numbers for each row, or NULL.  C must not
// overlap A or B.  Runs on the library's threads.  False when there is no memory for its packing buffers.
bool nb_gemm_bias(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, const void *bias, void *c,
                  int64_t ldc, Error *err);

// Somebody else's products, asked before our own: blas.c knows whose.
typedef struct GemmLibrary {
  bool (*serves)(int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, int64_t ldc);
  bool (*gemm)(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c, int64_t ldc,
               Error *err);
} GemmLibrary;
void nb_gemm_offer(const GemmLibrary *library);

static inline bool nb_gemm(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c,
                           int64_t ldc, Error *err) {
  return nb_gemm_bias(dtype, m, n, k, a, b, NULL, c, ldc, err);
}

// A product so small that choosing a tile would cost more than it does: C (m×n, contiguous) = X·Y, plus a bias along
// its rows where there is one; all strides count elements.
typedef struct GemmTiny {
  int64_t m, n, k, xr, xk, yk, yc;
} GemmTiny;

bool nb_gemm_is_tiny(int64_t m, int64_t n, int64_t k);
void nb_gemm_tiny(const GemmTiny *g, const float *x, const float *y, const float *bias, float *c);

// Where the matrices of product i lie; called on any of the threads.
typedef void GemmPlace(void *ctx, int64_t i, const void **a, const void **b, void **c);

// `count` products of one kind, of which a and b tell the layout; contiguous C.  The threads take products, so that
// small ones need not be cut.  False when there is no memory for the packing buffers, or after an interrupt.
bool nb_gemm_batch(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, int64_t count,
                   GemmPlace *place, void *ctx, Error *err);

// An operand B (k×n) laid out once for products with many small A.
typedef struct GemmPacked {
  DType dtype;
  int64_t n, k, panel;
  void *data;
  size_t bytes;
} GemmPacked;

// Packs B for products of about m rows; nb_gemm_unpack frees it.
bool nb_gemm_pack(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix b, GemmPacked *to, Error *err);
void nb_gemm_unpack(GemmPacked *b);

// The same into memory of the caller's, nb_gemm_packed_bytes of it, on the calling thread: it allocates nothing.
size_t nb_gemm_packed_bytes(DType dtype, int64_t m, int64_t n, int64_t k);
GemmPacked nb_gemm_pack_at(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix b, void *data);

// C (m×n, rows ldc apart) = or += A·B on the calling thread, for bodies of nb_parallel_for: it allocates nothing, and
// after an interrupt it leaves C as it is.
void nb_gemm_packed(int64_t m, GemmMatrix a, const GemmPacked *b, void *c, int64_t ldc, bool add);

// Products with a Y whose rows lie anywhere, such as the columns of a convolution in the image itself.  Both run on the
// calling thread.  Lanes: what n, or k of the dots, must be a multiple of.
int64_t nb_gemm_lanes(DType dtype);

// C (m×n, rows ldc apart) = X·Y with X (m×k) as nb_gemm_pack_x laid it out in nb_gemm_x_bytes, and row p of Y the n
// numbers at y + at[p].
size_t nb_gemm_x_bytes(DType dtype, int64_t m, int64_t k);
void nb_gemm_pack_x(DType dtype, int64_t m, int64_t k, const void *x, void *to);
void nb_gemm_at(DType dtype, int64_t m, int64_t n, int64_t k, const void *x, const void *y, const int64_t *at, void *c,
                int64_t ldc);

// C (m×4) = Σ over pieces of X·Y': X's rows of k numbers lie xr apart, Y's four rows at y + at[s]; from a piece to the
// next it is xp and yp.
void nb_gemm_dots_at(DType dtype, int64_t m, int64_t pieces, int64_t k, const void *x, int64_t xr, int64_t xp,
                     const void *y, const int64_t at[4], int64_t yp, void *c);

#endif
