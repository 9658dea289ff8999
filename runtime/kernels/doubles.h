// SPDX-License-Identifier: MIT
// Functions for f32 in double arithmetic, whose errors (below 1e-12) vanish when the result is rounded: at most 0.51
// ulp. There are no calls and no branches in them, so that compilers make vectors of a loop.  Series are Taylor's.
#ifndef NABLUA_DOUBLES_H
#define NABLUA_DOUBLES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "loops.h"

// Added to a number below 2^51, it leaves the nearest whole number in the last bits.
static const double DOUBLES_ROUNDER = 0x1.8p52;

NB_INLINE uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

NB_INLINE double double_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// e^x of |x| ≤ 100, and what lies beyond as e^±100: 2^n·e^r with |r| ≤ log(2)/2.
NB_INLINE double doubles_exp(double x) {
  x = x > 100 ? 100 : x < -100 ? -100 : x;
  double t = x * 1.44269504088896341 + DOUBLES_ROUNDER, r = x - (t - DOUBLES_ROUNDER) * 0.693147180559945309, y = 0;
  UNROLL for (int k = 11; k > 0; k--) y = (1 + y) * r / k;
  return x == x ? double_of(bits_of(1 + y) + (bits_of(t) << 52)) : x;
}

NB_INLINE double doubles_sinh(double x) {
  double a = fabs(x), e = doubles_exp(a), large = 0.5 * (e - 1 / e), z = x * x;
  double small = 1 + z / 6 * (1 + z / 20 * (1 + z / 42 * (1 + z / 72 * (1 + z / 110))));
  return a < 0.3 ? x * small : x < 0 ? -large : large;
}

NB_INLINE double doubles_cosh(double x) {
  double e = doubles_exp(fabs(x));
  return 0.5 * (e + 1 / e);
}

// |x| ≤ 2^17: π/2 in two parts, the first of which has 33 bits, so that its multiples are exact.
NB_INLINE double doubles_tan(double x) {
  double t = x * 0.636619772367581343 + DOUBLES_ROUNDER, n = t - DOUBLES_ROUNDER;
  double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11, z = r * r, sine = 0, cosine = 0;
  UNROLL for (int k = 14; k > 0; k -= 2) {
    sine = z / (k * (k + 1)) * (1 - sine);
    cosine = z / (k * (k - 1)) * (1 - cosine);
  }
  sine = r * (1 - sine);
  cosine = 1 - cosine;
  return bits_of(t) & 1 ? -cosine / sine : sine / cosine;
}

// With z = |x| or 1/|x| and w = z/(1 + √(1 + z²)) ≤ tan(π/8): 2 atan w, or π/2 less that.
NB_INLINE double doubles_atan(double x) {
  double a = fabs(x), z = a > 1 ? 1 / a : a, w = z / (1 + sqrt(1 + z * z)), q = w * w, y = 1.0 / 31;
  UNROLL for (int odd = 29; odd > 0; odd -= 2) y = 1.0 / odd - q * y;
  y *= 2 * w;
  y = a > 1 ? 1.57079632679489662 - y : y;
  return x < 0 ? -y : x > 0 ? y : x;
}

NB_INLINE double doubles_asin(double x) {
  return 2 * doubles_atan(x / (1 + sqrt((1 - x) * (1 + x))));
}

NB_INLINE double doubles_acos(double x) {
  return 2 * doubles_atan(sqrt((1 - x) / (1 + x)));
}

#endif
