// SPDX-License-Identifier: MIT
// The tiles of attention.c, a template for element types: included with BITS 32 and 64.
#if BITS == 32
#define REAL float
#define TYPED(name) f32_##name
#define EXP_LESS vector_exp_less
#define LARGEST vector_largest
#else
#define REAL double
#define TYPED(name) f64_##name
#define EXP_LESS exp_less_f64
#define LARGEST largest_f64
#endif

// The mask on a tile of scores, whose first is that of query i and key j.
static void TYPED(mask)(const Head *h, REAL *s, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  const Attention *a = h->a;
  int64_t step = a->mask.column;
  for (int64_t r = 0; h->mask && r < rows; r++) {
    REAL *to = s + r * BLOCK;
    int64_t at = (i + r) * a->mask.row + j * step;
    if (a->truth) {
      const uint8_t *m = (const uint8_t *)h->mask + at;
      for (int64_t k = 0; k < columns; k++) to[k] = m[k * step] ? to[k] : (REAL)-INFINITY;
    } else {
      const REAL *m = (const REAL *)h->mask + at;
      for (int64_t k = 0; k < columns; k++) to[k] += m[k * step];
    }
  }
  for (int64_t r = 0; a->causal && r < rows; r++)
    for (int64_t k = i + r >= j ? i + r + 1 - j : 0; k < columns; k++) s[r * BLOCK + k] = (REAL)-INFINITY;
}

// The scores of a tile; `keys` holds kᵀ times scale.
static void TYPED(scores)(const Head *h, int64_t i, int64_t rows, int64_t j, const GemmPacked *keys, REAL *s) {
  nb_gemm_packed(rows, rows_from(h->q, h->a->q.row, i, sizeof *s), keys, s, BLOCK, false);
  TYPED(mask)(h, s, i, rows, j, keys->n);
}

// A row of tiles so far: per query the largest score and the sum of e^(score − largest).
static void TYPED(weigh)(int64_t rows, int64_t columns, REAL *s, REAL *top, REAL *total, REAL *y, int64_t width) {
  for (int64_t r = 0; r < rows; r++, s += BLOCK, y += width) {
    REAL largest = LARGEST(columns, s);
    if (largest > top[r]) {
      REAL shrink = (REAL)exp((double)(top[r] - largest));
      for (int64_t k = 0; total[r] != 0 && k < width; k++) y[k] *= shrink;
      total[r] *= shrink;
      top[r] = largest;
    }
    total[r] += EXP_LESS(columns, s, s, top[r] > (REAL)-INFINITY ? top[r] : 0);
  }
}

static void TYPED(forward)(const Head *h, int64_t from, int64_t to, char *space) {
  const Attention *a = h->a;
  int64_t width = a->width;
  const GemmPacked *keys = pack_all(a, h->k, a->k.row, a->keys, a->features, true, a->scale, &space);
  const GemmPacked *values = pack_all(a, h->v, a->v.row, a->keys, width, false, 1, &space);
  REAL *s = (REAL *)space, *sums = s + BLOCK * BLOCK, top[BLOCK], total[BLOCK];
  for (int64_t i = from; i < to && !nb_interrupted(); i += BLOCK) {
    int64_t rows = least(BLOCK, to - i);
    for (int64_t r = 0; r < rows; r++) top[r] = (REAL)-INFINITY, total[r] = 0;
    for (int64_t j = 0, b = 0; j < a->keys && !(a->causal && j >= i + rows) && !nb_interrupted(); j += BLOCK, b++) {
      TYPED(scores)(h, i, rows, j, &keys[b], s);
      TYPED(weigh)(rows, keys[b].n, s, top, total, sums, width);
      nb_gemm_packed(rows, (GemmMatrix){s, BLOCK, false}, &values[b], sums, width, b > 0);
    }
    REAL *y = (REAL *)h->y + i * a->y.row, *lse = (REAL *)a->lse + h->index * a->queries + i;
    for (int64_t r = 0; r < rows; r++) {
      REAL scale = 1 / total[r];
      const REAL *sum = sums + r * width;
      for (int64_t k = 0; k < width; k++) y[r * a->y.row + k] = total[r] == 0 ? 0 : sum[k] * scale;
      lse[r] = total[r] == 0 ? (REAL)INFINITY : top[r] + (REAL)log((double)total[r]);
    }
  }
}

// δ of the scores before the softmax's own, minus what all keys of a query share: d = p·(d − Σ p·d).
static void TYPED(through_softmax)(int64_t rows, int64_t columns, const REAL *p, REAL *d, const REAL *shared) {
  for (int64_t r = 0; r < rows; r++, p += BLOCK, d += BLOCK)
    NB_IVDEP for (int64_t k = 0; k < columns; k++) d[k] = p[k] * (d[k] - shared[r]);
}

