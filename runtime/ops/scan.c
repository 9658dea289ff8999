// SPDX-License-Identifier: MIT
// Operators: running totals, products and extremes along a dimension.
#include <math.h>

#include "loops.h"

// Lanes along dimension d of a contiguous tensor: lane r begins at its element lane_start(r), with steps of `inner`.
typedef struct Lanes {
  int64_t n, inner, count;
} Lanes;

static Lanes lanes_of(const Layout *l, int d) {
  if (l->ndim == 0) return (Lanes){1, 1, 1};
  int64_t n = l->shape[d];
  return (Lanes){n, l->strides[d], n ? nb_layout_numel(l) / n : 0};
}

static int64_t lane_start(const Lanes *l, int64_t r) {
  return r / l->inner * l->n * l->inner + r % l->inner;
}

// The dimension as an index; a scalar is a lane of one.
static bool scan_dim(const Call *c, int param, int *d, Error *err) {
  int64_t dim = c->args[param].integer;
  int ndim = c->args[0].tensor->layout.ndim;
  *d = 0;
  return (ndim == 0 && (dim == 1 || dim == -1)) || nb_dim(dim, ndim, d, err);
}

static bool shape_cumsum(Call *c, Error *err) {
  int d;
  c->layout[0] = c->args[0].tensor->layout;
  c->compute = c->layout[0].dtype = nb_dtype_promote(c->layout[0].dtype, NB_I64);
  return scan_dim(c, 1, &d, err);
}

// The lanes of a call, and where their elements are.
typedef struct Scan {
  Lanes lanes;
  void *to;
} Scan;

// Lanes that lie side by side go together, element by element, and else so many that none waits for its own sums.
enum { TOGETHER = 64, APART = 8 };

// Lanes r .. r + m − 1, whose elements are `pitch` from each other, in steps of `step`.
#define TOTALS(T, Sum, start, expr, m, pitch, step)                                                 \
  do {                                                                                              \
    T *to = (T *)scan->to + lane_start(&l, r);                                                      \
    Sum totals[TOGETHER];                                                                           \
    for (int64_t j = 0; j < (m); j++) totals[j] = start;                                            \
    for (int64_t k = 0; k < l.n && nb_goes_on(k); k++) NB_IVDEP for (int64_t j = 0; j < (m); j++) { \
        const Sum x = (Sum)to[k * (step) + j * (pitch)];                                            \
        const Sum total = totals[j];                                                                \
        (void)total;                                                                                \
        totals[j] = expr;                                                                           \
        to[k * (step) + j * (pitch)] = (T)totals[j];                                                \
      }                                                                                             \
  } while (0)

#define TOTALS_OF(name, T, Sum, start, expr)            \
  NB_RANGE(name) {                                      \
    const Scan *scan = ctx;                             \
    const Lanes l = scan->lanes;                        \
    for (int64_t r = begin, m; r < end; r += m) {       \
      m = l.inner == 1 ? APART : l.inner - r % l.inner; \
      if (m > end - r) m = end - r;                     \
      if (m > TOGETHER) m = TOGETHER;                   \
      if (l.inner > 1)                                  \
        TOTALS(T, Sum, start, expr, m, 1, l.inner);     \
      else if (m == APART)                              \
        TOTALS(T, Sum, start, expr, APART, l.n, 1);     \
      else                                              \
        TOTALS(T, Sum, start, expr, m, l.n, 1);         \
    }                                                   \
  }

