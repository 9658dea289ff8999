// SPDX-License-Identifier: MIT
// Operators: matrix products.
#include <string.h>

#include "flops.h"
#include "gemm.h"
#include "loops.h"
#include "nablua/interrupt.h"

// A vector counts as a row on the left and as a column on the right; the added dimension goes again.
static Layout as_matrix(const Layout *l, bool left) {
  Layout m = *l;
  if (l->ndim != 1) return m;
  m.ndim = 2;
  m.shape[left ? 1 : 0] = l->shape[0];
  m.strides[left ? 1 : 0] = l->strides[0];
  m.shape[left ? 0 : 1] = 1;
  m.strides[left ? 0 : 1] = l->shape[0] > 0 ? l->shape[0] : 1;
  return m;
}

static bool shape_matmul(Call *c, Error *err) {
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout, *y = &c->args[1].tensor->layout;
  if (x->ndim == 0 || y->ndim == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs vectors or matrices, got shapes %s and %s; use * for a scalar",
                   nb_shape_text(x, ta), nb_shape_text(y, tb));
  Layout a = as_matrix(x, true), b = as_matrix(y, false), batch = {.dtype = NB_F32};
  int64_t rows = a.shape[a.ndim - 2], inner = a.shape[a.ndim - 1], columns = b.shape[b.ndim - 1];
  if (inner != b.shape[b.ndim - 2])
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "shapes %s and %s do not fit: %lld columns on the left, %lld rows on the right",
                   nb_shape_text(x, ta), nb_shape_text(y, tb), (long long)inner, (long long)b.shape[b.ndim - 2]);
  a.ndim -= 2;
  b.ndim -= 2;
  if (!nb_broadcast_shape(&a, &b, &batch, err)) return false;
  if (batch.ndim + 2 > NB_MAX_DIMS) return nb_fail(err, NB_ERROR_ARGUMENT, "more than %d dimensions", NB_MAX_DIMS);
  c->compute = nb_dtype_promote(nb_dtype_promote(x->dtype, y->dtype), NB_I64);  // u8 as in sums, which these are
  batch.dtype = c->compute;
  if (x->ndim > 1) batch.shape[batch.ndim++] = rows;
  if (y->ndim > 1) batch.shape[batch.ndim++] = columns;
  c->layout[0] = batch;
  return true;
}

// A product needs each row or each column to be contiguous.
static bool has_unit_stride(const Layout *m) {
  int64_t rs = m->strides[m->ndim - 2], cs = m->strides[m->ndim - 1];
  int64_t r = m->shape[m->ndim - 2], n = m->shape[m->ndim - 1];
  return ((cs == 1 || n == 1) && (rs >= n || r == 1)) || ((rs == 1 || r == 1) && (cs >= r || n == 1));
}

// A copy helps where neither is.
static Tensor *with_unit_stride(Scope *s, Tensor *t, bool left) {
  if (!t) return NULL;
  Layout m = as_matrix(&t->layout, left);
  return has_unit_stride(&m) ? t : nb_unary(s, "clone", t);
}

// The gemm view of a matrix: transposed when its columns are the contiguous ones.
static GemmMatrix gemm_matrix(const Layout *m, const void *data) {
  int64_t rs = m->strides[m->ndim - 2], cs = m->strides[m->ndim - 1];
  int64_t r = m->shape[m->ndim - 2], n = m->shape[m->ndim - 1];
  bool by_rows = (cs == 1 || n == 1) && (rs >= n || r == 1);
  if (by_rows) return (GemmMatrix){data, r == 1 ? n : rs, false};
  return (GemmMatrix){data, n == 1 ? r : cs, true};
}

static bool is_plain_matrix(const Layout *l, DType dtype) {
  return l->ndim == 2 && l->dtype == dtype && has_unit_stride(l);
}

// A batch of products x · y = z, each of `each` elements.
typedef struct Factors {
  Layout a, b;
  const Layout *out;
  int dims;  // of the batch
  const char *x, *y;
  char *z;
  int64_t each, size;
} Factors;

static void place(void *ctx, int64_t i, const void **a, const void **b, void **c) {
  const Factors *f = ctx;
  int64_t oa = 0, ob = 0, left = i;
  for (int d = f->dims - 1, da = f->a.ndim - 3, db = f->b.ndim - 3; d >= 0; d--, da--, db--) {
    int64_t at = left % f->out->shape[d];
    left /= f->out->shape[d];
    if (da >= 0 && f->a.shape[da] > 1) oa += at * f->a.strides[da];
    if (db >= 0 && f->b.shape[db] > 1) ob += at * f->b.strides[db];
  }
  *a = f->x + oa * f->size;
  *b = f->y + ob * f->size;
  *c = f->z + i * f->each * f->size;
}

