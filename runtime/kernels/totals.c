// SPDX-License-Identifier: MIT
// Totals of f32 in double, whose rounding is out of sight.
#include "totals.h"

#include <float.h>
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "doubles.h"
#include "loops.h"

// Several vectors of sums side by side, so that none waits for the one before.  LANES at a time are made doubles.
typedef double Four __attribute__((vector_size(32)));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));
#define IN_DOUBLE(attributes, Lanes, LANES, name, params, start, op, terms, f)                   \
  attributes double name params {                                                                \
    Lanes a = (Lanes){0} + start, b = a, c = a, d = a;                                           \
    int64_t k = 0;                                                                               \
    double total = start;                                                                        \
    for (; k + 4 * LANES <= n; k += 4 * LANES) {                                                 \
      a op## = terms(k), b op## = terms(k + LANES);                                              \
      c op## = terms(k + 2 * LANES), d op## = terms(k + 3 * LANES);                              \
    }                                                                                            \
    for (; k + LANES <= n; k += LANES) a op## = terms(k);                                        \
    for (; k < n; k++) b[0] op## = f(k);                                                         \
    a = (a op b)op(c op d);                                                                      \
    for (int j = 0; j < LANES; j += 4) total op## = (a[j] op a[j + 1]) op(a[j + 2] op a[j + 3]); \
    return total;                                                                                \
  }
