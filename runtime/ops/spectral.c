// SPDX-License-Identifier: MIT
// Operators: orthogonal and spectral decompositions of batches of matrices.
//
// Gradients: S. Walter, L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in
// optimum experimental design" (2010) for qr; J. Townsend, "Differentiating the singular value decomposition" (2016);
// G. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
// separate" (1973).
#include <math.h>
#include <string.h>

#include "flops.h"
#include "matrices.h"
#include "nablua/interrupt.h"

// Matrices that hold NaN or infinity have no decomposition, and LAPACK may never come back from them.
static bool all_finite(const Tensor *t, Error *err) {
  for (int64_t i = 0, n = nb_layout_numel(&t->layout); i < n; i++)
    if (!isfinite(nb_tensor_get(t, i))) return nb_fail(err, NB_ERROR_ARGUMENT, "the matrix holds NaN or infinity");
  return true;
}

static bool no_convergence(const Matrices *m, int64_t i, Error *err) {
  char which[40];
  return nb_fail(err, NB_ERROR_ARGUMENT, "the iteration%s did not converge", nb_which(m, i, which));
}

// ---- qr ----

static bool shape_qr(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_matrices(x, &m, err)) return false;
  int k = m.rows < m.columns && !c->args[1].choice ? m.rows : m.columns;
  if (c->args[1].choice || m.rows < k) k = m.rows;
  c->layout[0] = nb_with_matrices(x, m.rows, k);
  c->layout[1] = nb_with_matrices(x, k, m.columns);
  return true;
}

static bool qr_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  size_t size = nb_dtype_size(dtype);
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_matrices(&c->args[0].tensor->layout, &m, err)) return false;
  int rows = m.rows, columns = m.columns, k = rows < columns ? rows : columns, info = 0, ask = -1;
  int whole = c->args[1].choice ? rows : k;  // columns of q
  nb_scope_open(&s, err);
  if (k == 0) {
    Tensor *one = nb_identity(&s, whole, dtype);
    one = one && nb_layout_numel(&c->out[0]->layout) ? nb_expand_like(&s, one, &c->out[0]->layout) : NULL;
    if (one) nb_copy(c->out[0], one);
    nb_scope_close(&s);
    return true;
  }
  Tensor *a = nb_columns_of(&s, c->args[0].tensor, dtype);
  Layout turned_q = nb_with_matrices(&c->args[0].tensor->layout, whole, rows);
  Tensor *q = nb_full(&s, &turned_q, 0), *r = NULL;
  void *tau = nb_scratch(&s, (size_t)(k + 1) * size);
  if (!a || !q || !tau) goto done;
  if (k > 0) {
    double first = 0, second = 0;
    lapack->geqrf(&rows, &columns, nb_tensor_data(a), &rows, tau, &first, &ask, &info);
    lapack->orgqr(&rows, &whole, &k, nb_tensor_data(q), &rows, tau, &second, &ask, &info);
    int length = nb_work_size(&first, dtype), other = nb_work_size(&second, dtype);
    if (other > length) length = other;
    void *work = nb_scratch(&s, (size_t)length * size);
    if (!work) goto done;
    for (int64_t i = 0; i < m.batch; i++) {
      void *matrix = nb_matrix(a, &m, i);
      char *orthogonal = (char *)nb_tensor_data(q) + (size_t)(i * rows * whole) * size;
      lapack->geqrf(&rows, &columns, matrix, &rows, tau, work, &length, &info);
      memcpy(orthogonal, matrix, (size_t)rows * (size_t)k * size);
      lapack->orgqr(&rows, &whole, &k, orthogonal, &rows, tau, work, &length, &info);
      if (!nb_poll(err)) goto done;
    }
  }
  if (!(r = nb_transposed(&s, a))) goto done;
  r = nb_op(&s, "narrow", (Value[NB_MAX_PARAMS]){{.tensor = r}, {.integer = -2}, {.integer = 1}, {.integer = whole}});
  r = nb_triangle(&s, r, "triu", 0);
  q = nb_transposed(&s, q);
  if (!(ok = q && r)) goto done;
  nb_copy(c->out[0], q);
  nb_copy(c->out[1], r);
