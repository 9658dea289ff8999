// SPDX-License-Identifier: MIT
// The kernels of gemm.c, a template for element types and vector shapes.
//
// gemm.c includes it with BITS alone (32 for float, 64 for double); it then includes itself for
// every vector shape, and gathers what came out in the table of levels at its end.  A shape is
//   BYTES    the size of a vector; 1 for plain scalars
//   VECTORS  vectors in a row of the tile
//   FUSED    1 for x86 with AVX2 and FMA (AVX-512 when BYTES is 64), 0 for what the compiler assumes
#ifndef BYTES

// The name of a kernel: f32_1_64_2_12 is the 12-row tile of f32 with FMA, two 64-byte vectors wide.
#define SHAPE_PASTE(bits, fused, bytes, vectors, name) f##bits##_##fused##_##bytes##_##vectors##_##name
#define SHAPE_OF(bits, fused, bytes, vectors, name) SHAPE_PASTE(bits, fused, bytes, vectors, name)
#define SHAPE(fused, bytes, vectors, name) SHAPE_OF(BITS, fused, bytes, vectors, name)
#define KERNEL(name) SHAPE(FUSED, BYTES, VECTORS, name)
#if BITS == 32
#define REAL float
#define TYPED(name) f32_##name
#else
#define REAL double
#define TYPED(name) f64_##name
#endif

#define FUSED 0
#define BYTES 16
#define VECTORS 4
#include "gemm_kernels.h"
#define BYTES 16
#define VECTORS 2
#include "gemm_kernels.h"
#define BYTES 16
#define VECTORS 1
#include "gemm_kernels.h"
#define BYTES 1
#define VECTORS 1
#include "gemm_kernels.h"
#undef FUSED

#if X86
#define FUSED 1
#define BYTES 64
#define VECTORS 8
#include "gemm_kernels.h"
#define BYTES 64
#define VECTORS 2
#include "gemm_kernels.h"
#define BYTES 64
#define VECTORS 1
#include "gemm_kernels.h"
#define BYTES 32
#define VECTORS 4
#include "gemm_kernels.h"
#define BYTES 32
#define VECTORS 2
#include "gemm_kernels.h"
#define BYTES 32
#define VECTORS 1
#include "gemm_kernels.h"
#define BYTES 16
#define VECTORS 1
#include "gemm_kernels.h"
#define BYTES 1
#define VECTORS 1
#include "gemm_kernels.h"
#undef FUSED
#endif

typedef REAL TYPED(Four) __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL TYPED(LooseFour) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

