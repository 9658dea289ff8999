// SPDX-License-Identifier: MIT
// Operators: elements combined at the places that an index names: their sum, product, mean, largest or smallest.
#include <math.h>
#include <string.h>

#include "loops.h"
#include "nablua/interrupt.h"
#include "put.h"

typedef enum Kind { SUM, PROD, MEAN, AMAX, AMIN } Kind;

// Parameters of the row.
enum { X, DIM, INDEX, SRC, REDUCE, SELF };

static bool shape_combine(Call *c, Error *err) {
  char tx[NB_SHAPE_TEXT], ti[NB_SHAPE_TEXT], ts[NB_SHAPE_TEXT];
  int d = 0;
  const Layout *x = &c->args[X].tensor->layout, *index = &c->args[INDEX].tensor->layout,
               *src = &c->args[SRC].tensor->layout;
  c->layout[0] = *x;
  c->compute = x->dtype;
  if (x->ndim > 0 && !nb_dim(c->args[DIM].integer, x->ndim, &d, err)) return false;
  if (!nb_dtype_is_float(x->dtype) && c->args[REDUCE].choice == MEAN)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a mean of %s is no %s; convert with :to(\"f32\")", nb_dtype_name(x->dtype),
                   nb_dtype_name(x->dtype));
  bool fits = index->ndim == x->ndim && src->ndim == x->ndim;
  for (int e = 0; fits && e < x->ndim; e++)
    fits = (e == d || index->shape[e] <= x->shape[e]) && index->shape[e] <= src->shape[e];
  return fits || nb_fail(err, NB_ERROR_ARGUMENT,
                         "the index, of shape %s, needs the dimensions of x, of shape %s, and of src, of shape %s, and "
                         "no larger sizes but along dim in x",
                         nb_shape_text(index, ti), nb_shape_text(x, tx), nb_shape_text(src, ts));
}

// A walk over the index in row-major order: where in x and in src each of its elements lies.
typedef struct Walk {
  const int64_t *place;
  int64_t *count;  // how many elements came to each place of x; NULL: nobody asks
  int64_t n, across;
  int ndim, d;
  int64_t shape[NB_MAX_DIMS], at[NB_MAX_DIMS], to_step[NB_MAX_DIMS], from_step[NB_MAX_DIMS];
} Walk;

#define WALK(...)                                                                 \
  do {                                                                            \
    int64_t to = 0, from = 0;                                                     \
    memset(w->at, 0, sizeof w->at);                                               \
    for (int64_t i = 0; i < w->n && nb_goes_on(i); i++) {                         \
      const int64_t t = to + w->place[i] * w->across, f = from;                   \
      (void)f;                                                                    \
      __VA_ARGS__;                                                                \
      for (int e = w->ndim - 1; e >= 0; e--) {                                    \
        to += w->to_step[e], from += w->from_step[e];                             \
        if (++w->at[e] < w->shape[e]) break;                                      \
        to -= w->to_step[e] * w->shape[e], from -= w->from_step[e] * w->shape[e]; \
        w->at[e] = 0;                                                             \
      }                                                                           \
    }                                                                             \
  } while (0)

#define BEATS(CMP) (v != v || (y[t] == y[t] && v CMP y[t]))

#define COMBINE(T, Wide, LOW, HIGH)                                                              \
  static void combine_##T(Walk *w, T *y, const T *x, Kind kind, bool self) {                     \
    const T start = kind == PROD ? (T)1 : kind == AMAX ? (T)LOW : kind == AMIN ? (T)HIGH : (T)0; \
    if (!self) WALK(y[t] = start);                                                               \
    if (w->count) WALK(w->count[t]++);                                                           \
    switch (kind) {                                                                              \
      case SUM:                                                                                  \
      case MEAN:                                                                                 \
        WALK(y[t] = (T)((Wide)y[t] + (Wide)x[f]));                                               \
        break;                                                                                   \
      case PROD:                                                                                 \
        WALK(y[t] = (T)((Wide)y[t] * (Wide)x[f]));                                               \
        break;                                                                                   \
      case AMAX:                                                                                 \
        WALK(const T v = x[f]; if (BEATS(>)) y[t] = v);                                          \
        break;                                                                                   \
      case AMIN:                                                                                 \
        WALK(const T v = x[f]; if (BEATS(<)) y[t] = v);                                          \
        break;                                                                                   \
    }                                                                                            \
  }
