// SPDX-License-Identifier: MIT
// Slices that lie side by side are taken many at a time, so that vectors run across them; short rows are turned first.
//
//   rows ┌─────────┐        side by side ┌─────┐
//        │ 1 1 1 1 │                     │ 1 2 │
//        │ 2 2 2 2 │                     │ 1 2 │
//        └─────────┘                     │ 1 2 │
//                                        └─────┘
#include "softmax.h"

#include <math.h>

#include "loops.h"
#include "reduce.h"
#include "vector.h"

enum { SHORT = 24, SIDE = 64 };  // rows to turn: so long at most, so many at once

static bool is_stored(SoftmaxKind kind) {
  return kind == NB_SOFTMAX || kind == NB_CROSS_ENTROPY_GRAD;
}

// m ≤ NB_ROW slices from `first` on: element k of them at x[k·step + j], j < m; y may be x.
NB_TWICE(side_by_side, (const Softmax *w, int64_t first, int64_t m, const float *x, float *y, int64_t step),
         (w, first, m, x, y, step), true) {
  float top[NB_ROW], e[NB_ROW];
  double total[NB_ROW];
  const int64_t *target = w->target ? w->target + first : NULL;
  for (int64_t j = 0; j < m; j++) {
    top[j] = x[j];
    total[j] = 0;
  }
  for (int64_t k = 1; k < w->n; k++)
    for (int64_t j = 0; j < m; j++) {
      float v = x[k * step + j];
      top[j] = ((v > top[j]) | (v != v)) ? v : top[j];
    }
  for (int64_t k = 0; k < w->n && nb_goes_on(k); k++) {
    float *to = is_stored(w->kind) ? y + k * step : e;
    NB_IVDEP for (int64_t j = 0; j < m; j++) to[j] = x[k * step + j] - top[j];
    vector_exp(m, to, to);
    NB_IVDEP for (int64_t j = 0; j < m; j++) total[j] += (double)to[j];
  }
  if (w->kind == NB_CROSS_ENTROPY) {
    for (int64_t j = 0; j < m; j++)
      ((float *)w->y)[first + j] = (float)(log(total[j]) - (double)(x[(target[j] - 1) * step + j] - top[j]));
  } else if (w->kind == NB_LOG_SOFTMAX) {
    for (int64_t j = 0; j < m; j++) e[j] = (float)log(total[j]);
    for (int64_t k = 0; k < w->n; k++) {
      NB_IVDEP for (int64_t j = 0; j < m; j++) y[k * step + j] = (x[k * step + j] - top[j]) - e[j];
    }
  } else {
    const float *g = w->g;
    for (int64_t j = 0; j < m && target; j++) {  // the target's own, with what S is beyond it
      float *at = &y[(target[j] - 1) * step + j];
      top[j] = (float)(((double)*at - total[j]) / total[j]) * g[(first + j) * w->gstep];
    }
    for (int64_t j = 0; j < m; j++) e[j] = (float)((target ? (double)g[(first + j) * w->gstep] : 1) / total[j]);
    for (int64_t k = 0; k < w->n; k++) {
      NB_IVDEP for (int64_t j = 0; j < m; j++) y[k * step + j] *= e[j];
    }
    for (int64_t j = 0; j < m && target; j++) y[(target[j] - 1) * step + j] = top[j];
  }
}

NB_TWICE(turn, (int64_t rows, int64_t n, const float *x, float *turned), (rows, n, x, turned), true) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t k = 0; k < n; k++) turned[k * SIDE + i] = x[i * n + k];
}

NB_TWICE(turn_back, (int64_t rows, int64_t n, const float *turned, float *y), (rows, n, turned, y), true) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t k = 0; k < n; k++) y[i * n + k] = turned[k * SIDE + i];
}

static void short_rows(const Softmax *w, int64_t first, int64_t rows) {
  float turned[SHORT * SIDE];
  turn(rows, w->n, (const float *)w->x + first * w->n, turned);
  side_by_side(w, first, rows, turned, turned, SIDE);
  if (w->kind != NB_CROSS_ENTROPY) turn_back(rows, w->n, turned, (float *)w->y + first * w->n);
}