// One product of whole numbers after another, which wraps around as theirs do; rows first, so that memory is read in
// order.
typedef struct WholeProducts {
  Factors *f;
  int64_t rows, inner, columns, first;
} WholeProducts;

static void whole_rows(int64_t begin, int64_t end, void *ctx) {
  const WholeProducts *w = ctx;
  const int64_t *sa = w->f->a.strides + w->f->a.ndim - 2, *sb = w->f->b.strides + w->f->b.ndim - 2;
  for (int64_t i = w->first + begin; i < w->first + end; i++) {
    const void *a, *b;
    void *c;
    place(w->f, i / w->rows, &a, &b, &c);
    const int64_t *x = (const int64_t *)a + i % w->rows * sa[0], *y = b;
    uint64_t *z = (uint64_t *)c + i % w->rows * w->columns;
    memset(z, 0, (size_t)w->columns * sizeof *z);
    for (int64_t k = 0; k < w->inner; k++)
      for (int64_t j = 0; j < w->columns; j++) z[j] += (uint64_t)x[k * sa[1]] * (uint64_t)y[k * sb[0] + j * sb[1]];
  }
}

static bool multiply_whole(Factors *f, int64_t rows, int64_t inner, int64_t columns, int64_t count, Error *err) {
  int64_t grain = NB_GRAIN / (inner * columns + 1) + 1, step = 64 * grain;
  WholeProducts w = {f, rows, inner, columns, 0};
  for (; w.first < rows * count; w.first += step) {
    int64_t left = rows * count - w.first;
    nb_parallel_for(left < step ? left : step, grain, whole_rows, &w);
    if (!nb_poll(err)) return false;
  }
  return true;
}

static bool matmul_forward(Call *c, Error *err) {
  Scope s;
  bool ok = false;
  const Layout *left = &c->args[0].tensor->layout, *right = &c->args[1].tensor->layout;
  if (c->compute != NB_I64 && is_plain_matrix(left, c->compute) && is_plain_matrix(right, c->compute)) {
    int64_t n = right->shape[1];
    return nb_gemm(c->compute, left->shape[0], n, left->shape[1], gemm_matrix(left, nb_tensor_data(c->args[0].tensor)),
                   gemm_matrix(right, nb_tensor_data(c->args[1].tensor)), nb_tensor_data(c->out[0]), n, err);
  }
  nb_scope_open(&s, err);
  Tensor *x = with_unit_stride(&s, nb_to(&s, c->args[0].tensor, c->compute), true);
  Tensor *y = with_unit_stride(&s, nb_to(&s, c->args[1].tensor, c->compute), false);
  if (!x || !y) goto done;
  Factors f = {.a = as_matrix(&x->layout, true), .b = as_matrix(&y->layout, false), .out = &c->out[0]->layout};
  int64_t rows = f.a.shape[f.a.ndim - 2], inner = f.a.shape[f.a.ndim - 1], columns = f.b.shape[f.b.ndim - 1], count = 1;
  f.dims = f.out->ndim - (left->ndim > 1) - (right->ndim > 1);
  f.x = nb_tensor_data(x), f.y = nb_tensor_data(y), f.z = nb_tensor_data(c->out[0]);
  f.each = rows * columns, f.size = (int64_t)nb_dtype_size(c->compute);
  for (int d = 0; d < f.dims; d++) count *= f.out->shape[d];
  if (c->compute == NB_I64) {
    ok = multiply_whole(&f, rows, inner, columns, count, err);
    goto done;
  }
  GemmMatrix p = gemm_matrix(&f.a, f.x), q = gemm_matrix(&f.b, f.y);
  if (inner > 0 && f.each > 0 && (count >= 4 * nb_threads() || count % nb_threads() == 0)) {
    ok = nb_gemm_batch(c->compute, rows, columns, inner, p, q, count, place, &f, err);
    goto done;
  }
  for (int64_t i = 0; i < count; i++) {
    void *to;
    place(&f, i, &p.data, &q.data, &to);
    if (!nb_gemm(c->compute, rows, columns, inner, p, q, to, columns, err) || !nb_poll(err)) goto done;
  }
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static void run_tiny(char *const *p, const int64_t *n) {
  nb_gemm_tiny(&(GemmTiny){n[0], n[1], n[2], n[3], n[4], n[5], n[6]}, (const float *)p[1], (const float *)p[2],
               n[7] ? (const float *)p[3] : NULL, (float *)p[0]);
}

static void brief_matmul(const Call *c, Brief *b) {
  const Layout *x = &c->args[0].tensor->layout, *y = &c->args[1].tensor->layout;
  if (c->compute != NB_F32 || x->ndim != 2 || y->ndim != 2 || x->dtype != NB_F32 || y->dtype != NB_F32) return;
  int64_t m = x->shape[0], k = x->shape[1], n = y->shape[1];
  if (!nb_gemm_is_tiny(m, n, k)) return;
  *b = (Brief){run_tiny,
               {c->out[0], c->args[0].tensor, c->args[1].tensor},
               {m, n, k, x->strides[0], x->strides[1], y->strides[0], y->strides[1]}};
}

// With Y = X·W: ∂J/∂X = δ·Wᵀ and ∂J/∂W = Xᵀ·δ; nb_give sums over broadcast batches.
static bool matmul_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *x = nb_in(b, 0), *y = nb_in(b, 1);
  Layout xm = as_matrix(&x->layout, true), ym = as_matrix(&y->layout, false), gm = g->layout;
  if (y->layout.ndim == 1) gm.shape[gm.ndim++] = 1;
  if (x->layout.ndim == 1) {
    int64_t columns = gm.shape[gm.ndim - 1];
    gm.shape[gm.ndim - 1] = 1;
    gm.shape[gm.ndim++] = columns;
  }
  g = nb_reshape_like(s, g, &gm);
  x = nb_reshape_like(s, x, &xm);
  y = nb_reshape_like(s, y, &ym);
  if (!g || !x || !y) return false;
  if (nb_wants(b, 0)) {
    Tensor *gx = nb_matmul(s, g, nb_swap(s, y, ym.ndim - 2, ym.ndim - 1));
    if (!nb_give(b, 0, nb_reshape_like(s, nb_sum_to(s, gx, &xm), &nb_in(b, 0)->layout))) return false;
  }
  if (!nb_wants(b, 1)) return true;
  Tensor *gy = nb_matmul(s, nb_swap(s, x, xm.ndim - 2, xm.ndim - 1), g);
  return nb_give(b, 1, nb_reshape_like(s, nb_sum_to(s, gy, &ym), &nb_in(b, 1)->layout));
}

