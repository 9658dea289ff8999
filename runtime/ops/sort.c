// SPDX-License-Identifier: MIT
// Operators: sorting, the largest or smallest elements, distinct values.
//
// A lane is one line along the sorted dimension.  Lanes are laid side by side; of each, items are made: whole numbers
// that order as the elements do (NaN the largest of all, -0 and 0 the same), with their places.  Items are sorted by
// radix, from the lowest digit up, which is stable.  Where only the first k are wanted, digits from the highest down
// tell them apart from the rest.
#include <string.h>

#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

typedef struct Sort {
  const char *x;    // lanes × n
  int64_t *places;  // lanes × k
  char *buffers;    // for each part two lanes of items
  size_t buffer_bytes;
  int64_t lanes, n, k, parts;
  DType dtype;
  bool descending, narrow;
} Sort;

enum {
  SHORT = 48,  // up to so many are sorted by insertion: clearing and adding up counts would take longer
  FEW = 16,    // up to so many are kept sorted while all are looked at
};

static uint32_t key_f32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return UINT32_MAX;
  if (x == 0) bits = 0;
  return bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
}

static uint64_t key_f64(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return UINT64_MAX;
  if (x == 0) bits = 0;
  return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static uint64_t key_i64(int64_t x) {
  return (uint64_t)x ^ UINT64_C(1) << 63;
}

static uint8_t key_u8(uint8_t x) {
  return x;
}

#define MAKE_ITEMS(T, K, key_of) \
  for (int64_t i = begin; i < end; i++) items[i].key = (K)(key_of(((const T *)x)[i]) ^ flip), items[i].place = (K)i;

// Functions for items whose keys and places have type K.  Those that look at the interrupt flag may stop half-way:
// false or NULL.
#define RADIX_SORT(name, Item, K)                                                                               \
  typedef struct Item {                                                                                         \
    K key, place;                                                                                               \
  } Item;                                                                                                       \
  static void name##_make(Item *items, const void *x, int64_t begin, int64_t end, DType dtype, K flip) {        \
    switch (dtype) {                                                                                            \
      case NB_F32:                                                                                              \
        MAKE_ITEMS(float, K, key_f32)                                                                           \
        break;                                                                                                  \
      case NB_F64:                                                                                              \
        MAKE_ITEMS(double, K, key_f64)                                                                          \
        break;                                                                                                  \
      case NB_I64:                                                                                              \
        MAKE_ITEMS(int64_t, K, key_i64)                                                                         \
        break;                                                                                                  \
      case NB_U8:                                                                                               \
      case NB_BOOL:                                                                                             \
        MAKE_ITEMS(uint8_t, K, key_u8)                                                                          \
        break;                                                                                                  \
      case NB_DTYPES:                                                                                           \
        break;                                                                                                  \
    }                                                                                                           \
  }                                                                                                             \
  /* Moves the k > 0 items that sort first, equal ones in their order, to `to`; the others are lost. */         \
  static bool name##_select(Item *items, Item *to, int64_t n, int64_t k) {                                      \
    for (int shift = 8 * (int)sizeof(K) - 8; shift >= 0 && n > k; shift -= 8) {                                 \
      int64_t count[256] = {0}, taken = 0, left = 0;                                                            \
      for (int64_t i = 0; i < n; i++) {                                                                         \
        if (i % NB_POLLED == 0 && nb_interrupted()) return false;                                               \
        count[items[i].key >> shift & 255]++;                                                                   \
      }                                                                                                         \
      K digit = 0; /* that of the kth: items with a lower one are in, those with the same are to be seen */     \
      for (int64_t below = 0; below + count[digit] < k; digit++) below += count[digit];                         \
      if (count[digit] == n) continue;                                                                          \
      for (int64_t i = 0; i < n; i++) {                                                                         \
        if (i % NB_POLLED == 0 && nb_interrupted()) return false;                                               \
        Item item = items[i];                                                                                   \
        to[taken] = items[left] = item;                                                                         \
        taken += (item.key >> shift & 255) < digit;                                                             \
        left += (item.key >> shift & 255) == digit;                                                             \
      }                                                                                                         \
      to += taken, k -= taken, n = left;                                                                        \
    }                                                                                                           \
    memcpy(to, items, (size_t)k * sizeof *to);                                                                  \
    return true;                                                                                                \
  }                                                                                                             \
  /* The k > 0 items that sort first, in order, in `to`. */                                                     \
  static Item *name##_insert(const Item *items, Item *to, int64_t n, int64_t k) {                               \
    for (int64_t i = 0; i < n; i++) {                                                                           \
      if (i % NB_POLLED == 0 && nb_interrupted()) return NULL;                                                  \
      if (i >= k && items[i].key >= to[k - 1].key) continue;                                                    \
      int64_t at = i < k ? i : k - 1;                                                                           \
      for (; at > 0 && to[at - 1].key > items[i].key; at--) to[at] = to[at - 1];                                \
      to[at] = items[i];                                                                                        \
    }                                                                                                           \
    return to;                                                                                                  \
  }                                                                                                             \
  /* All items in order, in one of the two buffers. */                                                          \
  static Item *name##_sort(Item *from, Item *to, int64_t n) {                                                   \
    K count[sizeof(K)][256] = {0};                                                                              \
    for (int64_t i = 0; i < n; i++) {                                                                           \
      if (i % NB_POLLED == 0 && nb_interrupted()) return NULL;                                                  \
      for (size_t d = 0; d < sizeof(K); d++) count[d][from[i].key >> 8 * d & 255]++;                            \
    }                                                                                                           \
    for (size_t d = 0; d < sizeof(K); d++) {                                                                    \
      K *at = count[d], next = 0;                                                                               \
      if (at[from[0].key >> 8 * d & 255] == (K)n) continue; /* all have the same digit */                       \
      for (int digit = 0; digit < 256; digit++) {                                                               \
        K equal = at[digit];                                                                                    \
        at[digit] = next;                                                                                       \
        next += equal;                                                                                          \
      }                                                                                                         \
      for (int64_t i = 0; i < n; i++) {                                                                         \
        if (i % NB_POLLED == 0 && nb_interrupted()) return NULL;                                                \
        to[at[from[i].key >> 8 * d & 255]++] = from[i];                                                         \
      }                                                                                                         \
      Item *t = from;                                                                                           \
      from = to;                                                                                                \
      to = t;                                                                                                   \
    }                                                                                                           \
    return from;                                                                                                \
  }                                                                                                             \
  static bool name##_lane(const Sort *s, const void *x, void *buffer, int64_t *places) {                        \
    Item *items = buffer, *other = items + s->n;                                                                \
    int64_t n = s->n;                                                                                           \
    for (int64_t i = 0; i < n; i += NB_POLLED) {                                                                \
      if (nb_interrupted()) return false;                                                                       \
      name##_make(items, x, i, n - i < NB_POLLED ? n : i + NB_POLLED, s->dtype, s->descending ? (K) ~(K)0 : 0); \
    }                                                                                                           \
    if (n > SHORT && s->k > FEW && s->k < n) {                                                                  \
      if (!name##_select(items, other, n, s->k)) return false;                                                  \
      Item *t = items;                                                                                          \
      items = other;                                                                                            \
      other = t;                                                                                                \
      n = s->k;                                                                                                 \
    }                                                                                                           \
    items = n <= SHORT || s->k <= FEW ? name##_insert(items, other, n, s->k) : name##_sort(items, other, n);    \
    if (!items) return false;                                                                                   \
    for (int64_t i = 0; i < s->k; i++) places[i] = (int64_t)items[i].place;                                     \
    return true;                                                                                                \
  }

