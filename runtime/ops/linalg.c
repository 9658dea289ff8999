// SPDX-License-Identifier: MIT
// Operators: linear algebra by factorisation, on batches of square matrices.
//
// A row-major matrix is its own transpose to LAPACK; where the result is the same up to a transpose, nothing is turned.
// Gradients are from M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
// differentiation" (2008); Cholesky's from I. Murray, "Differentiation of the Cholesky decomposition" (2016).
#include <math.h>
#include <string.h>

#include "flops.h"
#include "matrices.h"
#include "nablua/interrupt.h"

static bool singular(const Matrices *m, int64_t i, int pivot, Error *err) {
  char which[40];
  return nb_fail(err, NB_ERROR_ARGUMENT, "the matrix is singular: pivot %d%s is zero", pivot, nb_which(m, i, which));
}

static bool shape_square(Call *c, Error *err) {
  Matrices m;
  c->layout[0] = c->args[0].tensor->layout;
  c->layout[0].dtype = nb_linalg_dtype(&c->layout[0]);
  return nb_square(&c->layout[0], &m, err);
}

// ---- inverse ----

static bool inverse_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_square(&c->layout[0], &m, err)) return false;
  nb_copy(c->out[0], c->args[0].tensor);
  int n = m.rows, size = -1, info = 0;
  if (n == 0) return true;
  nb_scope_open(&s, err);
  double answer = 0;
  int *pivots = nb_scratch(&s, (size_t)n * sizeof *pivots);
  if (!pivots) goto done;
  lapack->getri(&n, nb_tensor_data(c->out[0]), &n, pivots, &answer, &size, &info);
  size = nb_work_size(&answer, dtype);
  void *work = nb_scratch(&s, (size_t)size * nb_dtype_size(dtype));
  if (!work) goto done;
  for (int64_t i = 0; i < m.batch; i++) {
    void *a = nb_matrix(c->out[0], &m, i);
    lapack->getrf(&n, &n, a, &n, pivots, &info);
    if (info > 0) {
      singular(&m, i, info, err);
      goto done;
    }
    lapack->getri(&n, a, &n, pivots, work, &size, &info);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

// −yᵀ·δ·yᵀ
static bool inverse_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_transposed(s, nb_out(b, 0));
  return nb_give(b, 0, nb_neg(s, nb_matmul(s, nb_matmul(s, y, b->grad[0]), y)));
}

// ---- det and slogdet ----

static void batch_shape(const Layout *x, DType dtype, Layout *out) {
  *out = *x;
  out->ndim -= 2;
  out->dtype = dtype;
}

static bool shape_det(Call *c, Error *err) {
  Matrices m;
  const Layout *x = &c->args[0].tensor->layout;
  if (!nb_square(x, &m, err)) return false;
  batch_shape(x, nb_linalg_dtype(x), &c->layout[0]);
  c->layout[1] = c->layout[0];
  return true;
}