// Writes the transpose of 4×4 elements whose rows are `from` apart, with rows `to` apart.
static void TYPED(transpose)(REAL *out, int64_t to, const REAL *in, int64_t from) {
  const TYPED(Four) a = *(const TYPED(LooseFour) *)in, b = *(const TYPED(LooseFour) *)(in + from);
  const TYPED(Four) c = *(const TYPED(LooseFour) *)(in + 2 * from), d = *(const TYPED(LooseFour) *)(in + 3 * from);
  const TYPED(Four) ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const TYPED(Four) ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(TYPED(LooseFour) *)out = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *(TYPED(LooseFour) *)(out + to) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *(TYPED(LooseFour) *)(out + 2 * to) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
  *(TYPED(LooseFour) *)(out + 3 * to) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

// The same of 2 rows of 4 elements.
static void TYPED(transpose_pair)(REAL *out, int64_t to, const REAL *in, int64_t from) {
  const TYPED(Four) a = *(const TYPED(LooseFour) *)in, b = *(const TYPED(LooseFour) *)(in + from);
  const TYPED(Four) low = __builtin_shufflevector(a, b, 0, 4, 1, 5), high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  memcpy(out, &low, 2 * sizeof *out);
  memcpy(out + to, (const REAL *)&low + 2, 2 * sizeof *out);
  memcpy(out + 2 * to, &high, 2 * sizeof *out);
  memcpy(out + 3 * to, (const REAL *)&high + 2, 2 * sizeof *out);
}

// One panel: out[p·width + i] = in[i·across + p·along] for i < extent, and zeros up to width.
static void TYPED(panel)(REAL *out, const REAL *in, int64_t across, int64_t along, int64_t extent, int64_t k,
                         int64_t width) {
  int64_t i = 0;
  if (across != 1) {
    int64_t p = 0;
    for (int64_t block = 0; block + 4 <= k; block = p) {  // a cache line of each row at a time
      int64_t end = block + 16 < k ? block + 16 : k;
      for (i = width; i < 2 * width; i++) __builtin_prefetch(in + i * across + block);
      for (i = 0; i + 4 <= extent; i += 4)
        for (p = block; p + 4 <= end; p += 4) TYPED(transpose)(out + p * width + i, width, in + i * across + p, across);
      for (; i + 2 <= extent; i += 2)
        for (p = block; p + 4 <= end; p += 4)
          TYPED(transpose_pair)(out + p * width + i, width, in + i * across + p, across);
      for (p = block; p + 4 <= end; p += 4)
        for (int64_t q = i * 4; q < extent * 4; q++) out[(p + q % 4) * width + q / 4] = in[q / 4 * across + p + q % 4];
    }
    for (; p < k; p++)
      for (i = 0; i < extent; i++) out[p * width + i] = in[i * across + p];
  } else if (extent == 6) {  // without a loop
    for (int64_t p = 0; p < k; p++) memcpy(out + p * width, in + p * along, 6 * sizeof *out);
    i = 6;
  } else {
    for (int64_t p = 0; p < k; p++) {
      __builtin_prefetch(in + p * along + 4 * width);
      for (i = 0; i + 4 <= extent; i += 4)
        *(TYPED(LooseFour) *)(out + p * width + i) = *(const TYPED(LooseFour) *)(in + p * along + i);
      for (; i < extent; i++) out[p * width + i] = in[p * along + i];
    }
  }
  for (int64_t p = 0; p < k && extent < width; p++)
    for (i = extent; i < width; i++) out[p * width + i] = 0;
}

// Packs `extent` rows of X (or columns of Y) into panels of `width`, each panel k steps long.
// One of the strides is 1.
static void TYPED(pack)(void *to, const void *from, int64_t across, int64_t along, int64_t extent, int64_t k,
                        int64_t width) {
  REAL *out = to;
  const REAL *in = from;
  int64_t block = across == 1 ? 8 : k;  // few rows at a time, so that they are read in long runs
  for (int64_t p = 0; p < k; p += block)
    for (int64_t i = 0; i < extent; i += width) TYPED(panel)
  (out + i * k + p * width, in + i * across + p * along, across, along, extent - i < width ? extent - i : width,
   k - p < block ? k - p : block, width);
}

// Adds (or stores) the rows × columns of a tile to C.
static void TYPED(scatter)(const void *tile, int64_t width, int64_t rows, int64_t columns, void *c, int64_t cr,
                           int64_t cc, bool add) {
  const REAL *in = tile;
  REAL *out = c;
  int64_t i = 0;
  for (; cr == 1 && !add && i + 4 <= rows; i += 4, in += 4 * width, out += 4) {
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) TYPED(transpose)(out + j * cc, cc, in + j, width);
    for (; j < columns; j++)
      for (int64_t q = 0; q < 4; q++) out[j * cc + q] = in[q * width + j];
  }
  for (; i < rows; i++, in += width, out += cr) {
    int64_t j = 0;
    for (; cc == 1 && j + 4 <= columns; j += 4) {
      TYPED(LooseFour) *to = (TYPED(LooseFour) *)(out + j), sum = *(const TYPED(LooseFour) *)(in + j);
      if (add) sum += *to;
      *to = sum;
    }
    for (; j < columns; j++) out[j * cc] = add ? out[j * cc] + in[j] : in[j];
  }
}

#define FEW(f, b, v) [1] = SHAPE(f, b, v, 1), [2] = SHAPE(f, b, v, 2)
#define SOME(f, b, v) FEW(f, b, v), [3] = SHAPE(f, b, v, 3), [4] = SHAPE(f, b, v, 4), [6] = SHAPE(f, b, v, 6)
#define MANY(f, b, v) SOME(f, b, v), [8] = SHAPE(f, b, v, 8), [12] = SHAPE(f, b, v, 12)
#define AT(f, b, v)                                                                                           \
  [1] = SHAPE(f, b, v, at1), [2] = SHAPE(f, b, v, at2), [3] = SHAPE(f, b, v, at3), [4] = SHAPE(f, b, v, at4), \
  [6] = SHAPE(f, b, v, at6)
