// SPDX-License-Identifier: MIT
// Operators: reductions over all, one or several dimensions.  How memory is walked is kernels/reduce.c's.
//
// var and std take two passes.
#include "reduce.h"

#include <math.h>
#include <string.h>

#include "loops.h"
#include "nablua/memory.h"
#include "sums.h"

// ---- shapes ----

static bool reduced_shape(Call *c, const Value *dims, bool keepdim, DType dtype, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  bool mask[NB_MAX_DIMS];
  if (nb_dims(dims, x->ndim, mask, err) < 0) return false;
  c->layout[0] = (Layout){.dtype = dtype};
  for (int d = 0; d < x->ndim; d++) {
    if (mask[d] && !keepdim) continue;
    c->layout[0].shape[c->layout[0].ndim++] = mask[d] ? 1 : x->shape[d];
  }
  return true;
}

static DType input_dtype(const Call *c) {
  return c->args[0].tensor->layout.dtype;
}

static bool shape_sum(Call *c, Error *err) {
  c->compute = nb_dtype_promote(input_dtype(c), NB_I64);
  return reduced_shape(c, &c->args[1], c->args[2].flag, c->compute, err);
}

static bool shape_float(Call *c, Error *err) {
  c->compute = nb_dtype_promote(input_dtype(c), NB_F32);
  return reduced_shape(c, &c->args[1], c->args[2].flag, c->compute, err);
}

static bool shape_mask(Call *c, Error *err) {
  return reduced_shape(c, &c->args[1], c->args[2].flag, NB_BOOL, err);
}

// A dimension argument as the list that reductions take; the number lives in *store.
static Value one_dim(int64_t dim, int64_t *store) {
  *store = dim;
  return (Value){.ints = {store, dim ? 1 : -1}};
}

static bool empty_reduction(const Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  int64_t results = nb_layout_numel(&c->layout[0]);
  if (nb_layout_numel(x) > 0 || results == 0) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s has no elements to choose from", nb_shape_text(x, text));
}

static bool shape_argument(Call *c, Error *err) {
  int64_t store;
  Value dims = one_dim(c->args[1].integer, &store);
  c->compute = nb_dtype_promote(input_dtype(c), NB_I64);
  return reduced_shape(c, &dims, c->args[2].flag, NB_I64, err) && empty_reduction(c, err);
}

static bool shape_extreme(Call *c, Error *err) {
  if (!shape_argument(c, err)) return false;
  c->layout[1] = c->layout[0];
  c->layout[0].dtype = input_dtype(c) <= NB_U8 ? nb_kept_dtype(c->op, input_dtype(c)) : input_dtype(c);
  return true;
}

// ---- forward ----

static bool sum_forward(Call *c, Error *err) {
  return nb_reduce_sum(c, &c->args[1], err);
}

static bool prod_forward(Call *c, Error *err) {
  return nb_reduce_product(c, &c->args[1], err);
}

static bool find_place(Call *c, Tensor *places, Tensor *values, bool largest, Error *err) {
  int64_t store;
  Value dims = one_dim(c->args[1].integer, &store);
  return nb_reduce_place(c, places, values, &dims, largest, err);
}

static bool argmax_forward(Call *c, Error *err) {
  return find_place(c, c->out[0], NULL, true, err);
}

static bool argmin_forward(Call *c, Error *err) {
  return find_place(c, c->out[0], NULL, false, err);
}

static bool max_forward(Call *c, Error *err) {
  return find_place(c, c->out[1], c->out[0], true, err);
}

static bool min_forward(Call *c, Error *err) {
  return find_place(c, c->out[1], c->out[0], false, err);
}

// The forward of rows that other rows compose: the result replaces c->out[0]'s elements.
static bool finish(Call *c, Scope *s, Tensor *result) {
  result = nb_reshape_like(s, result, &c->layout[0]);
  if (result) nb_copy(c->out[0], result);
  nb_scope_close(s);
  return result;
}

static Tensor *reduce(Scope *s, const char *name, Tensor *x, const Value *dims, bool keepdim) {
  return x ? nb_op(s, name, (Value[NB_MAX_PARAMS]){{.tensor = x}, *dims, {.flag = keepdim}}) : NULL;
}