// The sign of each determinant and the logarithm of its size.
static bool determinants(Call *c, void (*see)(Call *c, int64_t i, double sign, double log), Error *err) {
  Scope s;
  Matrices m;
  bool ok = false;
  DType dtype = c->layout[0].dtype;
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_square(&c->args[0].tensor->layout, &m, err)) return false;
  nb_scope_open(&s, err);
  Tensor *lu = nb_rows_of(&s, c->args[0].tensor, dtype);
  int n = m.rows, info = 0;
  int *pivots = nb_scratch(&s, (size_t)(n + 1) * sizeof *pivots);
  if (!lu || !pivots) goto done;
  for (int64_t i = 0; i < m.batch; i++) {
    double sign = 1, log_size = 0;
    if (n > 0) lapack->getrf(&n, &n, nb_matrix(lu, &m, i), &n, pivots, &info);
    for (int64_t k = 0; k < n; k++) {
      double d = nb_tensor_get(lu, (i * n + k) * n + k);
      if (pivots[k] != k + 1) sign = -sign;
      if (d < 0) sign = -sign;
      if (d == 0) sign = 0;
      if (isnan(d)) sign = d;
      log_size += log(fabs(d));
    }
    see(c, i, sign, log_size);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static void put_det(Call *c, int64_t i, double sign, double log_size) {
  nb_tensor_set(c->out[0], i, sign == 0 ? 0 : sign * exp(log_size));
}

static void put_slogdet(Call *c, int64_t i, double sign, double log_size) {
  nb_tensor_set(c->out[0], i, sign);
  nb_tensor_set(c->out[1], i, log_size);
}

static bool det_forward(Call *c, Error *err) {
  return determinants(c, put_det, err);
}

static bool slogdet_forward(Call *c, Error *err) {
  return determinants(c, put_slogdet, err);
}

// A number for each matrix, as one of size 1×1.
static Tensor *as_matrices(Scope *s, Tensor *t) {
  if (!t) return NULL;
  Layout l = t->layout;
  l.shape[l.ndim] = l.shape[l.ndim + 1] = 1;
  l.ndim += 2;
  return nb_reshape_like(s, t, &l);
}

static bool some_zero(Tensor *t) {
  for (int64_t i = 0, n = nb_layout_numel(&t->layout); i < n; i++)
    if (nb_tensor_get(t, i) == 0) return true;
  return false;
}

// δ·det·x⁻ᵀ; of singular matrices the cofactors.
static bool det_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0), *g = as_matrices(s, b->grad[0]), *x = nb_in(b, 0);
  if (!y || !g) return false;
  if (some_zero(b->node->saved_out[0])) {
    if (nb_grad_enabled())
      return nb_fail(s->err, NB_ERROR_STATE,
                     "backward: det of a singular matrix has no second derivative here; leave "
                     "create_graph away");
    return nb_give(b, 0, nb_mul(s, g, nb_unary(s, "cofactors", x)));
  }
  Tensor *inverse = nb_transposed(s, nb_unary(s, "inverse", x));
  return nb_give(b, 0, nb_mul(s, nb_mul(s, g, as_matrices(s, y)), inverse));
}

// δ·x⁻ᵀ; the sign is constant.
static bool slogdet_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *g = as_matrices(s, b->grad[1]);
  if (!b->grad[1]) return nb_give(b, 0, nb_full(s, &x->layout, 0));
  return nb_give(b, 0, nb_mul(s, g, nb_transposed(s, nb_unary(s, "inverse", x))));
}

// ---- cofactors: det(U)·det(V)·U·diag(∏ of the other singular values)·Vᵀ ----

static bool cofactors_forward(Call *c, Error *err) {
  Scope s;
  Tensor *usv[3];
  int64_t last = -1;
  nb_scope_open(&s, err);
  bool ok = nb_op_many(&s, "svd", (Value[NB_MAX_PARAMS]){{.tensor = c->args[0].tensor}}, usv);
  if (ok) {
    Tensor *others = nb_full(&s, &usv[1]->layout, 1), *y = NULL;
    int64_t n = usv[1]->layout.ndim ? usv[1]->layout.shape[usv[1]->layout.ndim - 1] : 0;
    for (int64_t k = 1; others && k < n; k++)
      others = nb_mul(&s, others,
                      nb_op(&s, "roll", (Value[NB_MAX_PARAMS]){{.tensor = usv[1]}, {.integer = k}, {.integer = last}}));
    Tensor *sign = nb_mul(&s, nb_unary(&s, "det", usv[0]), nb_unary(&s, "det", usv[2]));
    if (others && sign) {
      Tensor *row = nb_op(&s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = others}, {.integer = -2}});
      y = nb_mul(&s, as_matrices(&s, sign), nb_matmul(&s, nb_mul(&s, usv[0], row), nb_transposed(&s, usv[2])));
    }
    ok = y;
    if (ok) nb_copy(c->out[0], y);
  }
  nb_scope_close(&s);
  return ok;
}

// ---- solve ----

// b is a vector for each matrix when it has one dimension, or the shape of a batch of vectors.
static bool is_vector(const Layout *a, const Layout *b) {
  if (b->ndim == 1) return true;
  if (b->ndim != a->ndim - 1) return false;
  for (int d = 0; d < b->ndim; d++)
    if (a->shape[d] != b->shape[d]) return false;
  return true;
}

