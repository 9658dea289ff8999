// SPDX-License-Identifier: MIT
// Operators: reading and writing the parts of a tensor that an index names in one dimension.
//
// The index stands in the place of the whole dimension and may have any shape; x is seen as
// outer×size×inner.  Threads split outer×inner, so results do not depend on their number.
#include <string.h>

#include "loops.h"
#include "put.h"

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

// Short rows have a size that the compiler knows.
#define READ_ROWS(bytes)                                                                                        \
  for (int64_t i = begin; i < end;) {                                                                           \
    int64_t o = i / r->count, k = i % r->count, n = r->count - k;                                               \
    const int64_t *place = r->place + k;                                                                        \
    const char *from = r->from + (size_t)(o * r->size) * (bytes);                                               \
    char *to = r->to + (size_t)i * (bytes);                                                                     \
    if (n > end - i) n = end - i;                                                                               \
    for (int64_t j = 0; j < n; j++) memcpy(to + (size_t)j * (bytes), from + (size_t)place[j] * (bytes), bytes); \
    i += n;                                                                                                     \
  }

static void read_rows(int64_t begin, int64_t end, void *ctx) {
  const Rows *r = ctx;
  const size_t bytes = (size_t)r->inner * r->element;
  switch (bytes) {
    case 1:
      READ_ROWS(1) break;
    case 4:
      READ_ROWS(4) break;
    case 8:
      READ_ROWS(8) break;
    default:
      READ_ROWS(bytes) break;
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
  Tensor *place = x ? nb_places(&s, c->args[2].tensor, x->layout.shape[d], d) : NULL;
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
  Layout x = nb_in(b, 0)->layout;
  x.dtype = b->grad[0]->layout.dtype;
  Value args[NB_MAX_PARAMS] = {{0}, *nb_arg(b, 1), *nb_arg(b, 2), {.tensor = b->grad[0]}};
  return nb_give(b, 0, nb_into_zeros(b->scope, "index_add", &x, args));
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
  Tensor *place = nb_places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? nb_contiguous(&s, nb_source(&s, c->args[3].tensor, c->out[0])) : NULL;
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
  Tensor *place = nb_places(&s, c->args[2].tensor, x->shape[d], d);
  Tensor *src = place ? nb_source(&s, c->args[3].tensor, c->out[0]) : NULL;
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

static bool backward_index_rows_put(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *index = nb_in(b, 2), *value = nb_in(b, 3);
  if (nb_wants(b, 0)) {
    Tensor *zero = nb_number(s, 0, g->layout.dtype);
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
  Tensor *zero = nb_number(s, 0, g->layout.dtype);
  if (!part || !lost || !zero) return false;
  int ndim = index->layout.ndim + g->layout.ndim - 1 - d;
  for (int e = 0; e < ndim; e++) column[e] = e < index->layout.ndim ? index->layout.shape[e] : 1;
  lost = nb_reshape(s, lost, column, ndim);
  if (!lost) return false;
  part = nb_op(s, "masked_fill", (Value[]){{.tensor = part}, {.tensor = lost}, {.tensor = zero}});
  return nb_give(b, 3, nb_lead(s, part, value->layout.ndim));
}

static const Op ops[] = {
    {.name = "index_select",
     .doc = "The parts of x at the places an index names in dimension dim; the index may have any shape.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:index_select(1, nb.tensor{2, 1, -1})  --> {{3, 4}, {1, 2}, {3, 4}}",
     .derivative = "∂/∂x = 1 at the places, added up",
     .sample = {.args = "f(3,4), 1, i(3,5); f(3,4), 2, i(4,2); f(3,4), 1, i(3,2,2); f(2,3,4), -2, i(3)"},
     .role = NB_ROLE_PART,
     .symbol = "lookup",
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
     .role = NB_ROLE_PART,
     .symbol = "addAt",
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
     .role = NB_ROLE_PART,
     .symbol = "put",
     .params = {TENSOR("x"), DIM("dim"), INDEX("index"), OPERAND("value")},
     .internal = true,
     .inplace = true,
     .saves = NB_SAVE_IN(2),
     .shape = shape_index_rows_put,
     .forward = forward_index_rows_put,
     .backward = backward_index_rows_put},
};
const OpFamily ops_lookup = {"Lookup by rows", ops, COUNT(ops)};
