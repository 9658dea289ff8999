// SPDX-License-Identifier: MIT
// Batch normalisation of channels, a template for element types: ops/normalize.c includes it with BITS 32 and 64.
//
// x is batch × channels × inner.  A row of `inner` elements is read once into the nearest cache; rows' means and sums
// of squares join as Chan, Golub and LeVeque have it (Updating formulae and a pairwise algorithm for computing sample
// variances, 1979).  Where inner is 1, LANES channels go side by side.
// What is lost when a mean is rounded to REAL, the bias makes good.
#if BITS == 32
#define REAL float
#define KERNEL(name) f32_##name
#else
#define REAL double
#define KERNEL(name) f64_##name
#endif

typedef REAL KERNEL(Lanes) __attribute__((vector_size(32)));
typedef REAL KERNEL(Loose) __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

enum { KERNEL(STEP) = 32 / sizeof(REAL), KERNEL(CHAINS) = 4 };

// The sum of what `step` lanes hold, halves first.
NB_INLINE double KERNEL(across)(double lanes[KERNEL(STEP)]) {
  UNROLL for (int half = KERNEL(STEP) / 2; half > 0; half /= 2) {
    UNROLL for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

// Σ a of n elements, in short sums that are rounded to REAL, then in double.
NB_INLINE double KERNEL(total)(int64_t n, const REAL *a) {
  enum { STEP = KERNEL(STEP), CHAINS = KERNEL(CHAINS) };
  double s[STEP] = {0};
  for (int64_t k = 0; k < n; k += SHORT) {
    KERNEL(Lanes) sums[CHAINS] = {{0}};
    int64_t end = k + SHORT < n ? k + SHORT : n, i = k;
    for (; i + CHAINS * STEP <= end; i += CHAINS * STEP)
      UNROLL for (int c = 0; c < CHAINS; c++) sums[c] += *(const KERNEL(Loose) *)(a + i + c * STEP);
    for (; i < end; i++) sums[0][0] += a[i];
    UNROLL for (int c = 0; c < CHAINS; c++) UNROLL for (int j = 0; j < STEP; j++) s[j] += (double)sums[c][j];
  }
  return KERNEL(across)(s);
}

// Σ(a − a0) and Σ(a − a0)·(b − b0), likewise.
NB_INLINE void KERNEL(moments)(int64_t n, const REAL *a, REAL a0, const REAL *b, REAL b0, double *sum,
                               double *product) {
  enum { STEP = KERNEL(STEP), CHAINS = KERNEL(CHAINS) };
  double s[STEP] = {0}, p[STEP] = {0};
  for (int64_t k = 0; k < n; k += SHORT) {
    KERNEL(Lanes) sums[CHAINS] = {{0}}, products[CHAINS] = {{0}};
    int64_t end = k + SHORT < n ? k + SHORT : n, i = k;
    for (; i + CHAINS * STEP <= end; i += CHAINS * STEP) UNROLL for (int c = 0; c < CHAINS; c++) {
        KERNEL(Lanes) u = *(const KERNEL(Loose) *)(a + i + c * STEP) - a0;
        sums[c] += u;
        products[c] += u * (*(const KERNEL(Loose) *)(b + i + c * STEP) - b0);
      }
    for (; i < end; i++) {
      sums[0][0] += a[i] - a0;
      products[0][0] += (a[i] - a0) * (b[i] - b0);
    }
    UNROLL for (int c = 0; c < CHAINS; c++) UNROLL for (int j = 0; j < STEP; j++) {
      s[j] += (double)sums[c][j];
      p[j] += (double)products[c][j];
    }
  }
  *sum = KERNEL(across)(s);
  *product = KERNEL(across)(p);
}

NB_INLINE void KERNEL(scale)(int64_t n, REAL *y, const REAL *x, REAL mean, REAL scale, REAL bias) {
  NB_IVDEP for (int64_t k = 0; k < n; k++) y[k] = (x[k] - mean) * scale + bias;
}

NB_INLINE void KERNEL(channel)(const Channels *w, int64_t c) {
  const REAL *x = (const REAL *)w->x + c * w->inner;
  REAL *y = (REAL *)w->y + c * w->inner;
  int64_t step = w->channels * w->inner;
  double mean = 0, squares = 0;
  for (int64_t i = 0; i < w->batch; i++) {
    const REAL *row = x + i * step;
    double sum, more, n = (double)w->inner, near = mean;
    if (i == 0) near = KERNEL(total)(w->inner, row) / n;
    REAL shift = (REAL)near;  // what is left is small, and so is what cancels below
    KERNEL(moments)(w->inner, row, shift, row, shift, &sum, &more);
    double off = (double)shift + sum / n - mean;
    squares += more - sum * sum / n + off * off * n * ((double)i / (double)(i + 1));
    mean += off / (double)(i + 1);
  }
  double variance = squares > 0 || squares != squares ? squares / (double)(w->batch * w->inner) : 0;
  ((REAL *)w->out_mean)[c] = (REAL)mean;
  ((REAL *)w->out_variance)[c] = (REAL)variance;
  REAL scale = (REAL)((w->weight ? (double)((const REAL *)w->weight)[c] : 1) / sqrt(variance + w->eps));
  REAL bias = (REAL)((w->bias ? (double)((const REAL *)w->bias)[c] : 0) - (mean - (double)(REAL)mean) * (double)scale);
  for (int64_t i = 0; i < w->batch; i++) KERNEL(scale)(w->inner, y + i * step, x + i * step, (REAL)mean, scale, bias);
}

// Channels c .. c + n − 1 of a matrix, n up to LANES.
NB_INLINE void KERNEL(columns)(const Channels *w, int64_t c, int64_t n) {
  const REAL *x = (const REAL *)w->x + c;
  REAL *y = (REAL *)w->y + c, mean[LANES], scale[LANES], bias[LANES];
  double sum[LANES] = {0}, squares[LANES] = {0}, count = (double)w->batch;
  for (int64_t i = 0; i < w->batch; i++)
    for (int64_t j = 0; j < n; j++) sum[j] += (double)x[i * w->channels + j];
  for (int64_t j = 0; j < n; j++) sum[j] /= count;
  for (int64_t i = 0; i < w->batch; i++)
    for (int64_t j = 0; j < n; j++) {
      double off = (double)x[i * w->channels + j] - sum[j];
      squares[j] += off * off;
    }
  for (int64_t j = 0; j < n; j++) {
    double variance = squares[j] / count;
    ((REAL *)w->out_mean)[c + j] = mean[j] = (REAL)sum[j];
    ((REAL *)w->out_variance)[c + j] = (REAL)variance;
    scale[j] = (REAL)((w->weight ? (double)((const REAL *)w->weight)[c + j] : 1) / sqrt(variance + w->eps));
    bias[j] =
        (REAL)((w->bias ? (double)((const REAL *)w->bias)[c + j] : 0) - (sum[j] - (double)mean[j]) * (double)scale[j]);
  }
  for (int64_t i = 0; i < w->batch; i++)
    NB_IVDEP for (int64_t j = 0; j < n; j++) y[i * w->channels + j] =
        (x[i * w->channels + j] - mean[j]) * scale[j] + bias[j];
}

// ---- backward ----

// What a channel's δ becomes: dx = (g − less − (x − mean)·along)·scale.
NB_INLINE void KERNEL(through)(int64_t n, REAL *dx, const REAL *g, const REAL *x, REAL mean, REAL less, REAL along,
                               REAL scale) {
  NB_IVDEP for (int64_t k = 0; k < n; k++) dx[k] = ((g[k] - less) - (x[k] - mean) * along) * scale;
}

// dweight and dbias of channel c from Σ g and Σ g·(x − mean), and the three numbers of `through`.
NB_INLINE void KERNEL(finish)(const Channels *w, int64_t c, double sum, double along, REAL *less, REAL *slope,
                              REAL *scale) {
  double n = (double)(w->batch * w->inner), inverse = 1 / sqrt((double)((const REAL *)w->variance)[c] + w->eps);
  ((REAL *)w->dweight)[c] = (REAL)(along * inverse);
  ((REAL *)w->dbias)[c] = (REAL)sum;
  *less = (REAL)(sum / n);
  *slope = (REAL)(along * inverse * inverse / n);
  *scale = (REAL)(inverse * (w->weight ? (double)((const REAL *)w->weight)[c] : 1));
}

NB_INLINE void KERNEL(channel_grad)(const Channels *w, int64_t c) {
  const REAL *x = (const REAL *)w->x + c * w->inner, *g = (const REAL *)w->g + c * w->inner;
  REAL *dx = (REAL *)w->dx + c * w->inner, mean = ((const REAL *)w->mean)[c], less, slope, scale;
  int64_t step = w->channels * w->inner;
  double sum = 0, along = 0;
  for (int64_t i = 0; i < w->batch; i++) {
    double s, p;
    KERNEL(moments)(w->inner, g + i * step, 0, x + i * step, mean, &s, &p);
    sum += s;
    along += p;
  }
  KERNEL(finish)(w, c, sum, along, &less, &slope, &scale);
  for (int64_t i = 0; i < w->batch; i++)
    KERNEL(through)(w->inner, dx + i * step, g + i * step, x + i * step, mean, less, slope, scale);
}

NB_INLINE void KERNEL(columns_grad)(const Channels *w, int64_t c, int64_t n) {
  const REAL *x = (const REAL *)w->x + c, *g = (const REAL *)w->g + c, *mean = (const REAL *)w->mean + c;
  REAL *dx = (REAL *)w->dx + c, less[LANES], slope[LANES], scale[LANES];
  double sum[LANES] = {0}, along[LANES] = {0};
  for (int64_t i = 0, at = 0; i < w->batch; i++, at += w->channels)
    for (int64_t j = 0; j < n; j++) {
      sum[j] += (double)g[at + j];
      along[j] += (double)g[at + j] * (double)(x[at + j] - mean[j]);
    }
  for (int64_t j = 0; j < n; j++) KERNEL(finish)(w, c + j, sum[j], along[j], &less[j], &slope[j], &scale[j]);
  for (int64_t i = 0, at = 0; i < w->batch; i++, at += w->channels)
    NB_IVDEP for (int64_t j = 0; j < n; j++) dx[at + j] =
        ((g[at + j] - less[j]) - (x[at + j] - mean[j]) * slope[j]) * scale[j];
}

NB_RANGE(KERNEL(body)) {
  const Channels *w = ctx;
  if (w->inner == 1) {
    for (int64_t c = begin * LANES; c < end * LANES && c < w->channels; c += LANES) {
      int64_t n = w->channels - c < LANES ? w->channels - c : LANES;
      if (w->g)
        KERNEL(columns_grad)(w, c, n);
      else
        KERNEL(columns)(w, c, n);
    }
    return;
  }
  for (int64_t c = begin; c < end && !nb_interrupted(); c++) {
    if (w->g)
      KERNEL(channel_grad)(w, c);
    else
      KERNEL(channel)(w, c);
  }
}

#undef REAL
#undef KERNEL
#undef BITS
