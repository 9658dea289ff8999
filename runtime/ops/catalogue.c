// SPDX-License-Identifier: MIT
// The catalogue: all families of operators.  A new family is one name in each of the two lists.
#include "blas.h"
#include "nablua/library.h"
#include "nablua/op.h"

extern const OpFamily ops_create, ops_arithmetic, ops_compare, ops_bits, ops_math, ops_activation, ops_reduce, ops_scan,
    ops_shape, ops_join, ops_index, ops_lookup, ops_scatter, ops_mask, ops_sort, ops_pooling, ops_matrix,
    ops_convolution, ops_recurrent, ops_attention, ops_normalize, ops_loss, ops_random, ops_assign, ops_view,
    ops_linalg, ops_spectral, ops_factor, ops_special, ops_extremes, ops_combine, ops_fourier;

// The order is the reference's.
static const OpFamily *const families[] = {&ops_create,   &ops_arithmetic, &ops_compare,    &ops_bits,
                                           &ops_math,     &ops_special,    &ops_activation, &ops_reduce,
                                           &ops_extremes, &ops_scan,       &ops_shape,      &ops_join,
                                           &ops_index,    &ops_lookup,     &ops_scatter,    &ops_combine,
                                           &ops_mask,     &ops_sort,       &ops_matrix,     &ops_linalg,
                                           &ops_spectral, &ops_factor,     &ops_fourier,    &ops_convolution,
                                           &ops_pooling,  &ops_recurrent,  &ops_attention,  &ops_normalize,
                                           &ops_loss,     &ops_random,     &ops_assign,     &ops_view,
                                           NULL};

bool nb_open(Error *err) {
  nb_blas_offer();
  return nb_op_families() == families || nb_op_register(families, err);
}

const char *nb_version(void) {
  return NABLUA_VERSION;
}