static double count_of(const Layout *x, const Value *dims) {
  bool mask[NB_MAX_DIMS];
  Error ignored;
  double n = 1;
  if (nb_dims(dims, x->ndim, mask, &ignored) < 0) return 1;
  for (int d = 0; d < x->ndim; d++)
    if (mask[d]) n *= (double)x->shape[d];
  return n;
}

NB_UNARY_FLOATS(divide, x / (float)args->number, x / args->number)
NB_UNARY_FLOATS(times, x *(float)args->number, x * args->number)

static bool mean_forward(Call *c, Error *err) {
  Tensor *out = c->out[0];
  double n = count_of(&c->args[0].tensor->layout, &c->args[1]);
  if (!nb_reduce_sum(c, &c->args[1], err)) return false;
  nb_loop(out->layout.dtype == NB_F32 ? divide_f32 : divide_f64, &(Value){.number = n}, (Tensor *[]){out, out}, 2);
  return true;
}

bool nb_is_sum_of_all(const Call *c, double *divisor) {
  if (c->op->forward != sum_forward && c->op->forward != mean_forward) return false;
  const Layout *x = &c->args[0].tensor->layout;
  int64_t n = nb_layout_numel(x);
  *divisor = c->op->forward == mean_forward ? (double)n : 1;
  return n > 0 && nb_layout_numel(&c->out[0]->layout) == 1 && nb_layout_contiguous(x) && x->dtype == c->compute &&
         nb_dtype_is_float(x->dtype);
}

// A few elements that lie together: n holds how many outer, reduced and inner ones, and the divisor.
#define RUN_FEW(name, T)                                                     \
  static void name(char *const *p, const int64_t *n) {                       \
    const int64_t reduced = n[1], inner = n[2];                              \
    const T *x = (const T *)p[1], divisor = (T)n[3];                         \
    T *out = (T *)p[0];                                                      \
    for (int64_t o = 0; o < n[0]; o++, x += (reduced - 1) * inner)           \
      for (int64_t i = 0; i < inner; i++, x++) {                             \
        double total = 0;                                                    \
        for (int64_t r = 0; r < reduced; r++) total += (double)x[r * inner]; \
        *out++ = divisor == 1 ? (T)total : (T)total / divisor;               \
      }                                                                      \
  }
RUN_FEW(run_few_f32, float)
RUN_FEW(run_few_f64, double)

static void brief_sum(const Call *c, Brief *b) {
  enum { FEW = 256 };
  Error ignored;
  bool mask[NB_MAX_DIMS];
  const Layout *x = &c->args[0].tensor->layout;
  int64_t n[4] = {1, 1, 1, 1};
  int part = 0;
  if (x->dtype != c->compute || !nb_dtype_is_float(x->dtype) || !nb_layout_contiguous(x) || nb_layout_numel(x) > FEW)
    return;
  if (nb_dims(&c->args[1], x->ndim, mask, &ignored) < 0) return;
  for (int d = 0; d < x->ndim; d++) {
    if (x->shape[d] == 1) continue;
    if (mask[d] != (part == 1)) part++;  // 0 and 2 are kept, 1 is reduced
    if (part > 2) return;
    n[part] *= x->shape[d];
  }
  if (c->op->forward == mean_forward) n[3] = n[1];
  *b =
      (Brief){x->dtype == NB_F32 ? run_few_f32 : run_few_f64, {c->out[0], c->args[0].tensor}, {n[0], n[1], n[2], n[3]}};
}

// Σ(x − mean)²/(n − correction)
static Tensor *variance(Call *c, Scope *s) {
  Tensor *x = nb_to(s, c->args[0].tensor, c->compute);
  double n = count_of(&c->args[0].tensor->layout, &c->args[1]) - c->args[3].number;
  Tensor *off = nb_sub(s, x, reduce(s, "mean", x, &c->args[1], true));
  Tensor *total = reduce(s, "sum", nb_mul(s, off, off), &c->args[1], true);
  return nb_div(s, total, nb_full(s, &(Layout){.dtype = c->compute}, n > 0 ? n : 0));
}

