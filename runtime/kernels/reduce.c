// SPDX-License-Identifier: MIT
// Reducing: walking a tensor for each output element, over its reduced dimensions.
//
// f32 adds up in double, f64 in blocks whose sums are added (the error grows with n/BLOCK, not n).  Whole numbers are
// read as they are: no copy of the tensor is made.
#include "reduce.h"

#include <math.h>
#include <string.h>

#include "nablua/interrupt.h"
#include "totals.h"

enum { BLOCK = 256, TILE = 1024, PARTS = 128 };

// What to visit for each output element: the kept dimensions name it, the reduced ones are walked.
typedef struct Visit {
  int kept, reduced;
  int64_t kept_shape[NB_MAX_DIMS], kept_stride[NB_MAX_DIMS];
  int64_t shape[NB_MAX_DIMS], stride[NB_MAX_DIMS];  // reduced, neighbours merged
  int64_t count, outputs;
  int64_t stretch;  // elements of the first stretch
  bool alone;       // it is the only one of each output
} Visit;

typedef struct Reduction {
  const Visit *visit;
  const Tensor *x;
  Tensor *out, *values;  // values: what is at the places, where it is wanted
  bool all;
} Reduction;

// Elements of one output that lie in a row, at most NB_POLLED: an expanded tensor may have more than anybody waits for.
typedef struct Stretch {
  int64_t offset, n;
  int64_t begin, left, at[NB_MAX_DIMS];  // where there are several: the place in each dimension but the innermost
} Stretch;

static void make_visit(Visit *p, const Layout *x, const bool mask[NB_MAX_DIMS]) {
  p->kept = p->reduced = 0;
  p->count = p->outputs = 1;
  for (int d = 0; d < x->ndim; d++) {
    int64_t n = x->shape[d], step = x->strides[d];
    if (!mask[d]) {
      p->kept_shape[p->kept] = n;
      p->kept_stride[p->kept++] = step;
      p->outputs *= n;
      continue;
    }
    p->count *= n;
    if (n == 1) continue;
    if (p->reduced && p->stride[p->reduced - 1] == step * n) {
      p->shape[p->reduced - 1] *= n;
      p->stride[p->reduced - 1] = step;
    } else {
      p->shape[p->reduced] = n;
      p->stride[p->reduced++] = step;
    }
  }
  // Without elements there is one stretch, of none.
  if (!p->reduced || p->count == 0) {
    p->shape[0] = p->count ? 1 : 0;
    p->stride[0] = 0;
    p->reduced = 1;
  }
  int64_t inner = p->shape[p->reduced - 1];
  p->stretch = inner < NB_POLLED ? inner : NB_POLLED;
  p->alone = p->reduced == 1 && p->stretch == inner;
}

static int64_t offset_of(int64_t index, int ndim, const int64_t *shape, const int64_t *stride) {
  int64_t offset = 0;
  for (int d = ndim - 1; d >= 0; d--) {
    offset += index % shape[d] * stride[d];
    index /= shape[d];
  }
  return offset;
}

static int64_t kept_offset(const Visit *p, int64_t output) {
  return offset_of(output, p->kept, p->kept_shape, p->kept_stride);
}

static __attribute__((noinline)) void begin_stretches(Stretch *r) {
  r->begin = 0;
  r->left = NB_POLLED;
  memset(r->at, 0, sizeof r->at);
}

NB_INLINE void first_stretch(const Visit *p, int64_t output, Stretch *r) {
  r->offset = kept_offset(p, output);
  r->n = p->stretch;
  if (!p->alone) begin_stretches(r);
}

// Moves within the innermost dimension where it is longer than a stretch; false at its end, where all begins anew.
static bool further_within(const Visit *p, Stretch *r) {
  int inner = p->reduced - 1;
  r->begin += r->n;
  r->offset += r->n * p->stride[inner];
  int64_t left = p->shape[inner] - r->begin;
  if (left > 0) {
    r->n = left < NB_POLLED ? left : NB_POLLED;
    return true;
  }
  r->offset -= r->begin * p->stride[inner];
  r->begin = 0;
  r->n = p->stretch;
  return false;
}