done:
  nb_scope_close(&s);
  return ok;
}

static Tensor *columns_of(Scope *s, Tensor *x, int64_t first, int64_t count) {
  if (!x) return NULL;
  return nb_op(s, "narrow",
               (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = -1}, {.integer = first}, {.integer = count}});
}

// x·r⁻ᵀ for an upper triangular r: the transpose of the solution of r·z = xᵀ
static Tensor *times_inverse_transposed(Scope *s, Tensor *x, Tensor *r) {
  Tensor *right = nb_transposed(s, x);
  if (!right || !r) return NULL;
  return nb_transposed(s,
                       nb_op(s, "solve_triangular",
                             (Value[NB_MAX_PARAMS]){{.tensor = r}, {.tensor = right}, {.flag = true}, {.flag = true}}));
}

// With M = r·δrᵀ − δqᵀ·q, its lower triangle copied to the upper: (δq + q·M)·r⁻ᵀ, for a square r.
static Tensor *qr_square(Scope *s, Tensor *q, Tensor *r, Tensor *gq, Tensor *gr) {
  Tensor *m = nb_sub(s, nb_matmul(s, r, nb_transposed(s, gr)), nb_matmul(s, nb_transposed(s, gq), q));
  m = nb_add(s, nb_triangle(s, m, "tril", 0), nb_transposed(s, nb_triangle(s, m, "tril", -1)));
  return times_inverse_transposed(s, nb_add(s, gq, nb_matmul(s, q, m)), r);
}

static bool qr_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *q = nb_out(b, 0), *r = nb_out(b, 1);
  if (!q || !r) return false;
  Tensor *gq = b->grad[0] ? b->grad[0] : nb_full(s, &q->layout, 0);
  Tensor *gr = b->grad[1] ? b->grad[1] : nb_full(s, &r->layout, 0);
  int64_t rows = x->layout.shape[x->layout.ndim - 2], columns = x->layout.shape[x->layout.ndim - 1];
  if (nb_arg(b, 1)->choice && rows > columns)
    return nb_fail(s->err, NB_ERROR_ARGUMENT,
                   "backward: qr with mode=\"complete\" of more rows than columns has no gradient: what completes q is "
                   "not determined by x");
  if (columns <= rows) return nb_give(b, 0, qr_square(s, q, r, gq, gr));
  // Wide: x = (a | z), r = (u | v) with a = q·u and z = q·v.
  Tensor *z = columns_of(s, x, rows + 1, columns - rows), *gv = columns_of(s, gr, rows + 1, columns - rows);
  gq = nb_add(s, gq, nb_matmul(s, z, nb_transposed(s, gv)));
  Tensor *ga = qr_square(s, q, columns_of(s, r, 1, rows), gq, columns_of(s, gr, 1, rows)), *gz = nb_matmul(s, q, gv);
  if (!ga || !gz) return false;
  Tensor *parts[] = {ga, gz};
  return nb_give(b, 0, nb_op(s, "cat", (Value[NB_MAX_PARAMS]){{.tensors = {parts, 2}}, {.integer = -1}}));
}

// ---- svd ----

static bool shape_svd(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_matrices(x, &m, err)) return false;
  int k = m.rows < m.columns ? m.rows : m.columns;
  bool full = c->args[1].flag;
  c->layout[0] = nb_with_matrices(x, m.rows, full ? m.rows : k);
  c->layout[1] = nb_with_matrices(x, 1, k);
  c->layout[1].ndim--;
  c->layout[1].shape[c->layout[1].ndim - 1] = k;
  c->layout[2] = nb_with_matrices(x, m.columns, full ? m.columns : k);
  return true;
}