#define TOTALS_FORWARD(name, start, expr, first, expr_i64)         \
  TOTALS_OF(name##_i64, int64_t, uint64_t, first, expr_i64)        \
  TOTALS_OF(name##_f32, float, double, start, expr)                \
  TOTALS_OF(name##_f64, double, double, start, expr)               \
  static bool name##_forward(Call *c, Error *err) {                \
    int d;                                                         \
    Tensor *out = c->out[0];                                       \
    if (!scan_dim(c, 1, &d, err)) return false;                    \
    nb_copy(out, c->args[0].tensor);                               \
    Scan s = {lanes_of(&out->layout, d), nb_tensor_data(out)};     \
    nb_parallel_for(s.lanes.count, NB_GRAIN / (s.lanes.n + 1) + 1, \
                    c->compute == NB_I64   ? name##_i64            \
                    : c->compute == NB_F32 ? name##_f32            \
                                           : name##_f64,           \
                    &s);                                           \
    return true;                                                   \
  }

// log(e^total + e^x)
static inline double add_logs(double total, double x) {
  if (total == x && isinf(x)) return x;
  return total != total || x != x ? total + x : fmax(total, x) + log1p(exp(-fabs(total - x)));
}

TOTALS_FORWARD(cumsum, 0, total + x, 0, total + x)
TOTALS_FORWARD(cumprod, 1, total *x, 1, total *x)
TOTALS_FORWARD(logcumsumexp, -INFINITY, add_logs(total, x), 0, x)  // of floats alone

static Tensor *flipped(Scope *s, Tensor *x, int64_t dim) {
  if (!x || x->layout.ndim == 0) return x;
  return nb_op(s, "flip", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.ints = {&dim, 1}}});
}

static Tensor *running_sum(Scope *s, Tensor *x, int64_t dim) {
  return x ? nb_op(s, "cumsum", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = dim}}) : NULL;
}

static bool cumsum_backward(Backward *b) {
  Scope *s = b->scope;
  int64_t dim = nb_arg(b, 1)->integer;
  return nb_give(b, 0, flipped(s, running_sum(s, flipped(s, b->grad[0], dim), dim), dim));
}

// ---- a linear recurrence ----

// hₖ = aₖ·hₖ₋₁ + bₖ along a dimension, h₀ = 0.
static bool shape_recurrence(Call *c, Error *err) {
  int d;
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  const Layout *a = &c->args[0].tensor->layout, *b = &c->args[1].tensor->layout;
  c->layout[0] = *a;
  c->compute = c->layout[0].dtype = nb_dtype_promote(nb_dtype_promote(a->dtype, b->dtype), NB_F32);
  if (!nb_layout_has(b, a->shape, a->ndim))
    return nb_fail(err, NB_ERROR_ARGUMENT, "a and b must have one shape, got %s and %s", nb_shape_text(a, ta),
                   nb_shape_text(b, tb));
  return scan_dim(c, 2, &d, err);
}

#define RECUR(T)                                                                                      \
  do {                                                                                                \
    T *to = (T *)nb_tensor_data(out) + at;                                                            \
    const T *factor = (const T *)nb_tensor_data(a) + at;                                              \
    double h = 0;                                                                                     \
    for (int64_t k = 0; k < l.n && nb_goes_on(k); k++)                                                \
      to[k * l.inner] = (T)(h = (k ? (double)factor[k * l.inner] * h : 0) + (double)to[k * l.inner]); \
  } while (0)

static bool recurrence_forward(Call *c, Error *err) {
  Scope s;
  int d;
  Tensor *out = c->out[0];
  nb_scope_open(&s, err);
  Tensor *a = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  bool ok = a && scan_dim(c, 2, &d, err);
  if (ok) {
    nb_copy(out, c->args[1].tensor);
    const Lanes l = lanes_of(&out->layout, d);
    for (int64_t r = 0; r < l.count; r++) {
      const int64_t at = lane_start(&l, r);
      if (c->compute == NB_F32)
        RECUR(float);
      else
        RECUR(double);
    }
  }
  nb_scope_close(&s);
  return ok;
}

static Tensor *recurrence(Scope *s, Tensor *a, Tensor *b, int64_t dim) {
  return a && b ? nb_op(s, "linear_recurrence", (Value[NB_MAX_PARAMS]){{.tensor = a}, {.tensor = b}, {.integer = dim}})
                : NULL;
}

// x moved by one along dim: the first (or with back, the last) place is `fill`, and what leaves is lost.
static Tensor *moved(Scope *s, Tensor *x, int64_t dim, bool back, double fill) {
  int64_t amounts[2 * NB_MAX_DIMS] = {0};
  if (!x) return NULL;
  int ndim = x->layout.ndim, d = (int)(dim < 0 ? dim + ndim : dim - 1);
  if (ndim == 0) return nb_full(s, &x->layout, fill);
  if (x->layout.shape[d] == 0) return x;
  int at = 2 * (ndim - 1 - d);  // pad's amounts begin with the last dimension
  amounts[at] = back ? -1 : 1;
  amounts[at + 1] = back ? 1 : -1;
  return nb_op(s, "pad", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.ints = {amounts, at + 2}}, {.number = fill}});
}