COMBINE(float, float, -INFINITY, INFINITY)
COMBINE(double, double, -INFINITY, INFINITY)
COMBINE(int64_t, uint64_t, INT64_MIN, INT64_MAX)
COMBINE(uint8_t, unsigned, 0, UINT8_MAX)

static void divide_by_counts(Tensor *y, const int64_t *count, int64_t n, bool self) {
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
    if (count[i] == 0) continue;
    int64_t k = count[i] + self;
    if (y->layout.dtype == NB_F32)
      ((float *)nb_tensor_data(y))[i] /= (float)k;
    else
      ((double *)nb_tensor_data(y))[i] /= (double)k;
  }
}

static void run(Walk *w, Tensor *y, const Tensor *src, Kind kind, bool self) {
  switch (y->layout.dtype) {
    case NB_F32:
      combine_float(w, nb_tensor_data(y), nb_tensor_data(src), kind, self);
      break;
    case NB_F64:
      combine_double(w, nb_tensor_data(y), nb_tensor_data(src), kind, self);
      break;
    case NB_I64:
      combine_int64_t(w, nb_tensor_data(y), nb_tensor_data(src), kind, self);
      break;
    case NB_U8:
      combine_uint8_t(w, nb_tensor_data(y), nb_tensor_data(src), kind, self);
      break;
    case NB_BOOL:  // a sum of masks is where one is true, a product where all are
      combine_uint8_t(w, nb_tensor_data(y), nb_tensor_data(src), kind == PROD || kind == AMIN ? AMIN : AMAX, self);
      for (int64_t i = 0, n = nb_layout_numel(&y->layout); i < n && nb_goes_on(i); i++)
        ((uint8_t *)nb_tensor_data(y))[i] = ((uint8_t *)nb_tensor_data(y))[i] != 0;
      break;
    case NB_DTYPES:
      break;
  }
}

static bool combine_forward(Call *c, Error *err) {
  Scope s;
  const Layout *x = &c->args[X].tensor->layout;
  Tensor *y = c->out[0];
  Kind kind = (Kind)c->args[REDUCE].choice;
  Walk w = {.ndim = x->ndim, .across = 1};
  nb_scope_open(&s, err);
  bool ok = x->ndim == 0 || nb_dim(c->args[DIM].integer, x->ndim, &w.d, err);
  Tensor *place = ok ? nb_places(&s, c->args[INDEX].tensor, x->ndim ? x->shape[w.d] : 1, w.d) : NULL;
  Tensor *src = place ? nb_contiguous(&s, nb_source(&s, c->args[SRC].tensor, y)) : NULL;
  Layout l = *x;
  l.dtype = NB_I64;
  Tensor *count = src && kind == MEAN ? nb_scope_own(&s, nb_tensor_new(&l, err)) : NULL;
  if (count) nb_zero(count);
  ok = src && (kind != MEAN || count);
  if (ok) {
    nb_copy(y, c->args[X].tensor);
    w.place = nb_tensor_data(place);
    w.count = count ? nb_tensor_data(count) : NULL;
    w.n = nb_layout_numel(&place->layout);
    for (int e = 0; e < x->ndim; e++) {
      w.shape[e] = place->layout.shape[e];
      w.to_step[e] = e == w.d ? 0 : y->layout.strides[e];
      w.from_step[e] = src->layout.strides[e];
    }
    if (x->ndim) w.across = y->layout.strides[w.d];
    run(&w, y, src, kind, c->args[SELF].flag);
    if (count) divide_by_counts(y, nb_tensor_data(count), nb_layout_numel(&y->layout), c->args[SELF].flag);
  }
  nb_scope_close(&s);
  return ok;
}

// ---- backward ----

