// SPDX-License-Identifier: MIT
// Operators: pooling over the last two dimensions; all dimensions before them are planes of their own.
//
// An output looks at the window [begin, end) of rows and of columns.  Averages are linear: their
// backward is a row of its own, whose backward is the average again.  The maximum keeps where it was
// found; `plane_put` and `plane_take` carry values there and back.
#include <math.h>
#include <string.h>

#include "flops.h"
#include "loops.h"
#include "nablua/memory.h"

typedef struct Window {
  int64_t begin, end;
  double size;  // what an average divides by
} Window;

#define MOST ((int64_t)1 << 31)  // pixels along one side

typedef struct Pool {
  DType dtype;
  int64_t planes, height, width, out_height, out_width;
  int64_t kernel[2], stride[2], padding[2], step[2];  // step: between the pixels of a window
  double divisor;                                     // of averages, where it is given; else 0
  bool include_pad, adaptive, ceil;
  Window *down, *across;  // one for each output row and column
  const char *from;
  char *to;
  int64_t *place;
} Pool;

static bool planes(const Layout *x, Pool *p, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (x->ndim < 2)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs images, batch×channels×height×width, got shape %s",
                   nb_shape_text(x, text));
  p->dtype = nb_dtype_promote(x->dtype, NB_F32);
  p->height = x->shape[x->ndim - 2];
  p->width = x->shape[x->ndim - 1];
  // Empty tensors can have any other sizes; this keeps the arithmetic with windows exact.
  if (p->height >= MOST || p->width >= MOST)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the images are too large to pool: the shape is %s", nb_shape_text(x, text));
  p->planes = 1;
  for (int d = 0; d < x->ndim - 2; d++) p->planes *= x->shape[d];
  return true;
}

// How many pixels a window spans.
static int64_t span(const Pool *p, int e) {
  return (p->kernel[e] - 1) * p->step[e] + 1;
}

// Every window needs a pixel: with steps between them all may lie beside the image.
static bool windows_hold_pixels(const Pool *p, int e, int64_t have, int64_t n, Error *err) {
  for (int64_t i = 0; p->step[e] > 1 && i < n; i++) {
    int64_t begin = i * p->stride[e] - p->padding[e], end = begin + span(p, e);
    if (begin < 0) begin += (-begin + p->step[e] - 1) / p->step[e] * p->step[e];
    if (begin >= end || begin >= have)
      return nb_fail(err, NB_ERROR_ARGUMENT, "window %lld has no pixel of the %lld in its dimension", (long long)i + 1,
                     (long long)have);
  }
  return true;
}

// kernel, stride, padding, and for some dilation
static bool pool_sizes(const Layout *x, const Value *a, bool ceil, const Value *dilation, Pool *p, Error *err) {
  *p = (Pool){.include_pad = true, .ceil = ceil};
  if (!planes(x, p, err)) return false;
  int64_t out[2];
  for (int e = 0; e < 2; e++) {
    int64_t have = e == 0 ? p->height : p->width;
    p->kernel[e] = a[0].ints.items[e];
    p->stride[e] = a[1].ints.count > 0 ? a[1].ints.items[e] : p->kernel[e];
    p->padding[e] = a[2].ints.count > 0 ? a[2].ints.items[e] : 0;
    p->step[e] = dilation && dilation->ints.count > 0 ? dilation->ints.items[e] : 1;
    if (p->kernel[e] < 1 || p->kernel[e] >= 1 << 24)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the kernel must be 1 or more and below 2^24, got %lld",
                     (long long)p->kernel[e]);
    if (p->stride[e] < 1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the stride must be 1 or more, got %lld", (long long)p->stride[e]);
    if (p->step[e] < 1 || p->step[e] >= 1 << 24)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the dilation must be 1 or more and below 2^24, got %lld",
                     (long long)p->step[e]);
    int64_t reach = span(p, e);
    if (p->padding[e] < 0 || p->padding[e] > reach / 2)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the padding must be 0 to half the kernel of %lld, got %lld",
                     (long long)reach, (long long)p->padding[e]);
    int64_t padded = have + 2 * p->padding[e];
    int64_t more = ceil && p->stride[e] < MOST ? p->stride[e] - 1 : 0;
    if (have < 1 || reach > padded + more)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the kernel of %s %lld does not fit into the input of %s %lld%s",
                     e ? "width" : "height", (long long)reach, e ? "width" : "height", (long long)padded,
                     p->padding[e] ? " (with its padding)" : "");
    out[e] = (padded - reach + more) / p->stride[e] + 1;
    if (ceil && (out[e] - 1) * p->stride[e] >= have + p->padding[e]) out[e]--;  // it would begin behind the image
    if (!windows_hold_pixels(p, e, have, out[e], err)) return false;
  }
  p->out_height = out[0];
  p->out_width = out[1];
  return true;
}

