// SPDX-License-Identifier: MIT
// Functions of one number that libm lacks.
#ifndef NABLUA_SPECIAL_H
#define NABLUA_SPECIAL_H

// ψ(x), the derivative of log Γ: NaN at the whole numbers below 0, −∞ at +0 and +∞ at −0.
double special_digamma(double x);

// ψ⁽ⁿ⁾(x), the nth derivative of ψ, n ≥ 1; the poles are at 0 and the whole numbers below.
double special_polygamma(int n, double x);

// The x with erf(x) = y; NaN outside of −1..1.
double special_erfinv(double y);

// log |Γ(x)| without the sign in a global variable, which lgamma writes.
double special_lgamma(double x);

#endif
