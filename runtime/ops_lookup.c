// SPDX-License-Identifier: MIT
// Operators: reading from and writing to places that index tensors name, 1-based and negative from the end.
//
// Two patterns.  Rows: an index stands in the place of one whole dimension (index_select, index_add,
// index_rows_put); x is seen as outer×size×inner.  Lanes: an index of x's number of dimensions names,
// for each of its elements, the place along one dimension (gather, scatter, scatter_add); a lane is
// one line along that dimension.  Threads split lanes, so the results do not depend on their number.
#include <string.h>

#include "loops.h"
#include "put.h"

// The index as contiguous 0-based numbers, checked against `size`.
static Tensor *places(Scope *s, Tensor *index, int64_t size, int d) {
  Tensor *out = nb_scope_own(s, nb_tensor_new(&index->layout, s->err));
  if (!out) return NULL;
  nb_copy(out, index);
  int64_t *p = nb_tensor_data(out), n = nb_layout_numel(&out->layout);
  for (int64_t i = 0; i < n; i++) {
    int64_t v = p[i];
    if (v == 0 || v > size || v < -size) {
      nb_fail(s->err, NB_ERROR_ARGUMENT, "index %lld (element %lld of the index) is outside dimension %d of size %lld",
              (long long)v, (long long)i + 1, d + 1, (long long)size);
      return NULL;
    }
    p[i] = v < 0 ? v + size : v - 1;
  }
  return out;
}

// A contiguous tensor with x's values to write the result into: the output itself where it can be.
static Tensor *target(Call *c, Scope *s) {
  Tensor *out = c->out[0], *x = c->args[0].tensor;
  if (!nb_layout_contiguous(&out->layout)) out = nb_scope_own(s, nb_tensor_new(&x->layout, s->err));
  if (out && out != x) nb_copy(out, x);
  return out;
}

static void finish(Call *c, const Tensor *written) {
  if (written != c->out[0]) nb_copy(c->out[0], written);
}

// The source in the output's dtype, apart from its memory, contiguous where asked.
static Tensor *source(Call *c, Scope *s, Tensor *src) {
  if (!nb_check_whole(src, c->out[0]->layout.dtype, s->err)) return NULL;
  if (src->storage == c->out[0]->storage) src = nb_unary(s, "clone", src);
  return nb_to(s, src, c->out[0]->layout.dtype);
}

static Tensor *zero_number(Scope *s, DType dtype) {
  return nb_full(s, &(Layout){.dtype = dtype}, 0);
}

// ---- rows ----

typedef struct Rows {
  char *to;
  const char *from;
  const int64_t *place;
  int64_t outer, size, count, inner;  // x is outer×size×inner, what is looked up outer×count×inner
  size_t element;
  DType dtype;
} Rows;

static Rows rows_of(const Layout *x, int d, const Tensor *place) {
  Rows r = {.place = nb_tensor_data(place), .outer = 1, .size = x->shape[d], .inner = 1};
  r.count = nb_layout_numel(&place->layout);
  r.dtype = x->dtype;
  r.element = nb_dtype_size(x->dtype);
  for (int e = 0; e < d; e++) r.outer *= x->shape[e];
  for (int e = d + 1; e < x->ndim; e++) r.inner *= x->shape[e];
  return r;
}

// x's shape with the index's in place of dimension d.
static bool rows_shape(const Layout *x, const Layout *index, int64_t dim, int *d, Layout *out, Error *err) {
  if (!nb_dim(dim, x->ndim, d, err)) return false;
  *out = (Layout){.dtype = x->dtype, .ndim = x->ndim - 1 + index->ndim};
  if (out->ndim > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the result would have %d dimensions; a tensor has at most %d", out->ndim,
                   NB_MAX_DIMS);
  int n = 0;
  for (int e = 0; e < *d; e++) out->shape[n++] = x->shape[e];
  for (int e = 0; e < index->ndim; e++) out->shape[n++] = index->shape[e];
  for (int e = *d + 1; e < x->ndim; e++) out->shape[n++] = x->shape[e];
  return true;
}

