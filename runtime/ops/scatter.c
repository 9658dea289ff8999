// SPDX-License-Identifier: MIT
// Operators: reading and writing single elements of the lines along one dimension, by index tensors.
//
// The index has x's number of dimensions; each of its elements names a place along dimension dim.  A
// lane is one line along that dimension.  Threads split lanes, so results do not depend on their number.
#include <stdatomic.h>
#include <string.h>

#include "loops.h"
#include "put.h"

// The places have the shape of the index; strides of `to` and `from` count elements.
typedef struct Lanes {
  char *to;
  const char *from;
  const int64_t *place;
  int64_t count, place_step, to_step, from_step;  // along the lane
  int ndim;                                       // the other dimensions
  int64_t shape[NB_MAX_DIMS], place_stride[NB_MAX_DIMS], to_stride[NB_MAX_DIMS], from_stride[NB_MAX_DIMS];
  size_t element;
  DType dtype;
  int64_t size, across;  // of the dimension in which gather reads, and its stride
  atomic_bool outside;   // gather met an index that names no place
} Lanes;

// `broadcast` tells that `from` is a single number.
static Lanes lanes_of(const Tensor *place, int d, const Tensor *to, const Tensor *from) {
  const Layout *p = &place->layout;
  Lanes l = {.to = nb_tensor_data(to), .from = nb_tensor_data(from), .place = nb_tensor_data(place)};
  bool single = from->layout.ndim == 0 && p->ndim > 0;
  l.dtype = to->layout.dtype;
  l.element = nb_dtype_size(l.dtype);
  for (int e = 0; e < p->ndim; e++) {
    int64_t at = single ? 0 : from->layout.strides[e];
    if (e == d) {
      l.count = p->shape[e];
      l.place_step = p->strides[e];
      l.to_step = to->layout.strides[e];
      l.from_step = at;
    } else {
      l.shape[l.ndim] = p->shape[e];
      l.place_stride[l.ndim] = p->strides[e];
      l.to_stride[l.ndim] = to->layout.strides[e];
      l.from_stride[l.ndim++] = at;
    }
  }
  return l;
}

#define LANES(T, ...)                                          \
  for (int64_t lane = begin; lane < end; lane++) {             \
    int64_t rest = lane, at_place = 0, at_to = 0, at_from = 0; \
    for (int e = l->ndim - 1; e >= 0; e--) {                   \
      int64_t i = rest % l->shape[e];                          \
      rest /= l->shape[e];                                     \
      at_place += i * l->place_stride[e];                      \
      at_to += i * l->to_stride[e];                            \
      at_from += i * l->from_stride[e];                        \
    }                                                          \
    const int64_t *place = l->place + at_place;                \
    T *to = (T *)l->to + at_to;                                \
    const T *from = (const T *)l->from + at_from;              \
    __VA_ARGS__;                                               \
  }
#define EACH_LANE(T, statement) LANES(T, for (int64_t k = 0; k < l->count; k++) statement)
#define PLACE place[k * l->place_step]
#define SCATTER to[PLACE * l->to_step] = from[k * l->from_step]
#define SCATTER_ADD(T) to[PLACE * l->to_step] = (T)(to[PLACE * l->to_step] + from[k * l->from_step])

// Row by row: the user's indices, which are read once, become places, and what is there is read.
#define GATHER                                                                                     \
  const int64_t across = l->across, step = l->to_step, along = l->from_step;                       \
  for (int64_t k = 0; k < l->count; k += NB_ROW) {                                                 \
    int64_t at[NB_ROW], n = l->count - k < NB_ROW ? l->count - k : NB_ROW;                         \
    if (!nb_row_of_places(n, at, place + k * l->place_step, l->place_step, l->size)) {             \
      atomic_store_explicit(&l->outside, true, memory_order_relaxed);                              \
      return;                                                                                      \
    }                                                                                              \
    if (across == 1 && step == 1 && along == 0)                                                    \
      for (int64_t i = 0; i < n; i++) to[k + i] = from[at[i]];                                     \
    else                                                                                           \
      for (int64_t i = 0; i < n; i++) to[(k + i) * step] = from[at[i] * across + (k + i) * along]; \
  }

#define LANES_BY_SIZE(name, walk, statement)                \
  static void name(int64_t begin, int64_t end, void *ctx) { \
    Lanes *l = ctx;                                         \
    switch (l->element) {                                   \
      case 4:                                               \
        walk(uint32_t, statement) break;                    \
      case 8:                                               \
        walk(uint64_t, statement) break;                    \
      default:                                              \
        walk(uint8_t, statement) break;                     \
    }                                                       \
  }
