// SPDX-License-Identifier: MIT
// Operators: factors of matrices by elimination, and eigenvalues of matrices that are not symmetric.
//
// Gradients: S. Walter, L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in
// optimum experimental design" (2010), with parts of their own where a matrix is not square; of eigenvalues M. Giles,
// "Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008).
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flops.h"
#include "matrices.h"
#include "nablua/interrupt.h"

static Tensor *part(Scope *s, Tensor *x, int dim, int64_t first, int64_t count) {
  if (!x) return NULL;
  return nb_op(s, "narrow",
               (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = dim}, {.integer = first}, {.integer = count}});
}

// ---- lu ----

static bool shape_lu(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_matrices(x, &m, err)) return false;
  int k = m.rows < m.columns ? m.rows : m.columns;
  c->layout[0] = nb_with_matrices(x, m.rows, m.rows);
  c->layout[1] = nb_with_matrices(x, m.rows, k);
  c->layout[2] = nb_with_matrices(x, k, m.columns);
  return true;
}

static void put_one(char *to, DType dtype) {
  const float one = 1;
  const double one_twice = 1;
  memcpy(to, dtype == NB_F32 ? (const void *)&one : &one_twice, nb_dtype_size(dtype));
}

// Matrix i of p from the row that was exchanged with each, counted from 1.
static void put_permutation(Call *c, const Matrices *m, int64_t i, const int *pivots, int count, int *order) {
  DType dtype = c->out[0]->layout.dtype;
  char *to = (char *)nb_tensor_data(c->out[0]) + (size_t)(i * m->rows * m->rows) * nb_dtype_size(dtype);
  memset(to, 0, (size_t)m->rows * (size_t)m->rows * nb_dtype_size(dtype));
  for (int r = 0; r < m->rows; r++) order[r] = r;
  for (int r = 0; r < count; r++) {
    int other = pivots[r] - 1, kept = order[r];
    order[r] = order[other], order[other] = kept;
  }
  for (int r = 0; r < m->rows; r++)
    put_one(to + ((size_t)order[r] * (size_t)m->rows + (size_t)r) * nb_dtype_size(dtype), dtype);
}

// l and u of matrix i from what LAPACK leaves, row by row.
static void put_triangles(Call *c, const Matrices *m, int64_t i, const char *lu) {
  DType dtype = c->out[0]->layout.dtype;
  size_t size = nb_dtype_size(dtype), rows = (size_t)m->rows, columns = (size_t)m->columns;
  size_t k = rows < columns ? rows : columns;
  char *l = (char *)nb_tensor_data(c->out[1]) + (size_t)i * rows * k * size;
  char *u = (char *)nb_tensor_data(c->out[2]) + (size_t)i * k * columns * size;
  memset(l, 0, rows * k * size);
  memset(u, 0, k * columns * size);
  for (size_t r = 0; r < rows; r++) {
    const char *row = lu + r * columns * size;
    memcpy(l + r * k * size, row, (r < k ? r : k) * size);
    if (r >= k) continue;
    put_one(l + (r * k + r) * size, dtype);
    memcpy(u + (r * columns + r) * size, row + r * size, (columns - r) * size);
  }
}

static bool lu_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_matrices(&c->args[0].tensor->layout, &m, err)) return false;
  int rows = m.rows, columns = m.columns, k = rows < columns ? rows : columns, info = 0;
  nb_scope_open(&s, err);
  Tensor *a = nb_columns_of(&s, c->args[0].tensor, dtype);
  int *pivots = nb_scratch(&s, (size_t)(k + 1) * sizeof *pivots);
  int *order = nb_scratch(&s, (size_t)(rows + 1) * sizeof *order);
  if (!a || !pivots || !order) goto done;
  for (int64_t i = 0; i < m.batch; i++) {
    if (k > 0) lapack->getrf(&rows, &columns, nb_matrix(a, &m, i), &rows, pivots, &info);
    put_permutation(c, &m, i, pivots, k, order);
    if (!nb_poll(err)) goto done;
  }
  a = nb_transposed(&s, a);
  if (!(a = a ? nb_contiguous(&s, a) : NULL)) goto done;
  for (int64_t i = 0; k > 0 && i < m.batch; i++) put_triangles(c, &m, i, nb_matrix(a, &m, i));
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