static bool adaptive_sizes(const Layout *x, const Value *out, Pool *p, Error *err) {
  char text[NB_SHAPE_TEXT];
  *p = (Pool){.adaptive = true};
  if (!planes(x, p, err)) return false;
  p->out_height = out->ints.items[0];
  p->out_width = out->ints.items[1];
  if (p->out_height < 0 || p->out_width < 0 || p->out_height >= MOST || p->out_width >= MOST)
    return nb_fail(err, NB_ERROR_ARGUMENT, "sizes must be 0 or more and below 2^31, got %lld and %lld",
                   (long long)p->out_height, (long long)p->out_width);
  return (p->height > 0 && p->width > 0) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the input has no pixels: its shape is %s", nb_shape_text(x, text));
}

static void pooled_layout(const Pool *p, const Layout *x, Layout *out) {
  *out = *x;
  out->dtype = p->dtype;
  out->shape[x->ndim - 2] = p->out_height;
  out->shape[x->ndim - 1] = p->out_width;
}

static void windows(const Pool *p, int e, Window *w) {
  int64_t have = e == 0 ? p->height : p->width, n = e == 0 ? p->out_height : p->out_width;
  for (int64_t i = 0; i < n; i++) {
    if (p->adaptive) {
      w[i].begin = i * have / n;
      w[i].end = ((i + 1) * have + n - 1) / n;
      w[i].size = (double)(w[i].end - w[i].begin);
      continue;
    }
    int64_t begin = i * p->stride[e] - p->padding[e], end = begin + span(p, e), step = p->step[e];
    if (end > have + p->padding[e]) end = have + p->padding[e];
    double padded = (double)(end - begin);
    w[i].begin = begin < 0 ? begin + (-begin + step - 1) / step * step : begin;
    w[i].end = end > have ? have : end;
    w[i].size = p->include_pad ? padded : (double)(w[i].end - w[i].begin);
  }
}

static void run(const Pool *p, int64_t work, void (*body)(int64_t, int64_t, void *), const void *ctx) {
  nb_parallel_for(p->planes, NB_GRAIN / (work + 16) + 1, body, (void *)(uintptr_t)ctx);
}

// Runs `body` over the planes with the windows in place.
static bool with_windows(Pool *p, void (*body)(int64_t, int64_t, void *), Error *err) {
  size_t bytes = (size_t)(p->out_height + p->out_width) * sizeof(Window);
  if (!(p->down = nb_alloc(bytes, err))) return false;
  p->across = p->down + p->out_height;
  windows(p, 0, p->down);
  windows(p, 1, p->across);
  run(p, p->height * p->width + p->out_height * p->out_width, body, p);
  nb_free(p->down, bytes);
  return true;
}

// ---- max_pool2d ----

#define MAX_PLANE(T)                                                                                    \
  do {                                                                                                  \
    const T *x = (const T *)p->from + plane * p->height * p->width;                                     \
    T *y = (T *)p->to + plane * p->out_height * p->out_width;                                           \
    int64_t *place = p->place + plane * p->out_height * p->out_width;                                   \
    for (int64_t i = 0; i < p->out_height; i++) {                                                       \
      for (int64_t j = 0; j < p->out_width; j++) {                                                      \
        int64_t top = p->down[i].begin, left = p->across[j].begin;                                      \
        int64_t at = top * p->width + left;                                                             \
        T best = x[at];                                                                                 \
        for (int64_t r = top; r < p->down[i].end; r += p->step[0]) {                                    \
          for (int64_t k = r * p->width + left; k < r * p->width + p->across[j].end; k += p->step[1]) { \
            bool more = !(x[k] <= best) && best == best;                                                \
            at = more ? k : at;                                                                         \
            best = more ? x[k] : best;                                                                  \
          }                                                                                             \
        }                                                                                               \
        *y++ = best;                                                                                    \
        *place++ = at + 1;                                                                              \
      }                                                                                                 \
    }                                                                                                   \
  } while (0)

