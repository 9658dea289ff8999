// SPDX-License-Identifier: MIT
// Reducing: walking a tensor for each output element, over its reduced dimensions.
//
// f32 adds up in double, f64 in blocks whose sums are added (the error grows with n/BLOCK, not n).
#include "reduce.h"

#include "loops.h"

enum { BLOCK = 256, TILE = 64, PARTS = 128 };

// What to visit for each output element: the kept dimensions name it, the reduced ones are walked.
typedef struct Plan {
  int kept, reduced;
  int64_t kept_shape[NB_MAX_DIMS], kept_stride[NB_MAX_DIMS];
  int64_t shape[NB_MAX_DIMS], stride[NB_MAX_DIMS];  // reduced, neighbours merged
  int64_t count, outputs;
} Plan;

typedef struct Reduction {
  Plan plan;
  const Tensor *x;
  Tensor *out;
} Reduction;

static Plan make_plan(const Layout *x, const bool mask[NB_MAX_DIMS]) {
  Plan p = {.count = 1, .outputs = 1};
  for (int d = 0; d < x->ndim; d++) {
    int64_t n = x->shape[d], step = x->strides[d];
    if (!mask[d]) {
      p.kept_shape[p.kept] = n;
      p.kept_stride[p.kept++] = step;
      p.outputs *= n;
      continue;
    }
    p.count *= n;
    if (n == 1) continue;
    if (p.reduced && p.stride[p.reduced - 1] == step * n) {
      p.shape[p.reduced - 1] *= n;
      p.stride[p.reduced - 1] = step;
    } else {
      p.shape[p.reduced] = n;
      p.stride[p.reduced++] = step;
    }
  }
  // Without elements there is one run, of none.
  if (!p.reduced || p.count == 0) {
    p.shape[0] = p.count ? 1 : 0;
    p.stride[0] = 0;
    p.reduced = 1;
  }
  return p;
}

static int64_t kept_offset(const Plan *p, int64_t output) {
  int64_t offset = 0;
  for (int d = p->kept - 1; d >= 0; d--) {
    offset += output % p->kept_shape[d] * p->kept_stride[d];
    output /= p->kept_shape[d];
  }
  return offset;
}

// Moves to the next run of the innermost reduced dimension; false after the last.
static bool next_run(const Plan *p, int64_t at[NB_MAX_DIMS], int64_t *offset) {
  for (int d = p->reduced - 2; d >= 0; d--) {
    *offset += p->stride[d];
    if (++at[d] < p->shape[d]) return true;
    *offset -= at[d] * p->stride[d];
    at[d] = 0;
  }
  return false;
}

// The sum of n elements that lie together; several at once, so that additions need not wait for each other.
#define SUM(name, T)                                                                                      \
  static double name(int64_t n, const T *x) {                                                             \
    double total = 0;                                                                                     \
    for (int64_t i = 0; i < n; i += BLOCK) {                                                              \
      int64_t stop = i + BLOCK < n ? i + BLOCK : n, k = i;                                                \
      double part[8] = {0};                                                                               \
      for (; k + 8 <= stop; k += 8)                                                                       \
        for (int j = 0; j < 8; j++) part[j] += (double)x[k + j];                                          \
      for (int j = 0; k < stop; j++, k++) part[j] += (double)x[k];                                        \
      total += ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7])); \
    }                                                                                                     \
    return total;                                                                                         \
  }
SUM(sum_f32, float)
SUM(sum_f64, double)

double nb_sum_of(DType dtype, int64_t n, const void *x) {
  return dtype == NB_F32 ? sum_f32(n, x) : sum_f64(n, x);
}

// One sum of many elements that lie together, on several threads: parts of a size that n alone decides.
typedef struct Whole {
  DType dtype;
  int64_t n, size;
  const char *x;
  double part[PARTS];
} Whole;

static void sum_parts(int64_t begin, int64_t end, void *ctx) {
  Whole *w = ctx;
  for (int64_t i = begin; i < end; i++) {
    int64_t n = w->n - i * w->size < w->size ? w->n - i * w->size : w->size;
    w->part[i] = nb_sum_of(w->dtype, n, w->x + (size_t)(i * w->size) * nb_dtype_size(w->dtype));
  }
}

static double sum_whole(DType dtype, int64_t n, const void *x) {
  Whole w = {.dtype = dtype, .n = n, .size = (n + PARTS - 1) / PARTS, .x = x};
  w.size = (w.size + BLOCK - 1) / BLOCK * BLOCK;
  int64_t parts = (n + w.size - 1) / w.size;
  nb_parallel_for(parts, NB_GRAIN / w.size + 1, sum_parts, &w);
  return sum_f64(parts, w.part);
}