// The solution of a·y = b, or with `left` false of y·a = b, for a triangular a.
static Tensor *solved(Scope *s, Tensor *a, Tensor *b, bool upper, bool left) {
  if (!a || !b) return NULL;
  return nb_op(s, "solve_triangular",
               (Value[NB_MAX_PARAMS]){{.tensor = a}, {.tensor = b}, {.flag = upper}, {.flag = left}});
}

static Tensor *joined(Scope *s, Tensor *a, Tensor *b, int dim) {
  if (!a || !b) return NULL;
  Tensor *parts[] = {a, b};
  return nb_op(s, "cat", (Value[NB_MAX_PARAMS]){{.tensors = {parts, 2}}, {.integer = dim}});
}

// With l₁ and u₁ the square parts and l₂, u₂ what is left of a tall or a wide matrix:
// M = lower(l₁ᵀ·δl₁ − δu₂·u₂ᵀ) + upper(δu₁·u₁ᵀ − l₂ᵀ·δl₂), δx = p·(l₁⁻ᵀ·M·u₁⁻ᵀ, beside l₁⁻ᵀ·δu₂ or above δl₂·u₁⁻ᵀ).
static bool lu_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *p = nb_out(b, 0), *l = nb_out(b, 1), *u = nb_out(b, 2);
  if (!p || !l || !u) return false;
  Tensor *gl = b->grad[1] ? b->grad[1] : nb_full(s, &l->layout, 0);
  Tensor *gu = b->grad[2] ? b->grad[2] : nb_full(s, &u->layout, 0);
  int64_t rows = l->layout.shape[l->layout.ndim - 2], columns = u->layout.shape[u->layout.ndim - 1];
  int64_t k = rows < columns ? rows : columns;
  Layout whole = nb_with_matrices(&p->layout, rows, columns);
  if (nb_layout_numel(&whole) == 0) return nb_give(b, 0, nb_full(s, &whole, 0));
  Tensor *square_l = nb_transposed(s, part(s, l, -2, 1, k)), *square_u = nb_transposed(s, part(s, u, -1, 1, k));
  Tensor *low = nb_matmul(s, square_l, part(s, gl, -2, 1, k)), *high = nb_matmul(s, part(s, gu, -1, 1, k), square_u);
  Tensor *rest_l = rows > k ? part(s, gl, -2, k + 1, rows - k) : NULL;
  Tensor *rest_u = columns > k ? part(s, gu, -1, k + 1, columns - k) : NULL;
  if (rows > k) high = nb_sub(s, high, nb_matmul(s, nb_transposed(s, part(s, l, -2, k + 1, rows - k)), rest_l));
  if (columns > k) low = nb_sub(s, low, nb_matmul(s, rest_u, nb_transposed(s, part(s, u, -1, k + 1, columns - k))));
  Tensor *inner = nb_add(s, nb_triangle(s, low, "tril", -1), nb_triangle(s, high, "triu", 0));
  Tensor *g = solved(s, square_u, solved(s, square_l, inner, true, true), false, false);
  if (rows > k) g = joined(s, g, solved(s, square_u, rest_l, false, false), -2);
  if (columns > k) g = joined(s, g, solved(s, square_l, rest_u, true, true), -1);
  return nb_give(b, 0, nb_matmul(s, p, g));
}

// ---- eig ----

static bool shape_eig(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_square(x, &m, err)) return false;
  c->layout[1] = c->layout[0] = nb_with_matrices(x, m.rows, m.rows);
  c->layout[0].ndim--;
  return true;
}

static bool shape_eigvals(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_square(x, &m, err)) return false;
  c->layout[0] = nb_with_matrices(x, m.rows, 2);
  return true;
}

static bool check_finite(const Tensor *t, Error *err) {
  for (int64_t i = 0, n = nb_layout_numel(&t->layout); i < n; i++)
    if (!isfinite(nb_tensor_get(t, i))) return nb_fail(err, NB_ERROR_ARGUMENT, "the matrix holds NaN or infinity");
  return true;
}

// An eigenvalue, and which LAPACK's it is.
typedef struct Root {
  double re, im;
  int place;
} Root;

static int compare_roots(const void *a, const void *b) {
  const Root *x = a, *y = b;
  if (x->re != y->re) return x->re < y->re ? -1 : 1;
  return x->im != y->im ? (x->im < y->im ? -1 : 1) : x->place - y->place;
}