// The commonest, windows of 2×2 side by side, without branches: the larger of each pair of a row, then of two rows.  As
// above, the first of equals is taken, and NaN.
#define CHOOSE(Floats, Ints, mask, a, b) ((Floats)(((mask) & (Ints)(a)) | (~(mask) & (Ints)(b))))

#define MAX_PAIRS(T, Int)                                                                           \
  typedef T T##s __attribute__((vector_size(4 * sizeof(T))));                                       \
  typedef Int T##_ints __attribute__((vector_size(4 * sizeof(T))));                                 \
  typedef T T##_loose __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));   \
  static void max_pairs_##T(const Pool *p, int64_t plane) {                                         \
    int64_t count = p->out_height * p->out_width, size = p->height * p->width, n;                   \
    for (int64_t i = 0; i < count; i += n) {                                                        \
      int64_t j = i % p->out_width, start = 2 * (i / p->out_width * p->width + j);                  \
      const T *x = (const T *)p->from + plane * size + start;                                       \
      T *y = (T *)p->to + plane * count + i, pairs[2][8], best[4];                                  \
      int64_t *place = p->place + plane * count + i;                                                \
      Int at[4];                                                                                    \
      n = p->out_width - j < 4 ? p->out_width - j : 4;                                              \
      const T *row[2] = {x, x + p->width};                                                          \
      if (start + p->width + 8 > size) { /* the last vectors would reach beyond the plane */        \
        memset(pairs, 0, sizeof pairs);                                                             \
        for (int r = 0; r < 2; r++) row[r] = memcpy(pairs[r], row[r], (size_t)(2 * n) * sizeof(T)); \
      }                                                                                             \
      T##s most[2];                                                                                 \
      T##_ints right[2];                                                                            \
      for (int r = 0; r < 2; r++) {                                                                 \
        const T##s low = *(const T##_loose *)row[r], high = *(const T##_loose *)(row[r] + 4);       \
        const T##s a = __builtin_shufflevector(low, high, 0, 2, 4, 6);                              \
        const T##s b = __builtin_shufflevector(low, high, 1, 3, 5, 7);                              \
        const T##_ints first = (b <= a) | (a != a);                                                 \
        most[r] = CHOOSE(T##s, T##_ints, first, a, b);                                              \
        right[r] = first + 1;                                                                       \
      }                                                                                             \
      const T##_ints upper = (most[1] <= most[0]) | (most[0] != most[0]);                           \
      *(T##_loose *)best = CHOOSE(T##s, T##_ints, upper, most[0], most[1]);                         \
      right[0] = CHOOSE(T##_ints, T##_ints, upper, right[0], right[1] + (Int)p->width);             \
      memcpy(at, &right[0], sizeof at);                                                             \
      for (int64_t k = 0; k < n; k++) y[k] = best[k], place[k] = start + 2 * k + 1 + at[k];         \
    }                                                                                               \
  }
MAX_PAIRS(float, int32_t)
MAX_PAIRS(double, int64_t)

static void max_pairs_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  for (int64_t plane = begin; plane < end; plane++) {
    if (p->dtype == NB_F32)
      max_pairs_float(p, plane);
    else
      max_pairs_double(p, plane);
  }
}

static void max_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  for (int64_t plane = begin; plane < end; plane++) {
    if (p->dtype == NB_F32)
      MAX_PLANE(float);
    else
      MAX_PLANE(double);
  }
}

static bool shape_max_pool(Call *c, Error *err) {
  Pool p;
  const Layout *x = &c->args[0].tensor->layout;
  if (!pool_sizes(x, &c->args[1], c->args[4].flag, &c->args[5], &p, err)) return false;
  pooled_layout(&p, x, &c->layout[0]);
  c->layout[1] = c->layout[0];
  c->layout[1].dtype = NB_I64;
  return true;
}