static void read_rows(int64_t begin, int64_t end, void *ctx) {
  const Rows *r = ctx;
  size_t bytes = (size_t)r->inner * r->element;
  for (int64_t i = begin; i < end; i++) {
    int64_t o = i / r->count, from = o * r->size + r->place[i % r->count];
    memcpy(r->to + (size_t)i * bytes, r->from + (size_t)from * bytes, bytes);
  }
}

// Lanes are outer×inner; each takes all places in order, so that later ones win.
#define EACH_ROW(T, statement)                                               \
  for (int64_t lane = begin; lane < end;) {                                  \
    int64_t o = lane / r->inner, i0 = lane % r->inner, i1 = i0 + end - lane; \
    if (i1 > r->inner) i1 = r->inner;                                        \
    for (int64_t k = 0; k < r->count; k++) {                                 \
      T *to = (T *)r->to + (o * r->size + r->place[k]) * r->inner;           \
      const T *from = (const T *)r->from + (o * r->count + k) * r->inner;    \
      for (int64_t i = i0; i < i1; i++) statement;                           \
    }                                                                        \
    lane += i1 - i0;                                                         \
  }

static void add_rows(int64_t begin, int64_t end, void *ctx) {
  const Rows *r = ctx;
  switch (r->dtype) {
    case NB_F32:
      EACH_ROW(float, to[i] += from[i]) break;
    case NB_F64:
      EACH_ROW(double, to[i] += from[i]) break;
    case NB_I64:
      EACH_ROW(uint64_t, to[i] += from[i]) break;
    case NB_U8:
      EACH_ROW(uint8_t, to[i] = (uint8_t)(to[i] + from[i])) break;
    case NB_BOOL:
      EACH_ROW(uint8_t, to[i] |= from[i]) break;
    case NB_DTYPES:
      break;
  }
}

static void put_rows(int64_t begin, int64_t end, void *ctx) {
  const Rows *r = ctx;
  switch (r->element) {
    case 4:
      EACH_ROW(uint32_t, to[i] = from[i]) break;
    case 8:
      EACH_ROW(uint64_t, to[i] = from[i]) break;
    default:
      EACH_ROW(uint8_t, to[i] = from[i]) break;
  }
}

static void write_rows(Rows *r, void (*body)(int64_t, int64_t, void *)) {
  nb_parallel_for(r->outer * r->inner, NB_GRAIN / (r->count + 1) + 1, body, r);
}

static bool shape_index_select(Call *c, Error *err) {
  int d;
  return rows_shape(&c->args[0].tensor->layout, &c->args[2].tensor->layout, c->args[1].integer, &d, &c->layout[0], err);
}

static bool forward_index_select(Call *c, Error *err) {
  Scope s;
  bool ok = false;
  int d;
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, c->args[0].tensor->layout.ndim, &d, err)) goto done;
  Tensor *x = nb_contiguous(&s, c->args[0].tensor);
  Tensor *place = x ? places(&s, c->args[2].tensor, x->layout.shape[d], d) : NULL;
  if (!place) goto done;
  Rows r = rows_of(&x->layout, d, place);
  r.to = nb_tensor_data(c->out[0]);
  r.from = nb_tensor_data(x);
  nb_parallel_for(r.outer * r.count, NB_GRAIN / (r.inner + 1) + 1, read_rows, &r);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static bool backward_index_select(Backward *b) {
  Scope *s = b->scope;
  Layout x = nb_in(b, 0)->layout;
  x.dtype = b->grad[0]->layout.dtype;
  Tensor *zeros = nb_full(s, &x, 0);
  if (!zeros) return false;
  return nb_give(
      b, 0, nb_op(s, "index_add", (Value[]){{.tensor = zeros}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = b->grad[0]}}));
}

static bool shape_index_add(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  Layout part;
  const Layout *x = &c->args[0].tensor->layout, *src = &c->args[3].tensor->layout;
  int d;
  c->layout[0] = *x;
  if (!rows_shape(x, &c->args[2].tensor->layout, c->args[1].integer, &d, &part, err)) return false;
  bool fits = part.ndim == src->ndim;
  for (int e = 0; fits && e < part.ndim; e++) fits = part.shape[e] == src->shape[e];
  return fits || nb_fail(err, NB_ERROR_ARGUMENT, "the source has shape %s, but x and the index need %s",
                         nb_shape_text(src, have), nb_shape_text(&part, want));
}