// What is done with the eigenvalues of matrix i, in ascending order, and its vectors, if there are, each a row.
typedef bool SeeRoots(Call *c, const Matrices *m, int64_t i, const Root *roots, Tensor *vectors, Error *err);

static bool eigenvalues(Call *c, Scope *s, Tensor *vectors, Error *err, SeeRoots *see) {
  Matrices m;
  DType dtype = c->layout[0].dtype;
  size_t size = nb_dtype_size(dtype);
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_square(&c->args[0].tensor->layout, &m, err)) return false;
  int n = m.rows, info = 0, length = -1, one = 1;
  if (n == 0) return true;
  Layout row = {.dtype = dtype, .ndim = 1, .shape = {n}};
  Tensor *a = nb_columns_of(s, c->args[0].tensor, dtype), *real = nb_full(s, &row, 0), *imaginary = nb_full(s, &row, 0);
  Root *roots = nb_scratch(s, (size_t)n * sizeof *roots);
  if (!a || !real || !imaginary || !roots || !check_finite(a, err)) return false;
  double answer = 0;
  const char *wanted = vectors ? "V" : "N";
  char *into = vectors ? nb_tensor_data(vectors) : NULL;
  void *re = nb_tensor_data(real), *im = nb_tensor_data(imaginary);
  lapack->geev("N", wanted, &n, nb_tensor_data(a), &n, re, im, NULL, &one, into, &n, &answer, &length, &info, 1, 1);
  length = nb_work_size(&answer, dtype);
  void *work = nb_scratch(s, (size_t)length * size);
  if (!work) return false;
  for (int64_t i = 0; i < m.batch; i++) {
    char which[40], *to = into ? into + (size_t)(i * n * n) * size : NULL;
    lapack->geev("N", wanted, &n, nb_matrix(a, &m, i), &n, re, im, NULL, &one, to, &n, work, &length, &info, 1, 1);
    if (info != 0) return nb_fail(err, NB_ERROR_ARGUMENT, "the iteration%s did not converge", nb_which(&m, i, which));
    for (int k = 0; k < n; k++) roots[k] = (Root){nb_tensor_get(real, k), nb_tensor_get(imaginary, k), k};
    qsort(roots, (size_t)n, sizeof *roots, compare_roots);
    if (!see(c, &m, i, roots, vectors, err) || !nb_poll(err)) return false;
  }
  return true;
}

static bool put_real(Call *c, const Matrices *m, int64_t i, const Root *roots, Tensor *vectors, Error *err) {
  int n = m->rows;
  for (int k = 0; k < n; k++) {
    char which[40];
    const Root *r = &roots[k];
    if (r->im != 0)
      return nb_fail(err, NB_ERROR_ARGUMENT,
                     "eigenvalue %d%s is %.4g %c %.4gi, and there are no complex numbers; nb.eigvals gives eigenvalues "
                     "in pairs of a real and an imaginary part",
                     k + 1, nb_which(m, i, which), r->re, r->im < 0 ? '-' : '+', fabs(r->im));
    nb_tensor_set(c->out[0], i * n + k, r->re);
    // Either sign would do; that of the largest component is +, so that it is no chance.
    double largest = 0;
    for (int row = 0; row < n; row++) {
      double v = nb_tensor_get(vectors, (i * n + r->place) * n + row);
      if (fabs(v) > fabs(largest)) largest = v;
    }
    for (int row = 0; row < n; row++) {
      double v = nb_tensor_get(vectors, (i * n + r->place) * n + row);
      nb_tensor_set(c->out[1], (i * n + row) * n + k, largest < 0 ? -v : v);
    }
  }
  return true;
}

static bool put_pairs(Call *c, const Matrices *m, int64_t i, const Root *roots, Tensor *vectors, Error *err) {
  (void)vectors, (void)err;
  for (int k = 0; k < m->rows; k++) {
    nb_tensor_set(c->out[0], (i * m->rows + k) * 2, roots[k].re);
    nb_tensor_set(c->out[0], (i * m->rows + k) * 2 + 1, roots[k].im);
  }
  return true;
}

static bool eig_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *v = nb_full(&s, &c->layout[1], 0);
  bool ok = v && eigenvalues(c, &s, v, err, put_real);
  nb_scope_close(&s);
  return ok;
}

static bool eigvals_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  bool ok = eigenvalues(c, &s, NULL, err, put_pairs);
  nb_scope_close(&s);
  return ok;
}