static bool forward_max_pool(Call *c, Error *err) {
  Scope s;
  Pool p;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->layout[0].dtype));
  bool ok = x && pool_sizes(&x->layout, &c->args[1], c->args[4].flag, &c->args[5], &p, err);
  if (ok) {
    p.from = nb_tensor_data(x);
    p.to = nb_tensor_data(c->out[0]);
    p.place = nb_tensor_data(c->out[1]);
    bool pairs = p.kernel[0] == 2 && p.kernel[1] == 2 && p.stride[0] == 2 && p.stride[1] == 2 && !p.padding[0] &&
                 !p.padding[1] && p.step[0] == 1 && p.step[1] == 1 && 2 * p.out_height <= p.height &&
                 2 * p.out_width <= p.width;
    ok = with_windows(&p, pairs ? max_pairs_body : max_body, err);
  }
  nb_scope_close(&s);
  return ok;
}

static int max_pool_returns(const Value *args) {
  return args[6].flag ? 2 : 1;
}

static bool backward_max_pool(Backward *b) {
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t size[2] = {x->shape[x->ndim - 2], x->shape[x->ndim - 1]};
  return nb_give(
      b, 0,
      nb_op(b->scope, "plane_put", (Value[]){{.tensor = b->grad[0]}, {.tensor = nb_out(b, 1)}, {.ints = {size, 2}}}));
}

// ---- plane_put: values to their places in planes of the given size, added up; plane_take: the reverse ----

static bool same_planes(const Layout *a, const Layout *b, int dims, Error *err) {
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  bool fits = a->ndim == b->ndim && a->ndim >= 2;
  for (int d = 0; fits && d < a->ndim - 2 + dims; d++) fits = a->shape[d] == b->shape[d];
  return fits ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shapes %s and %s do not fit", nb_shape_text(a, ta), nb_shape_text(b, tb));
}

static bool shape_plane_put(Call *c, Error *err) {
  Layout *out = &c->layout[0];
  *out = c->args[0].tensor->layout;
  if (!same_planes(out, &c->args[1].tensor->layout, 2, err)) return false;
  out->shape[out->ndim - 2] = c->args[2].ints.items[0];
  out->shape[out->ndim - 1] = c->args[2].ints.items[1];
  return nb_dtype_is_float(out->dtype) || nb_fail(err, NB_ERROR_ARGUMENT, "needs f32 or f64");
}

static bool shape_plane_take(Call *c, Error *err) {
  c->layout[0] = c->args[1].tensor->layout;
  c->layout[0].dtype = c->args[0].tensor->layout.dtype;
  if (!same_planes(&c->args[0].tensor->layout, &c->layout[0], 0, err)) return false;
  return nb_dtype_is_float(c->layout[0].dtype) || nb_fail(err, NB_ERROR_ARGUMENT, "needs f32 or f64");
}

// Places outside the plane, which max_pool2d does not make, are passed over.
#define EACH_PLACE(T, before, statement)                    \
  for (int64_t plane = begin; plane < end; plane++) {       \
    const int64_t *place = p->place + plane * n;            \
    const T *from = (const T *)p->from + plane * from_size; \
    T *to = (T *)p->to + plane * to_size;                   \
    before;                                                 \
    for (int64_t i = 0; i < n; i++)                         \
      if (place[i] >= 1 && place[i] <= size) statement;     \
  }

static void put_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  int64_t n = p->out_height * p->out_width, size = p->height * p->width, from_size = n, to_size = size;
  if (p->dtype == NB_F32)
    EACH_PLACE(float, memset(to, 0, (size_t)size * sizeof *to), to[place[i] - 1] += from[i])
  else
    EACH_PLACE(double, memset(to, 0, (size_t)size * sizeof *to), to[place[i] - 1] += from[i])
}

static void take_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  int64_t n = p->out_height * p->out_width, size = p->height * p->width, from_size = size, to_size = n;
  if (p->dtype == NB_F32)
    EACH_PLACE(float, memset(to, 0, (size_t)n * sizeof *to), to[i] = from[place[i] - 1])
  else
    EACH_PLACE(double, memset(to, 0, (size_t)n * sizeof *to), to[i] = from[place[i] - 1])
}

