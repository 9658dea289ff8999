// SPDX-License-Identifier: MIT
// Sums of several vectors.
#ifndef NABLUA_ADDUP_H
#define NABLUA_ADDUP_H

#include "nablua/tensor.h"

// to[i] = factor · (term[0][i] + term[1][i] + ...), of f32 or f64 and `count` long each.  The sum is made in f64 in the
// order of the terms, and rounded once.  `to` may be one of them.
void nb_add_up(DType dtype, const void *const *term, int terms, double factor, void *to, int64_t count);

#endif