#define HIGH_AT(f, b, v) AT(f, b, v), [8] = SHAPE(f, b, v, at8), [12] = SHAPE(f, b, v, at12)
#define DOTS_AT(f, b) .dot_at = {SHAPE(f, b, 1, dot_at1), SHAPE(f, b, 1, dot_at2)}
#define LANES_OF(bytes) ((bytes)*8 / BITS)
#define DOTS(f, b) .dot = {SHAPE(f, b, 1, dot11), SHAPE(f, b, 1, dot14), SHAPE(f, b, 1, dot41), SHAPE(f, b, 1, dot24)}
#if defined(__aarch64__)
#define BASE_ROWS 12
#define BASE MANY
#define BASE_AT HIGH_AT
#else
#define BASE_ROWS 6
#define BASE SOME
#define BASE_AT AT
#endif

static const Level TYPED(levels)[] = {
    {.rows = BASE_ROWS,
     .pack = TYPED(pack),
     .scatter = TYPED(scatter),
     .wide = {LANES_OF(64), {FEW(0, 16, 4)}},
     .widths = {{LANES_OF(32), {BASE(0, 16, 2)}}, {LANES_OF(16), {BASE(0, 16, 1)}}, {1, {BASE(0, 1, 1)}}},
     .at = {{LANES_OF(32), {BASE_AT(0, 16, 2)}}, {LANES_OF(16), {BASE_AT(0, 16, 1)}}},
     DOTS_AT(0, 16),
     DOTS(0, 16)},
#if X86
    {.rows = 6,
     .pack = TYPED(pack),
     .scatter = TYPED(scatter),
     .wide = {LANES_OF(128), {FEW(1, 32, 4)}},
     .widths = {{LANES_OF(64), {SOME(1, 32, 2)}},
                {LANES_OF(32), {MANY(1, 32, 1)}},
                {LANES_OF(16), {MANY(1, 16, 1)}},
                {1, {MANY(1, 1, 1)}}},
     .at = {{LANES_OF(64), {AT(1, 32, 2)}}, {LANES_OF(32), {AT(1, 32, 1)}}},
     DOTS_AT(1, 32),
     DOTS(1, 32)},
    {.rows = 12,
     .pack = TYPED(pack),
     .scatter = TYPED(scatter),
     .wide = {LANES_OF(512), {FEW(1, 64, 8)}},
     .widths = {{LANES_OF(128), {MANY(1, 64, 2)}},
                {LANES_OF(64), {MANY(1, 64, 1)}},
                {LANES_OF(32), {MANY(1, 32, 1)}},
                {LANES_OF(16), {MANY(1, 16, 1)}},
                {1, {MANY(1, 1, 1)}}},
     .at = {{LANES_OF(128), {HIGH_AT(1, 64, 2)}}, {LANES_OF(64), {HIGH_AT(1, 64, 1)}}},
     DOTS_AT(1, 64),
     DOTS(1, 64)},
#endif
};

#undef SHAPE_PASTE
#undef SHAPE_OF
#undef SHAPE
#undef KERNEL
#undef FEW
#undef SOME
#undef MANY
#undef LANES_OF
#undef DOTS
#undef BASE_ROWS
#undef BASE
#undef BASE_AT
#undef AT
#undef HIGH_AT
#undef DOTS_AT
#undef REAL
#undef TYPED
#undef BITS

#else  // one vector shape

#if !FUSED
#define TARGET
#elif BYTES == 64
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#else
#define TARGET __attribute__((target("avx2,fma")))
#endif
#define INLINE TARGET static inline __attribute__((always_inline))

#if BYTES == 1
#define LANES 1
typedef REAL KERNEL(Vector);
typedef REAL KERNEL(Loose) __attribute__((may_alias));
#define SPREAD(s) (s)
#else
#define LANES (BYTES * 8 / BITS)
typedef REAL KERNEL(Vector) __attribute__((vector_size(BYTES)));
typedef REAL KERNEL(Loose) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#define SPREAD(s) ((s) - (KERNEL(Vector)){0})
#endif

// a·b + c, spelled out because gcc -std=c17 does not contract it by itself.
#if BYTES == 1 && (FUSED || defined(__aarch64__))
#if BITS == 32
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) __builtin_fma(a, b, c)
#endif
#elif FUSED
#if BITS == 32 && BYTES == 64
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif BITS == 32 && BYTES == 32
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#elif BITS == 32
#define FMA(a, b, c) _mm_fmadd_ps(a, b, c)
#elif BYTES == 64
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#elif BYTES == 32
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#else
#define FMA(a, b, c) _mm_fmadd_pd(a, b, c)
#endif
#elif defined(__aarch64__)
#if BITS == 32
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#else
#define FMA(a, b, c) vfmaq_f64(c, a, b)
#endif
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