// Of matrices without elements u and v are, when they are whole, identities.
static bool identities(Call *c, Scope *s) {
  bool ok = true;
  for (int i = 0; ok && i < 3; i += 2) {
    Layout *l = &c->out[i]->layout;
    if (nb_layout_numel(l) == 0) continue;
    Tensor *one = nb_identity(s, l->shape[l->ndim - 1], l->dtype);
    one = nb_expand_like(s, one, l);
    ok = one;
    if (ok) nb_copy(c->out[i], one);
  }
  nb_scope_close(s);
  return ok;
}

// To LAPACK x is xᵀ = v·s·uᵀ, so that it writes u row by row where it means its right side.
static bool svd_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  size_t size = nb_dtype_size(dtype);
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_matrices(&c->args[0].tensor->layout, &m, err)) return false;
  int rows = m.rows, columns = m.columns, k = rows < columns ? rows : columns, info = 0, length = -1;
  bool full = c->args[1].flag;
  int left = full ? rows : k, right_columns = full ? columns : k;
  nb_scope_open(&s, err);
  if (k == 0) return identities(c, &s);
  Layout turned_v = nb_with_matrices(&c->args[0].tensor->layout, right_columns, columns);
  Tensor *a = nb_rows_of(&s, c->args[0].tensor, dtype), *v = nb_full(&s, &turned_v, 0);
  int *whole = nb_scratch(&s, 8 * (size_t)k * sizeof *whole);
  if (!a || !v || !whole || !all_finite(a, err)) goto done;
  double answer = 0;
  char *u = nb_tensor_data(c->out[0]), *values = nb_tensor_data(c->out[1]), *right = nb_tensor_data(v);
  lapack->gesdd(full ? "A" : "S", &columns, &rows, nb_tensor_data(a), &columns, values, right, &columns, u, &left,
                &answer, &length, whole, &info, 1);
  length = nb_work_size(&answer, dtype);
  void *work = nb_scratch(&s, (size_t)length * size);
  if (!work) goto done;
  for (int64_t i = 0; i < m.batch; i++) {
    lapack->gesdd(full ? "A" : "S", &columns, &rows, nb_matrix(a, &m, i), &columns, values + (size_t)(i * k) * size,
                  right + (size_t)(i * right_columns * columns) * size, &columns, u + (size_t)(i * left * rows) * size,
                  &left, work, &length, whole, &info, 1);
    if (info != 0) {
      no_convergence(&m, i, err);
      goto done;
    }
    if (!nb_poll(err)) goto done;
  }
  v = nb_transposed(&s, v);
  if (!(ok = v)) goto done;
  nb_copy(c->out[2], v);
done:
  nb_scope_close(&s);
  return ok;
}

static Tensor *as_row(Scope *s, Tensor *x) {
  return x ? nb_op(s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = -2}}) : NULL;
}

static Tensor *as_column(Scope *s, Tensor *x) {
  return x ? nb_op(s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = -1}}) : NULL;
}

// eⱼ − eᵢ at (i, j), with 1 on the diagonal.
static Tensor *differences(Scope *s, Tensor *e) {
  if (!e) return NULL;
  return nb_add(s, nb_sub(s, as_row(s, e), as_column(s, e)),
                nb_identity(s, e->layout.shape[e->layout.ndim - 1], e->layout.dtype));
}

// uᵀ·δ less its transpose, divided by the differences.
static Tensor *turning(Scope *s, Tensor *u, Tensor *g, Tensor *e) {
  Tensor *t = nb_matmul(s, nb_transposed(s, u), g);
  return nb_div(s, nb_sub(s, t, nb_transposed(s, t)), e);
}

// δ − u·uᵀ·δ, what of δ lies outside u.
static Tensor *outside(Scope *s, Tensor *u, Tensor *g) {
  return nb_sub(s, g, nb_matmul(s, u, nb_matmul(s, nb_transposed(s, u), g)));
}

