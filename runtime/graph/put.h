// SPDX-License-Identifier: MIT
// What the rows that write values into parts of a tensor share.
#ifndef NABLUA_PUT_H
#define NABLUA_PUT_H

#include "nablua/compose.h"

// True when `value` broadcasts to the shape of `part`; leading dimensions of size 1 too many are allowed.
bool nb_fits(const Layout *value, const Layout *part);

// Drops the leading dimensions beyond `ndim`, which have size 1.
void nb_strip(Layout *value, int ndim);

// t with leading dimensions of size 1 up to `ndim`, for the way back.
Tensor *nb_lead(Scope *s, Tensor *t, int ndim);

// False with a sentence when `value` has numbers that a tensor of `dtype` cannot hold.
bool nb_check_whole(const Tensor *value, DType dtype, Error *err);

// The same of a NUMBER, and without the sentence.
bool nb_number_fits(const Value *v, DType dtype);
bool nb_check_number(const Value *v, DType dtype, Error *err);

// A NUMBER as a whole one: with all the bits that it was given with.
int64_t nb_whole(const Value *v);

// A NUMBER as a 0-d tensor; NULL with a sentence when `dtype` cannot hold it.
Tensor *nb_number_of(Scope *s, const Value *v, DType dtype);

// `src` in the dtype of the tensor it is written into, and apart from its memory.
Tensor *nb_source(Scope *s, Tensor *src, const Tensor *out);

// A 0-d tensor.
Tensor *nb_number(Scope *s, double value, DType dtype);

// Makes places, 0-based, of n elements of a user's index that lie `step` apart; false when one is outside of 1..size
// and -size..-1.
bool nb_row_of_places(int64_t n, int64_t *to, const int64_t *index, int64_t step, int64_t size);

// A user's index, 1-based and negative from the end, as contiguous 0-based places in dimension d (0-based) of
// that size; NULL with a sentence that names the first outside.
Tensor *nb_places(Scope *s, Tensor *index, int64_t size, int d);

#endif