// The shapes of a and b as matrices with equal batches.
static bool solve_shapes(const Layout *a, const Layout *b, Layout *ma, Layout *mb, Error *err) {
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  Matrices m;
  Layout batch_a, batch_b, batch;
  if (!nb_square(a, &m, err)) return false;
  if (b->ndim < 1)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the right side must be a vector or matrices, got shape %s",
                   nb_shape_text(b, tb));
  *mb = *b;
  if (is_vector(a, b)) mb->shape[mb->ndim++] = 1;
  if (mb->shape[mb->ndim - 2] != m.rows)
    return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s has %d rows, but the right side, of shape %s, has %lld",
                   nb_shape_text(a, ta), m.rows, nb_shape_text(b, tb), (long long)mb->shape[mb->ndim - 2]);
  batch_shape(a, a->dtype, &batch_a);
  batch_shape(mb, a->dtype, &batch_b);
  if (!nb_broadcast_shape(&batch_a, &batch_b, &batch, err)) return false;
  if (batch.ndim + 2 > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions", NB_MAX_DIMS);
  int64_t columns = mb->shape[mb->ndim - 1];
  *ma = *mb = batch;
  ma->ndim = mb->ndim = batch.ndim + 2;
  ma->shape[batch.ndim] = ma->shape[batch.ndim + 1] = mb->shape[batch.ndim] = m.rows;
  mb->shape[batch.ndim + 1] = columns;
  ma->dtype = mb->dtype = nb_linalg_dtype(&(Layout){.dtype = nb_dtype_promote(a->dtype, b->dtype)});
  return nb_layout_check(mb, err);
}

// Whether y stands to the right of a, as it does unless left=false; then y·a = b is solved as aᵀ·yᵀ = bᵀ.
static bool is_left(const Op *op, const Value *args) {
  for (int i = 2; i < NB_MAX_PARAMS && op->params[i].name; i++)
    if (strcmp(op->params[i].name, "left") == 0) return args[i].flag;
  return true;
}

static void swap_last(Layout *l) {
  int64_t size = l->shape[l->ndim - 1];
  l->shape[l->ndim - 1] = l->shape[l->ndim - 2];
  l->shape[l->ndim - 2] = size;
}

static bool shape_solve(Call *c, Error *err) {
  const Layout *a = &c->args[0].tensor->layout, *b = &c->args[1].tensor->layout;
  Layout ma, mb, turned = *b;
  bool left = is_left(c->op, c->args);
  if (!left && (b->ndim < 2 || is_vector(a, b)))
    return nb_fail(err, NB_ERROR_ARGUMENT, "with left=false the right side must be matrices");
  if (!left) swap_last(&turned);
  if (!solve_shapes(a, &turned, &ma, &mb, err)) return false;
  if (left && is_vector(a, b)) mb.ndim--;
  if (!left) swap_last(&mb);
  c->layout[0] = mb;
  return true;
}

// Runs `step` on every pair of a (row-major) and b (column by column, replaced by the solution).
typedef bool (*SolveStep)(const Lapack *lapack, Call *c, const Matrices *m, int64_t i, void *a, int columns, void *b,
                          int *pivots, Error *err);

static bool solve_all(Call *c, SolveStep step, Error *err) {
  Scope s;
  Layout la, lb;
  Matrices m;
  bool ok = false;
  bool left = is_left(c->op, c->args);
  const Lapack *lapack = nb_lapack(c->layout[0].dtype, err);
  if (!lapack) return false;
  nb_scope_open(&s, err);
  Tensor *a = left ? c->args[0].tensor : nb_transposed(&s, c->args[0].tensor);
  Tensor *b = left ? c->args[1].tensor : nb_transposed(&s, c->args[1].tensor);
  if (!a || !b || !solve_shapes(&a->layout, &b->layout, &la, &lb, err) || !nb_square(&la, &m, err)) goto done;
  if (left && is_vector(&a->layout, &b->layout))
    b = nb_op(&s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = b}, {.integer = -1}});
  a = nb_rows_of(&s, nb_expand_like(&s, a, &la), la.dtype);
  b = nb_columns_of(&s, nb_expand_like(&s, b, &lb), la.dtype);
  int columns = (int)lb.shape[lb.ndim - 1];
  int *pivots = nb_scratch(&s, (size_t)(m.rows + 1) * sizeof *pivots);
  if (!a || !b || !pivots) goto done;
  size_t stride = (size_t)m.rows * (size_t)columns * nb_dtype_size(la.dtype);
  for (int64_t i = 0; m.rows > 0 && columns > 0 && i < m.batch; i++) {
    void *right = (char *)nb_tensor_data(b) + (size_t)i * stride;
    if (!step(lapack, c, &m, i, nb_matrix(a, &m, i), columns, right, pivots, err) || !nb_poll(err)) goto done;
  }
  Tensor *y = left ? nb_transposed(&s, b) : b;
  if (y) y = nb_reshape_like(&s, y, &c->layout[0]);
  if (!(ok = y)) goto done;
  nb_copy(c->out[0], y);