LANES_BY_SIZE(gather_lanes, LANES, GATHER)
LANES_BY_SIZE(scatter_lanes, EACH_LANE, SCATTER)

static void scatter_add_lanes(int64_t begin, int64_t end, void *ctx) {
  const Lanes *l = ctx;
  switch (l->dtype) {
    case NB_F32:
      EACH_LANE(float, SCATTER_ADD(float)) break;
    case NB_F64:
      EACH_LANE(double, SCATTER_ADD(double)) break;
    case NB_I64:
      EACH_LANE(uint64_t, SCATTER_ADD(uint64_t)) break;
    case NB_U8:
      EACH_LANE(uint8_t, SCATTER_ADD(uint8_t)) break;
    case NB_BOOL:
      EACH_LANE(uint8_t, to[PLACE * l->to_step] |= from[k * l->from_step]) break;
    case NB_DTYPES:
      break;
  }
}

static void run_lanes(Lanes *l, void (*body)(int64_t, int64_t, void *)) {
  int64_t n = 1;
  for (int e = 0; e < l->ndim; e++) n *= l->shape[e];
  if (l->count > 0) nb_parallel_for(n, NB_GRAIN / (l->count + 4) + 1, body, l);
}

// A scalar as a vector of one.
static Layout as_vector(Layout l) {
  if (l.ndim == 0) l.ndim = 1, l.shape[0] = 1, l.strides[0] = 1;
  return l;
}

// The index has x's number of dimensions and outside d no larger sizes; 0-based d.
static bool lanes_fit(const Layout *given_x, const Layout *given_index, int64_t dim, int *d, Error *err) {
  char tx[NB_SHAPE_TEXT], ti[NB_SHAPE_TEXT];
  const Layout vx = as_vector(*given_x), vi = as_vector(*given_index), *x = &vx, *index = &vi;
  if (!nb_dim(dim, x->ndim, d, err)) return false;
  if (index->ndim != x->ndim)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "the index has shape %s; it needs the %d dimension%s of x, which has shape %s",
                   nb_shape_text(index, ti), x->ndim, x->ndim == 1 ? "" : "s", nb_shape_text(x, tx));
  for (int e = 0; e < x->ndim; e++)
    if (e != *d && index->shape[e] > x->shape[e])
      return nb_fail(err, NB_ERROR_ARGUMENT, "the index, of shape %s, is larger in dimension %d than x, of shape %s",
                     nb_shape_text(index, ti), e + 1, nb_shape_text(x, tx));
  return true;
}

static bool shape_gather(Call *c, Error *err) {
  int d;
  const Layout *x = &c->args[0].tensor->layout, *index = &c->args[2].tensor->layout;
  c->layout[0] = *index;
  c->layout[0].dtype = x->dtype;
  return lanes_fit(x, index, c->args[1].integer, &d, err);
}

// Lanes run along the last dimension, in which what is written and read lies side by side, unless it is short.
static bool forward_gather(Call *c, Error *err) {
  Scope s;
  int d;
  Tensor x = *c->args[0].tensor, places = *c->args[2].tensor, out = *c->out[0], *index = &places;
  x.layout = as_vector(x.layout);
  places.layout = as_vector(places.layout);
  out.layout = as_vector(out.layout);
  if (!nb_dim(c->args[1].integer, x.layout.ndim, &d, err)) return false;
  const int64_t *shape = index->layout.shape;
  int last = index->layout.ndim - 1, along = shape[last] < NB_SHORT && shape[last] < shape[d] ? d : last;
  int64_t across = x.layout.strides[d];
  x.layout.strides[d] = 0;  // the index says where
  Lanes l = lanes_of(index, along, &out, &x);
  l.size = x.layout.shape[d];
  l.across = across;
  run_lanes(&l, gather_lanes);
  if (!l.outside) return true;
  nb_scope_open(&s, err);
  bool ok = nb_places(&s, c->args[2].tensor, l.size, d);  // false with the sentence
  nb_scope_close(&s);
  return ok;
}

static bool backward_gather(Backward *b) {
  Layout x = nb_in(b, 0)->layout;
  x.dtype = b->grad[0]->layout.dtype;
  Value args[NB_MAX_PARAMS] = {{0}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = b->grad[0]}};
  return nb_give(b, 0, nb_into_zeros(b->scope, "scatter_add", &x, args));
}

static bool shape_scatter(Call *c, Error *err) {
  char ts[NB_SHAPE_TEXT], ti[NB_SHAPE_TEXT];
  int d;
  const Layout *index = &c->args[2].tensor->layout, *src = &c->args[3].tensor->layout;
  c->layout[0] = c->args[0].tensor->layout;
  if (!lanes_fit(&c->layout[0], index, c->args[1].integer, &d, err)) return false;
  bool fits = src->ndim == index->ndim || (src->ndim == 1 && index->ndim == 0 && src->shape[0] > 0);
  for (int e = 0; fits && e < index->ndim; e++) fits = index->shape[e] <= src->shape[e];
  return src->ndim == 0 || fits ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the source, of shape %s, does not cover the index, of shape %s",
                 nb_shape_text(src, ts), nb_shape_text(index, ti));
}