// Sums, each output by itself.
#define SUM_ROWS(name, In, Sum, Out)                                        \
  static void name(int64_t begin, int64_t end, void *ctx) {                 \
    const Reduction *r = ctx;                                               \
    const Plan *p = &r->plan;                                               \
    int64_t n = p->shape[p->reduced - 1], step = p->stride[p->reduced - 1]; \
    for (int64_t o = begin; o < end; o++) {                                 \
      int64_t at[NB_MAX_DIMS] = {0}, offset = kept_offset(p, o);            \
      Sum total = 0;                                                        \
      do {                                                                  \
        const In *x = (const In *)nb_tensor_data(r->x) + offset;            \
        for (int64_t i = 0; i < n; i += BLOCK) {                            \
          int64_t stop = i + BLOCK < n ? i + BLOCK : n, k = i;              \
          Sum part[4] = {0, 0, 0, 0};                                       \
          for (; k + 4 <= stop; k += 4)                                     \
            for (int j = 0; j < 4; j++) part[j] += (Sum)x[(k + j) * step];  \
          for (; k < stop; k++) part[0] += (Sum)x[k * step];                \
          total += (part[0] + part[1]) + (part[2] + part[3]);               \
        }                                                                   \
      } while (next_run(p, at, &offset));                                   \
      ((Out *)nb_tensor_data(r->out))[o] = (Out)total;                      \
    }                                                                       \
  }

// Sums of columns: TILE neighbouring outputs at a time, so that memory is read along its rows.
#define SUM_COLUMNS(name, In, Sum, Out)                                                                   \
  static void name(int64_t begin, int64_t end, void *ctx) {                                               \
    const Reduction *r = ctx;                                                                             \
    const Plan *p = &r->plan;                                                                             \
    int64_t n = p->shape[p->reduced - 1], step = p->stride[p->reduced - 1];                               \
    int64_t width = p->kept_shape[p->kept - 1];                                                           \
    for (int64_t o = begin, m; o < end; o += m) {                                                         \
      Sum total[TILE] = {0}, part[TILE] = {0};                                                            \
      int64_t at[NB_MAX_DIMS] = {0}, offset = kept_offset(p, o), added = 0;                               \
      m = width - o % width;                                                                              \
      if (m > end - o) m = end - o;                                                                       \
      if (m > TILE) m = TILE;                                                                             \
      do {                                                                                                \
        const In *x = (const In *)nb_tensor_data(r->x) + offset;                                          \
        for (int64_t i = 0; i < n; i++, x += step) {                                                      \
          for (int64_t j = 0; j < m; j++) part[j] += (Sum)x[j];                                           \
          if (++added % BLOCK) continue;                                                                  \
          for (int64_t j = 0; j < m; j++) {                                                               \
            total[j] += part[j];                                                                          \
            part[j] = 0;                                                                                  \
          }                                                                                               \
        }                                                                                                 \
      } while (next_run(p, at, &offset));                                                                 \
      for (int64_t j = 0; j < m; j++) ((Out *)nb_tensor_data(r->out))[o + j] = (Out)(total[j] + part[j]); \
    }                                                                                                     \
  }
SUM_ROWS(sum_rows_f32, float, double, float)
SUM_ROWS(sum_rows_f64, double, double, double)
SUM_ROWS(sum_rows_i64, int64_t, uint64_t, uint64_t)
SUM_COLUMNS(sum_columns_f32, float, double, float)
SUM_COLUMNS(sum_columns_f64, double, double, double)
SUM_COLUMNS(sum_columns_i64, int64_t, uint64_t, uint64_t)

// The product, and the place of the largest or smallest, of each output.
#define PROD(name, T, Sum)                                                  \
  static void name(int64_t begin, int64_t end, void *ctx) {                 \
    const Reduction *r = ctx;                                               \
    const Plan *p = &r->plan;                                               \
    int64_t n = p->shape[p->reduced - 1], step = p->stride[p->reduced - 1]; \
    for (int64_t o = begin; o < end; o++) {                                 \
      int64_t at[NB_MAX_DIMS] = {0}, offset = kept_offset(p, o);            \
      Sum total = 1;                                                        \
      do {                                                                  \
        const T *x = (const T *)nb_tensor_data(r->x) + offset;              \
        for (int64_t i = 0; i < n; i++) total *= (Sum)x[i * step];          \
      } while (next_run(p, at, &offset));                                   \
      ((T *)nb_tensor_data(r->out))[o] = (T)total;                          \
    }                                                                       \
  }