// The same operator of other tensors.
static Tensor *combined(Backward *b, Tensor *x, Tensor *src, Kind kind, bool self) {
  if (!x || !src) return NULL;
  return nb_op(b->scope, "scatter_reduce",
               (Value[NB_MAX_PARAMS]){{.tensor = x},
                                      *nb_arg(b, DIM),
                                      {.tensor = nb_in(b, INDEX)},
                                      {.tensor = src},
                                      {.choice = (int)kind},
                                      {.flag = self}});
}

// What t of x's shape has at the places; the index's shape.
static Tensor *at_places(Backward *b, Tensor *t) {
  if (!t || t->layout.ndim == 0) return t;
  return nb_op(b->scope, "gather", (Value[NB_MAX_PARAMS]){{.tensor = t}, *nb_arg(b, DIM), {.tensor = nb_in(b, INDEX)}});
}

// The part of src that the index reaches.
static Tensor *reached(Backward *b, Tensor *src) {
  const Layout *index = &nb_in(b, INDEX)->layout;
  for (int d = 0; src && d < index->ndim; d++)
    if (src->layout.shape[d] != index->shape[d])
      src = nb_op(
          b->scope, "narrow",
          (Value[NB_MAX_PARAMS]){{.tensor = src}, {.integer = d + 1}, {.integer = 1}, {.integer = index->shape[d]}});
  return src;
}

// The gradient of that part, with zeros where src goes on.
static bool give_source(Backward *b, Tensor *part) {
  int64_t amounts[2 * NB_MAX_DIMS] = {0};
  const Layout *src = &nb_in(b, SRC)->layout;
  bool larger = false;
  if (!part) return false;
  for (int d = 0; d < src->ndim; d++) {
    amounts[2 * (src->ndim - 1 - d) + 1] = src->shape[d] - part->layout.shape[d];
    larger |= src->shape[d] != part->layout.shape[d];
  }
  if (larger)
    part = nb_op(b->scope, "pad",
                 (Value[NB_MAX_PARAMS]){{.tensor = part}, {.ints = {amounts, 2 * src->ndim}}, {.number = 0}});
  return nb_give(b, SRC, part);
}

static Tensor *zeros_like(Backward *b, Tensor *t, DType dtype) {
  if (!t) return NULL;
  Layout l = t->layout;
  l.dtype = dtype;
  return nb_full(b->scope, &l, 0);
}

// 1 at the places that the index names.
static Tensor *touched(Backward *b, Tensor *x, DType dtype) {
  Tensor *ones = zeros_like(b, nb_in(b, INDEX), dtype);
  return combined(b, zeros_like(b, x, dtype), ones ? nb_addn(b->scope, ones, 1) : NULL, AMAX, true);
}

static bool give_product(Backward *b, Tensor *g, bool self) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, X), *src = reached(b, nb_in(b, SRC)), *y = nb_out(b, 0);
  Tensor *zero = nb_number(s, 0, g->layout.dtype), *one = nb_number(s, 1, g->layout.dtype);
  if (nb_wants(b, X)) {
    Tensor *safe = self ? nb_where(s, nb_binary(s, "eq", x, zero), one, x) : NULL;
    Tensor *slope = self ? nb_div(s, nb_mul(s, g, combined(b, safe, src, PROD, true)), safe)
                         : nb_mul(s, g, nb_rsub(s, 1, touched(b, x, g->layout.dtype)));
    if (!nb_give(b, X, slope)) return false;
  }
  if (!nb_wants(b, SRC)) return true;
  // Of a single 0 among the factors the slope is the product of the others; with several all slopes are 0.
  Tensor *none = nb_binary(s, "eq", src, zero);
  Tensor *zeros =
      combined(b, zeros_like(b, x, g->layout.dtype), none ? nb_to(s, none, g->layout.dtype) : NULL, SUM, true);
  Tensor *single = nb_binary(s, "logical_and", none, nb_binary(s, "eq", at_places(b, zeros), one));
  Tensor *others = combined(b, x, nb_where(s, single, one, src), PROD, self);
  Tensor *plain = nb_div(s, at_places(b, nb_mul(s, g, y)), nb_where(s, none, one, src));
  return give_source(b, nb_where(s, single, at_places(b, nb_mul(s, g, others)), plain));
}