static bool forward_index_add(Call *c, Error *err) {
  Scope s;
  bool ok = false;
  int d;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, x->ndim, &d, err)) goto done;
  Tensor *place = places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? nb_contiguous(&s, source(c, &s, c->args[3].tensor)) : NULL;
  Tensor *to = src ? target(c, &s) : NULL;
  if (!to) goto done;
  Rows r = rows_of(x, d, place);
  r.to = nb_tensor_data(to);
  r.from = nb_tensor_data(src);
  write_rows(&r, add_rows);
  finish(c, to);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static bool backward_index_add(Backward *b) {
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, g)) return false;
  return !nb_wants(b, 3) ||
         nb_give(b, 3, nb_op(b->scope, "index_select", (Value[]){{.tensor = g}, *nb_arg(b, 1), *nb_arg(b, 2)}));
}

static bool shape_index_rows_put(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  Layout part;
  const Layout *x = &c->args[0].tensor->layout, *value = &c->args[3].tensor->layout;
  int d;
  c->layout[0] = *x;
  if (!rows_shape(x, &c->args[2].tensor->layout, c->args[1].integer, &d, &part, err)) return false;
  return nb_fits(value, &part) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shape %s does not broadcast into the part, which has shape %s",
                 nb_shape_text(value, have), nb_shape_text(&part, want));
}

static bool forward_index_rows_put(Call *c, Error *err) {
  Scope s;
  Layout part;
  bool ok = false;
  int d;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  if (!rows_shape(x, &c->args[2].tensor->layout, c->args[1].integer, &d, &part, err)) goto done;
  Tensor *place = places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? source(c, &s, c->args[3].tensor) : NULL;
  if (!src) goto done;
  Tensor value = *src;
  nb_strip(&value.layout, part.ndim);
  Tensor *full = nb_scope_own(&s, nb_tensor_new(&part, err));
  if (!full) goto done;
  nb_copy(full, &value);
  Tensor *to = target(c, &s);
  if (!to) goto done;
  Rows r = rows_of(x, d, place);
  r.to = nb_tensor_data(to);
  r.from = nb_tensor_data(full);
  write_rows(&r, put_rows);
  finish(c, to);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

// Where a place is named twice only the last value counts: the others' gradient is zero.
static Tensor *of_winners(Scope *s, Tensor *g, Tensor *index, Value dim, int64_t *sizes, int ndim) {
  if (!g) return NULL;
  Tensor *lost = nb_op(s, "overwritten", (Value[]){{.tensor = index}, dim, {.ints = {sizes, ndim}}});
  Tensor *zero = zero_number(s, g->layout.dtype);
  if (!lost || !zero) return NULL;
  return nb_op(s, "masked_fill", (Value[]){{.tensor = g}, {.tensor = lost}, {.tensor = zero}});
}

static bool backward_index_rows_put(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *index = nb_in(b, 2), *value = nb_in(b, 3);
  if (nb_wants(b, 0)) {
    Tensor *zero = zero_number(s, g->layout.dtype);
    if (!zero ||
        !nb_give(b, 0,
                 nb_op(s, "index_rows_put", (Value[]){{.tensor = g}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = zero}})))
      return false;
  }
  if (!nb_wants(b, 3)) return true;
  int d;
  if (!nb_dim(nb_arg(b, 1)->integer, g->layout.ndim, &d, s->err)) return false;
  // The index as a column in front of the dimensions that follow d, to name what was overwritten.
  int64_t n = nb_layout_numel(&index->layout), sizes[1] = {g->layout.shape[d]}, column[NB_MAX_DIMS];
  Tensor *part = nb_op(s, "index_select", (Value[]){{.tensor = g}, *nb_arg(b, 1), *nb_arg(b, 2)});
  Tensor *flat = nb_reshape(s, index, &n, 1);
  Tensor *lost =
      flat ? nb_op(s, "overwritten", (Value[]){{.tensor = flat}, {.integer = 1}, {.ints = {sizes, 1}}}) : NULL;
  Tensor *zero = zero_number(s, g->layout.dtype);
  if (!part || !lost || !zero) return false;
  int ndim = index->layout.ndim + g->layout.ndim - 1 - d;
  for (int e = 0; e < ndim; e++) column[e] = e < index->layout.ndim ? index->layout.shape[e] : 1;
  lost = nb_reshape(s, lost, column, ndim);
  if (!lost) return false;
  part = nb_op(s, "masked_fill", (Value[]){{.tensor = part}, {.tensor = lost}, {.tensor = zero}});
  return nb_give(b, 3, nb_lead(s, part, value->layout.ndim));
}