static __attribute__((noinline)) bool further_run(const Visit *p, Stretch *r) {
  if ((r->left -= r->n) <= 0) {
    r->left = NB_POLLED;
    if (nb_interrupted()) return false;
  }
  if (p->stretch != p->shape[p->reduced - 1] && further_within(p, r)) return true;
  for (int d = p->reduced - 2; d >= 0; d--) {
    r->offset += p->stride[d];
    if (++r->at[d] < p->shape[d]) return true;
    r->offset -= r->at[d] * p->stride[d];
    r->at[d] = 0;
  }
  return false;
}

// Moves to the next stretch; false after the last, and after an interrupt, which nb_apply reports.
NB_INLINE bool next_stretch(const Visit *p, Stretch *r) {
  return !p->alone && further_run(p, r);
}

// The sum of n terms f(k) of elements that lie together.  A block's quarters are added first, term by term, then what
// that makes: no addition waits for many others, and the compiler makes vectors of all.
#define SUM(name, params, Sum, f)                                                                     \
  NB_INLINE Sum name params {                                                                         \
    typedef Sum Lanes __attribute__((vector_size(4 * sizeof(Sum)), aligned(sizeof(Sum)), may_alias)); \
    Sum total = 0, four[BLOCK / 4];                                                                   \
    for (int64_t begin = 0; begin < n; begin += BLOCK) {                                              \
      int64_t quarter = (n - begin < BLOCK ? n - begin : BLOCK) / 4, k = 0;                           \
      for (int64_t i = 0, o = begin; i < quarter; i++, o++)                                           \
        four[i] = (f(o) + f(o + quarter)) + (f(o + 2 * quarter) + f(o + 3 * quarter));                \
      Lanes a = {0}, b = {0};                                                                         \
      for (; k + 8 <= quarter; k += 8) {                                                              \
        a += *(const Lanes *)(four + k);                                                              \
        b += *(const Lanes *)(four + k + 4);                                                          \
      }                                                                                               \
      for (; k < quarter; k++) a[0] += four[k];                                                       \
      for (k = begin + 4 * quarter; k < n && k < begin + BLOCK; k++) b[0] += f(k);                    \
      a += b;                                                                                         \
      total += (a[0] + a[1]) + (a[2] + a[3]);                                                         \
    }                                                                                                 \
    return total;                                                                                     \
  }
#define ITSELF(k) x[k]
#define MODULO(k) ((uint64_t)x[k])
#define IN_F64(k) ((double)x[k])
#define PRODUCT(k) ((x[k] - less) * (y[k] - less))
SUM(sum_f64, (int64_t n, const double *x), double, ITSELF)
SUM(sum_i64, (int64_t n, const int64_t *x), uint64_t, MODULO)
SUM(mean_i64, (int64_t n, const int64_t *x), double, IN_F64)
SUM(dot_f64, (int64_t n, const double *x, const double *y, double less), double, PRODUCT)

// Of one stretch, whose sum fits.
NB_INLINE uint32_t sum_u8(int64_t n, const uint8_t *x) {
  uint32_t total = 0;
  for (int64_t k = 0; k < n; k++) total += x[k];
  return total;
}

NB_TWICE(sum_doubles, (int64_t n, const double *x, double *sum), (n, x, sum), n >= NB_SHORT) {
  *sum = sum_f64(n, x);
}

NB_TWICE(dot_doubles, (int64_t n, const double *x, const double *y, double less, double *sum), (n, x, y, less, sum),
         n >= NB_SHORT) {
  *sum = dot_f64(n, x, y, less);
}

double nb_dot_of(DType dtype, int64_t n, const void *a, const void *b, double less) {
  double sum;
  if (dtype == NB_F32) return total_dot(n, a, b, (float)less);
  dot_doubles(n, a, b, less, &sum);
  return sum;
}

double nb_sum_of(DType dtype, int64_t n, const void *x) {
  double sum;
  if (dtype == NB_F32) return total_sum(n, x);
  sum_doubles(n, x, &sum);
  return sum;
}

// One sum of many elements (or of their squares) that lie together, on several threads: parts of a size that n alone
// decides.
typedef struct Whole {
  DType dtype;
  bool squares;
  int64_t n, size;
  const char *x;
  double part[PARTS];
} Whole;

