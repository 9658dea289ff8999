// SPDX-License-Identifier: MIT
// The strided iterator, and the shape rules and forward of elementwise rows.
#include "loops.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/interrupt.h"

static void plan(LoopWalk *w, Tensor *const *t) {
  const Layout *out = &t[0]->layout;
  w->ndim = 0;
  for (int d = 0; d < out->ndim; d++) {
    int64_t stride[NB_MAX_OPERANDS];
    if (out->shape[d] == 1) continue;
    for (int i = 0; i < w->count; i++) {
      const Layout *l = &t[i]->layout;
      int e = d - (out->ndim - l->ndim);
      stride[i] = e < 0 || l->shape[e] == 1 ? 0 : l->strides[e] * (int64_t)nb_dtype_size(l->dtype);
    }
    bool merge = w->ndim > 0;
    for (int i = 0; merge && i < w->count; i++) merge = w->stride[w->ndim - 1][i] == stride[i] * out->shape[d];
    if (merge) {
      w->shape[w->ndim - 1] *= out->shape[d];
    } else {
      w->shape[w->ndim++] = out->shape[d];
    }
    memcpy(w->stride[w->ndim - 1], stride, sizeof stride);
  }
  if (w->ndim == 0) {
    w->ndim = 1;
    w->shape[0] = 1;
    memset(w->stride[0], 0, sizeof w->stride[0]);
  }
  for (int i = 0; i < w->count; i++) w->base[i] = nb_tensor_data(t[i]);
}

// Elements begin..end in row-major order of the merged shape.
static void walk_range(int64_t begin, int64_t end, void *ctx) {
  const LoopWalk *w = ctx;
  int64_t at[NB_MAX_DIMS], rest = begin, inner = w->shape[w->ndim - 1];
  for (int d = w->ndim - 1; d >= 0; d--) {
    at[d] = rest % w->shape[d];
    rest /= w->shape[d];
  }
  while (begin < end) {
    char *p[NB_MAX_OPERANDS];
    int64_t n = inner - at[w->ndim - 1];
    if (n > end - begin) n = end - begin;
    for (int i = 0; i < w->count; i++) {
      p[i] = w->base[i];
      for (int d = 0; d < w->ndim; d++) p[i] += at[d] * w->stride[d][i];
    }
    w->loop(n, p, w->stride[w->ndim - 1], w->args);
    begin += n;
    at[w->ndim - 1] += n;
    for (int d = w->ndim - 1; d > 0 && at[d] == w->shape[d]; d--) {
      at[d] = 0;
      at[d - 1]++;
    }
  }
}

// Whether the operands are walked as one row: each has the output's shape, without gaps, or one element.
static bool walk_as_row(LoopWalk *w, Tensor *const *t, int64_t n) {
  const Layout *out = &t[0]->layout;
  for (int i = 0; i < w->count; i++) {
    const Layout *l = &t[i]->layout;
    int64_t gap_free = 1;
    bool same = l->ndim == out->ndim;
    for (int d = l->ndim - 1; same && d >= 0; d--) {
      same = l->shape[d] == out->shape[d] && (l->shape[d] == 1 || l->strides[d] == gap_free);
      gap_free *= l->shape[d];
    }
    if (!same && nb_layout_numel(l) != 1) return false;
    w->stride[0][i] = same ? (int64_t)nb_dtype_size(l->dtype) : 0;
    w->base[i] = nb_tensor_data(t[i]);
  }
  w->ndim = 1;
  w->shape[0] = n;
  return true;
}

void nb_loop(Loop loop, const Value *args, Tensor *const *t, int count) {
  LoopWalk w;
  int64_t n = nb_layout_numel(&t[0]->layout);
  if (n == 0) return;
  w.loop = loop;
  w.args = args;
  w.count = count;
  if (!walk_as_row(&w, t, n)) plan(&w, t);
  if (w.ndim == 1 && n <= NB_GRAIN) {
    loop(n, w.base, w.stride[0], args);
    return;
  }
  nb_parallel_for(n, NB_GRAIN, walk_range, &w);
}