// ---- lanes ----

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

#define EACH_LANE(T, statement)                                \
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
    for (int64_t k = 0; k < l->count; k++) statement;          \
  }
#define PLACE place[k * l->place_step]
#define GATHER to[k * l->to_step] = from[PLACE * l->from_step]
#define SCATTER to[PLACE * l->to_step] = from[k * l->from_step]
#define SCATTER_ADD(T) to[PLACE * l->to_step] = (T)(to[PLACE * l->to_step] + from[k * l->from_step])

#define LANES_BY_SIZE(name, statement)                      \
  static void name(int64_t begin, int64_t end, void *ctx) { \
    const Lanes *l = ctx;                                   \
    switch (l->element) {                                   \
      case 4:                                               \
        EACH_LANE(uint32_t, statement) break;               \
      case 8:                                               \
        EACH_LANE(uint64_t, statement) break;               \
      default:                                              \
        EACH_LANE(uint8_t, statement) break;                \
    }                                                       \
  }
LANES_BY_SIZE(gather_lanes, GATHER)
LANES_BY_SIZE(scatter_lanes, SCATTER)

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

// The index has x's number of dimensions and outside d no larger sizes; 0-based d.
static bool lanes_fit(const Layout *x, const Layout *index, int64_t dim, int *d, Error *err) {
  char tx[NB_SHAPE_TEXT], ti[NB_SHAPE_TEXT];
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

static bool forward_gather(Call *c, Error *err) {
  Scope s;
  int d;
  const Tensor *x = c->args[0].tensor;
  nb_scope_open(&s, err);
  bool ok = nb_dim(c->args[1].integer, x->layout.ndim, &d, err);
  Tensor *place = ok ? places(&s, c->args[2].tensor, x->layout.shape[d], d) : NULL;
  if (place) {
    Lanes l = lanes_of(place, d, c->out[0], x);
    run_lanes(&l, gather_lanes);
  }
  nb_scope_close(&s);
  return place;
}

static bool backward_gather(Backward *b) {
  Scope *s = b->scope;
  Layout x = nb_in(b, 0)->layout;
  x.dtype = b->grad[0]->layout.dtype;
  Tensor *zeros = nb_full(s, &x, 0);
  if (!zeros) return false;
  return nb_give(
      b, 0,
      nb_op(s, "scatter_add", (Value[]){{.tensor = zeros}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = b->grad[0]}}));
}

static bool shape_scatter(Call *c, Error *err) {
  char ts[NB_SHAPE_TEXT], ti[NB_SHAPE_TEXT];
  int d;
  const Layout *index = &c->args[2].tensor->layout, *src = &c->args[3].tensor->layout;
  c->layout[0] = c->args[0].tensor->layout;
  if (!lanes_fit(&c->layout[0], index, c->args[1].integer, &d, err)) return false;
  bool fits = src->ndim == index->ndim;
  for (int e = 0; fits && e < index->ndim; e++) fits = index->shape[e] <= src->shape[e];
  return src->ndim == 0 || fits ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the source, of shape %s, does not cover the index, of shape %s",
                 nb_shape_text(src, ts), nb_shape_text(index, ti));
}

static bool scatter_with(Call *c, void (*body)(int64_t, int64_t, void *), Error *err) {
  Scope s;
  int d;
  bool ok = false;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, x->ndim, &d, err)) goto done;
  Tensor *place = places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? source(c, &s, c->args[3].tensor) : NULL;
  if (!src) goto done;
  if (c->out[0] != c->args[0].tensor) nb_copy(c->out[0], c->args[0].tensor);
  Lanes l = lanes_of(place, d, c->out[0], src);
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