done:
  nb_scope_close(&s);
  return ok;
}

static bool solve_step(const Lapack *lapack, Call *c, const Matrices *m, int64_t i, void *a, int columns, void *b,
                       int *pivots, Error *err) {
  int n = m->rows, info = 0;
  (void)c;
  lapack->getrf(&n, &n, a, &n, pivots, &info);
  if (info > 0) return singular(m, i, info, err);
  lapack->getrs("T", &n, &columns, a, &n, pivots, b, &n, &info, 1);
  return true;
}

static bool solve_forward(Call *c, Error *err) {
  return solve_all(c, solve_step, err);
}

// The gradients of a and b, given that of b: −(∂b)·yᵀ
static Tensor *outer_product(Scope *s, const Layout *a, const Layout *b, Tensor *gb, Tensor *y) {
  if (!gb || !y) return NULL;
  if (is_vector(a, b)) {
    gb = nb_op(s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = gb}, {.integer = -1}});
    y = nb_op(s, "unsqueeze", (Value[NB_MAX_PARAMS]){{.tensor = y}, {.integer = -1}});
  }
  return nb_neg(s, nb_matmul(s, gb, nb_transposed(s, y)));
}

// That of a where y stands left of it: −yᵀ·(∂b)
static Tensor *outer_of_right(Scope *s, Tensor *gb, Tensor *y) {
  return nb_neg(s, nb_matmul(s, nb_transposed(s, y), gb));
}

static bool solve_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *a = nb_in(b, 0), *right = nb_in(b, 1), *y = nb_out(b, 0), *at = nb_transposed(s, a);
  bool left = nb_arg(b, 2)->flag;
  Tensor *gb =
      at ? nb_op(s, "solve", (Value[NB_MAX_PARAMS]){{.tensor = at}, {.tensor = b->grad[0]}, {.flag = left}}) : NULL;
  if (nb_wants(b, 0) &&
      !nb_give(b, 0, left ? outer_product(s, &a->layout, &right->layout, gb, y) : outer_of_right(s, gb, y)))
    return false;
  return !nb_wants(b, 1) || nb_give(b, 1, gb);
}

// Solves with the triangle of `a` that counts.  LAPACK reads our rows as columns, so it sees aᵀ: our lower triangle is
// its upper one ("U"), and it must transpose what it sees ("T").
static bool triangular_step(const Lapack *lapack, Call *c, const Matrices *m, int64_t i, void *a, int columns, void *b,
                            int *pivots, Error *err) {
  int n = m->rows, info = 0;
  (void)pivots;
  bool upper = c->args[2].flag == c->args[3].flag;  // that of aᵀ is the other one
  lapack->trtrs(upper ? "L" : "U", "T", c->args[4].flag ? "U" : "N", &n, &columns, a, &n, b, &n, &info, 1, 1, 1);
  return info == 0 || singular(m, i, info, err);
}

static bool triangular_forward(Call *c, Error *err) {
  return solve_all(c, triangular_step, err);
}

static bool triangular_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *a = nb_in(b, 0), *right = nb_in(b, 1), *y = nb_out(b, 0);
  bool upper = nb_arg(b, 2)->flag, left = nb_arg(b, 3)->flag, unit = nb_arg(b, 4)->flag;
  Tensor *at = nb_transposed(s, a);
  if (!at) return false;
  Tensor *gb = nb_op(
      s, "solve_triangular",
      (Value[NB_MAX_PARAMS]){{.tensor = at}, {.tensor = b->grad[0]}, {.flag = !upper}, {.flag = left}, {.flag = unit}});
  if (nb_wants(b, 0)) {
    Tensor *ga = left ? outer_product(s, &a->layout, &right->layout, gb, y) : outer_of_right(s, gb, y);
    if (!nb_give(b, 0, nb_triangle(s, ga, upper ? "triu" : "tril", unit ? upper ? 1 : -1 : 0))) return false;
  }
  return !nb_wants(b, 1) || nb_give(b, 1, gb);
}