// Rows one after the other: several only where all fit in NB_ROW elements.
NB_TWICE(rows_of, (const Softmax *w, int64_t first, int64_t rows), (w, first, rows), true) {
  int64_t n = w->n;
  const float *x = (const float *)w->x + first * n, *g = w->g;
  float *y = (float *)w->y + (w->kind == NB_CROSS_ENTROPY ? first : first * n), e[NB_ROW], top[NB_ROW / SHORT];
  double total[NB_ROW / SHORT] = {0};
  for (int64_t i = 0; i < rows; i++) top[i] = nb_largest_of(n, x + i * n);
  for (int64_t k = 0; k < rows * n && nb_goes_on(k); k += NB_ROW) {
    int64_t m = rows * n - k < NB_ROW ? rows * n - k : NB_ROW, each = rows > 1 ? n : m;
    float *to = is_stored(w->kind) ? y + k : e;
    for (int64_t i = 0; i < rows; i++) {
      NB_IVDEP for (int64_t q = i * each; q < (i + 1) * each; q++) to[q] = x[k + q] - top[i];
    }
    vector_exp(m, to, to);
    for (int64_t i = 0; i < rows; i++) total[i] += nb_sum_of(NB_F32, each, to + i * each);
  }
  for (int64_t i = 0; i < rows; i++, x += n, y += n) {
    const int64_t *target = w->target ? w->target + first + i : NULL;
    if (w->kind == NB_CROSS_ENTROPY) {
      ((float *)w->y)[first + i] = (float)(log(total[i]) - (double)(x[*target - 1] - top[i]));
    } else if (w->kind == NB_LOG_SOFTMAX) {
      float less = (float)log(total[i]);
      NB_IVDEP for (int64_t k = 0; k < n; k++) y[k] = (x[k] - top[i]) - less;
    } else {
      float by = (float)((target ? (double)g[(first + i) * w->gstep] : 1) / total[i]), own = 0;
      if (target) own = (float)(((double)y[*target - 1] - total[i]) / total[i]) * g[(first + i) * w->gstep];
      NB_IVDEP for (int64_t k = 0; k < n; k++) y[k] *= by;
      if (target) y[*target - 1] = own;
    }
  }
}

static void slices_f32(int64_t begin, int64_t end, void *ctx) {
  const Softmax *w = ctx;
  for (int64_t s = begin, m = 1; s < end; s += m) {
    if (w->inner == 1) {
      m = w->n <= SHORT ? SIDE : w->n < NB_ROW ? NB_ROW / w->n : 1;
      if (m > end - s) m = end - s;
      (w->n <= SHORT ? short_rows : rows_of)(w, s, m);
    } else {
      int64_t at = s / w->inner * w->n * w->inner + s % w->inner;
      m = w->inner - s % w->inner;
      if (m > end - s) m = end - s;
      if (m > NB_ROW) m = NB_ROW;
      side_by_side(w, s, m, (const float *)w->x + at, (float *)w->y + at, w->inner);
    }
  }
}

static void slices_f64(int64_t begin, int64_t end, void *ctx) {
  const Softmax *w = ctx;
  int64_t n = w->n, step = w->inner;
  for (int64_t s = begin; s < end; s++) {
    int64_t at = s / step * n * step + s % step;
    const double *x = (const double *)w->x + at;
    double *y = (double *)w->y + at, top = x[0], total = 0;
    for (int64_t k = 1; k < n; k++)
      if (x[k * step] > top || x[k * step] != x[k * step]) top = x[k * step];
    for (int64_t k = 0; k < n && nb_goes_on(k); k++) {
      double e = exp(x[k * step] - top);
      total += e;
      if (is_stored(w->kind)) y[k * step] = e;
    }
    if (w->kind == NB_CROSS_ENTROPY) {
      ((double *)w->y)[s] = log(total) - (x[(w->target[s] - 1) * step] - top);
    } else if (w->kind == NB_LOG_SOFTMAX) {
      double less = log(total);
      for (int64_t k = 0; k < n; k++) y[k * step] = x[k * step] - top - less;
    } else if (w->kind == NB_SOFTMAX) {
      for (int64_t k = 0; k < n; k++) y[k * step] /= total;
    } else {
      double g = ((const double *)w->g)[s * w->gstep];
      int64_t target = (w->target[s] - 1) * step;
      double own = (y[target] - total) / total * g;
      for (int64_t k = 0; k < n; k++) y[k * step] *= g / total;
      y[target] = own;
    }
  }
}

void nb_softmax(Softmax w) {
  if (w.n > 0) nb_parallel_for(w.slices, NB_GRAIN / 8 / w.n + 1, w.dtype == NB_F32 ? slices_f32 : slices_f64, &w);
}