// u·(turning(u)·s + s·turning(v) + diag δs)·vᵀ, and what of δu and δv lies outside u and v, through 1/s.
static bool svd_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *u = nb_out(b, 0), *values = nb_out(b, 1), *v = nb_out(b, 2);
  Tensor *gu = b->grad[0], *gs = b->grad[1], *gv = b->grad[2];
  int64_t rows = x->layout.shape[x->layout.ndim - 2], columns = x->layout.shape[x->layout.ndim - 1];
  if (!u || !values || !v) return false;
  int64_t k = values->layout.shape[values->layout.ndim - 1];
  if (nb_arg(b, 1)->flag) {  // what completes them is not determined by x
    u = columns_of(s, u, 1, k), v = columns_of(s, v, 1, k);
    gu = columns_of(s, gu, 1, k), gv = columns_of(s, gv, 1, k);
  }
  Tensor *row = as_row(s, values), *inner = NULL, *e = NULL, *vt = nb_transposed(s, v);
  if (gs)
    inner = nb_mul(s, as_row(s, gs), nb_identity(s, values->layout.shape[values->layout.ndim - 1], gs->layout.dtype));
  if (gu || gv) {  // s²ⱼ − s²ᵢ as a product, which rounds less
    e = nb_add(s, row, as_column(s, values));
    Tensor *one = nb_identity(s, values->layout.shape[values->layout.ndim - 1], values->layout.dtype);
    e = nb_add(s, nb_mul(s, e, nb_sub(s, row, as_column(s, values))), one);
  }
  for (int i = 0; i < 2; i++) {
    Tensor *g = i == 0 ? gu : gv;
    if (!g) continue;
    Tensor *part = turning(s, i == 0 ? u : v, g, e);
    part = nb_mul(s, part, i == 0 ? row : as_column(s, values));
    inner = inner ? nb_add(s, inner, part) : part;
  }
  Tensor *total = nb_matmul(s, nb_matmul(s, u, inner), vt);
  if (gu && rows > columns) total = nb_add(s, total, nb_matmul(s, nb_div(s, outside(s, u, gu), row), vt));
  if (gv && columns > rows)
    total = nb_add(s, total, nb_matmul(s, nb_div(s, u, row), nb_transposed(s, outside(s, v, gv))));
  return nb_give(b, 0, total);
}

// ---- eigh ----

static bool shape_eigh(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_square(x, &m, err)) return false;
  c->layout[1] = c->layout[0] = nb_with_matrices(x, m.rows, m.rows);
  c->layout[0].ndim--;
  return true;
}

static bool eigh_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  size_t size = nb_dtype_size(dtype);
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_square(&c->args[0].tensor->layout, &m, err)) return false;
  int n = m.rows, info = 0, length = -1, whole_length = -1, whole_answer = 0;
  if (n == 0) return true;
  nb_scope_open(&s, err);
  Tensor *a = nb_symmetric(&s, nb_to(&s, c->args[0].tensor, dtype));
  if (!a || !all_finite(a, err)) goto done;
  double answer = 0;
  char *values = nb_tensor_data(c->out[0]);
  lapack->syevd("V", "L", &n, nb_tensor_data(a), &n, values, &answer, &length, &whole_answer, &whole_length, &info, 1,
                1);
  length = nb_work_size(&answer, dtype);
  whole_length = whole_answer < 1 ? 1 : whole_answer;
  void *work = nb_scratch(&s, (size_t)length * size);
  int *whole = nb_scratch(&s, (size_t)whole_length * sizeof *whole);
  if (!work || !whole) goto done;
  for (int64_t i = 0; i < m.batch; i++) {
    lapack->syevd("V", "L", &n, nb_matrix(a, &m, i), &n, values + (size_t)(i * n) * size, work, &length, whole,
                  &whole_length, &info, 1, 1);
    if (info != 0) {
      no_convergence(&m, i, err);
      goto done;
    }
    if (!nb_poll(err)) goto done;
  }
  a = nb_transposed(&s, a);
  if (!(ok = a)) goto done;
  nb_copy(c->out[1], a);