static bool var_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  return finish(c, &s, variance(c, &s));
}

static bool std_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  return finish(c, &s, nb_unary(&s, "sqrt", variance(c, &s)));
}

static bool any_forward(Call *c, Error *err) {
  return nb_reduce_test(c, &c->args[1], false, err);
}

static bool all_forward(Call *c, Error *err) {
  return nb_reduce_test(c, &c->args[1], true, err);
}

// The largest (or smallest) of each slice over several dimensions.
static Tensor *extreme_of(Scope *s, const char *name, Tensor *x, const Value *dims) {
  bool mask[NB_MAX_DIMS];
  if (!x || nb_dims(dims, x->layout.ndim, mask, s->err) < 0) return NULL;
  for (int d = 0; x && d < x->layout.ndim; d++) {
    Tensor *out[NB_MAX_OUTPUTS] = {NULL};
    if (!mask[d]) continue;
    if (!nb_op_many(s, name, (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = d + 1}, {.flag = true}}, out))
      return NULL;
    x = out[0];
  }
  return x;
}

// The same as plain numbers; ±∞ counts as 0.
static Tensor *finite_top(Scope *s, Tensor *x, const Value *dims) {
  Tensor *top = extreme_of(s, "max", x, dims);
  return top ? nb_where(s, nb_unary(s, "isfinite", top), top, nb_full(s, &(Layout){.dtype = top->layout.dtype}, 0))
             : NULL;
}

static bool logsumexp_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *x = nb_to(&s, c->args[0].tensor, c->compute);
  if (x && nb_layout_numel(&x->layout) == 0)
    return finish(c, &s, nb_unary(&s, "log", reduce(&s, "sum", x, &c->args[1], true)));
  Tensor *top = finite_top(&s, x, &c->args[1]);
  Tensor *total = reduce(&s, "sum", nb_unary(&s, "exp", nb_sub(&s, x, top)), &c->args[1], true);
  return finish(c, &s, nb_add(&s, nb_unary(&s, "log", total), top));
}

static bool norm_forward(Call *c, Error *err) {
  Scope s;
  double p = c->args[3].number;
  nb_scope_open(&s, err);
  Tensor *x = nb_to(&s, c->args[0].tensor, c->compute);
  if (x && p == 2 && nb_layout_numel(&c->layout[0]) == 1 && nb_layout_contiguous(&x->layout)) {
    nb_tensor_set(c->out[0], 0, sqrt(nb_squares_of(c->compute, nb_layout_numel(&x->layout), nb_tensor_data(x))));
    nb_scope_close(&s);
    return true;
  }
  x = nb_unary(&s, "abs", x);
  if (isinf(p)) return finish(c, &s, extreme_of(&s, p > 0 ? "max" : "min", x, &c->args[1]));
  if (p == 0)
    return finish(c, &s, reduce(&s, "sum", x ? nb_to(&s, nb_to(&s, x, NB_BOOL), c->compute) : NULL, &c->args[1], true));
  if (p == 2) return finish(c, &s, nb_unary(&s, "sqrt", reduce(&s, "sum", nb_mul(&s, x, x), &c->args[1], true)));
  if (p == 1) return finish(c, &s, reduce(&s, "sum", x, &c->args[1], true));
  return finish(c, &s, nb_pown(&s, reduce(&s, "sum", nb_pown(&s, x, p), &c->args[1], true), 1 / p));
}

static bool shape_norm(Call *c, Error *err) {
  double p = c->args[3].number;
  if (isnan(p)) return nb_fail(err, NB_ERROR_ARGUMENT, "p must be a number or an infinity, got nan");
  return shape_float(c, err) && ((p >= 0 && !isinf(p)) || empty_reduction(c, err));
}

// ---- backward ----

// A gradient of the output's shape, with the reduced dimensions back as size 1.
static Tensor *with_dims(Backward *b, Tensor *t, const Value *dims) {
  bool mask[NB_MAX_DIMS];
  Layout l = nb_in(b, 0)->layout;
  if (!t || nb_dims(dims, l.ndim, mask, b->scope->err) < 0) return NULL;
  for (int d = 0; d < l.ndim; d++)
    if (mask[d]) l.shape[d] = 1;
  return nb_reshape_like(b->scope, t, &l);
}