static bool scatter_with(Call *c, void (*body)(int64_t, int64_t, void *), Error *err) {
  Scope s;
  int d;
  bool ok = false;
  const Layout vector = as_vector(c->args[0].tensor->layout), *x = &vector;
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, x->ndim, &d, err)) goto done;
  Tensor *place = nb_places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? nb_source(&s, c->args[3].tensor, c->out[0]) : NULL;
  if (!src) goto done;
  if (c->out[0] != c->args[0].tensor) nb_copy(c->out[0], c->args[0].tensor);
  Tensor to = *c->out[0], at = *place;
  to.layout = as_vector(to.layout);
  at.layout = as_vector(at.layout);
  Lanes l = lanes_of(&at, d, &to, src);
  run_lanes(&l, body);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static bool forward_scatter(Call *c, Error *err) {
  return scatter_with(c, scatter_lanes, err);
}

static bool forward_scatter_add(Call *c, Error *err) {
  return scatter_with(c, scatter_add_lanes, err);
}

// The gradient of the source: what g has at the places, zero where the source is larger than the index.
static bool give_source(Backward *b, Tensor *part) {
  const Layout *src = &nb_in(b, 3)->layout;
  int64_t region[3 * NB_MAX_DIMS], sizes[NB_MAX_DIMS];
  if (!part) return false;
  bool covers = src->ndim == 0;
  for (int e = 0, same = 1; e < src->ndim && !covers; e++) {
    same = same && src->shape[e] == part->layout.shape[e];
    covers = same && e == src->ndim - 1;
  }
  if (covers) return nb_give(b, 3, part);
  for (int e = 0; e < src->ndim; e++) {
    region[3 * e] = 0;
    region[3 * e + 1] = 1;
    region[3 * e + 2] = part->layout.shape[e];
    sizes[e] = src->shape[e];
  }
  return nb_give(b, 3,
                 nb_op(b->scope, "embed",
                       (Value[]){{.tensor = part}, {.ints = {sizes, src->ndim}}, {.ints = {region, 3 * src->ndim}}}));
}

static Tensor *gather_at(Backward *b) {
  return nb_op(b->scope, "gather", (Value[]){{.tensor = b->grad[0]}, *nb_arg(b, 1), *nb_arg(b, 2)});
}

// Where a place is named twice only the last value counts: the others' gradient is zero.
static Tensor *of_winners(Scope *s, Tensor *g, Tensor *index, Value dim, int64_t *sizes, int ndim) {
  if (!g) return NULL;
  Tensor *lost = nb_op(s, "overwritten", (Value[]){{.tensor = index}, dim, {.ints = {sizes, ndim}}});
  Tensor *zero = nb_number(s, 0, g->layout.dtype);
  if (!lost || !zero) return NULL;
  return nb_op(s, "masked_fill", (Value[]){{.tensor = g}, {.tensor = lost}, {.tensor = zero}});
}

static bool backward_scatter(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0)) {
    Tensor *zero = nb_number(s, 0, g->layout.dtype);
    if (!zero ||
        !nb_give(b, 0, nb_op(s, "scatter", (Value[]){{.tensor = g}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = zero}})))
      return false;
  }
  if (!nb_wants(b, 3)) return true;
  int64_t sizes[NB_MAX_DIMS];
  memcpy(sizes, g->layout.shape, sizeof sizes);
  return give_source(b, of_winners(s, gather_at(b), nb_in(b, 2), *nb_arg(b, 1), sizes, g->layout.ndim));
}

static bool backward_scatter_add(Backward *b) {
  if (nb_wants(b, 0) && !nb_give(b, 0, b->grad[0])) return false;
  return !nb_wants(b, 3) || give_source(b, gather_at(b));
}

static bool shape_overwritten(Call *c, Error *err) {
  int d;
  Layout x = {.ndim = c->args[2].ints.count};
  for (int e = 0; e < x.ndim; e++) x.shape[e] = c->args[2].ints.items[e];
  c->layout[0] = c->args[0].tensor->layout;
  c->layout[0].dtype = NB_BOOL;
  return lanes_fit(&x, &c->layout[0], c->args[1].integer, &d, err);
}

