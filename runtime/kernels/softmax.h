// SPDX-License-Identifier: MIT
// Softmax along one dimension, and what a cross-entropy makes of it in the same pass.
#ifndef NABLUA_SOFTMAX_H
#define NABLUA_SOFTMAX_H

#include "nablua/tensor.h"

// With t = max x and S = Σ e^(x − t) of a slice, in double:
typedef enum SoftmaxKind {
  NB_SOFTMAX,             // y = e^(x − t)/S
  NB_LOG_SOFTMAX,         // y = (x − t) − log S
  NB_CROSS_ENTROPY,       // y of the slice = log S − (x[target] − t)
  NB_CROSS_ENTROPY_GRAD,  // y = g·(e^(x − t)/S − one_hot(target)); at the target g·(e^(x − t) − S)/S
} SoftmaxKind;

// Slices of n elements along a dimension, f32 or f64: element k of slice s lies at s/inner·n·inner + s%inner + k·inner.
typedef struct Softmax {
  SoftmaxKind kind;
  DType dtype;
  int64_t n, inner, slices;
  const void *x;
  void *y;                // like x, except for NB_CROSS_ENTROPY: an element for each slice
  const int64_t *target;  // of each slice, 1..n
  const void *g;          // slice s: element s·gstep
  int64_t gstep;
} Softmax;

void nb_softmax(Softmax w);

#endif