done:
  nb_scope_close(&s);
  return ok;
}

// v·(diag δl + vᵀ·δv / (lⱼ − lᵢ))·vᵀ, its symmetric part.
static bool eigh_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *values = nb_out(b, 0), *v = nb_out(b, 1), *inner = NULL;
  if (!values || !v) return false;
  Tensor *one = nb_identity(s, values->layout.shape[values->layout.ndim - 1], values->layout.dtype);
  if (b->grad[0]) inner = nb_mul(s, as_row(s, b->grad[0]), one);
  if (b->grad[1]) {
    Tensor *vt = nb_transposed(s, v), *part = nb_matmul(s, vt, b->grad[1]);
    part = nb_div(s, nb_sub(s, part, nb_mul(s, part, one)), differences(s, values));
    inner = inner ? nb_add(s, inner, part) : part;
  }
  return nb_give(b, 0, nb_symmetric(s, nb_matmul(s, nb_matmul(s, v, inner), nb_transposed(s, v))));
}

// ---- pinv ----

static bool shape_pinv(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_matrices(x, &m, err)) return false;
  c->layout[0] = nb_with_matrices(x, m.columns, m.rows);
  return true;
}

// v·diag(1/s)·uᵀ over the singular values that count.
static bool pinv_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  Tensor *usv[3], *x = c->args[0].tensor, *y = NULL;
  DType dtype = c->layout[0].dtype;
  if (!nb_matrices(&x->layout, &m, err)) return false;
  if (nb_layout_numel(&c->layout[0]) == 0) return true;
  double tolerance = c->args[1].number, least = c->args[2].number;
  if (isnan(tolerance) && least > 0) tolerance = 0;
  if (isnan(tolerance)) tolerance = (m.rows > m.columns ? m.rows : m.columns) * (dtype == NB_F32 ? 0x1p-23 : 0x1p-52);
  nb_scope_open(&s, err);
  if (nb_op_many(&s, "svd", (Value[NB_MAX_PARAMS]){{.tensor = x}}, usv)) {
    Tensor *largest =
        nb_op(&s, "narrow", (Value[]){{.tensor = usv[1]}, {.integer = -1}, {.integer = 1}, {.integer = 1}});
    Tensor *bound = nb_muln(&s, largest, tolerance);
    if (least > 0) bound = nb_binary(&s, "maximum", bound, nb_full(&s, &largest->layout, least));
    Tensor *counts = nb_binary(&s, "gt", usv[1], bound);
    Tensor *zero = nb_full(&s, &usv[1]->layout, 0);
    Tensor *parts = nb_where(&s, counts, nb_unary(&s, "reciprocal", usv[1]), zero);
    y = nb_matmul(&s, nb_mul(&s, usv[2], as_row(&s, parts)), nb_transposed(&s, usv[0]));
    if (y) nb_copy(c->out[0], y);
  }
  nb_scope_close(&s);
  return y;
}

// −yᵀδyᵀ + (1 − x·y)·δᵀ·y·yᵀ + yᵀ·y·δᵀ·(1 − y·x), for a constant rank
static bool pinv_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_out(b, 0), *g = b->grad[0];
  Tensor *yt = nb_transposed(s, y), *gt = nb_transposed(s, g);
  Tensor *a = nb_matmul(s, nb_matmul(s, yt, g), yt);
  Tensor *left = nb_matmul(s, nb_matmul(s, gt, y), yt), *right = nb_matmul(s, nb_matmul(s, yt, y), gt);
  left = nb_sub(s, left, nb_matmul(s, x, nb_matmul(s, y, left)));
  right = nb_sub(s, right, nb_matmul(s, nb_matmul(s, right, y), x));
  return nb_give(b, 0, nb_add(s, nb_sub(s, left, a), right));
}