// Where a tile has all keys: p so that it sums to 1, which the rounding of lse has cost, and Σ p·d.  A query that sees
// one key alone then has d − Σ p·d = 0, as it should.
static void TYPED(settle)(int64_t rows, int64_t columns, REAL *p, const REAL *d, REAL *shared) {
  for (int64_t r = 0; r < rows; r++, p += BLOCK, d += BLOCK) {
    double total = 0, sum = 0;
    for (int64_t k = 0; k < columns; k++) {
      total += (double)p[k];
      sum += (double)p[k] * (double)d[k];
    }
    double share = total > 0 ? 1 / total : 0;
    NB_IVDEP for (int64_t k = 0; k < columns; k++) p[k] = (REAL)((double)p[k] * share);
    shared[r] = (REAL)(sum * share);
  }
}

static void TYPED(clear)(REAL *to, int64_t rows, int64_t columns, int64_t step) {
  for (int64_t r = 0; r < rows; r++) memset(to + r * step, 0, (size_t)columns * sizeof *to);
}

// dk and dv of the keys [from, to) when `of_keys`, else dq of the queries [from, to); both of all when `both`.
static void TYPED(backward)(const Head *h, bool of_keys, bool both, int64_t from, int64_t to, char *space) {
  const Attention *a = h->a;
  int64_t width = a->width, features = a->features, queries = a->queries;
  bool of_queries = both || !of_keys;
  const GemmPacked *across = pack_all(a, h->k, a->k.row, a->keys, features, true, a->scale, &space);
  const GemmPacked *values = pack_all(a, h->v, a->v.row, a->keys, width, true, 1, &space);
  const GemmPacked *keys = NULL, *asked = NULL, *deltas = NULL;
  if (of_queries) keys = pack_all(a, h->k, a->k.row, a->keys, features, false, a->scale, &space);
  if (of_keys) asked = pack_all(a, h->q, a->q.row, queries, features, false, a->scale, &space);
  if (of_keys) deltas = pack_all(a, h->g, a->g.row, queries, width, false, 1, &space);
  REAL *p = (REAL *)space, *d = p + BLOCK * BLOCK, *shared = d + BLOCK * BLOCK;
  const REAL *lse = (const REAL *)a->lse + h->index * queries;
  REAL *dq = h->dq, *dk = h->dk, *dv = h->dv;
  int64_t i_from = of_keys ? 0 : from, i_to = of_keys ? queries : to;
  int64_t j_from = of_keys ? from : 0, j_to = of_keys ? to : a->keys;
  const bool settled = a->keys <= BLOCK;
  for (int64_t i = i_from; i < i_to && !settled; i++) {
    const REAL *g = (const REAL *)h->g + i * a->g.row, *y = (const REAL *)h->y + i * a->y.row;
    double sum = 0;
    for (int64_t k = 0; k < width; k++) sum += (double)g[k] * (double)y[k];
    shared[i] = (REAL)sum;
  }
  if (of_queries) TYPED(clear)(dq + i_from * a->dq.row, i_to - i_from, features, a->dq.row);
  for (int64_t j = j_from; j < j_to && !nb_interrupted(); j += BLOCK) {
    int64_t columns = least(BLOCK, j_to - j), b = j / BLOCK;
    if (of_keys) TYPED(clear)(dk + j * a->dk.row, columns, features, a->dk.row);
    if (of_keys) TYPED(clear)(dv + j * a->dv.row, columns, width, a->dv.row);
    for (int64_t i = i_from; i < i_to && !nb_interrupted(); i += BLOCK) {
      int64_t rows = least(BLOCK, i_to - i), c = i / BLOCK;
      if (a->causal && j >= i + rows) continue;
      TYPED(scores)(h, i, rows, j, &across[b], p);
      for (int64_t r = 0; r < rows; r++) EXP_LESS(columns, p + r * BLOCK, p + r * BLOCK, lse[i + r]);
      nb_gemm_packed(rows, rows_from(h->g, a->g.row, i, sizeof *d), &values[b], d, BLOCK, false);
      if (settled) TYPED(settle)(rows, columns, p, d, shared + i);
      if (of_keys)
        nb_gemm_packed(columns, (GemmMatrix){p, BLOCK, true}, &deltas[c], dv + j * a->dv.row, a->dv.row, true);
      TYPED(through_softmax)(rows, columns, p, d, shared + i);
      if (of_queries)
        nb_gemm_packed(rows, (GemmMatrix){d, BLOCK, false}, &keys[b], dq + i * a->dq.row, a->dq.row, true);
      if (of_keys)
        nb_gemm_packed(columns, (GemmMatrix){d, BLOCK, true}, &asked[c], dk + j * a->dk.row, a->dk.row, true);
    }
  }
}

#undef REAL
#undef TYPED
#undef EXP_LESS
#undef LARGEST
#undef BITS