// The gradient of a reduction's output for each of the elements that it came from.
static Tensor *spread(Backward *b, Tensor *g) {
  bool mask[NB_MAX_DIMS];
  Layout l = nb_in(b, 0)->layout;
  if (!g || !nb_unheard()) return nb_expand_like(b->scope, with_dims(b, g, nb_arg(b, 1)), &l);
  if (nb_dims(nb_arg(b, 1), l.ndim, mask, b->scope->err) < 0) return NULL;
  bool keepdim = g->layout.ndim == l.ndim;
  for (int d = 0, e = 0; d < l.ndim; d++) {
    l.strides[d] = mask[d] ? 0 : g->layout.strides[keepdim ? d : e];
    e += !mask[d];
  }
  l.offset = g->layout.offset;
  l.dtype = g->layout.dtype;
  return nb_scope_own(b->scope, nb_tensor_alias(g, &l, b->scope->err));
}

static bool sum_backward(Backward *b) {
  return nb_give(b, 0, spread(b, b->grad[0]));
}

static bool mean_backward(Backward *b) {
  double n = count_of(&nb_in(b, 0)->layout, nb_arg(b, 1));
  Tensor *g = b->grad[0];
  if (!nb_unheard()) return nb_give(b, 0, spread(b, nb_muln(b->scope, g, 1 / n)));
  Tensor *share = nb_scope_own(b->scope, nb_tensor_new(&g->layout, b->scope->err));
  if (!share) return false;
  nb_loop(g->layout.dtype == NB_F32 ? times_f32 : times_f64, &(Value){.number = 1 / n}, (Tensor *[]){share, g}, 2);
  return nb_give(b, 0, spread(b, share));
}

// ∏ of the others of each row, from the left and from the right; where a side leaves the range of doubles, in a wider
// one.
typedef struct Others {
  const void *x;
  void *out;
  long double *sides;  // two for each element
  int64_t n;
} Others;

#define OTHERS_IN(name, T, Wide)                                                          \
  static bool name(int64_t n, const T *x, T *out, Wide *before) {                         \
    Wide *after = before + n, left = 1, right = 1;                                        \
    for (int64_t i = 0; i < n && nb_goes_on(i); left *= x[i], right *= x[n - 1 - i], i++) \
      before[i] = left, after[n - 1 - i] = right;                                         \
    for (int64_t i = 0; i < n; i++) out[i] = (T)(before[i] * after[i]);                   \
    return isnormal(left) && isnormal(right);                                             \
  }
OTHERS_IN(others_in_f32, float, double)
OTHERS_IN(others_in_f64, double, double)
OTHERS_IN(others_wide_f32, float, long double)
OTHERS_IN(others_wide_f64, double, long double)

#define OTHERS(type, T)                                                                              \
  static void others_##type(int64_t begin, int64_t end, void *ctx) {                                 \
    const Others *w = ctx;                                                                           \
    for (int64_t r = begin; r < end; r++) {                                                          \
      const T *x = (const T *)w->x + r * w->n;                                                       \
      T *out = (T *)w->out + r * w->n;                                                               \
      long double *sides = w->sides + r * 2 * w->n;                                                  \
      if (!others_in_##type(w->n, x, out, (double *)sides)) others_wide_##type(w->n, x, out, sides); \
    }                                                                                                \
  }
OTHERS(f32, float)
OTHERS(f64, double)

static bool shape_others(Call *c, Error *err) {
  return nb_shape_unary_float(c, err);
}

static bool others_forward(Call *c, Error *err) {
  Scope s;
  const Layout *l = &c->layout[0];
  int64_t numel = nb_layout_numel(l), n = l->ndim ? l->shape[l->ndim - 1] : 1;
  size_t bytes = 2 * (size_t)numel * sizeof(long double);
  if (numel == 0) return true;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  long double *sides = x ? nb_alloc(bytes, err) : NULL;
  if (sides) {
    Others w = {nb_tensor_data(x), nb_tensor_data(c->out[0]), sides, n};
    nb_parallel_for(numel / n, NB_GRAIN / 4 / n + 1, c->compute == NB_F32 ? others_f32 : others_f64, &w);
    nb_free(sides, bytes);
  }
  nb_scope_close(&s);
  return sides;
}