static bool carry(Call *c, const Layout *plane, void (*body)(int64_t, int64_t, void *), Error *err) {
  Scope s;
  Pool p = {0};
  nb_scope_open(&s, err);
  Tensor *from = nb_contiguous(&s, c->args[0].tensor), *place = nb_contiguous(&s, c->args[1].tensor);
  bool ok = from && place && planes(plane, &p, err);
  if (ok) {
    p.out_height = place->layout.shape[place->layout.ndim - 2];
    p.out_width = place->layout.shape[place->layout.ndim - 1];
    p.from = nb_tensor_data(from);
    p.to = nb_tensor_data(c->out[0]);
    p.place = nb_tensor_data(place);
    run(&p, p.height * p.width + p.out_height * p.out_width, body, &p);
  }
  nb_scope_close(&s);
  return ok;
}

static bool forward_plane_put(Call *c, Error *err) {
  return carry(c, &c->out[0]->layout, put_body, err);
}

static bool forward_plane_take(Call *c, Error *err) {
  return carry(c, &c->args[0].tensor->layout, take_body, err);
}

static bool backward_plane_put(Backward *b) {
  return nb_give(b, 0, nb_op(b->scope, "plane_take", (Value[]){{.tensor = b->grad[0]}, {.tensor = nb_in(b, 1)}}));
}

static bool backward_plane_take(Backward *b) {
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t size[2] = {x->shape[x->ndim - 2], x->shape[x->ndim - 1]};
  return nb_give(
      b, 0,
      nb_op(b->scope, "plane_put", (Value[]){{.tensor = b->grad[0]}, {.tensor = nb_in(b, 1)}, {.ints = {size, 2}}}));
}

// ---- averages ----

static inline double divisor_of(const Pool *p, int64_t i, int64_t j) {
  return p->divisor != 0 ? p->divisor : p->down[i].size * p->across[j].size;
}

#define AVERAGE_PLANE(T)                                                                                      \
  do {                                                                                                        \
    const T *x = (const T *)p->from + plane * p->height * p->width;                                           \
    T *y = (T *)p->to + plane * p->out_height * p->out_width;                                                 \
    for (int64_t i = 0; i < p->out_height; i++) {                                                             \
      for (int64_t j = 0; j < p->out_width; j++) {                                                            \
        double sum = 0;                                                                                       \
        for (int64_t r = p->down[i].begin; r < p->down[i].end; r++)                                           \
          for (int64_t k = p->across[j].begin; k < p->across[j].end; k++) sum += (double)x[r * p->width + k]; \
        *y++ = (T)(sum / divisor_of(p, i, j));                                                                \
      }                                                                                                       \
    }                                                                                                         \
  } while (0)

static void average_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  for (int64_t plane = begin; plane < end; plane++) {
    if (p->dtype == NB_F32)
      AVERAGE_PLANE(float);
    else
      AVERAGE_PLANE(double);
  }
}

#define SPREAD_PLANE(T)                                                                                 \
  do {                                                                                                  \
    const T *y = (const T *)p->from + plane * p->out_height * p->out_width;                             \
    T *x = (T *)p->to + plane * p->height * p->width;                                                   \
    memset(x, 0, (size_t)(p->height * p->width) * sizeof *x);                                           \
    for (int64_t i = 0; i < p->out_height; i++) {                                                       \
      for (int64_t j = 0; j < p->out_width; j++) {                                                      \
        T share = (T)((double)*y++ / divisor_of(p, i, j));                                              \
        for (int64_t r = p->down[i].begin; r < p->down[i].end; r++)                                     \
          for (int64_t k = p->across[j].begin; k < p->across[j].end; k++) x[r * p->width + k] += share; \
      }                                                                                                 \
    }                                                                                                   \
  } while (0)

static void spread_body(int64_t begin, int64_t end, void *ctx) {
  const Pool *p = ctx;
  for (int64_t plane = begin; plane < end; plane++) {
    if (p->dtype == NB_F32)
      SPREAD_PLANE(float);
    else
      SPREAD_PLANE(double);
  }
}

static bool run_average(Call *c, Pool *p, void (*body)(int64_t, int64_t, void *), Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->layout[0].dtype));
  if (x) {
    p->from = nb_tensor_data(x);
    p->to = nb_tensor_data(c->out[0]);
  }
  bool ok = x && with_windows(p, body, err);
  nb_scope_close(&s);
  return ok;
}

