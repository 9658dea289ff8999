// SPDX-License-Identifier: MIT
// Batches of matrices as LAPACK wants them.
#include "matrices.h"

#include <stdio.h>
#include <string.h>

bool nb_matrices(const Layout *x, Matrices *m, Error *err) {
  enum { LARGEST = 46340 };  // whose square a 32-bit number holds
  char text[NB_SHAPE_TEXT];
  if (x->ndim < 2)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs a matrix or a batch of them, got shape %s", nb_shape_text(x, text));
  int64_t rows = x->shape[x->ndim - 2], columns = x->shape[x->ndim - 1];
  if (rows > LARGEST || columns > LARGEST)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a matrix may have %d rows and columns at most, got shape %s", LARGEST,
                   nb_shape_text(x, text));
  *m = (Matrices){1, (int)rows, (int)columns};
  for (int d = 0; d < x->ndim - 2; d++) m->batch *= x->shape[d];
  return true;
}

bool nb_square(const Layout *x, Matrices *m, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (!nb_matrices(x, m, err)) return false;
  return m->rows == m->columns ||
         nb_fail(err, NB_ERROR_ARGUMENT, "needs square matrices, got shape %s", nb_shape_text(x, text));
}

DType nb_linalg_dtype(const Layout *x) {
  return nb_dtype_promote(x->dtype, NB_F32);
}

Layout nb_with_matrices(const Layout *x, int64_t a, int64_t b) {
  Layout l = *x;
  l.dtype = nb_linalg_dtype(x);
  l.shape[l.ndim - 2] = a;
  l.shape[l.ndim - 1] = b;
  return l;
}

void *nb_matrix(const Tensor *t, const Matrices *m, int64_t i) {
  return (char *)nb_tensor_data(t) + (size_t)(i * m->rows * m->columns) * nb_dtype_size(t->layout.dtype);
}

void *nb_scratch(Scope *s, size_t bytes) {
  Layout l = {.dtype = NB_U8, .ndim = 1, .shape = {(int64_t)bytes}};
  Tensor *t = nb_scope_own(s, nb_tensor_new(&l, s->err));
  return t ? nb_tensor_data(t) : NULL;
}

int nb_work_size(const void *answer, DType dtype) {
  float single;
  double number;
  memcpy(&single, answer, sizeof single);
  memcpy(&number, answer, sizeof number);
  // The answer is a float for matrices of floats: above 2^24 it may have been rounded below the size that is needed.
  int size = dtype == NB_F32 ? (int)((double)single * 1.0000002) : (int)number;
  return size < 1 ? 1 : size;
}

Tensor *nb_rows_of(Scope *s, Tensor *x, DType dtype) {
  if (!x) return NULL;
  return x->layout.dtype == dtype ? nb_unary(s, "clone", x) : nb_contiguous(s, nb_to(s, x, dtype));
}

Tensor *nb_columns_of(Scope *s, Tensor *x, DType dtype) {
  return nb_rows_of(s, nb_transposed(s, x), dtype);
}

Tensor *nb_transposed(Scope *s, Tensor *x) {
  return x ? nb_swap(s, x, x->layout.ndim - 2, x->layout.ndim - 1) : NULL;
}

Tensor *nb_symmetric(Scope *s, Tensor *x) {
  return nb_muln(s, nb_add(s, x, nb_transposed(s, x)), 0.5);
}

Tensor *nb_triangle(Scope *s, Tensor *x, const char *which, int64_t k) {
  return x ? nb_op(s, which, (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = k}}) : NULL;
}

Tensor *nb_identity(Scope *s, int64_t n, DType dtype) {
  return nb_op(s, "eye", (Value[NB_MAX_PARAMS]){{.integer = n}, {.integer = n}, {.dtype = dtype}});
}

const char *nb_which(const Matrices *m, int64_t i, char text[40]) {
  *text = '\0';
  if (m->batch > 1) snprintf(text, 40, " of matrix %lld", (long long)i + 1);
  return text;
}