static void sum_parts(int64_t begin, int64_t end, void *ctx) {
  Whole *w = ctx;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = w->n - i * w->size < w->size ? w->n - i * w->size : w->size;
    const char *x = w->x + (size_t)(i * w->size) * nb_dtype_size(w->dtype);
    if (w->squares)
      w->part[i] = w->dtype == NB_F32 ? total_squares(n, (const float *)x) : nb_dot_of(NB_F64, n, x, x, 0);
    else
      w->part[i] = nb_sum_of(w->dtype, n, x);
  }
}

static double sum_whole(DType dtype, int64_t n, const void *x, bool squares) {
  if (n == 0) return 0;
  Whole w = {.dtype = dtype, .squares = squares, .n = n, .size = (n + PARTS - 1) / PARTS, .x = x};
  w.size = (w.size + BLOCK - 1) / BLOCK * BLOCK;
  int64_t parts = (n + w.size - 1) / w.size;
  nb_parallel_for(parts, NB_GRAIN / w.size + 1, sum_parts, &w);
  return nb_sum_of(NB_F64, parts, w.part);
}

double nb_squares_of(DType dtype, int64_t n, const void *x) {
  return sum_whole(dtype, n, x, true);
}

// Sums, each output by itself.
#define SUM_ROWS(name, In, Sum, Out, together)                                 \
  NB_RANGE(name) {                                                             \
    const Reduction *r = ctx;                                                  \
    const Visit *p = r->visit;                                                 \
    int64_t step = p->stride[p->reduced - 1];                                  \
    for (int64_t o = begin; o < end; o++) {                                    \
      Stretch stretch;                                                         \
      first_stretch(p, o, &stretch);                                           \
      Sum total = 0;                                                           \
      do {                                                                     \
        const In *x = (const In *)nb_tensor_data(r->x) + stretch.offset;       \
        if (step == 1) {                                                       \
          total += (Sum)together(stretch.n, x);                                \
          continue;                                                            \
        }                                                                      \
        for (int64_t i = 0; i < stretch.n; i += BLOCK) {                       \
          int64_t stop = i + BLOCK < stretch.n ? i + BLOCK : stretch.n, k = i; \
          Sum part[4] = {0, 0, 0, 0};                                          \
          for (; k + 4 <= stop; k += 4)                                        \
            for (int j = 0; j < 4; j++) part[j] += (Sum)x[(k + j) * step];     \
          for (; k < stop; k++) part[0] += (Sum)x[k * step];                   \
          total += (part[0] + part[1]) + (part[2] + part[3]);                  \
        }                                                                      \
      } while (next_stretch(p, &stretch));                                     \
      ((Out *)nb_tensor_data(r->out))[o] = (Out)total;                         \
    }                                                                          \
  }

// Sums of columns: TILE neighbouring outputs at a time, so that memory is read along its rows, four at once.  BLOCK
// numbers are added in a Part.
#define SUM_COLUMNS(name, In, Part, Sum, Out)                                                                 \
  NB_WIDE_RANGE(name) {                                                                                       \
    const Reduction *r = ctx;                                                                                 \
    const Visit *p = r->visit;                                                                                \
    int64_t step = p->stride[p->reduced - 1], width = p->kept_shape[p->kept - 1];                             \
    for (int64_t o = begin, m; o < end; o += m) {                                                             \
      Sum total[TILE];                                                                                        \
      Part part[TILE];                                                                                        \
      Stretch stretch;                                                                                        \
      first_stretch(p, o, &stretch);                                                                          \
      int64_t added = 0;                                                                                      \
      m = width - o % width;                                                                                  \
      if (m > end - o) m = end - o;                                                                           \
      if (m > TILE) m = TILE;                                                                                 \
      for (int64_t j = 0; j < m; j++) total[j] = 0, part[j] = 0;                                              \
      do {                                                                                                    \
        const In *x = (const In *)nb_tensor_data(r->x) + stretch.offset;                                      \
        for (int64_t i = 0, stop; i < stretch.n; i = stop) {                                                  \
          stop = i + BLOCK - added < stretch.n ? i + BLOCK - added : stretch.n;                               \
          added += stop - i;                                                                                  \
          for (; i + 4 <= stop; i += 4, x += 4 * step) {                                                      \
            const In *y = x + step, *z = y + step, *w = z + step;                                             \
            for (int64_t j = 0; j < m; j++) part[j] += ((Part)x[j] + (Part)y[j]) + ((Part)z[j] + (Part)w[j]); \
          }                                                                                                   \
          for (; i < stop; i++, x += step)                                                                    \
            for (int64_t j = 0; j < m; j++) part[j] += (Part)x[j];                                            \
          if (added < BLOCK) continue;                                                                        \
          added = 0;                                                                                          \
          for (int64_t j = 0; j < m; j++) {                                                                   \
            total[j] += part[j];                                                                              \
            part[j] = 0;                                                                                      \
          }                                                                                                   \
        }                                                                                                     \
      } while (next_stretch(p, &stretch));                                                                    \
      for (int64_t j = 0; j < m; j++) ((Out *)nb_tensor_data(r->out))[o + j] = (Out)(total[j] + part[j]);     \
    }                                                                                                         \
  }
