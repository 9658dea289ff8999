// SPDX-License-Identifier: MIT
// Totals of f32 numbers that lie together, in double, in the best instructions of this machine.
#ifndef NABLUA_TOTALS_H
#define NABLUA_TOTALS_H

#include <stdint.h>

double total_sum(int64_t n, const float *x);
double total_squares(int64_t n, const float *x);
double total_dot(int64_t n, const float *x, const float *y, float less);  // of x − less and y − less

// Exact to double's rounding where factors leave its range on the way; with infinities as one after the other gives it.
double total_product(int64_t n, const float *x);

#endif