// The products of all elements before (or after) each one along the last dimension, by doubling steps: moved by 1, then
// multiplied with itself moved by 1, 2, 4 ...
static Tensor *products_beside(Scope *s, Tensor *x, bool before) {
  int64_t n = x->layout.shape[x->layout.ndim - 1];
  Tensor *p = x;
  for (int64_t step = 0; p && step < n; step = step ? 2 * step : 1) {
    int64_t by = before ? (step ? step : 1) : -(step ? step : 1);
    Tensor *moved =
        nb_op(s, "pad", (Value[NB_MAX_PARAMS]){{.tensor = p}, {.ints = {(int64_t[]){by, -by}, 2}}, {.number = 1}});
    p = step ? nb_mul(s, p, moved) : moved;
  }
  return p;
}

// ∏ of the others without a division, so that it is right, and can be differentiated, where elements are 0 or infinite.
static Tensor *products_of_others(Scope *s, Tensor *x, const Value *dims) {
  bool mask[NB_MAX_DIMS];
  int64_t order[NB_MAX_DIMS], back[NB_MAX_DIMS], rows = 1, n = 1;
  int count = 0;
  const Layout *l = &x->layout;
  if (l->ndim == 0) return nb_full(s, l, 1);
  if (nb_dims(dims, l->ndim, mask, s->err) < 0) return NULL;
  for (int reduced = 0; reduced < 2; reduced++) {
    for (int d = 0; d < l->ndim; d++) {
      if (mask[d] != reduced) continue;
      *(reduced ? &n : &rows) *= l->shape[d];
      order[count] = d + 1;
      back[d] = ++count;
    }
  }
  Tensor *sorted = nb_op(s, "permute", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.ints = {order, count}}});
  if (!sorted) return NULL;
  Tensor *flat = nb_reshape(s, sorted, (int64_t[]){rows, n}, 2);
  if (!flat) return NULL;
  Tensor *others = nb_grad_enabled() ? nb_mul(s, products_beside(s, flat, true), products_beside(s, flat, false))
                                     : nb_unary(s, "products_of_others", flat);
  others = nb_reshape_like(s, others, &sorted->layout);
  return others ? nb_op(s, "permute", (Value[NB_MAX_PARAMS]){{.tensor = others}, {.ints = {back, count}}}) : NULL;
}

static bool prod_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = with_dims(b, b->grad[0], nb_arg(b, 1));
  return nb_give(b, 0, nb_mul(s, g, products_of_others(s, nb_in(b, 0), nb_arg(b, 1))));
}

// Which elements are the extreme one: those equal to it, and each NaN where there are such.
static Tensor *extremes(Scope *s, Tensor *x, Tensor *extreme) {
  return nb_binary(s, "logical_or", nb_binary(s, "eq", x, extreme), nb_unary(s, "isnan", x));
}

// To the chosen element; over all dimensions equal values share.
static bool extreme_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *g = b->grad[0];
  if (nb_arg(b, 1)->integer == 0 || x->layout.ndim == 0) {
    Tensor *mine = nb_to(s, extremes(s, x, nb_out(b, 0)), g->layout.dtype);
    return nb_give(b, 0, nb_mul(s, mine, nb_div(s, g, nb_sum_all(s, mine))));
  }
  int64_t store;
  Value dims = one_dim(nb_arg(b, 1)->integer, &store);
  Tensor *place = with_dims(b, nb_out(b, 1), &dims);
  g = with_dims(b, g, &dims);
  if (!place || !g) return false;
  Value args[NB_MAX_PARAMS] = {{0}, {.integer = store}, {.tensor = place}, {.tensor = g}};
  return nb_give(b, 0, nb_into_zeros(s, "scatter_add", &x->layout, args));
}

static int extreme_returns(const Value *args) {
  return args[1].integer == 0 ? 1 : 2;
}

