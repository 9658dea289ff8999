// SPDX-License-Identifier: MIT
// What the reductions tell a plan of themselves.
#ifndef NABLUA_SUMS_H
#define NABLUA_SUMS_H

#include "nablua/op.h"

// Whether a call makes one number of all elements of a tensor (f32, f64) that lie together, as their sum over *divisor.
bool nb_is_sum_of_all(const Call *c, double *divisor);

#endif