// sₖ = gₖ + aₖ₊₁·sₖ₊₁
static Tensor *recurrence_back(Scope *s, Tensor *next, Tensor *g, int64_t dim) {
  return flipped(s, recurrence(s, flipped(s, next, dim), flipped(s, g, dim), dim), dim);
}

static bool recurrence_backward(Backward *b) {
  Scope *s = b->scope;
  int64_t dim = nb_arg(b, 2)->integer;
  Tensor *sums = recurrence_back(s, moved(s, nb_in(b, 0), dim, true, 0), b->grad[0], dim);
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_mul(s, sums, moved(s, nb_out(b, 0), dim, false, 0)))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, sums);
}

// ∏ of those before, times Σ over those after of δ·∏ between: right where elements are 0, too.
static bool cumprod_backward(Backward *b) {
  Scope *s = b->scope;
  int64_t dim = nb_arg(b, 1)->integer;
  Tensor *x = nb_in(b, 0), *y = nb_out(b, 0), *g = b->grad[0];
  x = x ? nb_to(s, x, g->layout.dtype) : NULL;
  Tensor *after = recurrence_back(s, moved(s, x, dim, true, 0), g, dim);
  return nb_give(b, 0, nb_mul(s, moved(s, y, dim, false, 1), after));
}

// e^(x − y)·s with sₖ = gₖ + e^(yₖ − yₖ₊₁)·sₖ₊₁: no power is above 1.
static bool logcumsumexp_backward(Backward *b) {
  Scope *s = b->scope;
  int64_t dim = nb_arg(b, 1)->integer;
  Tensor *x = nb_in(b, 0), *y = nb_out(b, 0), *g = b->grad[0];
  Tensor *share = nb_unary(s, "exp", nb_sub(s, y, moved(s, y, dim, true, INFINITY)));
  return nb_give(b, 0, nb_mul(s, nb_unary(s, "exp", nb_sub(s, x, y)), recurrence_back(s, share, g, dim)));
}

static bool shape_logcumsumexp(Call *c, Error *err) {
  int d;
  return nb_shape_unary_float(c, err) && scan_dim(c, 1, &d, err);
}

// ---- running extremes ----

static bool shape_running(Call *c, Error *err) {
  int d;
  c->layout[0] = c->layout[1] = c->args[0].tensor->layout;
  c->layout[1].dtype = NB_I64;
  return scan_dim(c, 1, &d, err);
}

// Of equal ones the last; NaN beats all, and a later NaN an earlier one.
#define RUNNING(T, CMP)                                                     \
  do {                                                                      \
    T *to = (T *)nb_tensor_data(c->out[0]) + at, best = l.n ? *to : 0;      \
    int64_t *places = (int64_t *)nb_tensor_data(c->out[1]) + at, place = 1; \
    for (int64_t k = 0; k < l.n && nb_goes_on(k); k++) {                    \
      T x = to[k * l.inner];                                                \
      if (x != x || (best == best && x CMP best)) best = x, place = k + 1;  \
      to[k * l.inner] = best;                                               \
      places[k * l.inner] = place;                                          \
    }                                                                       \
  } while (0)

#define RUNNING_FORWARD(name, CMP)                   \
  static bool name(Call *c, Error *err) {            \
    int d;                                           \
    if (!scan_dim(c, 1, &d, err)) return false;      \
    nb_copy(c->out[0], c->args[0].tensor);           \
    const Lanes l = lanes_of(&c->out[0]->layout, d); \
    for (int64_t r = 0; r < l.count; r++) {          \
      const int64_t at = lane_start(&l, r);          \
      switch (c->out[0]->layout.dtype) {             \
        case NB_F32:                                 \
          RUNNING(float, CMP);                       \
          break;                                     \
        case NB_F64:                                 \
          RUNNING(double, CMP);                      \
          break;                                     \
        case NB_I64:                                 \
          RUNNING(int64_t, CMP);                     \
          break;                                     \
        case NB_U8:                                  \
        case NB_BOOL:                                \
          RUNNING(uint8_t, CMP);                     \
          break;                                     \
        case NB_DTYPES:                              \
          break;                                     \
      }                                              \
    }                                                \
    return true;                                     \
  }