// ---- linear ----

static bool shape_linear(Call *c, Error *err) {
  char tx[NB_SHAPE_TEXT], tw[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout, *w = &c->args[1].tensor->layout;
  const Layout *b = c->args[2].tensor ? &c->args[2].tensor->layout : NULL;
  if (x->ndim == 0 || w->ndim != 2 || x->shape[x->ndim - 1] != w->shape[1])
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "needs x with a last dimension of %lld and a weight of out × in, got shapes %s and %s",
                   w->ndim == 2 ? (long long)w->shape[1] : 1LL, nb_shape_text(x, tx), nb_shape_text(w, tw));
  if (b && (b->ndim != 1 || b->shape[0] != w->shape[0]))
    return nb_fail(err, NB_ERROR_ARGUMENT, "bias must have shape %lld for a weight of shape %s, got %s",
                   (long long)w->shape[0], nb_shape_text(w, tw), nb_shape_text(b, tb));
  c->compute = nb_dtype_promote(nb_dtype_promote(x->dtype, w->dtype), NB_F32);
  if (b) c->compute = nb_dtype_promote(c->compute, b->dtype);
  c->layout[0] = *x;
  c->layout[0].shape[x->ndim - 1] = w->shape[0];
  c->layout[0].dtype = c->compute;
  return true;
}

static bool lies_in_rows(const Tensor *t, DType dtype) {
  return t->layout.dtype == dtype && nb_layout_contiguous(&t->layout);
}

static bool linear_forward(Call *c, Error *err) {
  Scope s;
  bool ok = false;
  nb_scope_open(&s, err);
  Tensor *x = c->args[0].tensor, *w = c->args[1].tensor, *b = c->args[2].tensor;
  if (!lies_in_rows(x, c->compute)) x = nb_contiguous(&s, nb_to(&s, x, c->compute));
  if (!is_plain_matrix(&w->layout, c->compute)) w = with_unit_stride(&s, nb_to(&s, w, c->compute), false);
  if (b && !lies_in_rows(b, c->compute)) b = nb_contiguous(&s, nb_to(&s, b, c->compute));
  if (!x || !w || (c->args[2].tensor && !b)) goto done;
  int64_t out = w->layout.shape[0], in = w->layout.shape[1], rows = 1;
  for (int d = 0; d < x->layout.ndim - 1; d++) rows *= x->layout.shape[d];
  GemmMatrix p = {nb_tensor_data(x), in, false}, q = gemm_matrix(&w->layout, nb_tensor_data(w));
  q.transposed = !q.transposed;
  ok = nb_gemm_bias(c->compute, rows, out, in, p, q, b ? nb_tensor_data(b) : NULL, nb_tensor_data(c->out[0]), out, err);
done:
  nb_scope_close(&s);
  return ok;
}

