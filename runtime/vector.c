// SPDX-License-Identifier: MIT
// Exponentials without a branch, which the compiler turns into vectors, once for each level of instructions.
//
// e^x = 2^n · e^r with n = round(x·log2 e) and |r| ≤ ½ ln 2; the polynomials of e^r and of tanh near 0
// are those of Moshier's Cephes library (expf.c, tanhf.c).
#include "vector.h"

#include <math.h>
#include <string.h>

#include "cpu.h"
#include "loops.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float from_bits(int32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

INLINE int32_t to_bits(float f) {
  int32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

// Adding it to a number below 2^22 leaves the number rounded in its last bits.
#define ROUNDER 12582912.0f

INLINE float exp_one(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  float shifted = x * 1.44269504088896341f + ROUNDER, n = shifted - ROUNDER;
  int32_t whole = (int32_t)((uint32_t)to_bits(shifted) - (uint32_t)to_bits(ROUNDER));
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  // Two factors, so that the result may be infinite or below the smallest normal number.
  int32_t half = whole >> 1;
  float low = from_bits((int32_t)((uint32_t)(half + 127) << 23));
  float high = from_bits((int32_t)((uint32_t)(whole - half + 127) << 23));
  return p * low * high;
}

INLINE float tanh_one(float x) {
  float a = fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float near = (p * z) * x + x, far = 1.0f - 2.0f / (exp_one(2.0f * a) + 1.0f);
  return a < 0.625f ? near : copysignf(far, x);
}

// From the side that cannot overflow; e/(1 + e) as e − e²/(1 + e), which rounds less.
INLINE float sigmoid_one(float x) {
  float e = exp_one(-fabsf(x)), up = 1.0f / (1.0f + e);
  return x < 0.0f ? e - e * (e * up) : up;
}

#define AT_LEVEL(level, TARGET, name)                                        \
  TARGET static void name##_##level(int64_t n, float *out, const float *x) { \
    NB_IVDEP for (int64_t i = 0; i < n; i++) out[i] = name##_one(x[i]);      \
  }
#if defined(__x86_64__)
#define LEVELS(name)                                                                          \
  AT_LEVEL(portable, , name)                                                                  \
  AT_LEVEL(avx2, CPU_AVX2_TARGET, name)                                                       \
  AT_LEVEL(avx512, CPU_AVX512_TARGET, name)                                                   \
  void vector_##name(int64_t n, float *out, const float *x) {                                 \
    static VectorMap *const maps[CPU_LEVELS] = {name##_portable, name##_avx2, name##_avx512}; \
    maps[cpu_level()](n, out, x);                                                             \
  }
#else
#define LEVELS(name)                                          \
  AT_LEVEL(portable, , name)                                  \
  void vector_##name(int64_t n, float *out, const float *x) { \
    name##_portable(n, out, x);                               \
  }
#endif
LEVELS(exp)
LEVELS(tanh)
LEVELS(sigmoid)
