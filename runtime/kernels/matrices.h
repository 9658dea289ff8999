// SPDX-License-Identifier: MIT
// What the rows of linear algebra share: batches of matrices and how LAPACK wants them.
#ifndef NABLUA_MATRICES_H
#define NABLUA_MATRICES_H

#include "lapack.h"
#include "loops.h"

// Sizes of a batch of matrices, the last two dimensions.
typedef struct Matrices {
  int64_t batch;
  int rows, columns;
} Matrices;

// False with a sentence when x has no matrices, or ones that LAPACK's 32-bit sizes cannot tell.
bool nb_matrices(const Layout *x, Matrices *m, Error *err);

// The same for square ones.
bool nb_square(const Layout *x, Matrices *m, Error *err);

// The dtype that linear algebra on x computes in: x's, or f32 for whole numbers.
DType nb_linalg_dtype(const Layout *x);

// x's layout with a×b in place of its matrices, in that dtype.
Layout nb_with_matrices(const Layout *x, int64_t a, int64_t b);

// Matrix i of a contiguous batch.
void *nb_matrix(const Tensor *t, const Matrices *m, int64_t i);

// Memory that belongs to the scope.
void *nb_scratch(Scope *s, size_t bytes);

// The length of a work array as LAPACK answers it, in its own kind of number.
int nb_work_size(const void *answer, DType dtype);

// A fresh contiguous copy in `dtype`, and one of each matrix's transpose, which is x column by column.
Tensor *nb_rows_of(Scope *s, Tensor *x, DType dtype);
Tensor *nb_columns_of(Scope *s, Tensor *x, DType dtype);

// xᵀ of each matrix, and (x + xᵀ)/2.
Tensor *nb_transposed(Scope *s, Tensor *x);
Tensor *nb_symmetric(Scope *s, Tensor *x);

// tril or triu of each matrix.
Tensor *nb_triangle(Scope *s, Tensor *x, const char *which, int64_t k);

// The identity, n×n.
Tensor *nb_identity(Scope *s, int64_t n, DType dtype);

// " of matrix 3", for batches of several; "" else.
const char *nb_which(const Matrices *m, int64_t i, char text[40]);

#endif