// The shape before pooling: g's planes with the given height and width.
static bool spread_layout(const Layout *g, const Value *sizes, Layout *x, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (g->ndim < 2) return nb_fail(err, NB_ERROR_ARGUMENT, "needs images, got shape %s", nb_shape_text(g, text));
  *x = *g;
  x->dtype = nb_dtype_promote(g->dtype, NB_F32);
  x->shape[g->ndim - 2] = sizes->ints.items[0];
  x->shape[g->ndim - 1] = sizes->ints.items[1];
  return true;
}

static bool check_pooled(const Pool *p, const Layout *g, Error *err) {
  char text[NB_SHAPE_TEXT];
  return (g->shape[g->ndim - 2] == p->out_height && g->shape[g->ndim - 1] == p->out_width) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shape %s is not what pooling gives", nb_shape_text(g, text));
}

// avg_pool2d: x, kernel, stride, padding, count_include_pad, ceil_mode, divisor_override; its transpose has the sizes
// of x after g.
static bool average_sizes(const Layout *x, const Value *a, Pool *p, Error *err) {
  if (!pool_sizes(x, a, a[4].flag, NULL, p, err)) return false;
  p->include_pad = a[3].flag;
  p->divisor = a[5].number;
  return (p->divisor == p->divisor && p->divisor != INFINITY && p->divisor != -INFINITY) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the divisor must be a finite number, got %g", p->divisor);
}

static bool shape_avg_pool(Call *c, Error *err) {
  Pool p;
  const Layout *x = &c->args[0].tensor->layout;
  if (!average_sizes(x, &c->args[1], &p, err)) return false;
  pooled_layout(&p, x, &c->layout[0]);
  return true;
}

static bool forward_avg_pool(Call *c, Error *err) {
  Pool p;
  return average_sizes(&c->args[0].tensor->layout, &c->args[1], &p, err) && run_average(c, &p, average_body, err);
}

static bool backward_avg_pool(Backward *b) {
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t size[2] = {x->shape[x->ndim - 2], x->shape[x->ndim - 1]};
  return nb_give(b, 0,
                 nb_op(b->scope, "avg_pool2d_spread",
                       (Value[]){{.tensor = b->grad[0]},
                                 {.ints = {size, 2}},
                                 *nb_arg(b, 1),
                                 *nb_arg(b, 2),
                                 *nb_arg(b, 3),
                                 *nb_arg(b, 4),
                                 *nb_arg(b, 5),
                                 *nb_arg(b, 6)}));
}

static bool shape_avg_spread(Call *c, Error *err) {
  Pool p;
  const Layout *g = &c->args[0].tensor->layout;
  return spread_layout(g, &c->args[1], &c->layout[0], err) && average_sizes(&c->layout[0], &c->args[2], &p, err) &&
         check_pooled(&p, g, err);
}

static bool forward_avg_spread(Call *c, Error *err) {
  Pool p;
  return average_sizes(&c->layout[0], &c->args[2], &p, err) && run_average(c, &p, spread_body, err);
}

static bool backward_avg_spread(Backward *b) {
  return nb_give(b, 0,
                 nb_op(b->scope, "avg_pool2d",
                       (Value[]){{.tensor = b->grad[0]},
                                 *nb_arg(b, 2),
                                 *nb_arg(b, 3),
                                 *nb_arg(b, 4),
                                 *nb_arg(b, 5),
                                 *nb_arg(b, 6),
                                 *nb_arg(b, 7)}));
}

static bool shape_adaptive(Call *c, Error *err) {
  Pool p;
  const Layout *x = &c->args[0].tensor->layout;
  if (!adaptive_sizes(x, &c->args[1], &p, err)) return false;
  pooled_layout(&p, x, &c->layout[0]);
  return true;
}

static bool forward_adaptive(Call *c, Error *err) {
  Pool p;
  return adaptive_sizes(&c->args[0].tensor->layout, &c->args[1], &p, err) && run_average(c, &p, average_body, err);
}

static bool backward_adaptive(Backward *b) {
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t size[2] = {x->shape[x->ndim - 2], x->shape[x->ndim - 1]};
  return nb_give(b, 0,
                 nb_op(b->scope, "adaptive_avg_pool2d_spread", (Value[]){{.tensor = b->grad[0]}, {.ints = {size, 2}}}));
}