static void brief_linear(const Call *c, Brief *b) {
  Tensor *x = c->args[0].tensor, *w = c->args[1].tensor, *bias = c->args[2].tensor;
  if (c->compute != NB_F32 || !lies_in_rows(x, NB_F32) || w->layout.dtype != NB_F32) return;
  if (bias && !lies_in_rows(bias, NB_F32)) return;
  int64_t n = w->layout.shape[0], k = w->layout.shape[1], m = k ? nb_layout_numel(&x->layout) / k : 0;
  if (!k || !nb_gemm_is_tiny(m, n, k)) return;
  *b = (Brief){
      run_tiny, {c->out[0], x, w, bias}, {m, n, k, k, 1, w->layout.strides[1], w->layout.strides[0], bias != NULL}};
}

// A new tensor shaped like `like`, the product of a and b.
static Tensor *product(Scope *s, const Layout *like, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b) {
  Tensor *c = nb_scope_own(s, nb_tensor_new(like, s->err));
  return c && nb_gemm(like->dtype, m, n, k, a, b, nb_tensor_data(c), n, s->err) ? c : NULL;
}

// With Y = X·Wᵀ + b: ∂J/∂b = Σ δ, while δ is still in the cache, ∂J/∂W = δᵀ·X, ∂J/∂X = δ·W.
static bool linear_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *x = nb_in(b, 0), *w = nb_in(b, 1), *bias = nb_in(b, 2);
  DType dtype = g->layout.dtype;
  int64_t out = w->layout.shape[0], in = w->layout.shape[1], rows = 1;
  for (int d = 0; d < x->layout.ndim - 1; d++) rows *= x->layout.shape[d];
  if (bias && nb_wants(b, 2) && !nb_give(b, 2, nb_sum_to(s, g, &bias->layout))) return false;
  if (nb_unheard() && lies_in_rows(g, dtype) && lies_in_rows(x, dtype) && lies_in_rows(w, dtype)) {
    // The same without views and their calls.
    GemmMatrix delta = {nb_tensor_data(g), out, false}, across = {nb_tensor_data(g), out, true};
    GemmMatrix weight = {nb_tensor_data(w), in, false}, input = {nb_tensor_data(x), in, false};
    if (nb_wants(b, 1) && !nb_give(b, 1, product(s, &w->layout, out, in, rows, across, input))) return false;
    return !nb_wants(b, 0) || nb_give(b, 0, product(s, &x->layout, rows, in, out, delta, weight));
  }
  if (nb_wants(b, 1)) {
    Tensor *flat_g = nb_reshape(s, g, (int64_t[]){rows, out}, 2), *flat_x = nb_reshape(s, x, (int64_t[]){rows, in}, 2);
    if (!nb_give(b, 1, nb_matmul(s, nb_swap(s, flat_g, 0, 1), flat_x))) return false;
  }
  return !nb_wants(b, 0) || nb_give(b, 0, nb_matmul(s, g, w));
}

static const Op ops[] = {
    {.name = "matmul",
     .doc = "The matrix product x · y; leading dimensions are batches and broadcast, a vector is a row or a column.  "
            "Whole numbers give i64.",
     .example = "nb.matmul(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 1})  --> {3, 7}",
     .derivative = "∂/∂x = δ·yᵀ, ∂/∂y = xᵀ·δ",
     .sample = {.args =
                    "f(3,4), f(4,2); f(4), f(4,2); f(3,4), f(4); f(4), f(4); f(2,3,4), f(4,2); f(2,1,3,4), f(5,4,2)"},
     .role = NB_ROLE_PRODUCT,
     .flops = nb_flops_matmul,
     .params = {TENSOR("x"), TENSOR("y")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = shape_matmul,
     .forward = matmul_forward,
     .brief = brief_matmul,
     .backward = matmul_backward},
    {.name = "linear",
     .doc = "x · weightᵀ + bias on the last dimension of x; weight is out × in.",
     .example = "nb.linear(nb.tensor{{1, 2}}, nb.tensor{{1, 1}, {0, 1}}, nb.tensor{10, 0})  --> {{13, 2}}",
     .derivative = "∂/∂x = δ·W, ∂/∂W = δᵀ·x, ∂/∂b = Σ δ",
     .sample = {.args = "f(3,4), f(2,4), f(2); f(2,3,4), f(2,4), f(2); f(4), f(2,4), f(2); f(3,4), f(2,4)"},
     .role = NB_ROLE_PRODUCT,
     .flops = nb_flops_linear,
     .params = {TENSOR("x"), TENSOR("weight"), OPTIONAL_TENSOR("bias")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = shape_linear,
     .forward = linear_forward,
     .brief = brief_linear,
     .backward = linear_backward},
};
const OpFamily ops_matrix = {"Matrices", ops, COUNT(ops)};
