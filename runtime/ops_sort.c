// SPDX-License-Identifier: MIT
// Operators: sorting, the largest or smallest elements, distinct values.
//
// A lane is one line along the sorted dimension.  Lanes are laid side by side, their positions merge
// sorted (stable, NaN the largest of all), and values and positions copied back.
#include <string.h>

#include "loops.h"
#include "nablua/interrupt.h"

typedef struct Sort {
  const char *keys;         // lanes × n
  int64_t *places, *other;  // lanes × n each; the result ends in `places`
  int64_t lanes, n;
  DType dtype;
  bool descending;
} Sort;

enum { POLLED = 1 << 16 };  // elements between two looks at the interrupt flag

// An interrupted sort leaves the places as they were: valid, in no order.
#define MERGE_SORT(name, T)                                                                                    \
  static inline bool name##_after(T a, T b, bool descending) {                                                 \
    bool more = a > b || (a != a && b == b), less = b > a || (b != b && a == a);                               \
    return descending ? less : more;                                                                           \
  }                                                                                                            \
  static void name(const Sort *s, int64_t lane) {                                                              \
    const T *key = (const T *)s->keys + lane * s->n;                                                           \
    int64_t *from = s->places + lane * s->n, *to = s->other + lane * s->n, *home = from;                       \
    for (int64_t i = 0; i < s->n; i++) from[i] = i;                                                            \
    for (int64_t width = 1; width < s->n; width *= 2) {                                                        \
      for (int64_t left = 0; left < s->n; left += 2 * width) {                                                 \
        int64_t middle = left + width < s->n ? left + width : s->n;                                            \
        int64_t end = middle + width < s->n ? middle + width : s->n, a = left, b = middle;                     \
        for (int64_t i = left; i < end;) {                                                                     \
          if (i % POLLED == 0 && nb_interrupted()) goto stopped;                                               \
          int64_t stop = i - i % POLLED + POLLED < end ? i - i % POLLED + POLLED : end;                        \
          for (; i < stop; i++) {                                                                              \
            bool second = a == middle || (b < end && name##_after(key[from[a]], key[from[b]], s->descending)); \
            to[i] = second ? from[b++] : from[a++];                                                            \
          }                                                                                                    \
        }                                                                                                      \
      }                                                                                                        \
      int64_t *t = from;                                                                                       \
      from = to;                                                                                               \
      to = t;                                                                                                  \
    }                                                                                                          \
    if (from != home) memcpy(home, from, (size_t)s->n * sizeof *home);                                         \
    return;                                                                                                    \
  stopped:                                                                                                     \
    for (int64_t i = 0; i < s->n; i++) home[i] = i;                                                            \
  }
MERGE_SORT(sort_u8, uint8_t)
MERGE_SORT(sort_i64, int64_t)
MERGE_SORT(sort_f32, float)
MERGE_SORT(sort_f64, double)

static void sort_body(int64_t begin, int64_t end, void *ctx) {
  const Sort *s = ctx;
  for (int64_t lane = begin; lane < end; lane++) {
    switch (s->dtype) {
      case NB_F32:
        sort_f32(s, lane);
        break;
      case NB_F64:
        sort_f64(s, lane);
        break;
      case NB_I64:
        sort_i64(s, lane);
        break;
      case NB_U8:
      case NB_BOOL:
        sort_u8(s, lane);
        break;
      case NB_DTYPES:
        break;
    }
  }
}

// The tensor with dimension d last, as a header to copy through.
static Tensor moved_last(const Tensor *t, int d) {
  Tensor out = *t;
  int last = t->layout.ndim - 1;
  for (int e = d; e < last; e++) {
    out.layout.shape[e] = t->layout.shape[e + 1];
    out.layout.strides[e] = t->layout.strides[e + 1];
  }
  if (last >= 0) {
    out.layout.shape[last] = t->layout.shape[d];
    out.layout.strides[last] = t->layout.strides[d];
  }
  return out;
}

// Lanes with their keys in order of memory and sorted places, 0-based.
typedef struct Sorted {
  Tensor *keys, *places;
  int64_t lanes, n;
} Sorted;

static bool sorted(Scope *s, const Tensor *x, int d, bool descending, Sorted *r) {
  Tensor lanes = moved_last(x, d);
  Layout l = lanes.layout;
  r->keys = nb_scope_own(s, nb_tensor_new(&l, s->err));
  l.dtype = NB_I64;
  r->places = nb_scope_own(s, nb_tensor_new(&l, s->err));
  Tensor *other = nb_scope_own(s, nb_tensor_new(&l, s->err));
  if (!r->keys || !r->places || !other) return false;
  nb_copy(r->keys, &lanes);
  r->n = l.ndim ? l.shape[l.ndim - 1] : 1;
  r->lanes = r->n ? nb_layout_numel(&l) / r->n : 0;
  Sort job = {.keys = nb_tensor_data(r->keys), .places = nb_tensor_data(r->places), .other = nb_tensor_data(other)};
  job.lanes = r->lanes;
  job.n = r->n;
  job.dtype = x->layout.dtype;
  job.descending = descending;
  nb_parallel_for(r->lanes, NB_GRAIN / (16 * (r->n + 1)) + 1, sort_body, &job);
  return nb_poll(s->err);
}

// Writes the first k of each lane: the places, and the values where `values` is given.
static bool write_first(Scope *s, const Sorted *r, int d, int64_t k, Tensor *values, Tensor *places) {
  Tensor to = moved_last(places, d);
  Tensor *first = nb_scope_own(s, nb_tensor_new(&to.layout, s->err));
  if (!first) return false;
  int64_t *out = nb_tensor_data(first);
  const int64_t *from = nb_tensor_data(r->places);
  for (int64_t lane = 0; lane < r->lanes; lane++)
    for (int64_t i = 0; i < k; i++) *out++ = from[lane * r->n + i] + 1;
  nb_copy(&to, first);
  if (!values) return true;
  Tensor value_to = moved_last(values, d);
  Tensor *chosen = nb_scope_own(s, nb_tensor_new(&value_to.layout, s->err));
  if (!chosen) return false;
  size_t size = nb_dtype_size(values->layout.dtype);
  char *data = nb_tensor_data(chosen);
  const char *keys = nb_tensor_data(r->keys);
  for (int64_t lane = 0; lane < r->lanes; lane++)
    for (int64_t i = 0; i < k; i++, data += size)
      memcpy(data, keys + (size_t)(lane * r->n + from[lane * r->n + i]) * size, size);
  nb_copy(&value_to, chosen);
  return true;
}

// Without dim, the last dimension; a scalar is one lane of one.
static bool sort_dim(const Layout *x, int64_t dim, int *d, Error *err) {
  *d = x->ndim ? x->ndim - 1 : 0;
  return (x->ndim == 0 && dim == 0) || dim == 0 || nb_dim(dim, x->ndim, d, err);
}

static bool run_sort(Call *c, int64_t dim, bool descending, int64_t k, Tensor *values, Tensor *places, Error *err) {
  Scope s;
  Sorted r;
  int d;
  const Tensor *x = c->args[0].tensor;
  nb_scope_open(&s, err);
  bool ok = sort_dim(&x->layout, dim, &d, err) && sorted(&s, x, d, descending, &r) &&
            write_first(&s, &r, d, k < 0 ? r.n : k, values, places);
  nb_scope_close(&s);
  return ok;
}

static bool shape_sort(Call *c, Error *err) {
  int d;
  c->layout[0] = c->layout[1] = c->args[0].tensor->layout;
  c->layout[1].dtype = NB_I64;
  return sort_dim(&c->layout[0], c->args[1].integer, &d, err);
}

static bool forward_sort(Call *c, Error *err) {
  return run_sort(c, c->args[1].integer, c->args[2].flag, -1, c->out[0], c->out[1], err);
}

static bool shape_argsort(Call *c, Error *err) {
  if (!shape_sort(c, err)) return false;
  c->layout[0].dtype = NB_I64;
  return true;
}

static bool forward_argsort(Call *c, Error *err) {
  return run_sort(c, c->args[1].integer, c->args[2].flag, -1, NULL, c->out[0], err);
}

static bool shape_topk(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  int64_t k = c->args[1].integer;
  int d;
  c->layout[0] = *x;
  if (!sort_dim(x, c->args[2].integer, &d, err)) return false;
  int64_t size = x->ndim ? x->shape[d] : 1;
  if (k < 0 || k > size)
    return nb_fail(err, NB_ERROR_ARGUMENT, "cannot take %lld of the %lld elements in dimension %d of shape %s",
                   (long long)k, (long long)size, d + 1, nb_shape_text(x, text));
  if (x->ndim)
    c->layout[0].shape[d] = k;
  else if (k == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "cannot take 0 elements of a scalar");
  c->layout[1] = c->layout[0];
  c->layout[1].dtype = NB_I64;
  return true;
}

static bool forward_topk(Call *c, Error *err) {
  return run_sort(c, c->args[2].integer, c->args[3].flag, c->args[1].integer, c->out[0], c->out[1], err);
}

// Every value goes back to where it came from.
static bool send_back(Backward *b, int64_t dim) {
  Scope *s = b->scope;
  Layout x = nb_in(b, 0)->layout;
  if (x.ndim == 0) return nb_give(b, 0, b->grad[0]);
  x.dtype = b->grad[0]->layout.dtype;
  Tensor *zeros = nb_full(s, &x, 0);
  if (!zeros) return false;
  return nb_give(
      b, 0,
      nb_op(
          s, "scatter_add",
          (Value[]){{.tensor = zeros}, {.integer = dim ? dim : -1}, {.tensor = nb_out(b, 1)}, {.tensor = b->grad[0]}}));
}

static bool backward_sort(Backward *b) {
  return send_back(b, nb_arg(b, 1)->integer);
}

static bool backward_topk(Backward *b) {
  return send_back(b, nb_arg(b, 2)->integer);
}

// ---- unique ----

static bool shape_unique(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->layout[1] = c->layout[2] = c->args[0].tensor->layout;
  c->layout[0].ndim = c->layout[2].ndim = 1;
  c->layout[1].dtype = c->layout[2].dtype = NB_I64;
  return true;
}

static bool differ(const Sorted *r, int64_t a, int64_t b) {
  size_t size = nb_dtype_size(r->keys->layout.dtype);
  const char *keys = nb_tensor_data(r->keys);
  if (nb_dtype_is_float(r->keys->layout.dtype)) return nb_tensor_get(r->keys, a) != nb_tensor_get(r->keys, b);
  return memcmp(keys + (size_t)a * size, keys + (size_t)b * size, size) != 0;
}

// Equal neighbours of the sorted elements are one value; each NaN is a value of its own.
static bool forward_unique(Call *c, Error *err) {
  Scope s;
  Sorted r;
  bool ok = false;
  const Layout *l = &c->args[0].tensor->layout;
  int64_t n = nb_layout_numel(l), count = 0;
  size_t size = nb_dtype_size(l->dtype);
  nb_scope_open(&s, err);
  Tensor *flat = nb_reshape(&s, c->args[0].tensor, &n, 1);
  if (!flat || !sorted(&s, flat, 0, false, &r)) goto done;
  const int64_t *at = nb_tensor_data(r.places);
  for (int64_t i = 0; i < n; i++) count += i == 0 || differ(&r, at[i], at[i - 1]);
  c->layout[0].shape[0] = c->layout[2].shape[0] = count;
  for (int i = 0; i < 3; i++)
    if (!(c->out[i] = nb_tensor_new(&c->layout[i], err))) goto done;
  const char *keys = nb_tensor_data(r.keys);
  char *values = nb_tensor_data(c->out[0]);
  int64_t *inverse = nb_tensor_data(c->out[1]), *counts = nb_tensor_data(c->out[2]), v = -1;
  for (int64_t i = 0; i < n; i++) {
    if (i == 0 || differ(&r, at[i], at[i - 1])) {
      memcpy(values + (size_t)++v * size, keys + (size_t)at[i] * size, size);
      counts[v] = 0;
    }
    counts[v]++;
    inverse[at[i]] = v + 1;
  }
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

#define DESCENDING \
  { .name = "descending", .kind = NB_PARAM_FLAG, .optional = true, .named = true }

static const Op ops[] = {
    {.name = "sort",
     .doc = "x sorted along dim (the last), and the places its elements had; equal ones keep their order, NaN is the "
            "largest.",
     .example = "nb.sort(nb.tensor{3, 1, 2})  --> {1, 2, 3}",
     .derivative = "∂/∂x = 1, sent back to its place",
     .sample = {.args = "f(3,4); f(3,4), 1; f(2,5,3), 2, {descending=true}; f(7)"},
     .params = {TENSOR("x"), OPTIONAL_DIM("dim"), DESCENDING},
     .outputs = 2,
     .saves = NB_SAVE_OUT(1),
     .shape = shape_sort,
     .forward = forward_sort,
     .backward = backward_sort},
    {.name = "argsort",
     .doc = "The places of x's elements in sorted order along dim (the last).",
     .example = "nb.argsort(nb.tensor{3, 1, 2})  --> {2, 3, 1}",
     .no_grad = "places are whole numbers",
     .params = {TENSOR("x"), OPTIONAL_DIM("dim"), DESCENDING},
     .shape = shape_argsort,
     .forward = forward_argsort},
    {.name = "topk",
     .doc = "The k largest elements along dim (the last) in descending order, and their places; largest=false: the "
            "smallest.",
     .example = "nb.topk(nb.tensor{3, 1, 2}, 2)  --> {3, 2}",
     .derivative = "∂/∂x = 1, sent back to its place",
     .sample = {.args = "f(3,4), 2; f(3,4), 2, 1; f(2,5), 3, {largest=false}; f(7), 7"},
     .params = {TENSOR("x"),
                INT("k"),
                OPTIONAL_DIM("dim"),
                {.name = "largest", .kind = NB_PARAM_FLAG, .optional = true, .named = true, .fallback = 1}},
     .outputs = 2,
     .saves = NB_SAVE_OUT(1),
     .shape = shape_topk,
     .forward = forward_topk,
     .backward = backward_topk},
    {.name = "unique",
     .doc = "The distinct values of x in ascending order; then for each element which of them it is, and how often "
            "each occurs.",
     .example = "nb.unique(nb.tensor{3, 1, 3})  --> {1, 3}",
     .no_grad = "which values are equal jumps",
     .params = {TENSOR("x")},
     .outputs = 3,
     .dynamic = true,
     .shape = shape_unique,
     .forward = forward_unique},
};
const OpFamily ops_sort = {"Sorting", ops, COUNT(ops)};