static const Op ops[] = {
    {.name = "qr",
     .doc = "x = q·r with orthonormal columns in q and an upper triangular r, as small as possible.",
     .example = "local q, r = nb.qr(nb.tensor{{3, 1}, {4, 2}}); return q:matmul(r)  --> {{3, 1}, {4, 2}}",
     .derivative = "∂/∂x = (δq + q·sym(r·δrᵀ − δqᵀ·q))·r⁻ᵀ",
     .source = "S. Walter, L. Lehmann, Algorithmic differentiation of linear algebra functions, 2010",
     .sample = {.args = "w(3); f(4,2); f(2,4); f(2,3,2)"},
     .flops = nb_flops_qr,
     .params = {TENSOR("x"),
                {.name = "mode",
                 .kind = NB_PARAM_CHOICE,
                 .choices = "reduced|complete",
                 .optional = true,
                 .doc = "complete makes q square"}},
     .outputs = 2,
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_qr,
     .forward = qr_forward,
     .backward = qr_backward},
    {.name = "svd",
     .doc = "u, s, v with x = u·diag(s)·vᵀ: orthonormal columns in u and v, singular values s in descending order.",
     .example = "select(2, nb.svd(nb.tensor{{3, 0}, {0, -5}}))  --> {5, 3}",
     .derivative = "∂/∂x = u·(… + diag δs)·vᵀ; of u and v only where the singular values differ",
     .source = "J. Townsend, Differentiating the singular value decomposition, 2016",
     .sample = {.args = "f(3,3); f(4,2); f(2,4); f(2,3,2)"},
     .flops = nb_flops_singular,
     .params = {TENSOR("x"),
                {.name = "full_matrices",
                 .kind = NB_PARAM_FLAG,
                 .optional = true,
                 .named = true,
                 .doc = "complete u and v to square matrices; what completes them has no gradient"}},
     .outputs = 3,
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1) | NB_SAVE_OUT(2),
     .shape = shape_svd,
     .forward = svd_forward,
     .backward = svd_backward},
    {.name = "eigh",
     .doc = "Eigenvalues in ascending order and eigenvectors (as columns) of symmetric matrices (their symmetric part "
            "counts); nb.eig is for others.",
     .example = "nb.eigh(nb.tensor{{2, 0}, {0, -1}})  --> {-1, 2}",
     .derivative = "∂/∂x = v·(diag δl + vᵀ·δv/(lⱼ − lᵢ))·vᵀ; of v only where the eigenvalues differ",
     .sample = {.args = "s(3); s(2,2)"},
     .flops = nb_flops_eigen,
     .params = {TENSOR("x")},
     .outputs = 2,
     .saves = NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_eigh,
     .forward = eigh_forward,
     .backward = eigh_backward},
    {.name = "pinv",
     .doc = "The pseudo-inverse: y·b has the least squares |x·(y·b) − b|², and among those the least size.",
     .example = "nb.pinv(nb.tensor{{2, 0}, {0, 4}, {0, 0}})  --> {{0.5, 0, 0}, {0, 0.25, 0}}",
     .derivative = "∂/∂x = −yᵀ·δ·yᵀ + (1 − x·y)·δᵀ·y·yᵀ + yᵀ·y·δᵀ·(1 − y·x)",
     .source = "G. Golub, V. Pereyra, The differentiation of pseudo-inverses, 1973",
     .sample = {.args = "w(3); f(4,2); f(2,4)"},
     .flops = nb_flops_singular,
     .params = {TENSOR("x"),
                {.name = "rtol",
                 .kind = NB_PARAM_NUMBER,
                 .optional = true,
                 .named = true,
                 .fallback = NAN,
                 .doc = "singular values up to rtol times the largest count as 0; without it the larger side's size "
                        "times the dtype's precision, or 0 with an atol"},
                {.name = "atol",
                 .kind = NB_PARAM_NUMBER,
                 .optional = true,
                 .named = true,
                 .doc = "singular values up to it count as 0"}},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_pinv,
     .forward = pinv_forward,
     .backward = pinv_backward},
};
const OpFamily ops_spectral = {"Decompositions", ops, COUNT(ops)};