// ---- cholesky ----

static bool cholesky_forward(Call *c, Error *err) {
  Scope s;
  Matrices m;
  char which[40];
  DType dtype = c->layout[0].dtype;
  bool ok = false, upper = c->args[1].flag;
  const Lapack *lapack = nb_lapack(dtype, err);
  if (!lapack || !nb_square(&c->layout[0], &m, err)) return false;
  nb_scope_open(&s, err);
  Tensor *x = nb_symmetric(&s, nb_to(&s, c->args[0].tensor, dtype));
  if (!x) goto done;
  int n = m.rows, info = 0;
  for (int64_t i = 0; n > 0 && i < m.batch; i++) {
    lapack->potrf(upper ? "L" : "U", &n, nb_matrix(x, &m, i), &n, &info, 1);
    if (info > 0) {
      nb_fail(err, NB_ERROR_ARGUMENT, "the matrix is not positive definite: the leading minor of order %d%s is not",
              info, nb_which(&m, i, which));
      goto done;
    }
    if (!nb_poll(err)) goto done;
  }
  Tensor *y = nb_triangle(&s, x, upper ? "triu" : "tril", 0);
  if (!(ok = y)) goto done;
  nb_copy(c->out[0], y);
done:
  nb_scope_close(&s);
  return ok;
}

// With P = Φ(Lᵀδ), which keeps the lower triangle and half the diagonal: the symmetric part of L⁻ᵀ·P·L⁻¹.
static bool cholesky_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *l = nb_out(b, 0), *g = b->grad[0];
  if (nb_arg(b, 1)->flag) {
    l = nb_transposed(s, l);
    g = nb_transposed(s, g);
  }
  Tensor *lt = nb_transposed(s, l), *p = nb_matmul(s, lt, g);
  p = nb_muln(s, nb_add(s, nb_triangle(s, p, "tril", 0), nb_triangle(s, p, "tril", -1)), 0.5);
  if (!lt || !p) return false;
  // L⁻ᵀ·P, then its transpose times L⁻¹ from the right: (L⁻ᵀ·(L⁻ᵀ·P)ᵀ)ᵀ
  Tensor *left = nb_op(s, "solve_triangular",
                       (Value[NB_MAX_PARAMS]){{.tensor = lt}, {.tensor = p}, {.flag = true}, {.flag = true}});
  left = nb_transposed(s, left);
  if (!left) return false;
  Tensor *both = nb_op(s, "solve_triangular",
                       (Value[NB_MAX_PARAMS]){{.tensor = lt}, {.tensor = left}, {.flag = true}, {.flag = true}});
  return nb_give(b, 0, nb_symmetric(s, both));
}

#define LEFT                                                                                               \
  {                                                                                                        \
    .name = "left", .kind = NB_PARAM_FLAG, .doc = "false solves y·a = b", .optional = true, .named = true, \
    .fallback = 1                                                                                          \
  }