static Tensor *deviation(Backward *b) {
  Tensor *x = nb_in(b, 0);
  return nb_sub(b->scope, x, reduce(b->scope, "mean", x, nb_arg(b, 1), true));
}

static double degrees(Backward *b) {
  double n = count_of(&nb_in(b, 0)->layout, nb_arg(b, 1)) - nb_arg(b, 3)->number;
  return n > 0 ? n : 0;
}

static bool var_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = with_dims(b, b->grad[0], nb_arg(b, 1));
  return nb_give(b, 0, nb_muln(s, nb_mul(s, g, deviation(b)), 2 / degrees(b)));
}

// y with 1 in place of 0, for divisions whose other side is 0 there too.
static Tensor *not_zero(Scope *s, Tensor *y) {
  if (!y || !nb_may_hold_zero(y)) return y;
  Tensor *zero = nb_full(s, &(Layout){.dtype = y->layout.dtype}, 0),
         *one = nb_full(s, &(Layout){.dtype = y->layout.dtype}, 1);
  return nb_where(s, nb_binary(s, "eq", y, zero), one, y);
}

// δ, but 0 where the output is: so is there what it is divided by or multiplied with, in every order.
static Tensor *masked_grad(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  if (!y) return NULL;
  if (!nb_may_hold_zero(y)) return b->grad[0];
  Tensor *zero = nb_full(s, &(Layout){.dtype = y->layout.dtype}, 0);
  return nb_where(s, nb_binary(s, "eq", y, zero), zero, b->grad[0]);
}

// δ/y, for a product with what is 0 where y is 0.  That choice is right in value; in slope only with δ masked, too.
static Tensor *over_output(Backward *b) {
  Tensor *g = nb_grad_enabled() ? masked_grad(b) : b->grad[0];
  return g ? nb_div(b->scope, g, not_zero(b->scope, nb_out(b, 0))) : NULL;
}

// Equal elements, which have no deviation, get the gradient 0.
static bool std_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = with_dims(b, over_output(b), nb_arg(b, 1));
  return nb_give(b, 0, nb_muln(s, nb_mul(s, g, deviation(b)), 1 / degrees(b)));
}

// softmax: e^(x − y)
static bool logsumexp_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = with_dims(b, nb_out(b, 0), nb_arg(b, 1)), *g = with_dims(b, b->grad[0], nb_arg(b, 1));
  return nb_give(b, 0, nb_mul(s, g, nb_unary(s, "exp", nb_sub(s, nb_in(b, 0), y))));
}

// Elements as large (or as small) as the norm for p = ±∞ share its gradient.
static bool give_to_extremes(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = with_dims(b, nb_out(b, 0), nb_arg(b, 1)), *g = with_dims(b, b->grad[0], nb_arg(b, 1));
  if (!y || !g) return false;
  Tensor *mine = nb_to(s, extremes(s, nb_unary(s, "abs", x), y), g->layout.dtype);
  Tensor *share = nb_div(s, g, reduce(s, "sum", mine, nb_arg(b, 1), true));
  return nb_give(b, 0, nb_mul(s, nb_unary(s, "sign", x), nb_mul(s, mine, share)));
}

// sign x·(|x|/‖x‖)^(p−1), and 0 where x or the norm is 0.
static bool norm_backward(Backward *b) {
  Scope *s = b->scope;
  double p = nb_arg(b, 3)->number;
  Tensor *x = nb_in(b, 0);
  if (p == 0) return nb_give(b, 0, nb_full(s, &x->layout, 0));
  if (isinf(p)) return give_to_extremes(b);
  if (p == 1) return nb_give(b, 0, nb_mul(s, with_dims(b, b->grad[0], nb_arg(b, 1)), nb_unary(s, "sign", x)));
  if (p == 2) return nb_give(b, 0, nb_mul(s, with_dims(b, over_output(b), nb_arg(b, 1)), x));
  // Without zeros before the power, whose own slopes there are infinite or NaN.
  Tensor *y = with_dims(b, not_zero(s, nb_out(b, 0)), nb_arg(b, 1)), *g = with_dims(b, masked_grad(b), nb_arg(b, 1));
  Tensor *ratio = nb_pown(s, nb_unary(s, "abs", nb_div(s, not_zero(s, x), y)), p - 1);
  return nb_give(b, 0, nb_mul(s, g, nb_mul(s, nb_unary(s, "sign", x), ratio)));
}

