// SPDX-License-Identifier: MIT
// Attention in tiles: the threads take heads, or parts of heads where there are few.
#include "attention.h"

#include <math.h>
#include <string.h>

#include "gemm.h"
#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "vector.h"

enum { BLOCK = 64 };  // queries and keys of a tile

// One head's matrices.
typedef struct Head {
  const Attention *a;
  int64_t index;
  const void *q, *k, *v, *g, *mask;
  void *y, *dq, *dk, *dv;
} Head;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t blocks_of(int64_t n) {
  return (n + BLOCK - 1) / BLOCK;
}

static size_t rounded(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// A block of a matrix's rows as an operand on the right: as it is, or transposed.
static size_t block_bytes(DType dtype, int64_t features, bool transposed) {
  return rounded(transposed ? nb_gemm_packed_bytes(dtype, BLOCK, BLOCK, features)
                            : nb_gemm_packed_bytes(dtype, BLOCK, features, BLOCK));
}

static size_t packs_bytes(DType dtype, int64_t count, int64_t features, bool transposed) {
  size_t blocks = (size_t)blocks_of(count);
  return rounded(blocks * sizeof(GemmPacked)) + blocks * block_bytes(dtype, features, transposed);
}

// Packs all blocks of count × features, rows ld apart, times scale into *space and moves that on.
static const GemmPacked *pack_all(const Attention *a, const void *x, int64_t ld, int64_t count, int64_t features,
                                  bool transposed, double scale, char **space) {
  GemmPacked *list = (GemmPacked *)*space;
  size_t size = nb_dtype_size(a->dtype), bytes = block_bytes(a->dtype, features, transposed);
  char *to = *space + rounded((size_t)blocks_of(count) * sizeof *list);
  for (int64_t i = 0, b = 0; i < count && !nb_interrupted(); i += BLOCK, b++, to += bytes) {
    int64_t rows = least(BLOCK, count - i), n = transposed ? rows : features, k = transposed ? features : rows;
    GemmMatrix m = {(const char *)x + (size_t)(i * ld) * size, ld, transposed};
    list[b] = nb_gemm_pack_at(a->dtype, BLOCK, n, k, m, to);
    if (scale == 1) continue;
    int64_t all = (int64_t)(list[b].bytes / size);
    if (a->dtype == NB_F32)
      for (int64_t e = 0; e < all; e++) ((float *)to)[e] *= (float)scale;
    else
      for (int64_t e = 0; e < all; e++) ((double *)to)[e] *= scale;
  }
  *space += packs_bytes(a->dtype, count, features, transposed);
  return list;
}

static GemmMatrix rows_from(const void *x, int64_t ld, int64_t i, size_t size) {
  return (GemmMatrix){(const char *)x + (size_t)(i * ld) * size, ld, false};
}

static double exp_less_f64(int64_t n, double *out, const double *x, double less) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += out[i] = exp(x[i] - less);
  return sum;
}

static double largest_f64(int64_t n, const double *x) {
  double largest = -INFINITY;
  for (int64_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

#define BITS 32
#include "attention_tiles.h"
#define BITS 64
#include "attention_tiles.h"

// ---- threads ----

typedef struct Work {
  const Attention *a;
  bool back;
  int64_t splits, units, parts;  // parts of a head; all pieces of work; threads, each with its own space
  size_t bytes;
  char *space;
} Work;

static void *head_of(const Attention *a, const AttentionOperand *o, int64_t index, size_t size) {
  int64_t at = 0;
  if (!o->data) return NULL;
  for (int d = a->dims - 1; d >= 0; index /= a->batch[d--]) at += index % a->batch[d] * o->batch[d];
  return (char *)o->data + at * (int64_t)size;
}

static void run_unit(const Work *w, int64_t unit, char *space) {
  const Attention *a = w->a;
  size_t size = nb_dtype_size(a->dtype);
  bool both = w->splits == 1, of_keys = both || unit / w->splits % 2 == 0;
  int64_t per_head = w->back && !both ? 2 * w->splits : w->splits, split = unit % w->splits;
  Head h = {.a = a, .index = unit / per_head};
  h.q = head_of(a, &a->q, h.index, size);
  h.k = head_of(a, &a->k, h.index, size);
  h.v = head_of(a, &a->v, h.index, size);
  h.g = head_of(a, &a->g, h.index, size);
  h.y = head_of(a, &a->y, h.index, size);
  h.dq = head_of(a, &a->dq, h.index, size);
  h.dk = head_of(a, &a->dk, h.index, size);
  h.dv = head_of(a, &a->dv, h.index, size);
  h.mask = head_of(a, &a->mask, h.index, a->truth ? 1 : size);
  int64_t count = w->back && of_keys ? a->keys : a->queries, blocks = blocks_of(count);
  int64_t from = blocks * split / w->splits * BLOCK, to = least(count, blocks * (split + 1) / w->splits * BLOCK);
  if (w->back)
    (a->dtype == NB_F32 ? f32_backward : f64_backward)(&h, of_keys, both, from, to, space);
  else
    (a->dtype == NB_F32 ? f32_forward : f64_forward)(&h, from, to, space);
}

static void body(int64_t begin, int64_t end, void *ctx) {
  const Work *w = ctx;
  for (int64_t part = begin; part < end; part++)
    for (int64_t u = w->units * part / w->parts; u < w->units * (part + 1) / w->parts && !nb_interrupted(); u++)
      run_unit(w, u, w->space + (size_t)part * w->bytes);
}

static bool run(const Attention *a, bool back, Error *err) {
  double products = (double)a->heads * (double)a->queries * (double)a->keys * (double)(a->features + a->width);
  int64_t threads = products < 1e5 ? 1 : nb_threads();
  Work w = {.a = a, .back = back, .splits = 1};
  if (a->heads == 0) return true;
  if (a->heads < threads) w.splits = least((threads + a->heads - 1) / a->heads, blocks_of(a->queries));
  if (w.splits > blocks_of(a->keys)) w.splits = blocks_of(a->keys);
  if (w.splits < 1) w.splits = 1;
  w.units = a->heads * w.splits * (back && w.splits > 1 ? 2 : 1);
  w.parts = least(threads, w.units);
  size_t size = nb_dtype_size(a->dtype), tiles = (BLOCK + (size_t)a->width) * BLOCK * size;
  w.bytes = packs_bytes(a->dtype, a->keys, a->features, true);
  if (back) {
    tiles = (2 * BLOCK * BLOCK + (size_t)a->queries) * size;
    w.bytes += packs_bytes(a->dtype, a->keys, a->width, true) + packs_bytes(a->dtype, a->keys, a->features, false) +
               packs_bytes(a->dtype, a->queries, a->features, false) +
               packs_bytes(a->dtype, a->queries, a->width, false);
  } else {
    w.bytes += packs_bytes(a->dtype, a->keys, a->width, false);
  }
  w.bytes += rounded(tiles);
  size_t all = (size_t)w.parts * w.bytes;
  if (!(w.space = nb_alloc(all, err))) return false;
  nb_parallel_for(w.parts, 1, body, &w);
  nb_free(w.space, all);
  return nb_poll(err);
}

bool attention_forward(const Attention *a, Error *err) {
  return run(a, false, err);
}

bool attention_backward(const Attention *a, Error *err) {
  return run(a, true, err);
}