void nb_walk_run(LoopWalk *w) {
  if (w->ndim == 1 && w->shape[0] <= NB_GRAIN) {
    w->loop(w->shape[0], w->base, w->stride[0], w->args);
    return;
  }
  int64_t n = 1;
  for (int d = 0; d < w->ndim; d++) n *= w->shape[d];
  nb_parallel_for(n, NB_GRAIN, walk_range, w);
}

bool nb_walk_of(const Call *c, LoopWalk *w, Tensor *t[NB_MAX_OPERANDS]) {
  w->count = 0;
  if (c->op->forward != nb_forward_elementwise || nb_layout_numel(&c->out[0]->layout) == 0) return false;
  t[0] = c->out[0];
  int count = 1;
  for (int i = 0; i < NB_MAX_PARAMS && c->op->params[i].name; i++) {
    const Param *p = &c->op->params[i];
    if (!nb_arg_is_tensor(p)) continue;
    Tensor *x = c->args[i].tensor;
    if (nb_arg_is_plain(p, &c->args[i])) continue;
    if (!x || (p->kind != NB_PARAM_MASK && x->layout.dtype != c->compute)) return false;
    t[count++] = x;
  }
  *w = (LoopWalk){.loop = c->op->loops[c->compute], .args = c->args, .count = count};
  plan(w, t);
  return true;
}

// ---- shape rules ----

bool nb_broadcast_shape(const Layout *a, const Layout *b, Layout *out, Error *err) {
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  Layout r = {.dtype = out->dtype, .ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
  for (int d = 1; d <= r.ndim; d++) {
    int64_t x = d <= a->ndim ? a->shape[a->ndim - d] : 1, y = d <= b->ndim ? b->shape[b->ndim - d] : 1;
    if (x != y && x != 1 && y != 1)
      return nb_fail(err, NB_ERROR_ARGUMENT,
                     "shapes %s and %s do not broadcast: sizes %lld and %lld in dimension %d from the end differ and "
                     "neither is 1",
                     nb_shape_text(a, ta), nb_shape_text(b, tb), (long long)x, (long long)y, d);
    r.shape[r.ndim - d] = x == 1 ? y : x;
  }
  *out = r;
  return true;
}

static bool no_loop(const Call *c, DType dtype, Error *err) {
  return c->op->loops[dtype] || nb_fail(err, NB_ERROR_ARGUMENT, "is not defined for %s", nb_dtype_name(dtype));
}

DType nb_kept_dtype(const Op *op, DType dtype) {
  static bool said_u8, said_bool;
  if (dtype == NB_BOOL && !op->stays_mask) return NB_I64;
  if (dtype == NB_BOOL && !said_bool) {
    said_bool = true;
    nb_notice(
        "%s of masks is a mask now, as in NumPy and PyTorch: true + true is true (so are *, abs, maximum, max and "
        "others, which gave u8 or i64 before); count with :to(\"i64\") or :sum()",
        op->name);
  }
  if (dtype == NB_U8 && op->narrow && !said_u8) {
    said_u8 = true;
    nb_notice(
        "%s of u8 is u8 now and wraps around beyond 0..255, as + and * do (so are -, abs, %%, ^, max and others, which "
        "gave i64 or f32 before); convert with :to(\"i64\") for wider results",
        op->name);
  }
  return dtype;
}

// The smallest dtype from `dtype` upwards that the row has a loop for.
static bool compute_in(Call *c, DType dtype, Error *err) {
  DType from = dtype;
  if (dtype <= NB_U8 && (c->op->narrow || c->op->stays_mask)) dtype = nb_kept_dtype(c->op, dtype);
  while (dtype < NB_DTYPES && !c->op->loops[dtype]) dtype++;
  if (dtype == NB_DTYPES) return no_loop(c, from, err);
  c->compute = dtype;
  return true;
}

bool nb_arg_fits(const Call *c, int i, const Layout *want, Error *err) {
  char need[NB_SHAPE_TEXT], got[NB_SHAPE_TEXT];
  const Tensor *t = c->args[i].tensor;
  if (!t || nb_layout_has(&t->layout, want->shape, want->ndim)) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "%s must have shape %s, got %s", c->op->params[i].name,
                 nb_shape_text(want, need), nb_shape_text(&t->layout, got));
}