SUM_ROWS(sum_rows_u8, uint8_t, uint64_t, uint64_t, sum_u8)
SUM_ROWS(sum_rows_i64, int64_t, uint64_t, uint64_t, sum_i64)
SUM_ROWS(sum_rows_f32, float, double, float, total_sum)
SUM_ROWS(sum_rows_f64, double, double, double, sum_f64)
SUM_ROWS(mean_rows_u8, uint8_t, uint64_t, float, sum_u8)
SUM_ROWS(mean_rows_i64, int64_t, double, float, mean_i64)
SUM_COLUMNS(sum_columns_u8, uint8_t, uint32_t, uint64_t, uint64_t)
SUM_COLUMNS(sum_columns_i64, int64_t, uint64_t, uint64_t, uint64_t)
SUM_COLUMNS(sum_columns_f32, float, double, double, float)
SUM_COLUMNS(sum_columns_f64, double, double, double, double)
SUM_COLUMNS(mean_columns_u8, uint8_t, uint32_t, uint64_t, float)
SUM_COLUMNS(mean_columns_i64, int64_t, double, double, float)

// Whether one is not zero or, for all, is: each output by itself, up to the first block that has such a one.
#define FOUND_ROWS(name, T, Hit)                                                          \
  NB_RANGE(name) {                                                                        \
    const Reduction *r = ctx;                                                             \
    const Visit *p = r->visit;                                                            \
    const int64_t step = p->stride[p->reduced - 1];                                       \
    const bool all = r->all;                                                              \
    for (int64_t o = begin; o < end; o++) {                                               \
      Stretch stretch;                                                                    \
      first_stretch(p, o, &stretch);                                                      \
      Hit found = 0;                                                                      \
      do {                                                                                \
        const T *x = (const T *)nb_tensor_data(r->x) + stretch.offset;                    \
        for (int64_t i = 0, stop; i < stretch.n && !found; i = stop) {                    \
          stop = i + BLOCK < stretch.n ? i + BLOCK : stretch.n;                           \
          if (step == 1)                                                                  \
            for (int64_t k = i; k < stop; k++) found |= (Hit)((x[k] != 0) != all);        \
          else                                                                            \
            for (int64_t k = i; k < stop; k++) found |= (Hit)((x[k * step] != 0) != all); \
        }                                                                                 \
      } while (!found && next_stretch(p, &stretch));                                      \
      ((uint8_t *)nb_tensor_data(r->out))[o] = (found != 0) != all;                       \
    }                                                                                     \
  }

// Of columns, TILE at a time.
#define FOUND_COLUMNS(name, T, Hit)                                                                        \
  NB_RANGE(name) {                                                                                         \
    const Reduction *r = ctx;                                                                              \
    const Visit *p = r->visit;                                                                             \
    const int64_t step = p->stride[p->reduced - 1], width = p->kept_shape[p->kept - 1];                    \
    const bool all = r->all;                                                                               \
    for (int64_t o = begin, m; o < end; o += m) {                                                          \
      Hit found[TILE];                                                                                     \
      Stretch stretch;                                                                                     \
      first_stretch(p, o, &stretch);                                                                       \
      m = width - o % width;                                                                               \
      if (m > end - o) m = end - o;                                                                        \
      if (m > TILE) m = TILE;                                                                              \
      for (int64_t j = 0; j < m; j++) found[j] = 0;                                                        \
      do {                                                                                                 \
        const T *x = (const T *)nb_tensor_data(r->x) + stretch.offset;                                     \
        for (int64_t i = 0; i < stretch.n; i++, x += step)                                                 \
          for (int64_t j = 0; j < m; j++) found[j] |= (Hit)((x[j] != 0) != all);                           \
      } while (next_stretch(p, &stretch));                                                                 \
      for (int64_t j = 0; j < m; j++) ((uint8_t *)nb_tensor_data(r->out))[o + j] = (found[j] != 0) != all; \
    }                                                                                                      \
  }