PROD(prod_f32, float, double)
PROD(prod_f64, double, double)
PROD(prod_i64, int64_t, uint64_t)

// NaN counts as larger and as smaller than all: it is found first and stays.
#define PLACE(name, T, better)                                                        \
  static void name(int64_t begin, int64_t end, void *ctx) {                           \
    const Reduction *r = ctx;                                                         \
    const Plan *p = &r->plan;                                                         \
    int64_t n = p->shape[p->reduced - 1], step = p->stride[p->reduced - 1];           \
    for (int64_t o = begin; o < end; o++) {                                           \
      int64_t at[NB_MAX_DIMS] = {0}, offset = kept_offset(p, o), where = 0, seen = 0; \
      T best = ((const T *)nb_tensor_data(r->x))[offset];                             \
      do {                                                                            \
        const T *a = (const T *)nb_tensor_data(r->x) + offset;                        \
        for (int64_t i = 0; i < n; i++, seen++) {                                     \
          T x = a[i * step];                                                          \
          if (x better best || (x != x && best == best)) {                            \
            best = x;                                                                 \
            where = seen;                                                             \
          }                                                                           \
        }                                                                             \
      } while (next_run(p, at, &offset));                                             \
      ((int64_t *)nb_tensor_data(r->out))[o] = where + 1;                             \
    }                                                                                 \
  }
PLACE(argmax_f32, float, >)
PLACE(argmax_f64, double, >)
PLACE(argmax_i64, int64_t, >)
PLACE(argmin_f32, float, <)
PLACE(argmin_f64, double, <)
PLACE(argmin_i64, int64_t, <)

typedef void (*Body)(int64_t, int64_t, void *);

static bool run(Call *c, Tensor *out, const Value *dims, const Body rows[NB_DTYPES], const Body columns[NB_DTYPES],
                Error *err) {
  Scope s;
  bool mask[NB_MAX_DIMS];
  nb_scope_open(&s, err);
  Tensor *x = nb_to(&s, c->args[0].tensor, c->compute);
  bool ok = x && nb_dims(dims, x->layout.ndim, mask, err) >= 0;
  if (ok) {
    Reduction r = {make_plan(&x->layout, mask), x, out};
    const Plan *p = &r.plan;
    bool by_columns = columns && p->kept && p->kept_stride[p->kept - 1] == 1 && p->kept_shape[p->kept - 1] >= 8 &&
                      p->stride[p->reduced - 1] != 1;
    int64_t grain = NB_GRAIN / (p->count + 1) + 1;
    if (by_columns && grain < TILE) grain = TILE;
    nb_parallel_for(p->outputs, grain, by_columns ? columns[c->compute] : rows[c->compute], &r);
  }
  nb_scope_close(&s);
  return ok;
}

bool nb_reduce_sum(Call *c, const Value *dims, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  int64_t n = nb_layout_numel(x);
  if (n > 0 && nb_layout_numel(&c->out[0]->layout) == 1 && x->dtype == c->compute && nb_dtype_is_float(x->dtype) &&
      nb_layout_contiguous(x)) {
    nb_tensor_set(c->out[0], 0, sum_whole(x->dtype, n, nb_tensor_data(c->args[0].tensor)));
    return true;
  }
  static const Body rows[NB_DTYPES] = {[NB_I64] = sum_rows_i64, [NB_F32] = sum_rows_f32, [NB_F64] = sum_rows_f64};
  static const Body columns[NB_DTYPES] = {
      [NB_I64] = sum_columns_i64, [NB_F32] = sum_columns_f32, [NB_F64] = sum_columns_f64};
  return run(c, c->out[0], dims, rows, columns, err);
}

bool nb_reduce_product(Call *c, const Value *dims, Error *err) {
  static const Body rows[NB_DTYPES] = {[NB_I64] = prod_i64, [NB_F32] = prod_f32, [NB_F64] = prod_f64};
  return run(c, c->out[0], dims, rows, NULL, err);
}

bool nb_reduce_place(Call *c, Tensor *out, const Value *dims, bool largest, Error *err) {
  static const Body most[NB_DTYPES] = {[NB_I64] = argmax_i64, [NB_F32] = argmax_f32, [NB_F64] = argmax_f64};
  static const Body least[NB_DTYPES] = {[NB_I64] = argmin_i64, [NB_F32] = argmin_f32, [NB_F64] = argmin_f64};
  return run(c, out, dims, largest ? most : least, NULL, err);
}