static bool combine_backward(Backward *b) {
  Scope *s = b->scope;
  Kind kind = (Kind)nb_arg(b, REDUCE)->choice;
  bool self = nb_arg(b, SELF)->flag;
  Tensor *g = b->grad[0], *x = nb_in(b, X);
  DType dtype = g->layout.dtype;
  if (kind == PROD) return give_product(b, g, self);
  Tensor *of_self = NULL;
  if (kind == MEAN) {
    Tensor *one = nb_in(b, INDEX) ? zeros_like(b, nb_in(b, INDEX), dtype) : NULL;
    Tensor *n = zeros_like(b, x, dtype);
    if (self) n = nb_addn(s, n, 1);
    n = combined(b, n, one ? nb_addn(s, one, 1) : NULL, SUM, true);
    g = nb_div(s, g, nb_where(s, nb_binary(s, "eq", n, nb_number(s, 0, dtype)), nb_number(s, 1, dtype), n));
  }
  if (kind == AMAX || kind == AMIN) {  // equal ones share
    Tensor *y = nb_out(b, 0), *src = reached(b, nb_in(b, SRC));
    of_self = nb_binary(s, "eq", x, y);
    of_self = of_self ? nb_to(s, of_self, dtype) : NULL;
    Tensor *of_src = nb_binary(s, "eq", src, at_places(b, y));
    of_src = of_src ? nb_to(s, of_src, dtype) : NULL;
    if (!self) of_self = nb_mul(s, of_self, nb_rsub(s, 1, touched(b, x, dtype)));
    g = nb_div(s, g, combined(b, of_self, of_src, SUM, true));
    if (nb_wants(b, X) && !nb_give(b, X, nb_mul(s, g, of_self))) return false;
    return !nb_wants(b, SRC) || give_source(b, nb_mul(s, of_src, at_places(b, g)));
  }
  if (nb_wants(b, X) && !nb_give(b, X, self ? g : nb_mul(s, g, nb_rsub(s, 1, touched(b, x, dtype))))) return false;
  return !nb_wants(b, SRC) || give_source(b, at_places(b, g));
}

#define CASES(how)                                                                                 \
  "f(3,4), 2, i(4,3,2), f(3,2), {reduce=\"" how "\"}; f(3,4), 1, i(3,5,2), f(5,4), {reduce=\"" how \
  "\", include_self=false}; f(4), 1, i(4,6), f(6), {reduce=\"" how "\"}; "

static const Op ops[] = {
    {.name = "scatter_reduce",
     .doc = "x with the elements of src combined, by reduce, with what stands at the places an index names along dim; "
            "with include_self=false with each other only.  Of equal extremes all share the gradient.",
     .example =
         "nb.scatter_reduce(nb.zeros(2), 1, nb.tensor{1, 1, 2}, nb.tensor{3, 7, 5}, {reduce=\"amax\"})  --> {7, 5}",
     .derivative = "∂/∂x and ∂/∂src = the share that each has in the result",
     .sample = {.lo = 0.5, .hi = 2, .args = CASES("sum") CASES("prod") CASES("mean") CASES("amax") CASES("amin")},
     .role = NB_ROLE_PART,
     .symbol = "scatterReduce",
     .params = {TENSOR("x"),
                DIM("dim"),
                INDEX("index"),
                TENSOR("src"),
                {.name = "reduce", .kind = NB_PARAM_CHOICE, .choices = "sum|prod|mean|amax|amin", .optional = true},
                {.name = "include_self", .kind = NB_PARAM_FLAG, .optional = true, .named = true, .fallback = 1}},
     .saves = NB_SAVE_IN(X) | NB_SAVE_IN(INDEX) | NB_SAVE_IN(SRC) | NB_SAVE_OUT(0),
     .shape = shape_combine,
     .forward = combine_forward,
     .backward = combine_backward},
};
const OpFamily ops_combine = {"Reductions into places", ops, COUNT(ops)};
