// SPDX-License-Identifier: MIT
// The forms of convolve.h for stride 1 that need no columns.
#ifndef NABLUA_CONVOLVE_PRIVATE_H
#define NABLUA_CONVOLVE_PRIVATE_H

#include "convolve.h"

// a/b rounded up.
static inline int64_t ceil_div(int64_t a, int64_t b) {
  return a > 0 ? (a + b - 1) / b : -(-a / b);
}

bool conv_direct_forward(const Conv *v, const void *x, const void *w, const void *bias, void *y, Error *err);
bool conv_direct_input(const Conv *v, const void *y, const void *w, const void *bias, void *x, Error *err);
bool conv_direct_weight(const Conv *v, const void *x, const void *y, void *w, Error *err);

#endif