// A tile of C stays in registers while k steps pass by: one row of Y is loaded, and each element of
// a column of X is broadcast against it.
//
//              Y ┌─────────┐  yk apart
//                └─────────┘
//   X ┌┐         ┌─────────┐
//     ││ xk      │ C tile  │  `rows` rows, cr apart
//     └┘ apart   └─────────┘
//
// The rows of X are reached from every third one: three addresses need one pointer and `xr`.  With `at_y`, row p of Y
// lies at_y[p] after y, and not yk after the row before.  `together` steps are taken at once, which spares instructions
// where the strides are known.  A bias is what the sums of each row begin with.
INLINE void KERNEL(tile)(const int rows, const int together, int64_t k, const REAL *x, int64_t xr, int64_t xk,
                         const REAL *y, int64_t yk, const int64_t *at_y, const REAL *bias, REAL *c, int64_t cr,
                         bool add) {
  KERNEL(Vector) sum[12][VECTORS];
  const REAL *at[4] = {x, x + 3 * xr, x + 6 * xr, x + 9 * xr};
  int64_t p = 0;
  UNROLL for (int v = 0; v < VECTORS; v++) {
    KERNEL(Vector) begin = {0};
    if (bias) begin = *(const KERNEL(Loose) *)(bias + v * LANES);
    UNROLL for (int r = 0; r < rows; r++) sum[r][v] = begin;
  }
  UNROLL for (int r = 0; r < rows; r++) {  // C is far away in large products: ask for it early
    __builtin_prefetch(c + r * cr, 1);
    if (VECTORS > 1) __builtin_prefetch(c + r * cr + LANES * (VECTORS - 1), 1);
  }
#define STEPS(count)                                                                                \
  for (; p + (count) <= k; p += (count)) {                                                          \
    UNROLL for (int s = 0; s < (count); s++) {                                                      \
      KERNEL(Vector) line[VECTORS];                                                                 \
      const REAL *row = at_y ? y + at_y[p + s] : y + s * yk;                                        \
      UNROLL for (int v = 0; v < VECTORS; v++) line[v] = *(const KERNEL(Loose) *)(row + v * LANES); \
      UNROLL for (int r = 0; r < rows; r++) {                                                       \
        KERNEL(Vector) factor = SPREAD(at[r / 3][r % 3 * xr + s * xk]);                             \
        UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = FMA(factor, line[v], sum[r][v]);       \
      }                                                                                             \
    }                                                                                               \
    UNROLL for (int q = 0; q < 4; q++) at[q] += (count)*xk;                                         \
    y += (count)*yk;                                                                                \
  }
  if (together > 1) STEPS(together)
  STEPS(1)
#undef STEPS
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < VECTORS; v++) {
      KERNEL(Loose) *to = (KERNEL(Loose) *)(c + r * cr + v * LANES);
      if (add) sum[r][v] += *to;
      *to = sum[r][v];
    }
  }
}

// The highest tiles mostly work on packed operands.
#define HIGH(rows) ((rows) % 6 == 0 && BYTES > 1)
#define TILE(ROWS)                                                                                             \
  TARGET static void KERNEL(ROWS)(int64_t k, const void *x, int64_t xr, int64_t xk, const void *y, int64_t yk, \
                                  const void *bias, void *c, int64_t cr, bool add) {                           \
    if (HIGH(ROWS) && xr == 1 && xk == ROWS && yk == VECTORS * LANES)                                          \
      KERNEL(tile)(ROWS, 2, k, x, 1, ROWS, y, VECTORS * LANES, NULL, bias, c, cr, add);                        \
    else                                                                                                       \
      KERNEL(tile)(ROWS, 1, k, x, xr, xk, y, yk, NULL, bias, c, cr, add);                                      \
  }
TILE(1)
TILE(2)
#if VECTORS <= 2
TILE(3)
TILE(4)
TILE(6)
#if defined(__aarch64__) || (FUSED && (BYTES == 64 || VECTORS == 1))
TILE(8)
TILE(12)
#endif
#endif
#undef TILE

#if VECTORS <= 2 && BYTES > 1 && !(FUSED && BYTES == 16)
#define TILE_AT(ROWS)                                                                                                  \
  TARGET static void KERNEL(at##ROWS)(int64_t k, const void *x, int64_t xk, const void *y, const int64_t *at, void *c, \
                                      int64_t cr, bool add) {                                                          \
    if (HIGH(ROWS) && xk == ROWS)                                                                                      \
      KERNEL(tile)(ROWS, 2, k, x, 1, ROWS, y, 0, at, NULL, c, cr, add);                                                \
    else                                                                                                               \
      KERNEL(tile)(ROWS, 1, k, x, 1, xk, y, 0, at, NULL, c, cr, add);                                                  \
  }
