// SPDX-License-Identifier: MIT
// Reducing the first argument of a call, of any dtype, over dimensions.  An interrupt leaves any values.
//
// `dims` is a list of the user's dimensions as an argument holds it (none: all); the outputs have the remaining ones.
#ifndef NABLUA_REDUCE_H
#define NABLUA_REDUCE_H

#include "loops.h"

// Sums and products into c->out[0], which is of c->compute (i64, f32 or f64); over no elements 0 and 1.
bool nb_reduce_sum(Call *c, const Value *dims, Error *err);
bool nb_reduce_product(Call *c, const Value *dims, Error *err);

// Whether any element is not zero, or all are not, into c->out[0]; over no elements false and true.
bool nb_reduce_test(Call *c, const Value *dims, bool all, Error *err);

// Into `places`, i64: the place, from 1 and row by row among the reduced elements, of the largest or smallest; the
// first NaN where there is one.  There must be elements.  `values`, of x's dtype or i64 for bool and u8, gets what is
// there; NULL where it is not wanted.
bool nb_reduce_place(Call *c, Tensor *places, Tensor *values, const Value *dims, bool largest, Error *err);

// The sum of n elements (f32, f64) that lie together, rounded once in a while only.
double nb_sum_of(DType dtype, int64_t n, const void *x);

// The sum of their squares, on the library's threads.
double nb_squares_of(DType dtype, int64_t n, const void *x);

// The largest of n > 0 elements that lie together; NaN where there is one.
float nb_largest_of(int64_t n, const float *x);

// Σ (a − less)·(b − less) of n elements (f32, f64) that lie together, in double.
double nb_dot_of(DType dtype, int64_t n, const void *a, const void *b, double less);

#endif