static const Op ops[] = {
    {.name = "inverse",
     .doc = "The inverse of each square matrix.",
     .example = "nb.inverse(nb.tensor{{2, 0}, {0, 4}})  --> {{0.5, 0}, {0, 0.25}}",
     .derivative = "∂/∂x = −yᵀ·δ·yᵀ",
     .sample = {.args = "w(3); w(2,2)"},
     .flops = nb_flops_inverse,
     .params = {TENSOR("x")},
     .saves = NB_SAVE_OUT(0),
     .shape = shape_square,
     .forward = inverse_forward,
     .backward = inverse_backward},
    {.name = "det",
     .doc = "The determinant of each square matrix.",
     .example = "nb.det(nb.tensor{{1, 2}, {3, 4}})  --> -2",
     .derivative = "∂/∂x = δ·y·x⁻ᵀ",
     .sample = {.args = "w(3); w(2,2); f(1,1)"},
     .flops = nb_flops_factor,
     .params = {TENSOR("x")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_det,
     .forward = det_forward,
     .backward = det_backward},
    {.name = "slogdet",
     .doc = "The sign of each square matrix's determinant, and the logarithm of its size.",
     .example = "local sign, log = nb.slogdet(nb.tensor{{1, 2}, {3, 4}}); return sign * log:exp()  --> -2",
     .derivative = "∂/∂x = δ·x⁻ᵀ",
     .sample = {.args = "w(3); w(2,2)"},
     .flops = nb_flops_factor,
     .params = {TENSOR("x")},
     .outputs = 2,
     .saves = NB_SAVE_IN(0),
     .shape = shape_det,
     .forward = slogdet_forward,
     .backward = slogdet_backward},
    {.name = "cofactors",
     .doc = "The derivative of each square matrix's determinant by its elements, singular or not.",
     .example =
         "local x = nb.zeros(2, 2, {requires_grad=true}); x:det():backward(); return x.grad  --> {{0, 0}, {0, 0}}",
     .no_grad = "a determinant's second derivative at singular matrices is not offered",
     .sample = {.args = "w(3)"},
     .symbol = "cof",
     .flops = nb_flops_inverse,
     .params = {TENSOR("x")},
     .internal = true,
     .shape = shape_square,
     .forward = cofactors_forward},
    {.name = "solve",
     .doc = "The solution y of a·y = b for square matrices a; b is a vector or matrices.",
     .example = "nb.solve(nb.tensor{{2, 0}, {0, 4}}, nb.tensor{2, 2})  --> {1, 0.5}",
     .derivative = "∂/∂b = a⁻ᵀ·δ, ∂/∂a = −(∂/∂b)·yᵀ",
     .sample = {.args = "w(3), f(3); w(3), f(3,2); w(2,3), f(2,3); w(3), f(2,3,2); w(2,1,3), f(4,3,1); w(3), f(2,3), "
                        "{left=false}"},
     .flops = nb_flops_solve,
     .params = {TENSOR("a"), TENSOR("b"), LEFT},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_solve,
     .forward = solve_forward,
     .backward = solve_backward},
    {.name = "solve_triangular",
     .doc = "The solution y of a·y = b where only a's lower triangle counts, or its upper one.",
     .example = "nb.solve_triangular(nb.tensor{{2, 9}, {1, 1}}, nb.tensor{2, 2})  --> {1, 1}",
     .derivative = "∂/∂b = a⁻ᵀ·δ, ∂/∂a = the triangle of −(∂/∂b)·yᵀ",
     .sample =
         {.args = "w(3), f(3); w(3), f(3,2), {upper=true}; w(2,3), f(2,3,1); w(3), f(2,3), {left=false}; w(3), f(2,3), "
                  "{left=false, upper=true, unitriangular=true}; w(3), f(3), {unitriangular=true}"},
     .symbol = "solve",
     .flops = nb_flops_triangular,
     .params = {TENSOR("a"),
                TENSOR("b"),
                NAMED_FLAG("upper"),
                LEFT,
                {.name = "unitriangular",
                 .kind = NB_PARAM_FLAG,
                 .optional = true,
                 .named = true,
                 .doc = "the diagonal counts as 1 and is not read"}},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_solve,
     .forward = triangular_forward,
     .backward = triangular_backward},
    {.name = "cholesky",
     .doc =
         "The lower triangular y with y·yᵀ = x for symmetric positive definite matrices (their symmetric part counts).",
     .example = "nb.cholesky(nb.tensor{{4, 2}, {2, 2}})  --> {{2, 0}, {1, 1}}",
     .derivative = "∂/∂x = the symmetric part of y⁻ᵀ·Φ(yᵀ·δ)·y⁻¹",
     .source = "I. Murray, Differentiation of the Cholesky decomposition, 2016",
     .sample = {.args = "s(3); s(2,2); s(3), {upper=true}"},
     .flops = nb_flops_cholesky,
     .params = {TENSOR("x"),
                {.name = "upper",
                 .kind = NB_PARAM_FLAG,
                 .optional = true,
                 .named = true,
                 .doc = "the upper triangular y with yᵀ·y = x"}},
     .saves = NB_SAVE_OUT(0),
     .shape = shape_square,
     .forward = cholesky_forward,
     .backward = cholesky_backward},
};
const OpFamily ops_linalg = {"Linear algebra", ops, COUNT(ops)};
