// SPDX-License-Identifier: MIT
// Exponentials, logarithms and angles without a branch, for each level of instructions.
#include "vector.h"

#include <math.h>
#include <string.h>

#include "cpu.h"

#define LARGEST_ANGLE 10000.0f  // whose quarter turns have 13 bits

#define BYTES 16
#define FUSED 0
#include "vector_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define BYTES 32
#define FUSED 1
#include "vector_kernels.h"
#define BYTES 64
#define FUSED 1
#include "vector_kernels.h"
#define MAPS(name) v_0_16_##name, v_1_32_##name, v_1_64_##name
#else
#define MAPS(name) v_0_16_##name
#endif

#define FUNCTION(name)                                        \
  void vector_##name(int64_t n, float *out, const float *x) { \
    static VectorMap *const maps[CPU_LEVELS] = {MAPS(name)};  \
    maps[cpu_level()](n, out, x);                             \
  }
FUNCTION(exp)
FUNCTION(tanh)
FUNCTION(sigmoid)
FUNCTION(expm1)
FUNCTION(log)
FUNCTION(log1p)
FUNCTION(sin)
FUNCTION(cos)
FUNCTION(erf)
FUNCTION(softplus)
FUNCTION(gelu)
FUNCTION(gelu_slope)

float vector_exp_less(int64_t n, float *out, const float *x, float less) {
  static float (*const forms[CPU_LEVELS])(int64_t, float *, const float *, float) = {MAPS(exp_less)};
  return forms[cpu_level()](n, out, x, less);
}

float vector_largest(int64_t n, const float *x) {
  static float (*const forms[CPU_LEVELS])(int64_t, const float *) = {MAPS(largest)};
  return forms[cpu_level()](n, x);
}