static Tensor *in_columns(Scope *s, Tensor *x, int dim) {
  return x ? nb_op(s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = dim}}) : NULL;
}

// v⁻ᵀ·(diag δl + (vᵀδv − vᵀv·diag(vᵀδv))/(lⱼ − lᵢ))·vᵀ: the vectors have length 1, which takes the second term away.
static bool eig_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *values = nb_out(b, 0), *v = nb_out(b, 1), *inner = NULL;
  if (!values || !v) return false;
  Tensor *one = nb_identity(s, values->layout.shape[values->layout.ndim - 1], values->layout.dtype);
  Tensor *vt = nb_transposed(s, v);
  if (b->grad[0]) inner = nb_mul(s, in_columns(s, b->grad[0], -2), one);
  if (b->grad[1]) {
    Tensor *turn = nb_matmul(s, vt, b->grad[1]);
    turn = nb_sub(s, turn, nb_matmul(s, nb_matmul(s, vt, v), nb_mul(s, turn, one)));
    Tensor *apart = nb_sub(s, in_columns(s, values, -2), in_columns(s, values, -1));
    turn = nb_div(s, nb_sub(s, turn, nb_mul(s, turn, one)), nb_add(s, apart, one));
    inner = inner ? nb_add(s, inner, turn) : turn;
  }
  Tensor *right = nb_matmul(s, inner, vt);
  if (!vt || !right) return false;
  return nb_give(b, 0, nb_op(s, "solve", (Value[NB_MAX_PARAMS]){{.tensor = vt}, {.tensor = right}, {.flag = true}}));
}

static const Op ops[] = {
    {.name = "lu",
     .doc = "p, l, u with x = p·l·u: a permutation, a lower triangular matrix with ones on its diagonal and an upper "
            "triangular one, of any matrices.",
     .example = "local p, l, u = nb.lu(nb.tensor{{0, 2}, {4, 2}}); return l:matmul(u)  --> {{4, 2}, {0, 2}}",
     .derivative = "∂/∂x = p·l⁻ᵀ·(lower(lᵀ·δl) + upper(δu·uᵀ))·u⁻ᵀ",
     .source = "S. Walter, L. Lehmann, Algorithmic differentiation of linear algebra functions, 2010",
     .sample = {.args = "w(3); f(4,2); f(2,4); f(2,3,2); f(2,2,3)"},
     .flops = nb_flops_qr,
     .params = {TENSOR("x")},
     .outputs = 3,
     .saves = NB_SAVE_OUT(0) | NB_SAVE_OUT(1) | NB_SAVE_OUT(2),
     .shape = shape_lu,
     .forward = lu_forward,
     .backward = lu_backward},
    {.name = "eig",
     .doc = "Eigenvalues in ascending order and eigenvectors (as columns, of length 1) of square matrices whose "
            "eigenvalues are all real: "
            "where one is not, it is an error, since there are no complex numbers; nb.eigvals gives those in pairs, "
            "nb.eigh is for symmetric matrices.",
     .example = "(nb.eig(nb.tensor{{2, 1}, {0, 3}}))  --> {2, 3}",
     .derivative = "∂/∂x = v⁻ᵀ·(diag δl + (vᵀ·δv − vᵀ·v·diag(vᵀ·δv))/(lⱼ − lᵢ))·vᵀ; of v only where the eigenvalues "
                   "differ",
     .source = "M. Giles, Collected matrix derivative results, 2008",
     .sample = {.args = "s(3); s(2,2)"},
     .flops = nb_flops_eigen,
     .params = {TENSOR("x")},
     .outputs = 2,
     .saves = NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_eig,
     .forward = eig_forward,
     .backward = eig_backward},
    {.name = "eigvals",
     .doc = "The eigenvalues of square matrices as pairs of a real and an imaginary part in the last dimension, in "
            "ascending order.",
     .example = "nb.eigvals(nb.tensor{{0, -2}, {2, 0}})  --> {{0, -2}, {0, 2}}",
     .no_grad = "it would need complex eigenvectors; nb.eig has a gradient where all eigenvalues are real",
     .sample = {.args = "w(3); f(2,3,3)"},
     .flops = nb_flops_eigen,
     .params = {TENSOR("x")},
     .shape = shape_eigvals,
     .forward = eigvals_forward},
};
const OpFamily ops_factor = {"Factors", ops, COUNT(ops)};