#define FOUND(type, T, Hit)             \
  FOUND_ROWS(found_rows_##type, T, Hit) \
  FOUND_COLUMNS(found_columns_##type, T, Hit)
FOUND(u8, uint8_t, uint8_t)
FOUND(i64, int64_t, uint64_t)
FOUND(f32, float, uint32_t)
FOUND(f64, double, uint64_t)

// The product of each output.
#define EACH_OF(Sum, total, n, x, step) \
  for (int64_t i = 0; i < n; i++) total *= (Sum)x[i * step]
#define TOGETHER_OR_EACH(Sum, total, n, x, step) \
  if (step == 1)                                 \
    total *= total_product(n, x);                \
  else                                           \
    EACH_OF(Sum, total, n, x, step)
#define PROD(name, In, Sum, Out, multiply)                               \
  static void name(int64_t begin, int64_t end, void *ctx) {              \
    const Reduction *r = ctx;                                            \
    const Visit *p = r->visit;                                           \
    int64_t step = p->stride[p->reduced - 1];                            \
    for (int64_t o = begin; o < end; o++) {                              \
      Stretch stretch;                                                   \
      first_stretch(p, o, &stretch);                                     \
      Sum total = 1;                                                     \
      do {                                                               \
        const In *x = (const In *)nb_tensor_data(r->x) + stretch.offset; \
        multiply(Sum, total, stretch.n, x, step);                        \
      } while (next_stretch(p, &stretch));                               \
      ((Out *)nb_tensor_data(r->out))[o] = (Out)total;                   \
    }                                                                    \
  }
PROD(prod_u8, uint8_t, uint64_t, int64_t, EACH_OF)
PROD(prod_i64, int64_t, uint64_t, int64_t, EACH_OF)
PROD(prod_f32, float, double, float, TOGETHER_OR_EACH)
PROD(prod_f64, double, double, double, EACH_OF)

// The place of the largest or smallest.  NaN counts as larger and as smaller than all: it is found first and stays.
#define PLACE(name, T, Value, better)                                       \
  static void name(int64_t begin, int64_t end, void *ctx) {                 \
    const Reduction *r = ctx;                                               \
    const Visit *p = r->visit;                                              \
    int64_t step = p->stride[p->reduced - 1];                               \
    for (int64_t o = begin; o < end; o++) {                                 \
      Stretch stretch;                                                      \
      first_stretch(p, o, &stretch);                                        \
      int64_t where = 0, seen = 0;                                          \
      T best = ((const T *)nb_tensor_data(r->x))[stretch.offset];           \
      do {                                                                  \
        const T *a = (const T *)nb_tensor_data(r->x) + stretch.offset;      \
        for (int64_t i = 0; i < stretch.n; i++, seen++) {                   \
          T x = a[i * step];                                                \
          if (x better best || (x != x && best == best)) {                  \
            best = x;                                                       \
            where = seen;                                                   \
          }                                                                 \
        }                                                                   \
      } while (next_stretch(p, &stretch));                                  \
      ((int64_t *)nb_tensor_data(r->out))[o] = where + 1;                   \
      if (r->values) ((Value *)nb_tensor_data(r->values))[o] = (Value)best; \
    }                                                                       \
  }
PLACE(argmax_u8, uint8_t, uint8_t, >)
PLACE(argmax_i64, int64_t, int64_t, >)
PLACE(argmax_any_f32, float, float, >)
PLACE(argmax_f64, double, double, >)
PLACE(argmin_u8, uint8_t, uint8_t, <)
PLACE(argmin_i64, int64_t, int64_t, <)
PLACE(argmin_any_f32, float, float, <)
PLACE(argmin_f64, double, double, <)

// A whole number that grows with x, or with −x; the same for both zeros, the largest for NaN.  Comparing these, the
// compiler makes vectors of a search.
NB_INLINE int32_t rank(float x, bool least) {
  float y = least ? 0 - x : x + 0;
  int32_t bits, odd = -(int32_t)(x != x);
  memcpy(&bits, &y, sizeof bits);
  return (odd & INT32_MAX) | (~odd & (bits ^ (bits >> 31 & INT32_MAX)));
}

NB_INLINE int32_t highest(int64_t n, const float *x, bool least) {
  int32_t best = INT32_MIN;
  for (int64_t k = 0; k < n; k++) {
    int32_t r = rank(x[k], least);
    best = r > best ? r : best;
  }
  return best;
}

NB_TWICE(largest, (int64_t n, const float *x, float *top), (n, x, top), n >= NB_SHORT) {
  int32_t best = highest(n, x, false);
  best ^= best >> 31 & INT32_MAX;
  memcpy(top, &best, sizeof best);
}

float nb_largest_of(int64_t n, const float *x) {
  float top;
  largest(n, x, &top);
  return top;
}

static float place_value_f32(const Reduction *r, int64_t output, int64_t place) {
  const Visit *p = r->visit;
  int64_t offset = kept_offset(p, output) + offset_of(place - 1, p->reduced, p->shape, p->stride);
  return ((const float *)nb_tensor_data(r->x))[offset];
}

// Of elements that lie together, the first block with the highest rank is searched again; of columns, TILE at a time.
#define PLACE_F32(rows, columns, any, least)                                                              \
  NB_RANGE(rows) {                                                                                        \
    const Reduction *r = ctx;                                                                             \
    const Visit *p = r->visit;                                                                            \
    if (p->reduced > 1 || p->stride[0] != 1) {                                                            \
      any(begin, end, ctx);                                                                               \
      return;                                                                                             \
    }                                                                                                     \
    for (int64_t o = begin, n = p->count; o < end; o++) {                                                 \
      const float *x = (const float *)nb_tensor_data(r->x) + kept_offset(p, o);                           \
      int32_t best = INT32_MIN;                                                                           \
      int64_t where = 0;                                                                                  \
      for (int64_t i = 0; i < n; i += BLOCK) {                                                            \
        int32_t most = highest(n - i < BLOCK ? n - i : BLOCK, x + i, least);                              \
        if (most > best) {                                                                                \
          best = most;                                                                                    \
          where = i;                                                                                      \
        }                                                                                                 \
      }                                                                                                   \
      while (rank(x[where], least) != best) where++;                                                      \
      ((int64_t *)nb_tensor_data(r->out))[o] = where + 1;                                                 \
      if (r->values) ((float *)nb_tensor_data(r->values))[o] = x[where];                                  \
    }                                                                                                     \
  }                                                                                                       \
  NB_RANGE(columns) {                                                                                     \
    const Reduction *r = ctx;                                                                             \
    const Visit *p = r->visit;                                                                            \
    int64_t step = p->stride[p->reduced - 1], width = p->kept_shape[p->kept - 1];                         \
    for (int64_t o = begin, m; o < end; o += m) {                                                         \
      int32_t best[TILE], where[TILE], seen = 0;                                                          \
      Stretch stretch;                                                                                    \
      first_stretch(p, o, &stretch);                                                                      \
      m = width - o % width;                                                                              \
      if (m > end - o) m = end - o;                                                                       \
      if (m > TILE) m = TILE;                                                                             \
      for (int64_t j = 0; j < m; j++) best[j] = INT32_MIN;                                                \
      do {                                                                                                \
        const float *x = (const float *)nb_tensor_data(r->x) + stretch.offset;                            \
        for (int64_t i = 0; i < stretch.n; i++, x += step) {                                              \
          seen++;                                                                                         \
          for (int64_t j = 0; j < m; j++) {                                                               \
            int32_t now = rank(x[j], least);                                                              \
            where[j] = now > best[j] ? seen : where[j];                                                   \
            best[j] = now > best[j] ? now : best[j];                                                      \
          }                                                                                               \
        }                                                                                                 \
      } while (next_stretch(p, &stretch));                                                                \
      for (int64_t j = 0; j < m; j++) {                                                                   \
        ((int64_t *)nb_tensor_data(r->out))[o + j] = where[j];                                            \
        if (r->values) ((float *)nb_tensor_data(r->values))[o + j] = place_value_f32(r, o + j, where[j]); \
      }                                                                                                   \
    }                                                                                                     \
  }
PLACE_F32(argmax_f32, argmax_columns, argmax_any_f32, false)
PLACE_F32(argmin_f32, argmin_columns, argmin_any_f32, true)

typedef void (*Body)(int64_t, int64_t, void *);

// Which bodies there are for the elements' dtype.
typedef struct Bodies {
  Body rows[NB_DTYPES], columns[NB_DTYPES];
} Bodies;
#define ALL_BODIES(u8, i64, f32, f64) \
  { [NB_BOOL] = u8, [NB_U8] = u8, [NB_I64] = i64, [NB_F32] = f32, [NB_F64] = f64 }

static bool stretch(Reduction *r, const Value *dims, const Bodies *bodies, Error *err) {
  bool mask[NB_MAX_DIMS];
  if (nb_dims(dims, r->x->layout.ndim, mask, err) < 0) return false;
  DType dtype = r->x->layout.dtype;
  Visit visit, *p = &visit;
  make_visit(p, &r->x->layout, mask);
  r->visit = p;
  bool by_columns = bodies->columns[dtype] && p->count < INT32_MAX && p->kept && p->kept_stride[p->kept - 1] == 1 &&
                    p->kept_shape[p->kept - 1] >= 8 && p->stride[p->reduced - 1] != 1;
  int64_t grain = NB_GRAIN / (p->count + 1) + 1;
  if (by_columns && grain < TILE / 4) grain = TILE / 4;
  nb_parallel_for(p->outputs, grain, by_columns ? bodies->columns[dtype] : bodies->rows[dtype], r);
  return true;
}

bool nb_reduce_sum(Call *c, const Value *dims, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  int64_t n = nb_layout_numel(x);
  if (n > 0 && nb_layout_numel(&c->out[0]->layout) == 1 && x->dtype == c->compute && nb_dtype_is_float(x->dtype) &&
      nb_layout_contiguous(x)) {
    nb_tensor_set(c->out[0], 0, sum_whole(x->dtype, n, nb_tensor_data(c->args[0].tensor), false));
    return true;
  }
  static const Bodies whole = {ALL_BODIES(sum_rows_u8, sum_rows_i64, NULL, NULL),
                               ALL_BODIES(sum_columns_u8, sum_columns_i64, NULL, NULL)};
  static const Bodies floating = {ALL_BODIES(mean_rows_u8, mean_rows_i64, sum_rows_f32, sum_rows_f64),
                                  ALL_BODIES(mean_columns_u8, mean_columns_i64, sum_columns_f32, sum_columns_f64)};
  Reduction r = {.x = c->args[0].tensor, .out = c->out[0]};
  return stretch(&r, dims, c->compute == NB_I64 ? &whole : &floating, err);
}

bool nb_reduce_product(Call *c, const Value *dims, Error *err) {
  static const Bodies bodies = {.rows = ALL_BODIES(prod_u8, prod_i64, prod_f32, prod_f64)};
  Reduction r = {.x = c->args[0].tensor, .out = c->out[0]};
  return stretch(&r, dims, &bodies, err);
}

bool nb_reduce_test(Call *c, const Value *dims, bool all, Error *err) {
  static const Bodies bodies = {ALL_BODIES(found_rows_u8, found_rows_i64, found_rows_f32, found_rows_f64),
                                ALL_BODIES(found_columns_u8, found_columns_i64, found_columns_f32, found_columns_f64)};
  Reduction r = {.x = c->args[0].tensor, .out = c->out[0], .all = all};
  return stretch(&r, dims, &bodies, err);
}

bool nb_reduce_place(Call *c, Tensor *places, Tensor *values, const Value *dims, bool largest, Error *err) {
  static const Bodies most = {ALL_BODIES(argmax_u8, argmax_i64, argmax_f32, argmax_f64), {[NB_F32] = argmax_columns}};
  static const Bodies least = {ALL_BODIES(argmin_u8, argmin_i64, argmin_f32, argmin_f64), {[NB_F32] = argmin_columns}};
  Reduction r = {.x = c->args[0].tensor, .out = places, .values = values};
  return stretch(&r, dims, largest ? &most : &least, err);
}