static bool backward_scatter(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0)) {
    Tensor *zero = zero_number(s, g->layout.dtype);
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
  nb_scope_open(&s, err);
  if (!nb_dim(c->args[1].integer, x.ndim, &d, err)) goto done;
  Tensor *place = places(&s, c->args[0].tensor, x.shape[d], d);
  Tensor *last = place ? nb_scope_own(&s, nb_tensor_new(&x, err)) : NULL;
  if (!last) goto done;
  Lanes l = lanes_of(place, d, last, place);
  run_lanes(&l, overwritten_lanes);
  l.from = nb_tensor_data(c->out[0]);  // of the index's shape and contiguous, as the places are
  run_lanes(&l, still_lanes);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static const Op ops[] = {
    {.name = "index_select",
     .doc = "The parts of x at the places an index names in dimension dim; the index may have any shape.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:index_select(1, nb.tensor{2, 1, -1})  --> {{3, 4}, {1, 2}, {3, 4}}",
     .derivative = "∂/∂x = 1 at the places, added up",
     .sample = {.args = "f(3,4), 1, i(3,5); f(3,4), 2, i(4,2); f(3,4), 1, i(3,2,2); f(2,3,4), -2, i(3)"},
     .params = {TENSOR("x"), DIM("dim"), INDEX("index")},
     .saves = NB_SAVE_IN(2),
     .shape = shape_index_select,
     .forward = forward_index_select,
     .backward = backward_index_select},
    {.name = "index_add",
     .doc = "x with the parts of src added at the places an index names in dimension dim.",
     .example = "nb.zeros(3):index_add(1, nb.tensor{1, 1, 3}, nb.tensor{1, 2, 5})  --> {3, 0, 5}",
     .derivative = "∂/∂x = 1, ∂/∂src = δ at the places",
     .sample = {.args = "f(3,4), 1, i(3,5), f(5,4); f(3,4), 2, i(4,2), f(3,2); f(3,4), 1, i(3,2,2), f(2,2,4)"},
     .params = {TENSOR("x"), DIM("dim"), INDEX("index"), TENSOR("src")},
     .inplace = true,
     .saves = NB_SAVE_IN(2),
     .shape = shape_index_add,
     .forward = forward_index_add,
     .backward = backward_index_add},
    {.name = "index_rows_put",
     .doc = "x with the parts at the places an index names in dimension dim replaced by value; the last one counts.",
     .example = "local t = nb.zeros(3); t[nb.tensor{1, 3}] = nb.tensor{5, 6}; return t  --> {5, 0, 6}",
     .derivative = "∂/∂x = 1 elsewhere, ∂/∂value = δ at the places",
     .sample = {.args =
                    "f(3,4), 1, i(3,5), f(5,4); f(3,4), 2, i(4,2), f(3,1); f(3,4), 1, i(3,2,2), f(1,2,1,4); f(5,2), 1, "
                    "i(5,3), 2; f(2,3,2), 2, i(3,4), f(2,4,2)"},
     .params = {TENSOR("x"), DIM("dim"), INDEX("index"), OPERAND("value")},
     .internal = true,
     .inplace = true,
     .saves = NB_SAVE_IN(2),
     .shape = shape_index_rows_put,
     .forward = forward_index_rows_put,
     .backward = backward_index_rows_put},
    {.name = "gather",
     .doc =
         "Of each line of x along dim the elements an index of as many dimensions names: x[i][index[i][j]] for dim 2.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:gather(2, nb.tensor{{2}, {1}})  --> {{2}, {3}}",
     .derivative = "∂/∂x = 1 at the places, added up",
     .sample = {.args = "f(3,4), 2, i(4,3,2); f(3,4), 1, i(3,5,2); f(2,3,4), -2, i(3,1,5,4); f(4), 1, i(4,6)"},
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
     .params = {INDEX("index"), DIM("dim"), INTS("sizes")},
     .internal = true,
     .shape = shape_overwritten,
     .forward = forward_overwritten},
};
const OpFamily ops_lookup = {"Lookup by index tensors", ops, COUNT(ops)};