#define DIMS_PARAMS TENSOR("x"), OPTIONAL_DIMS("dim"), NAMED_FLAG("keepdim")
#define DIM_PARAMS TENSOR("x"), OPTIONAL_DIM("dim"), NAMED_FLAG("keepdim")
#define DIMS_SAMPLE "f(2,3,4); f(2,3,4), 2; f(2,3,4), {1,-1}, {keepdim=true}; f(3,4), 1"

static const Op ops[] = {
    {.name = "sum",
     .doc = "The sum over all elements, or over one or several dimensions.",
     .example = "nb.sum(nb.tensor{{1, 2}, {3, 4}}, 1)  --> {4, 6}",
     .derivative = "1",
     .sample = {.args = DIMS_SAMPLE "; f(3)"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS},
     .shape = shape_sum,
     .forward = sum_forward,
     .brief = brief_sum,
     .backward = sum_backward},
    {.name = "mean",
     .doc = "The mean over all elements, or over one or several dimensions.",
     .example = "nb.mean(nb.tensor{{1, 2}, {3, 4}}, 1)  --> {2, 3}",
     .derivative = "1/n",
     .sample = {.args = DIMS_SAMPLE},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS},
     .shape = shape_float,
     .forward = mean_forward,
     .brief = brief_sum,
     .backward = mean_backward},
    {.name = "prod",
     .doc = "The product over all elements, or over one or several dimensions.",
     .example = "nb.prod(nb.tensor{2, 3, 4})  --> 24",
     .derivative = "∏ of the others",
     .sample = {.lo = 0.5, .hi = 2, .args = DIMS_SAMPLE "; f(2,2,{lo=0,hi=0}), 2"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS},
     .saves = NB_SAVE_IN(0),
     .shape = shape_sum,
     .forward = prod_forward,
     .backward = prod_backward},
    {.name = "products_of_others",
     .doc = "Of each element the product of the others in the last dimension: the slope of prod.",
     .example =
         "local x = nb.tensor({2, 3, 5}, {requires_grad=true}); x:prod():backward(); return x.grad  --> {15, 10, "
         "6}",
     .no_grad = "it serves the backward of prod, whose own derivatives are composed",
     .internal = true,
     .role = NB_ROLE_GRADIENT,
     .symbol = "∏'",
     .params = {TENSOR("x")},
     .shape = shape_others,
     .forward = others_forward},
    {.name = "max",
     .doc = "The largest element; along a dimension the largest values and their indices.  Of equal ones all share the "
            "gradient, along a dimension the first has it; NaN is larger than all.",
     .example = "nb.max(nb.tensor{3, 9, 4})  --> 9",
     .derivative = "1 at the largest",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), -1, {keepdim=true}"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIM_PARAMS},
     .outputs = 2,
     .returns = extreme_returns,
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .narrow = true,
     .stays_mask = true,
     .shape = shape_extreme,
     .forward = max_forward,
     .backward = extreme_backward},
    {.name = "min",
     .doc =
         "The smallest element; along a dimension the smallest values and their indices.  Of equal ones all share the "
         "gradient, along a dimension the first has it; NaN is smaller than all.",
     .example = "nb.min(nb.tensor{3, 9, 4})  --> 3",
     .derivative = "1 at the smallest",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), -1, {keepdim=true}"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIM_PARAMS},
     .outputs = 2,
     .returns = extreme_returns,
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .narrow = true,
     .stays_mask = true,
     .shape = shape_extreme,
     .forward = min_forward,
     .backward = extreme_backward},
    {.name = "argmax",
     .doc = "The index of the largest element, along a dimension or in the order of all elements.",
     .example = "nb.argmax(nb.tensor{{3, 9}, {4, 1}}, 2)  --> {2, 1}",
     .no_grad = "an index is piecewise constant",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), -1, {keepdim=true}"},
     .role = NB_ROLE_TEST,
     .params = {DIM_PARAMS},
     .shape = shape_argument,
     .forward = argmax_forward},
    {.name = "argmin",
     .doc = "The index of the smallest element, along a dimension or in the order of all elements.",
     .example = "nb.argmin(nb.tensor{{3, 9}, {4, 1}}, 2)  --> {1, 2}",
     .no_grad = "an index is piecewise constant",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), -1, {keepdim=true}"},
     .role = NB_ROLE_TEST,
     .params = {DIM_PARAMS},
     .shape = shape_argument,
     .forward = argmin_forward},
    {.name = "var",
     .doc = "The variance, Σ(x − mean)²/(n − correction), over all elements or dimensions.",
     .example = "nb.var(nb.tensor{1, 2, 3})  --> 1",
     .derivative = "2(x − mean)/(n − correction)",
     .sample = {.args = DIMS_SAMPLE "; f(3,4), 2, {correction=0}"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS, NAMED_NUMBER("correction", 1)},
     .saves = NB_SAVE_IN(0),
     .shape = shape_float,
     .forward = var_forward,
     .backward = var_backward},
    {.name = "std",
     .doc = "The standard deviation, the root of the variance, over all elements or dimensions.",
     .example = "nb.std(nb.tensor{1, 2, 3})  --> 1",
     .derivative = "(x − mean)/((n − correction)·std)",
     .sample = {.args = DIMS_SAMPLE "; f(3,4), 2, {correction=0}"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS, NAMED_NUMBER("correction", 1)},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_float,
     .forward = std_forward,
     .backward = std_backward},
    {.name = "norm",
     .doc =
         "The p-norm, (Σ|x|^p)^(1/p), over all elements or dimensions; for p = ±math.huge the largest or smallest |x|, "
         "for 0 how many are not 0.",
     .example = "nb.norm(nb.tensor{3, 4})  --> 5",
     .derivative = "sign(x)·(|x|/‖x‖)^(p−1)",
     .sample = {.args = "f(3,4); f(3,4), 2; f(3,4,{lo=0.5,hi=2}), {p=1}; f(3,4,{lo=0.5,hi=2}), 1, {p=3, keepdim=true}; "
                        "f(3,4,{lo=0.5,hi=2}), 1, {p=0.5}; f(3,4,{lo=-2,hi=-0.5}), {p=-2}; f(3,4), 2, {p=1/0}; f(3,4), "
                        "{p=-1/0}; f(3,4), 1, {p=0}"},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS, NAMED_NUMBER("p", 2)},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_norm,
     .forward = norm_forward,
     .backward = norm_backward},
    {.name = "logsumexp",
     .doc = "log Σ e^x over all elements or dimensions, without overflow.",
     .example = "nb.logsumexp(nb.tensor{1000, 1000})  --> 1000.693",
     .derivative = "softmax(x)",
     .sample = {.args = DIMS_SAMPLE},
     .role = NB_ROLE_REDUCTION,
     .params = {DIMS_PARAMS},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_float,
     .forward = logsumexp_forward,
     .backward = logsumexp_backward},
    {.name = "any",
     .doc = "Whether any element is true (not zero), over all elements or dimensions.",
     .example = "nb.any(nb.tensor{0, 1})  --> true",
     .no_grad = "a mask is not a number",
     .sample = {.args = "m(2,3,4); m(2,3,4), 2"},
     .role = NB_ROLE_TEST,
     .params = {DIMS_PARAMS},
     .shape = shape_mask,
     .forward = any_forward},
    {.name = "all",
     .doc = "Whether all elements are true (not zero), over all elements or dimensions.",
     .example = "nb.all(nb.tensor{0, 1})  --> false",
     .no_grad = "a mask is not a number",
     .sample = {.args = "m(2,3,4); m(2,3,4), 2"},
     .role = NB_ROLE_TEST,
     .params = {DIMS_PARAMS},
     .shape = shape_mask,
     .forward = all_forward},
};
const OpFamily ops_reduce = {"Reductions", ops, COUNT(ops)};
