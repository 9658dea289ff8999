// SPDX-License-Identifier: MIT
// Functions of one number that libm lacks.
//
// ψ and its derivatives: by their recurrence up to where the asymptotic series (Abramowitz, Stegun: Handbook of
// Mathematical Functions, 6.3.18 and 6.4.11) is exact to rounding, and for x < 0 by reflection or the recurrence.
#define _DEFAULT_SOURCE  // lgamma_r
#include "special.h"

#include <math.h>

#define PI 3.14159265358979323846

// B₂, B₄ ... B₂₀
static const double bernoulli[] = {1.0 / 6,       -1.0 / 30, 1.0 / 42,      -1.0 / 30,     5.0 / 66,
                                   -691.0 / 2730, 7.0 / 6,   -3617.0 / 510, 43867.0 / 798, -174611.0 / 330};
enum { TERMS = sizeof bernoulli / sizeof *bernoulli };

double special_digamma(double x) {
  double sum = 0;
  if (x == 0) return copysign(INFINITY, -x);
  if (x < 0) {
    double whole, part = modf(x, &whole);
    if (part == 0 || x == -INFINITY) return NAN;
    return special_digamma(1 - x) - PI / tan(PI * part);
  }
  if (isinf(x)) return x;
  for (; x < 10; x++) sum -= 1 / x;
  double square = 1 / (x * x), power = square, series = 0;
  for (int k = 0; k < TERMS; k++, power *= square) series += bernoulli[k] / (2 * k + 2) * power;
  return sum + log(x) - 0.5 / x - series;
}

// ζ(order, x) = Σ 1/(x + k)^order: the first terms by themselves, the rest as the Euler–Maclaurin series.
static double hurwitz_zeta(double order, double x) {
  double sum = 0;
  for (; x < 9.5 + order / 2; x++) sum += pow(x, -order);
  // ∫ from x on, half the first term, and B₂ₖ/(2k)!·order(order+1)...(order+2k−2)/x^(order+2k−1)
  sum += pow(x, 1 - order) / (order - 1) + 0.5 * pow(x, -order);
  double factor = order / 2, power = pow(x, -order - 1), square = 1 / (x * x);
  for (int k = 0; k < TERMS; k++, power *= square) {
    sum += bernoulli[k] * factor * power;
    factor *= (order + 2 * k + 1) * (order + 2 * k + 2) / ((2.0 * k + 3) * (2 * k + 4));
  }
  return sum;
}

// ψ⁽ⁿ⁾(x) = (−1)^(n+1)·n!·ζ(n + 1, x).  Of many terms below 0 those on both sides of it count: with f = x − ⌊x⌋, all
// from f on, and all from 1 − f on without those that begin beyond −x.
double special_polygamma(int n, double x) {
  enum { MANY = 100 };
  double order = n + 1, sum;
  if (isinf(x)) return x > 0 ? 0 : NAN;
  double f = x - floor(x);
  if (x > -MANY || f == 0) {
    sum = f == 0 && x < 0 ? INFINITY : hurwitz_zeta(order, x);
  } else {
    double before = hurwitz_zeta(order, 1 - f) - hurwitz_zeta(order, 1 - x);
    sum = hurwitz_zeta(order, f) + (n % 2 ? before : -before);
  }
  return (n % 2 ? 1 : -1) * tgamma(n + 1.0) * sum;
}

// A start by Winitzki's formula (2008), two thousandths off, and steps of Halley's method for erf or, near ±1, erfc.
double special_erfinv(double y) {
  const double a = 0.147;
  double magnitude = fabs(y);
  if (!(magnitude < 1)) return magnitude == 1 ? copysign(INFINITY, y) : NAN;
  if (magnitude < 1e-8) return y * 0.88622692545275801365;  // √π/2; the cubic term is below rounding
  double rest = 1 - magnitude, l = log1p(-magnitude * magnitude), b = 2 / (PI * a) + l / 2;
  double x = sqrt(sqrt(b * b - l / a) - b);
  for (int k = 0; k < 4; k++) {
    double off = magnitude < 0.5 ? erf(x) - magnitude : rest - erfc(x);
    double step = off / (1.12837916709551257390 * exp(-x * x));  // 2/√π
    x -= step / (1 + x * step);
  }
  return copysign(x, y);
}

double special_lgamma(double x) {
  int sign;
  return lgamma_r(x, &sign);
}