// Each lane writes its positions to their places, then sees which of them are still there.
static void overwritten_lanes(int64_t begin, int64_t end, void *ctx) {
  const Lanes *l = ctx;
  EACH_LANE(int64_t, ((void)from, to[PLACE * l->to_step] = k))
}

static void still_lanes(int64_t begin, int64_t end, void *ctx) {
  const Lanes *l = ctx;
  EACH_LANE(int64_t,
            (((uint8_t *)(uintptr_t)l->from)[at_place + k * l->place_step] = to[PLACE * l->to_step] != k, (void)from))
}

static bool forward_overwritten(Call *c, Error *err) {
  Scope s;
  int d;
  bool ok = false;
  Layout x = {.dtype = NB_I64, .ndim = c->args[2].ints.count};
  for (int e = 0; e < x.ndim; e++) x.shape[e] = c->args[2].ints.items[e];
  x = as_vector(x);
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, x.ndim, &d, err)) goto done;
  Tensor *place = nb_places(&s, c->args[0].tensor, x.shape[d], d);
  Tensor *last = place ? nb_scope_own(&s, nb_tensor_new(&x, err)) : NULL;
  if (!last) goto done;
  Tensor at = *place;
  at.layout = as_vector(at.layout);
  Lanes l = lanes_of(&at, d, last, &at);
  run_lanes(&l, overwritten_lanes);
  l.from = nb_tensor_data(c->out[0]);  // of the index's shape and contiguous, as the places are
  run_lanes(&l, still_lanes);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static const Op ops[] = {
    {.name = "gather",
     .doc =
         "Of each line of x along dim the elements an index of as many dimensions names: x[i][index[i][j]] for dim 2.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:gather(2, nb.tensor{{2}, {1}})  --> {{2}, {3}}",
     .derivative = "∂/∂x = 1 at the places, added up",
     .sample = {.args = "f(3,4), 2, i(4,3,2); f(3,4), 1, i(3,5,2); f(2,3,4), -2, i(3,1,5,4); f(4), 1, i(4,6)"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), DIM("dim"), INDEX("index")},
     .saves = NB_SAVE_IN(2),
     .shape = shape_gather,
     .forward = forward_gather,
     .backward = backward_gather},
    {.name = "scatter",
     .doc = "x with the elements of src written to the places an index names along dim, the reverse of gather; the "
            "last counts.",
     .example = "nb.zeros(2, 2):scatter(2, nb.tensor{{2}, {1}}, 7)  --> {{0, 7}, {7, 0}}",
     .derivative = "∂/∂x = 1 elsewhere, ∂/∂src = δ at the places",
     .sample =
         {.args =
              "f(3,4), 2, i(4,3,2), f(3,2); f(3,4), 1, i(3,5,2), f(5,4); f(2,3,4), -2, i(3,1,5,4), f(1,5,4); f(4), 1, "
              "i(4,6), 2"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), DIM("dim"), INDEX("index"), OPERAND("src")},
     .inplace = true,
     .saves = NB_SAVE_IN(2),
     .shape = shape_scatter,
     .forward = forward_scatter,
     .backward = backward_scatter},
    {.name = "scatter_add",
     .doc = "x with the elements of src added at the places an index names along dim.",
     .example = "nb.zeros(3):scatter_add(1, nb.tensor{1, 1, 3}, nb.tensor{1, 2, 5})  --> {3, 0, 5}",
     .derivative = "∂/∂x = 1, ∂/∂src = δ at the places",
     .sample =
         {.args =
              "f(3,4), 2, i(4,3,2), f(3,2); f(3,4), 1, i(3,5,2), f(5,4); f(2,3,4), -2, i(3,1,5,4), f(1,5,4); f(4), 1, "
              "i(4,6), 2"},
     .role = NB_ROLE_PART,
     .symbol = "scatterAdd",
     .params = {TENSOR("x"), DIM("dim"), INDEX("index"), OPERAND("src")},
     .inplace = true,
     .saves = NB_SAVE_IN(2),
     .shape = shape_scatter,
     .forward = forward_scatter_add,
     .backward = backward_scatter_add},
    {.name = "overwritten",
     .doc = "Where a scatter of the given target sizes is overwritten by a later element, as a mask.",
     .example = "nb.zeros(3):scatter(1, nb.tensor{1, 1}, nb.tensor{5, 6})  --> {6, 0, 0}",
     .no_grad = "a mask is not a number",
     .sample = {.args = "i(4,3,2), 2, {3,4}"},
     .role = NB_ROLE_TEST,
     .symbol = "overwritten",
     .params = {INDEX("index"), DIM("dim"), INTS("sizes")},
     .internal = true,
     .shape = shape_overwritten,
     .forward = forward_overwritten},
};
const OpFamily ops_scatter = {"Lookup by elements", ops, COUNT(ops)};
