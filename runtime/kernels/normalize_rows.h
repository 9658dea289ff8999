// SPDX-License-Identifier: MIT
// Normalisation of rows (LayerNorm, RMSNorm, GroupNorm), a template for element types.
//
// ops/normalize.c includes it twice, with BITS 32 and 64, each time after normalize_channels.h, whose KERNEL(total),
// KERNEL(moments), KERNEL(scale) and KERNEL(through) it calls.  A row is read three times, from the nearest cache: for
// a mean that is near, for the exact moments around that, and to write the result.
//
//   w->rows rows of w->n elements; row r takes its weights from (r mod w->groups)·(n/inner) on, and `inner` neighbours
//   share one: 1 in LayerNorm, the elements of a channel in GroupNorm
#if BITS == 32
#define REAL float
#define KERNEL(name) f32_##name
#else
#define REAL double
#define KERNEL(name) f64_##name
#endif

NB_INLINE void KERNEL(row)(const Rows *w, int64_t row) {
  const REAL *x = (const REAL *)w->x + row * w->n;
  const int64_t first = row % w->groups * (w->n / w->inner);  // the row's first weight
  const REAL *weight = w->weight ? (const REAL *)w->weight + first : NULL;
  const REAL *bias = w->bias ? (const REAL *)w->bias + first : NULL;
  REAL *y = (REAL *)w->y + row * w->n, mean = 0;
  double sum, squares, n = (double)w->n, lost = 0;  // lost: what the mean loses when it is rounded
  REAL near = w->centred ? (REAL)(KERNEL(total)(w->n, x) / n) : 0;
  KERNEL(moments)(w->n, x, near, x, near, &sum, &squares);
  if (w->centred) {
    squares -= sum * sum / n;
    mean = (REAL)((double)near + sum / n);
    lost = (double)near + sum / n - (double)mean;
  }
  double variance = squares > 0 || squares != squares ? squares / n : 0, inverse = 1 / sqrt(variance + w->eps);
  ((REAL *)w->out_mean)[row] = mean;
  ((REAL *)w->out_inverse)[row] = (REAL)inverse;
  REAL scale = (REAL)inverse, less = (REAL)(lost * inverse);
  if (w->inner > 1) {
    for (int64_t s = 0; s * w->inner < w->n; s++, x += w->inner, y += w->inner)
      KERNEL(scale)(w->inner, y, x, mean, weight[s] * scale, (bias ? bias[s] : 0) - less * weight[s]);
  } else if (weight && bias) {
    NB_IVDEP for (int64_t k = 0; k < w->n; k++) y[k] = ((x[k] - mean) * scale - less) * weight[k] + bias[k];
  } else if (weight) {
    NB_IVDEP for (int64_t k = 0; k < w->n; k++) y[k] = ((x[k] - mean) * scale - less) * weight[k];
  } else {
    KERNEL(scale)(w->n, y, x, mean, scale, -less);
  }
}

// ---- backward ----

// Σ δ and Σ δ·(x − mean) of the neighbours that share a weight, which becomes what the row needs of them.
NB_INLINE void KERNEL(row_grad)(const Rows *w, int64_t row, double *dweight, double *dbias, REAL *weight_sum,
                                REAL *bias_sum) {
  const REAL *x = (const REAL *)w->x + row * w->n, *g = (const REAL *)w->g + row * w->n;
  const int64_t each = w->n / w->inner, first = row % w->groups * each;
  const REAL *weight = w->weight ? (const REAL *)w->weight + first : NULL;
  const REAL mean = ((const REAL *)w->mean)[row], scale = ((const REAL *)w->inverse)[row];
  REAL *dx = (REAL *)w->dx + row * w->n;
  double sum = 0, along = 0, n = (double)w->n, inverse = (double)scale;
  if (w->inner > 1) {
    for (int64_t s = 0; s < each; s++) {
      double part, part_along;
      KERNEL(moments)(w->inner, g + s * w->inner, 0, x + s * w->inner, mean, &part, &part_along);
      sum += part * (double)weight[s];
      along += part_along * (double)weight[s];
      dbias[first + s] += part;
      dweight[first + s] += part_along * inverse;
    }
  } else if (weight) {
    NB_IVDEP for (int64_t k = 0; k < w->n; k++) {
      dx[k] = g[k] * weight[k];
      weight_sum[first + k] += g[k] * ((x[k] - mean) * scale);
      bias_sum[first + k] += g[k];
    }
    KERNEL(moments)(w->n, dx, 0, x, mean, &sum, &along);
  } else {
    KERNEL(moments)(w->n, g, 0, x, mean, &sum, &along);
  }
  const REAL less = w->centred ? (REAL)(sum / n) : 0, slope = (REAL)(along * inverse * inverse / n);
  if (w->inner > 1) {
    for (int64_t s = 0; s < each; s++) {
      const REAL by = weight[s];
      const int64_t at = s * w->inner, end = at + w->inner;
      NB_IVDEP for (int64_t k = at; k < end; k++) dx[k] = ((g[k] * by - less) - (x[k] - mean) * slope) * scale;
    }
  } else {
    KERNEL(through)(w->n, dx, weight ? dx : g, x, mean, less, slope, scale);
  }
}

// Moves sums of few terms to those of many.
NB_INLINE void KERNEL(collect)(int64_t n, double *total, REAL *sum) {
  NB_IVDEP for (int64_t k = 0; k < n; k++) {
    total[k] += (double)sum[k];
    sum[k] = 0;
  }
}

// Parts of the rows, each with sums of its own for the weights and biases.
NB_RANGE(KERNEL(parts_grad)) {
  enum { FEW = 64 };
  const Rows *w = ctx;
  for (int64_t part = begin; part < end; part++) {
    double *dweight = w->sums + part * SUMS * w->weights, *dbias = dweight + w->weights;
    REAL *few = (REAL *)(dbias + w->weights);
    int64_t row = w->rows * part / w->parts, stop = w->rows * (part + 1) / w->parts;
    memset(dweight, 0, (size_t)(SUMS * w->weights) * sizeof *dweight);
    for (int64_t next; row < stop && !nb_interrupted(); row = next) {
      next = row + FEW < stop ? row + FEW : stop;
      for (int64_t r = row; r < next; r++) KERNEL(row_grad)(w, r, dweight, dbias, few, few + w->weights);
      if (w->inner > 1) continue;
      KERNEL(collect)(w->weights, dweight, few);
      KERNEL(collect)(w->weights, dbias, few + w->weights);
    }
  }
}

NB_RANGE(KERNEL(rows)) {
  const Rows *w = ctx;
  for (int64_t row = begin; row < end; row++) KERNEL(row)(w, row);
}

// dweight and dbias: the parts' sums.
static void KERNEL(add_parts)(const Rows *w) {
  for (int64_t k = 0; k < w->weights; k++) {
    double dweight = 0, dbias = 0;
    for (int64_t part = 0; part < w->parts; part++) {
      dweight += w->sums[part * SUMS * w->weights + k];
      dbias += w->sums[(part * SUMS + 1) * w->weights + k];
    }
    ((REAL *)w->dweight)[k] = (REAL)dweight;
    ((REAL *)w->dbias)[k] = (REAL)dbias;
  }
}

#undef REAL
#undef KERNEL
#undef BITS