bool nb_shape_unary(Call *c, Error *err) {
  c->layout[0] = c->args[0].tensor->layout;
  if (!compute_in(c, c->layout[0].dtype, err)) return false;
  c->layout[0].dtype = c->compute;
  return true;
}

bool nb_shape_unary_float(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  c->compute = c->layout[0].dtype = nb_dtype_promote(c->layout[0].dtype, NB_F32);
  return true;
}

static bool broadcast_all(Call *c, Error *err) {
  bool first = true;
  for (int i = 0; i < NB_MAX_PARAMS && c->op->params[i].name; i++) {
    const Param *p = &c->op->params[i];
    if (!nb_arg_is_tensor(p) || !c->args[i].tensor) continue;
    const Layout *l = &c->args[i].tensor->layout;
    DType dtype = c->layout[0].dtype;
    if (p->kind != NB_PARAM_MASK) dtype = first ? l->dtype : nb_dtype_promote(dtype, l->dtype);
    if (i == 0) {
      c->layout[0] = *l;
    } else if (!nb_layout_has(&c->layout[0], l->shape, l->ndim) &&
               !nb_broadcast_shape(&c->layout[0], l, &c->layout[0], err)) {
      return false;
    }
    if (p->kind != NB_PARAM_MASK) first = false;
    c->layout[0].dtype = dtype;
  }
  return true;
}

bool nb_shape_elementwise(Call *c, Error *err) {
  if (!broadcast_all(c, err) || !compute_in(c, c->layout[0].dtype, err)) return false;
  c->layout[0].dtype = c->compute;
  return true;
}

bool nb_shape_elementwise_float(Call *c, Error *err) {
  if (!broadcast_all(c, err)) return false;
  c->compute = c->layout[0].dtype = nb_dtype_promote(c->layout[0].dtype, NB_F32);
  return true;
}

bool nb_shape_compare(Call *c, Error *err) {
  if (!broadcast_all(c, err) || !compute_in(c, c->layout[0].dtype, err)) return false;
  c->layout[0].dtype = NB_BOOL;
  return true;
}

bool nb_forward_elementwise(Call *c, Error *err) {
  Tensor *t[NB_MAX_OPERANDS] = {c->out[0]};
  Scope s;
  int count = 1;
  bool ok = true;
  nb_scope_open(&s, err);
  for (int i = 0; ok && i < NB_MAX_PARAMS && c->op->params[i].name; i++) {
    const Param *p = &c->op->params[i];
    if (!nb_arg_is_tensor(p)) continue;
    Tensor *x = c->args[i].tensor;
    if (!x && p->plain) continue;
    bool fits = p->kind == NB_PARAM_MASK || (x && x->layout.dtype == c->compute);
    t[count] = fits ? x : nb_to(&s, x, c->compute);
    ok = t[count++];
  }
  if (ok) nb_loop(c->op->loops[c->compute], c->args, t, count);
  nb_scope_close(&s);
  return ok;
}

bool nb_dim(int64_t dim, int ndim, int *out, Error *err) {
  int64_t d = dim < 0 ? dim + ndim : dim - 1;
  if (dim == 0 || d < 0 || d >= ndim) {
    if (ndim == 0) return nb_fail(err, NB_ERROR_ARGUMENT, "a scalar has no dimension %lld", (long long)dim);
    return nb_fail(err, NB_ERROR_ARGUMENT, "there is no dimension %lld in a tensor of %d (1..%d, or -1 for the last)",
                   (long long)dim, ndim, ndim);
  }
  *out = (int)d;
  return true;
}

int nb_dims(const Value *dims, int ndim, bool mask[NB_MAX_DIMS], Error *err) {
  int count = dims->ints.count;
  for (int d = 0; d < NB_MAX_DIMS; d++) mask[d] = count < 0 && d < ndim;
  if (count < 0) return ndim;
  if (ndim == 0 && count == 1 && (dims->ints.items[0] == 1 || dims->ints.items[0] == -1)) return 0;
  for (int i = 0; i < count; i++) {
    int d = 0;
    if (!nb_dim(dims->ints.items[i], ndim, &d, err)) return -1;
    if (mask[d]) {
      nb_fail(err, NB_ERROR_ARGUMENT, "dimension %lld is given twice", (long long)dims->ints.items[i]);
      return -1;
    }
    mask[d] = true;
  }
  return count;
}

