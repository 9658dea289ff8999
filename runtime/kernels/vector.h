// SPDX-License-Identifier: MIT
// f32 functions over vectors, within 2 units in the last place where nothing else is said, in the best instructions of
// this machine.
//
// Infinities, NaN and results below the smallest normal number come out as libm's do.
#ifndef NABLUA_VECTOR_H
#define NABLUA_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

// out[i] = f(x[i]) for i < n; `out` may be `x`.
typedef void VectorMap(int64_t n, float *out, const float *x);

VectorMap vector_exp, vector_expm1, vector_log, vector_log1p, vector_sin, vector_cos, vector_tanh, vector_sigmoid,
    vector_erf;

// The nearest numbers, but for ties and for what is nearly one: within 0.51 units.
VectorMap vector_tan, vector_asin, vector_acos, vector_atan, vector_sinh, vector_cosh;

// x[i]^y[i], or x[i]^y[0] where `same`, likewise; as libm has it where x is 0, negative, infinite or NaN.  `out` may be
// `x` or `y`.
void vector_pow(int64_t n, float *out, const float *x, const float *y, bool same);

// log(1 + e^x) within 4 units in the last place; x·Φ(x), with the normal distribution function Φ, within 8; the
// derivative of that, which has a zero, within 2e-7.
VectorMap vector_softplus, vector_gelu, vector_gelu_slope;

// out[i] = e^(x[i] − less) for i < n, and the sum of these; the largest of x that is no NaN, −∞ where there is none.
float vector_exp_less(int64_t n, float *out, const float *x, float less);
float vector_largest(int64_t n, const float *x);

#endif