RADIX_SORT(narrow, Narrow, uint32_t)
RADIX_SORT(wide, Wide, uint64_t)

static void sort_part(int64_t begin, int64_t end, void *ctx) {
  const Sort *s = ctx;
  bool (*sort_lane)(const Sort *, const void *, void *, int64_t *) = s->narrow ? narrow_lane : wide_lane;
  size_t lane_bytes = (size_t)s->n * nb_dtype_size(s->dtype);
  for (int64_t part = begin; part < end; part++) {
    char *buffer = s->buffers + (size_t)part * s->buffer_bytes;
    for (int64_t lane = s->lanes * part / s->parts; lane < s->lanes * (part + 1) / s->parts; lane++)
      if (!sort_lane(s, s->x + (size_t)lane * lane_bytes, buffer, s->places + lane * s->k)) return;
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

// Lanes in order of memory, and the places of the first k of each, 0-based.
typedef struct Sorted {
  Tensor x, *places;
  int64_t lanes, n, k;
} Sorted;

// All of each lane where k < 0.
static bool sorted(Scope *s, const Tensor *x, int d, bool descending, int64_t k, Sorted *r) {
  r->x = moved_last(x, d);
  Layout l = r->x.layout;
  if (!nb_layout_contiguous(&l)) {
    Tensor *copy = nb_scope_own(s, nb_tensor_new(&l, s->err));
    if (!copy) return false;
    nb_copy(copy, &r->x);
    r->x = *copy;
  }
  r->n = l.ndim ? l.shape[l.ndim - 1] : 1;
  r->k = k < 0 ? r->n : k;
  r->lanes = r->n ? nb_layout_numel(&l) / r->n : 0;
  l.dtype = NB_I64;
  if (l.ndim) l.shape[l.ndim - 1] = r->k;
  r->places = nb_scope_own(s, nb_tensor_new(&l, s->err));
  if (!r->places) return false;
  if (r->lanes == 0 || r->k == 0) return true;
  Sort job = {.x = nb_tensor_data(&r->x), .places = nb_tensor_data(r->places), .lanes = r->lanes};
  job.n = r->n;
  job.k = r->k;
  job.dtype = x->layout.dtype;
  job.descending = descending;
  job.narrow = nb_dtype_size(job.dtype) <= 4 && job.n <= UINT32_MAX;
  job.parts = r->lanes / (NB_GRAIN / (16 * (r->n + 1)) + 1);
  job.parts = job.parts < 1 ? 1 : job.parts < nb_threads() ? job.parts : nb_threads();
  job.buffer_bytes = 2 * (size_t)job.n * (job.narrow ? sizeof(Narrow) : sizeof(Wide));
  size_t bytes = (size_t)job.parts * job.buffer_bytes;
  if (!(job.buffers = nb_alloc(bytes, s->err))) return false;
  nb_parallel_for(job.parts, 1, sort_part, &job);
  nb_free(job.buffers, bytes);
  return nb_poll(s->err);
}

#define TAKE(T)                                         \
  for (int64_t i = 0; i < n; i++) {                     \
    if (i % NB_POLLED == 0 && nb_interrupted()) return; \
    ((T *)to)[i] = ((const T *)from)[places[i]];        \
  }

// The elements at these places; an interrupt, which nb_apply reports, may leave some unwritten.
static void take(void *to, const void *from, const int64_t *places, int64_t n, size_t size) {
  if (size == 1) {
    TAKE(uint8_t)
  } else if (size == 4) {
    TAKE(uint32_t)
  } else {
    TAKE(uint64_t)
  }
}

// Writes the places, and the values where `values` is given.
static bool write_sorted(Scope *s, const Sorted *r, int d, Tensor *values, Tensor *places) {
  int64_t *from = nb_tensor_data(r->places);
  if (values) {
    Tensor to = moved_last(values, d), *taken = &to;
    if (!nb_layout_contiguous(&to.layout) && !(taken = nb_scope_own(s, nb_tensor_new(&to.layout, s->err))))
      return false;
    size_t size = nb_dtype_size(to.layout.dtype);
    char *data = nb_tensor_data(taken);
    const char *x = nb_tensor_data(&r->x);
    for (int64_t lane = 0; lane < r->lanes; lane++, x += (size_t)r->n * size, data += (size_t)r->k * size)
      take(data, x, from + lane * r->k, r->k, size);
    if (taken != &to) nb_copy(&to, taken);
  }
  for (int64_t i = 0; i < r->lanes * r->k && nb_goes_on(i); i++) from[i]++;
  Tensor to = moved_last(places, d);
  nb_copy(&to, r->places);
  return true;
}

// Without dim, the last dimension; a scalar is one lane of one.
static bool sort_dim(const Layout *x, int64_t dim, int *d, Error *err) {
  *d = x->ndim ? x->ndim - 1 : 0;
  return dim == 0 || (x->ndim == 0 && (dim == 1 || dim == -1)) || nb_dim(dim, x->ndim, d, err);
}

static bool run_sort(Call *c, int64_t dim, bool descending, int64_t k, Tensor *values, Tensor *places, Error *err) {
  Scope s;
  Sorted r;
  int d;
  const Tensor *x = c->args[0].tensor;
  nb_scope_open(&s, err);
  bool ok = sort_dim(&x->layout, dim, &d, err) && sorted(&s, x, d, descending, k, &r) &&
            write_sorted(&s, &r, d, values, places);
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
  Layout x = nb_in(b, 0)->layout;
  if (x.ndim == 0) return nb_give(b, 0, b->grad[0]);
  x.dtype = b->grad[0]->layout.dtype;
  Value args[NB_MAX_PARAMS] = {{0}, {.integer = dim ? dim : -1}, {.tensor = nb_out(b, 1)}, {.tensor = b->grad[0]}};
  return nb_give(b, 0, nb_into_zeros(b->scope, "scatter_add", &x, args));
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

static bool differ(const Tensor *x, int64_t a, int64_t b) {
  size_t size = nb_dtype_size(x->layout.dtype);
  const char *data = nb_tensor_data(x);
  if (nb_dtype_is_float(x->layout.dtype)) return nb_tensor_get(x, a) != nb_tensor_get(x, b);
  return memcmp(data + (size_t)a * size, data + (size_t)b * size, size) != 0;
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
  if (!flat || !sorted(&s, flat, 0, false, -1, &r)) goto done;
  Tensor *ordered = nb_scope_own(&s, nb_tensor_new(&flat->layout, err));
  if (!ordered) goto done;
  const int64_t *at = nb_tensor_data(r.places);
  take(nb_tensor_data(ordered), nb_tensor_data(&r.x), at, n, size);
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) count += i == 0 || differ(ordered, i, i - 1);
  if (!nb_poll(err)) goto done;
  c->layout[0].shape[0] = c->layout[2].shape[0] = count;
  for (int i = 0; i < 3; i++)
    if (!(c->out[i] = nb_tensor_new(&c->layout[i], err))) goto done;
  const char *from = nb_tensor_data(ordered);
  char *values = nb_tensor_data(c->out[0]);
  int64_t *inverse = nb_tensor_data(c->out[1]), *counts = nb_tensor_data(c->out[2]), v = -1;
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
    if (i == 0 || differ(ordered, i, i - 1)) {
      memcpy(values + (size_t)++v * size, from + (size_t)i * size, size);
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
     .role = NB_ROLE_PART,
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
     .role = NB_ROLE_TEST,
     .params = {TENSOR("x"), OPTIONAL_DIM("dim"), DESCENDING},
     .shape = shape_argsort,
     .forward = forward_argsort},
    {.name = "topk",
     .doc = "The k largest elements along dim (the last) in descending order, and their places; largest=false: the "
            "smallest.",
     .example = "nb.topk(nb.tensor{3, 1, 2}, 2)  --> {3, 2}",
     .derivative = "∂/∂x = 1, sent back to its place",
     .sample = {.args = "f(3,4), 2; f(3,4), 2, 1; f(2,5), 3, {largest=false}; f(7), 7"},
     .role = NB_ROLE_PART,
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
            "each occurs.  With {dim=d} the distinct slices along that dimension.",
     .example = "nb.unique(nb.tensor{3, 1, 3})  --> {1, 3}",
     .no_grad = "which values are equal jumps",
     .role = NB_ROLE_PART,
     .params = {TENSOR("x")},
     .outputs = 3,
     .dynamic = true,
     .shape = shape_unique,
     .forward = forward_unique},
};
const OpFamily ops_sort = {"Sorting", ops, COUNT(ops)};