static bool adaptive_spread_sizes(const Call *c, Layout *x, Pool *p, Error *err) {
  const Layout *g = &c->args[0].tensor->layout;
  int64_t out[2] = {g->ndim < 2 ? 0 : g->shape[g->ndim - 2], g->ndim < 2 ? 0 : g->shape[g->ndim - 1]};
  return spread_layout(g, &c->args[1], x, err) && adaptive_sizes(x, &(Value){.ints = {out, 2}}, p, err);
}

static bool shape_adaptive_spread(Call *c, Error *err) {
  Pool p;
  return adaptive_spread_sizes(c, &c->layout[0], &p, err);
}

static bool forward_adaptive_spread(Call *c, Error *err) {
  Pool p;
  Layout x;
  return adaptive_spread_sizes(c, &x, &p, err) && run_average(c, &p, spread_body, err);
}

static bool backward_adaptive_spread(Backward *b) {
  const Layout *g = &nb_in(b, 0)->layout;
  int64_t size[2] = {g->shape[g->ndim - 2], g->shape[g->ndim - 1]};
  return nb_give(b, 0, nb_op(b->scope, "adaptive_avg_pool2d", (Value[]){{.tensor = b->grad[0]}, {.ints = {size, 2}}}));
}

#define PAIR(n) \
  { .name = (n), .kind = NB_PARAM_INTS, .count = 2 }
#define STRIDE                                                                                                   \
  {                                                                                                              \
    .name = "stride", .kind = NB_PARAM_INTS, .doc = "the kernel when left out", .optional = true, .named = true, \
    .count = 2                                                                                                   \
  }
#define CEIL_MODE                                                                \
  {                                                                              \
    .name = "ceil_mode", .kind = NB_PARAM_FLAG, .optional = true, .named = true, \
    .doc = "a last window that reaches over the edge counts"                     \
  }
#define DIVISOR                                                                           \
  {                                                                                       \
    .name = "divisor_override", .kind = NB_PARAM_NUMBER, .optional = true, .named = true, \
    .doc = "what sums are divided by, in place of how many pixels count"                  \
  }
#define COUNT_INCLUDE_PAD \
  { .name = "count_include_pad", .kind = NB_PARAM_FLAG, .optional = true, .named = true, .fallback = 1 }

