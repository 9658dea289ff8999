// SPDX-License-Identifier: MIT
// Operators: the largest and smallest over several dimensions, and places in sorted tensors.
#include <math.h>

#include "loops.h"
#include "nablua/interrupt.h"

// ---- amax, amin ----

static bool shape_several(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  bool mask[NB_MAX_DIMS], keepdim = c->args[2].flag;
  const Layout *x = &c->args[0].tensor->layout;
  if (nb_dims(&c->args[1], x->ndim, mask, err) < 0) return false;
  c->layout[0] = (Layout){.dtype = x->dtype};
  for (int d = 0; d < x->ndim; d++) {
    if (mask[d] && x->shape[d] == 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s has no elements to choose from in dimension %d",
                     nb_shape_text(x, text), d + 1);
    if (mask[d] && !keepdim) continue;
    c->layout[0].shape[c->layout[0].ndim++] = mask[d] ? 1 : x->shape[d];
  }
  return true;
}

static bool several_forward(Call *c, const char *name, Error *err) {
  Scope s;
  bool mask[NB_MAX_DIMS];
  Tensor *x = c->args[0].tensor;
  nb_scope_open(&s, err);
  if (nb_dims(&c->args[1], x->layout.ndim, mask, err) < 0) x = NULL;
  int ndim = x ? x->layout.ndim : 0;
  for (int d = 0; x && d < ndim; d++) {
    Tensor *out[NB_MAX_OUTPUTS] = {NULL};
    if (!mask[d]) continue;
    if (nb_op_many(&s, name, (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = d + 1}, {.flag = true}}, out))
      x = out[0];
    else
      x = NULL;
  }
  x = nb_reshape_like(&s, x, &c->layout[0]);
  if (x) nb_copy(c->out[0], x);
  nb_scope_close(&s);
  return x;
}

static bool amax_forward(Call *c, Error *err) {
  return several_forward(c, "max", err);
}

static bool amin_forward(Call *c, Error *err) {
  return several_forward(c, "min", err);
}

// Equal ones share; NaN among the elements is the extreme one.
static bool several_backward(Backward *b) {
  Scope *s = b->scope;
  bool mask[NB_MAX_DIMS];
  int dims[NB_MAX_DIMS], count = 0;
  Tensor *x = nb_in(b, 0);
  Layout l = x->layout;
  if (nb_dims(nb_arg(b, 1), l.ndim, mask, s->err) < 0) return false;
  for (int d = 0; d < l.ndim; d++)
    if (mask[d]) l.shape[d] = 1, dims[count++] = d;
  Tensor *y = nb_reshape_like(s, nb_out(b, 0), &l), *g = nb_reshape_like(s, b->grad[0], &l);
  if (!y || !g) return false;
  Tensor *mine = nb_binary(s, "logical_or", nb_binary(s, "eq", x, y), nb_unary(s, "isnan", x));
  mine = mine ? nb_to(s, mine, g->layout.dtype) : NULL;
  Tensor *total = mine && count ? nb_sum_dims(s, mine, dims, count, true) : mine;
  return nb_give(b, 0, nb_mul(s, mine, nb_div(s, g, total)));
}

// ---- searchsorted ----

static bool shape_search(Call *c, Error *err) {
  char ts[NB_SHAPE_TEXT], tv[NB_SHAPE_TEXT];
  const Layout *sorted = &c->args[0].tensor->layout, *v = &c->args[1].tensor->layout;
  bool fits = sorted->ndim == 1 || (sorted->ndim == v->ndim && sorted->ndim > 0);
  for (int d = 0; fits && sorted->ndim > 1 && d < v->ndim - 1; d++) fits = sorted->shape[d] == v->shape[d];
  if (!fits)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "sorted must be a vector or have the shape of values but for the last dimension, got %s for %s",
                   nb_shape_text(sorted, ts), nb_shape_text(v, tv));
  c->compute = nb_dtype_promote(sorted->dtype, v->dtype);
  c->layout[0] = *v;
  c->layout[0].dtype = NB_I64;
  return true;
}

typedef struct Search {
  const void *sorted, *values;
  int64_t *places, n, m;  // of a lane: how many sorted, how many values
  bool one, right;
  DType dtype;
} Search;