TILE_AT(1)
TILE_AT(2)
TILE_AT(3)
TILE_AT(4)
TILE_AT(6)
#if defined(__aarch64__) || BYTES == 64
TILE_AT(8)
TILE_AT(12)
#endif
#undef TILE_AT
#endif
#undef HIGH

#if VECTORS == 1 && BYTES > 1 && !(FUSED && BYTES == 16)
INLINE REAL KERNEL(total)(const KERNEL(Vector) * v) {
  REAL lanes[LANES];
  *(KERNEL(Loose) *)lanes = *v;
  UNROLL for (int half = LANES / 2; half > 0; half /= 2) {
    UNROLL for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// C (rows × columns) from rows of X and rows of Y that both run along k.
INLINE void KERNEL(dots)(const int rows, const int columns, int64_t k, const REAL *x, int64_t xr, const REAL *y,
                         int64_t yr, REAL *c, int64_t cr, int64_t cc) {
  KERNEL(Vector) sum[4][4];
  int64_t p = 0;
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int s = 0; s < columns; s++) sum[r][s] = (KERNEL(Vector)){0};
  }
  for (; p + LANES <= k; p += LANES) {
    KERNEL(Vector) line[4];
    UNROLL for (int s = 0; s < columns; s++) line[s] = *(const KERNEL(Loose) *)(y + s * yr + p);
    UNROLL for (int r = 0; r < rows; r++) {
      KERNEL(Vector) factor = *(const KERNEL(Loose) *)(x + r * xr + p);
      UNROLL for (int s = 0; s < columns; s++) sum[r][s] = FMA(factor, line[s], sum[r][s]);
    }
  }
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int s = 0; s < columns; s++) {
      REAL rest = 0;
      for (int64_t q = p; q < k; q++) rest += x[r * xr + q] * y[s * yr + q];
      c[r * cr + s * cc] = p ? KERNEL(total)(&sum[r][s]) + rest : rest;
    }
  }
}

#define DOT(ROWS, COLUMNS)                                                                                       \
  TARGET static void KERNEL(dot##ROWS##COLUMNS)(int64_t k, const void *x, int64_t xr, const void *y, int64_t yr, \
                                                void *c, int64_t cr, int64_t cc) {                               \
    KERNEL(dots)(ROWS, COLUMNS, k, x, xr, y, yr, c, cr, cc);                                                     \
  }
DOT(1, 1)
DOT(1, 4)
DOT(4, 1)
DOT(2, 4)
#undef DOT

// tile (rows × 4) of sums over pieces of k lanes each: rows of X that are xr apart, rows of Y that begin at[s] after y.
INLINE void KERNEL(dots_at)(const int rows, int64_t pieces, int64_t k, const REAL *x, int64_t xr, int64_t xp,
                            const REAL *y, const int64_t *at, int64_t yp, REAL *tile) {
  KERNEL(Vector) sum[2][4];
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int s = 0; s < 4; s++) sum[r][s] = (KERNEL(Vector)){0};
  }
  for (int64_t i = 0; i < pieces; i++, x += xp, y += yp)
    for (int64_t p = 0; p < k; p += LANES) {
      KERNEL(Vector) factor[2];
      UNROLL for (int r = 0; r < rows; r++) factor[r] = *(const KERNEL(Loose) *)(x + r * xr + p);
      UNROLL for (int s = 0; s < 4; s++) {
        KERNEL(Vector) line = *(const KERNEL(Loose) *)(y + at[s] + p);
        UNROLL for (int r = 0; r < rows; r++) sum[r][s] = FMA(factor[r], line, sum[r][s]);
      }
    }
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int s = 0; s < 4; s++) tile[r * 4 + s] = KERNEL(total)(&sum[r][s]);
  }
}

#define DOT_AT(ROWS)                                                                                        \
  TARGET static void KERNEL(dot_at##ROWS)(int64_t pieces, int64_t k, const void *x, int64_t xr, int64_t xp, \
                                          const void *y, const int64_t *at, int64_t yp, void *tile) {       \
    KERNEL(dots_at)(ROWS, pieces, k, x, xr, xp, y, at, yp, tile);                                           \
  }
DOT_AT(1)
DOT_AT(2)
#undef DOT_AT
#endif

#undef TARGET
#undef INLINE
#undef SPREAD
#undef LANES
#undef FMA
#undef BYTES
#undef VECTORS

#endif