RUNNING_FORWARD(cummax_forward, >=)
RUNNING_FORWARD(cummin_forward, <=)

static bool running_backward(Backward *b) {
  Tensor *g = b->grad[0], *places = nb_out(b, 1);
  if (!g || g->layout.ndim == 0) return nb_give(b, 0, g);
  if (!places) return false;
  Value args[NB_MAX_PARAMS] = {{0}, *nb_arg(b, 1), {.tensor = places}, {.tensor = g}};
  return nb_give(b, 0, nb_into_zeros(b->scope, "scatter_add", &g->layout, args));
}

#define EXTREME(NAME, DOC, EXAMPLE)                                                                                    \
  {                                                                                                                    \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .derivative = "δ summed where the extreme stood",                   \
    .sample = {.args = "f(2,3,4), 2; f(4), 1; f(3,4), -1"}, .role = NB_ROLE_PART, .params = {TENSOR("x"), DIM("dim")}, \
    .outputs = 2, .saves = NB_SAVE_OUT(1), .shape = shape_running, .forward = NAME##_forward,                          \
    .backward = running_backward                                                                                       \
  }

static const Op ops[] = {
    {.name = "cumsum",
     .doc = "The running sum along dimension dim.",
     .example = "nb.cumsum(nb.tensor{1, 2, 3}, 1)  --> {1, 3, 6}",
     .derivative = "the sum of δ from here on",
     .sample = {.args = "f(2,3,4), 2; f(4), 1"},
     .params = {TENSOR("x"), DIM("dim")},
     .shape = shape_cumsum,
     .forward = cumsum_forward,
     .backward = cumsum_backward},
    {.name = "cumprod",
     .doc = "The running product along dimension dim.",
     .example = "nb.cumprod(nb.tensor{1, 2, 3}, 1)  --> {1, 2, 6}",
     .derivative = "the sum of δ from here on, each times ∏ of the others",
     .sample = {.lo = 0.5, .hi = 2, .args = "f(2,3,4), 2; f(4), 1; f(2,3,{lo=0,hi=0}), 2"},
     .params = {TENSOR("x"), DIM("dim")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_cumsum,
     .forward = cumprod_forward,
     .backward = cumprod_backward},
    {.name = "logcumsumexp",
     .doc = "log Σ e^x of the elements up to each along dimension dim, without overflow.",
     .example = "nb.logcumsumexp(nb.tensor{1000, 1000}, 1)  --> {1000, 1000.693}",
     .derivative = "the sum of δ·e^(x − y) from here on",
     .sample = {.args = "f(2,3,4), 2; f(4), 1"},
     .params = {TENSOR("x"), DIM("dim")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_logcumsumexp,
     .forward = logcumsumexp_forward,
     .backward = logcumsumexp_backward},
    EXTREME(cummax,
            "The largest of the elements up to each along dimension dim, and its index; of equal ones the last.",
            "nb.cummax(nb.tensor{1, 3, 2}, 1)  --> {1, 3, 3}"),
    EXTREME(cummin,
            "The smallest of the elements up to each along dimension dim, and its index; of equal ones the last.",
            "nb.cummin(nb.tensor{3, 1, 2}, 1)  --> {3, 1, 1}"),
    {.name = "linear_recurrence",
     .doc = "hₖ = aₖ·hₖ₋₁ + bₖ along dimension dim, from 0 on: what the slopes of running products are made of.",
     .example = "require(\"nablua.native\").linear_recurrence(nb.tensor{2, 2, 2}, nb.ones(3), 1)  --> {1, 3, 7}",
     .derivative = "∂/∂a = hₖ₋₁·s, ∂/∂b = s, the sum of δ from here on",
     .sample = {.args = "f(2,3,4), f(2,3,4), 2; f(4), f(4), 1"},
     .internal = true,
     .symbol = "recurrence",
     .params = {TENSOR("a"), TENSOR("b"), DIM("dim")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0),
     .shape = shape_recurrence,
     .forward = recurrence_forward,
     .backward = recurrence_backward},
};
const OpFamily ops_scan = {"Running totals", ops, COUNT(ops)};