// The first place, from 1, whose element is not below v (with right: is above it); NaN is above all.
#define PLACES(T)                                                                                   \
  do {                                                                                              \
    for (int64_t i = begin; i < end && nb_goes_on(i); i++) {                                        \
      const T *x = (const T *)w->sorted + (w->one ? 0 : i / w->m * w->n);                           \
      const T v = ((const T *)w->values)[i];                                                        \
      int64_t low = 0, high = w->n;                                                                 \
      while (low < high) {                                                                          \
        int64_t mid = low + (high - low) / 2;                                                       \
        bool below = w->right ? x[mid] <= v || v != v : x[mid] < v || (v != v && x[mid] == x[mid]); \
        if (below)                                                                                  \
          low = mid + 1;                                                                            \
        else                                                                                        \
          high = mid;                                                                               \
      }                                                                                             \
      w->places[i] = low + 1;                                                                       \
    }                                                                                               \
  } while (0)

static void search_range(int64_t begin, int64_t end, void *ctx) {
  const Search *w = ctx;
  switch (w->dtype) {
    case NB_F32:
      PLACES(float);
      break;
    case NB_F64:
      PLACES(double);
      break;
    case NB_I64:
      PLACES(int64_t);
      break;
    case NB_U8:
    case NB_BOOL:
      PLACES(uint8_t);
      break;
    case NB_DTYPES:
      break;
  }
}

static bool search_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *sorted = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  Tensor *values = nb_contiguous(&s, nb_to(&s, c->args[1].tensor, c->compute));
  if (sorted && values) {
    const Layout *l = &sorted->layout, *v = &values->layout;
    Search w = {.sorted = nb_tensor_data(sorted), .values = nb_tensor_data(values), .right = c->args[2].flag};
    w.places = nb_tensor_data(c->out[0]);
    w.n = l->shape[l->ndim - 1];
    w.m = v->ndim ? v->shape[v->ndim - 1] : 1;
    w.one = l->ndim == 1;
    w.dtype = c->compute;
    nb_parallel_for(nb_layout_numel(v), NB_GRAIN / 16, search_range, &w);
  }
  nb_scope_close(&s);
  return sorted && values;
}

#define SEVERAL(NAME, WORD, SHOWN)                                                                                     \
  {                                                                                                                    \
    .name = #NAME,                                                                                                     \
    .doc =                                                                                                             \
        "The " WORD " element over all, one or several dimensions, without its place; equal ones share the gradient.", \
    .example = "nb." #NAME "(nb.tensor{{{1, 5}}, {{7, 3}}}, {1, 3})  --> {" SHOWN "}", .derivative = "1 at the " WORD, \
    .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), {1,-1}, {keepdim=true}; f(3,4), 1"},                          \
    .role = NB_ROLE_REDUCTION, .params = {TENSOR("x"), OPTIONAL_DIMS("dim"), NAMED_FLAG("keepdim")},                   \
    .saves = NB_SAVE_IN(0) | NB_SAVE_OUT(0), .shape = shape_several, .forward = NAME##_forward,                        \
    .backward = several_backward                                                                                       \
  }

static const Op ops[] = {
    SEVERAL(amax, "largest", "7"),
    SEVERAL(amin, "smallest", "1"),
    {.name = "searchsorted",
     .doc =
         "For each value the place, from 1, at which it would keep `sorted` (ascending along its last dimension) "
         "sorted: before equal elements, with right=true behind them.  One more than PyTorch's, which counts from 0.",
     .example = "nb.searchsorted(nb.tensor{1, 3, 5}, nb.tensor{0, 3, 9})  --> {1, 2, 4}",
     .no_grad = "places are whole numbers",
     .sample = {.args = "nb.sort(f(5)), f(2,3); nb.sort(f(2,5)), f(2,3), {right=true}"},
     .role = NB_ROLE_TEST,
     .params = {TENSOR("sorted"), OPERAND("values"), NAMED_FLAG("right")},
     .compares = true,
     .shape = shape_search,
     .forward = search_forward},
};
const OpFamily ops_extremes = {"Extremes and places", ops, COUNT(ops)};