static const Op ops[] = {
    {.name = "max_pool2d",
     .doc =
         "The largest pixel in each window of the last two dimensions, and with return_indices its place in its plane, "
         "counted row by row; NaN wins.",
     .example = "nb.max_pool2d(nb.tensor{{1, 2, 5, 3}, {4, 3, 1, 1}}, 2)  --> {{4, 5}}",
     .derivative = "∂/∂x = 1 at the largest pixel of each window",
     .sample = {.args = "f(2,3,4,6), 2; f(2,5,6), {3,2}, {stride={2,1}, padding=1}; f(2,5,6), 2, {ceil_mode=true, "
                        "return_indices=true}; f(2,7,6), {2,3}, {stride=1, dilation={3,2}, padding=1}"},
     .role = NB_ROLE_POOL,
     .symbol = "MaxPool",
     .flops = nb_flops_pool,
     .params = {TENSOR("x"), PAIR("kernel"), STRIDE, NAMED_INTS("padding", 2, 0), CEIL_MODE,
                NAMED_INTS("dilation", 2, 1), NAMED_FLAG("return_indices")},
     .outputs = 2,
     .returns = max_pool_returns,
     .saves = NB_SAVE_OUT(1),
     .shape = shape_max_pool,
     .forward = forward_max_pool,
     .backward = backward_max_pool},
    {.name = "plane_put",
     .doc = "Zero planes of the given sizes with the elements of x added at their places, counted row by row.",
     .example = "local x = nb.tensor({{1, 7}}, {requires_grad=true}); nb.max_pool2d(x, {1, 2}):sum():backward(); "
                "return x.grad  "
                "--> {{0, 1}}",
     .derivative = "∂/∂x = δ at the places",
     .sample = {.args = "f(2,2,3), i(12,2,2,3), {3,4}"},
     .role = NB_ROLE_PART,
     .symbol = "put",
     .params = {TENSOR("x"), INDEX("index"), PAIR("sizes")},
     .internal = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_plane_put,
     .forward = forward_plane_put,
     .backward = backward_plane_put},
    {.name = "plane_take",
     .doc = "The elements of x's planes at the places an index names, counted row by row.",
     .example = "nb.max_pool2d(nb.tensor{{1, 7}}, {1, 2})  --> {{7}}",
     .derivative = "∂/∂x = 1 at the places, added up",
     .sample = {.args = "f(2,3,4), i(12,2,2,3)"},
     .role = NB_ROLE_PART,
     .symbol = "take",
     .params = {TENSOR("x"), INDEX("index")},
     .internal = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_plane_take,
     .forward = forward_plane_take,
     .backward = backward_plane_take},
    {.name = "avg_pool2d",
     .doc = "The mean of each window of the last two dimensions; count_include_pad: padded zeros count.",
     .example = "nb.avg_pool2d(nb.tensor{{1, 2, 5, 3}, {4, 3, 1, 1}}, 2)  --> {{2.5, 2.5}}",
     .derivative = "∂/∂x = 1/n in each window of n pixels",
     .sample = {.args = "f(2,3,4,6), 2; f(2,5,6), {3,2}, {stride={2,1}, padding=1}; f(2,5,6), 3, {padding=1, "
                        "count_include_pad=false}; f(2,5,6), 2, {ceil_mode=true}; f(2,5,6), 2, {divisor_override=3}"},
     .role = NB_ROLE_POOL,
     .symbol = "AvgPool",
     .flops = nb_flops_pool,
     .params = {TENSOR("x"), PAIR("kernel"), STRIDE, NAMED_INTS("padding", 2, 0), COUNT_INCLUDE_PAD, CEIL_MODE,
                DIVISOR},
     .shape = shape_avg_pool,
     .forward = forward_avg_pool,
     .backward = backward_avg_pool},
    {.name = "avg_pool2d_spread",
     .doc = "The transpose of avg_pool2d: every element shared out over its window in planes of the given sizes.",
     .example = "local x = nb.zeros(1, 2, {requires_grad=true}); nb.avg_pool2d(x, {1, 2}):sum():backward(); return "
                "x.grad  --> "
                "{{0.5, 0.5}}",
     .derivative = "∂/∂x = the means of δ",
     .sample = {.args = "f(2,2,3), {4,6}, 2; f(2,3,7), {5,6}, {3,2}, {stride={2,1}, padding=1}"},
     .role = NB_ROLE_PART,
     .symbol = "spread",
     .params = {TENSOR("x"), PAIR("sizes"), PAIR("kernel"), STRIDE, NAMED_INTS("padding", 2, 0), COUNT_INCLUDE_PAD,
                CEIL_MODE, DIVISOR},
     .internal = true,
     .shape = shape_avg_spread,
     .forward = forward_avg_spread,
     .backward = backward_avg_spread},
    {.name = "adaptive_avg_pool2d",
     .doc = "Means over windows chosen so that the last two dimensions get the given sizes.",
     .example = "nb.adaptive_avg_pool2d(nb.tensor{{1, 2, 6}}, {1, 1})  --> {{3}}",
     .derivative = "∂/∂x = 1/n in each window of n pixels",
     .sample = {.args = "f(2,3,4,6), {2,3}; f(2,5,7), 3; f(2,2), {3,1}"},
     .role = NB_ROLE_POOL,
     .symbol = "AvgPool",
     .flops = nb_flops_arguments,
     .params = {TENSOR("x"), PAIR("sizes")},
     .shape = shape_adaptive,
     .forward = forward_adaptive,
     .backward = backward_adaptive},
    {.name = "adaptive_avg_pool2d_spread",
     .doc = "The transpose of adaptive_avg_pool2d, to planes of the given sizes.",
     .example = "local x = nb.zeros(1, 2, {requires_grad=true}); nb.adaptive_avg_pool2d(x, 1):sum():backward(); return "
                "x.grad  "
                "--> {{0.5, 0.5}}",
     .derivative = "∂/∂x = the means of δ",
     .sample = {.args = "f(2,2,3), {4,6}; f(3,3), {5,7}"},
     .role = NB_ROLE_PART,
     .symbol = "spread",
     .params = {TENSOR("x"), PAIR("sizes")},
     .internal = true,
     .shape = shape_adaptive_spread,
     .forward = forward_adaptive_spread,
     .backward = backward_adaptive_spread},
};
const OpFamily ops_pooling = {"Pooling", ops, COUNT(ops)};