bool nb_sizes(const Value *sizes, DType dtype, Layout *out, Error *err) {
  int count = sizes->ints.count < 0 ? 0 : sizes->ints.count;
  if (count > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions, got %d sizes", NB_MAX_DIMS, count);
  *out = (Layout){.dtype = dtype, .ndim = count};
  for (int d = 0; d < count; d++) out->shape[d] = sizes->ints.items[d];
  return nb_layout_check(out, err);
}

void nb_zero(Tensor *t) {
  memset(t->storage->data, 0, t->storage->bytes);
}

#define HOLDS_ZERO(T)                                                      \
  for (int64_t begin = 0; begin < n && !found; begin += BLOCK) {           \
    int64_t end = n - begin < BLOCK ? n : begin + BLOCK;                   \
    for (int64_t i = begin; i < end; i++) found |= ((const T *)x)[i] == 0; \
  }

bool nb_may_hold_zero(const Tensor *t) {
  enum { BLOCK = 4096 };
  int64_t n = nb_layout_numel(&t->layout);
  DType dtype = t->layout.dtype;
  if (!nb_unheard() || !nb_dtype_is_float(dtype) || !nb_layout_contiguous(&t->layout)) return true;
  const void *x = nb_tensor_data(t);
  int found = 0;
  if (dtype == NB_F32) {
    HOLDS_ZERO(float)
  } else {
    HOLDS_ZERO(double)
  }
  return found;
}

// ---- copying between dtypes ----

static int64_t whole(double v) {
  if (!(v > -9223372036854775808.0)) return v == v ? INT64_MIN : 0;
  return v >= 9223372036854775807.0 ? INT64_MAX : (int64_t)v;
}

#define CASTS_FROM(in, In, as_bool, as_whole)            \
  NB_UNARY(in##_to_bool, In, uint8_t, as_bool)           \
  NB_UNARY(in##_to_u8, In, uint8_t, (uint8_t)(as_whole)) \
  NB_UNARY(in##_to_i64, In, int64_t, as_whole)           \
  NB_UNARY(in##_to_f32, In, float, (float)x)             \
  NB_UNARY(in##_to_f64, In, double, (double)x)
CASTS_FROM(u8, uint8_t, x != 0, (int64_t)x)
CASTS_FROM(i64, int64_t, x != 0, x)
CASTS_FROM(f32, float, x != 0, whole((double)x))
CASTS_FROM(f64, double, x != 0, whole(x))
NB_UNARY(move_32, uint32_t, uint32_t, x)
NB_UNARY(move_64, uint64_t, uint64_t, x)

#define SAME(name, T, move)                               \
  NB_LOOP(name) {                                         \
    if (s[1] == 0 && s[0] == (int64_t)sizeof(T)) {        \
      const T x = *(const T *)p[1];                       \
      for (int64_t i = 0; i < n; i++) ((T *)p[0])[i] = x; \
      return;                                             \
    }                                                     \
    move(n, p, s, args);                                  \
  }
SAME(same_32, uint32_t, move_32)
SAME(same_64, uint64_t, move_64)

#define CASTS(in)                                                                                   \
  {                                                                                                 \
    [NB_BOOL] = in##_to_bool, [NB_U8] = in##_to_u8, [NB_I64] = in##_to_i64, [NB_F32] = in##_to_f32, \
    [NB_F64] = in##_to_f64                                                                          \
  }
static const Loop casts[NB_DTYPES][NB_DTYPES] = {
    [NB_BOOL] = CASTS(u8), [NB_U8] = CASTS(u8), [NB_I64] = CASTS(i64), [NB_F32] = CASTS(f32), [NB_F64] = CASTS(f64)};

// A copy of 4-byte elements whose rows lie where the other's columns do, by squares: of each, whole lines of the cache
// are read and written.
enum { SQUARE = 16 };

typedef struct Turn {
  const LoopWalk *walk;
  int64_t down, across;  // squares
} Turn;

typedef uint32_t Four __attribute__((vector_size(16)));
typedef uint32_t LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Four){__VA_ARGS__})
#endif

// to[i][j] = from[j][i] for i, j < 4; steps in bytes.
NB_INLINE void turn_four(char *to, int64_t to_step, const char *from, int64_t from_step) {
  Four a = *(const LooseFour *)from, b = *(const LooseFour *)(from + from_step);
  Four c = *(const LooseFour *)(from + 2 * from_step), d = *(const LooseFour *)(from + 3 * from_step);
  Four ac = PICK(a, c, 0, 4, 1, 5), bd = PICK(b, d, 0, 4, 1, 5);
  Four ac2 = PICK(a, c, 2, 6, 3, 7), bd2 = PICK(b, d, 2, 6, 3, 7);
  *(LooseFour *)to = PICK(ac, bd, 0, 4, 1, 5);
  *(LooseFour *)(to + to_step) = PICK(ac, bd, 2, 6, 3, 7);
  *(LooseFour *)(to + 2 * to_step) = PICK(ac2, bd2, 0, 4, 1, 5);
  *(LooseFour *)(to + 3 * to_step) = PICK(ac2, bd2, 2, 6, 3, 7);
}

static void turn_squares(int64_t begin, int64_t end, void *ctx) {
  const Turn *t = ctx;
  const LoopWalk *w = t->walk;
  const int row = w->ndim - 2, column = w->ndim - 1;
  const int64_t to_step = w->stride[row][0], from_step = w->stride[column][1], size = sizeof(uint32_t);
  for (int64_t square = begin; square < end; square++) {
    int64_t j0 = square % t->across * SQUARE, rest = square / t->across, i0 = rest % t->down * SQUARE;
    char *to = w->base[0] + i0 * to_step + j0 * size;
    const char *from = w->base[1] + i0 * size + j0 * from_step;
    rest /= t->down;
    for (int d = row - 1; d >= 0; d--) {
      to += rest % w->shape[d] * w->stride[d][0];
      from += rest % w->shape[d] * w->stride[d][1];
      rest /= w->shape[d];
    }
    int64_t m = w->shape[row] - i0, n = w->shape[column] - j0;
    if (m >= SQUARE && n >= SQUARE) {
      for (int64_t j = 0; j < SQUARE; j += 4)
        for (int64_t i = 0; i < SQUARE; i += 4)
          turn_four(to + i * to_step + j * size, to_step, from + i * size + j * from_step, from_step);
      continue;
    }
    for (int64_t i = 0; i < m && i < SQUARE; i++)
      for (int64_t j = 0; j < n && j < SQUARE; j++)
        memcpy(to + i * to_step + j * size, from + i * size + j * from_step, (size_t)size);
  }
}

static bool copy_turned(Tensor *const *t) {
  int64_t squares = 1, size = sizeof(uint32_t);
  if (nb_layout_numel(&t[0]->layout) < SQUARE * SQUARE) return false;
  LoopWalk w = {.count = 2};
  plan(&w, t);
  if (w.ndim < 2 || w.stride[w.ndim - 1][0] != size || w.stride[w.ndim - 2][1] != size ||
      w.shape[w.ndim - 1] < SQUARE || w.shape[w.ndim - 2] < SQUARE)
    return false;
  Turn turn = {&w, (w.shape[w.ndim - 2] + SQUARE - 1) / SQUARE, (w.shape[w.ndim - 1] + SQUARE - 1) / SQUARE};
  for (int d = 0; d < w.ndim - 2; d++) squares *= w.shape[d];
  nb_parallel_for(squares * turn.down * turn.across, NB_GRAIN / (SQUARE * SQUARE), turn_squares, &turn);
  return true;
}

void nb_copy(Tensor *to, const Tensor *from) {
  Tensor *t[2] = {to, (Tensor *)(uintptr_t)from};
  Loop loop = casts[from->layout.dtype][to->layout.dtype];
  if (from->layout.dtype == to->layout.dtype) {
    if (nb_dtype_size(to->layout.dtype) == 4 && copy_turned(t)) return;
    if (nb_dtype_size(to->layout.dtype) == 4) loop = same_32;
    if (nb_dtype_size(to->layout.dtype) == 8) loop = same_64;
  }
  nb_loop(loop, NULL, t, 2);
}