#define ITSELF(k) WIDER(x + (k))
#define SQUARES(k) (WIDER(x + (k)) * WIDER(x + (k)))
#define PRODUCTS_OF(k) (WIDER_LESS(x + (k)) * WIDER_LESS(y + (k)))
#define ONE_ITSELF(k) ((double)x[k])
#define ONE_SQUARE(k) ((double)x[k] * (double)x[k])
#define ONE_PRODUCT(k) ((double)(x[k] - less) * (double)(y[k] - less))
#define ALL_IN_DOUBLE(attributes, Lanes, LANES, form)                                                            \
  IN_DOUBLE(attributes, Lanes, LANES, sum_##form, (int64_t n, const float *x), 0, +, ITSELF, ONE_ITSELF)         \
  IN_DOUBLE(attributes, Lanes, LANES, product_##form, (int64_t n, const float *x), 1, *, ITSELF, ONE_ITSELF)     \
  IN_DOUBLE(attributes, Lanes, LANES, squares_##form, (int64_t n, const float *x), 0, +, SQUARES, ONE_SQUARE)    \
  IN_DOUBLE(attributes, Lanes, LANES, dot_##form, (int64_t n, const float *x, const float *y, float less), 0, +, \
            PRODUCTS_OF, ONE_PRODUCT)
#define LOAD_FOUR(p) (*(const LooseFour *)(p))
#define WIDER(p) __builtin_convertvector(LOAD_FOUR(p), Four)
#define WIDER_LESS(p) __builtin_convertvector(LOAD_FOUR(p) - less, Four)
ALL_IN_DOUBLE(static, Four, 4, f32_narrow)
#ifdef CPU_WIDE_TARGET  // spelled out: gcc makes two of a conversion that is wider than the machine it was told of
typedef double Eight __attribute__((vector_size(64)));
typedef float LooseEight __attribute__((vector_size(32), aligned(4), may_alias));
#undef WIDER
#undef WIDER_LESS
#define WIDER(p) (Four) _mm256_cvtps_pd((__m128)LOAD_FOUR(p))
#define WIDER_LESS(p) (Four) _mm256_cvtps_pd((__m128)(LOAD_FOUR(p) - less))
ALL_IN_DOUBLE(CPU_WIDE_TARGET static, Four, 4, f32_wide)
#undef WIDER
#undef WIDER_LESS
#define LOAD_EIGHT(p) (*(const LooseEight *)(p))
#define WIDER(p) (Eight) _mm512_cvtps_pd((__m256)LOAD_EIGHT(p))
#define WIDER_LESS(p) (Eight) _mm512_cvtps_pd((__m256)(LOAD_EIGHT(p) - less))
ALL_IN_DOUBLE(CPU_AVX512_TARGET static, Eight, 8, f32_widest)
#else
#define sum_f32_wide sum_f32_narrow
#define product_f32_wide product_f32_narrow
#define squares_f32_wide squares_f32_narrow
#define dot_f32_wide dot_f32_narrow
#define sum_f32_widest sum_f32_narrow
#define product_f32_widest product_f32_narrow
#define squares_f32_widest squares_f32_narrow
#define dot_f32_widest dot_f32_narrow
#endif

#define TOTAL(name, params, args)                                             \
  double total_##name params {                                                \
    CpuLevel level = n < NB_SHORT ? CPU_PORTABLE : cpu_level();               \
    if (level == CPU_PORTABLE) return name##_f32_narrow args;                 \
    return level == CPU_AVX2 ? name##_f32_wide args : name##_f32_widest args; \
  }
TOTAL(sum, (int64_t n, const float *x), (n, x))
TOTAL(squares, (int64_t n, const float *x), (n, x))
TOTAL(dot, (int64_t n, const float *x, const float *y, float less), (n, x, y, less))
// What products of f32 are that hold zeros, or no numbers.
typedef struct Ends {
  int zero, infinite, nan, negative;  // whether there are such; of negative ones: whether their count is odd
} Ends;

NB_TWICE(look_for_ends, (int64_t n, const float *x, Ends *e), (n, x, e), n >= NB_SHORT) {
  int zero = 0, infinite = 0, nan = 0, negative = 0;
  for (int64_t k = 0; k < n; k++) {
    zero |= x[k] == 0;
    infinite |= fabsf(x[k]) == INFINITY;
    nan |= x[k] != x[k];
    negative ^= !!signbit(x[k]);
  }
  *e = (Ends){zero, infinite, nan, negative};
}

// The product of numbers other than 0, with the powers of two of PRODUCTS lanes apart: nothing leaves the range before
// the end.  Four factors make at most 2^±600.
enum { PRODUCTS = 16, PRODUCTS_AT_ONCE = 4 * PRODUCTS };
NB_TWICE(product_apart, (int64_t n, const float *x, double *product), (n, x, product), n >= NB_SHORT) {
  const uint64_t exponent = (uint64_t)0x7FF << 52, one = (uint64_t)0x3FF << 52;
  double lane[PRODUCTS], all = 1;
  uint64_t power[PRODUCTS] = {0};
  float rest[PRODUCTS_AT_ONCE];
  int64_t blocks = (n + PRODUCTS_AT_ONCE - 1) / PRODUCTS_AT_ONCE, twos = 0;
  for (int j = 0; j < PRODUCTS; j++) lane[j] = 1;
  for (int64_t k = 0; k < n; k += PRODUCTS_AT_ONCE) {
    const float *a = x + k;
    if (n - k < PRODUCTS_AT_ONCE) {
      for (int j = 0; j < PRODUCTS_AT_ONCE; j++) rest[j] = j < n - k ? a[j] : 1;
      a = rest;
    }
    for (int j = 0; j < PRODUCTS; j++) {
      double two = (double)a[j] * (double)a[j + PRODUCTS];
      double v = lane[j] * (two * ((double)a[j + 2 * PRODUCTS] * (double)a[j + 3 * PRODUCTS]));
      uint64_t bits = bits_of(v);
      power[j] += (bits & exponent) >> 52;
      lane[j] = double_of((bits & ~exponent) | one);
    }
  }
  for (int j = 0; j < PRODUCTS; j++) all *= lane[j], twos += (int64_t)power[j] - 1023 * blocks;
  *product = ldexp(all, twos > 3000 ? 3000 : twos < -3000 ? -3000 : (int)twos);
}

// Side by side, large and small factors may each leave the range that all together would not.  Infinities meet what was
// before them: one by one.
double total_product(int64_t n, const float *x) {
  CpuLevel level = n < NB_SHORT ? CPU_PORTABLE : cpu_level();
  double product = level == CPU_PORTABLE ? product_f32_narrow(n, x)
                   : level == CPU_AVX2   ? product_f32_wide(n, x)
                                         : product_f32_widest(n, x);
  if (isfinite(product) && fabs(product) >= DBL_MIN) return product;
  Ends e;
  look_for_ends(n, x, &e);
  if (e.nan) return NAN;
  if (e.zero && !e.infinite) return copysign(0, e.negative ? -1 : 1);
  product = 1;
  for (int64_t k = 0; e.infinite && k < n; k++) product *= (double)x[k];
  if (!e.infinite) product_apart(n, x, &product);
  return product;
}
