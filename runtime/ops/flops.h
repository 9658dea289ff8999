// SPDX-License-Identifier: MIT
// Counts of floating point operations, for the rows' field `flops`: a multiplication and an addition are two.
//
// They are counts of the mathematics, not of the kernel: a mask that spares some products spares none here. Elementwise
// functions count as one, however many instructions they take.
#ifndef NABLUA_OPS_FLOPS_H
#define NABLUA_OPS_FLOPS_H

#include "nablua/op.h"

double nb_flops_multiply_add(const Call *c);    // two for each element
double nb_flops_arguments(const Call *c);       // one for each element of the first argument
double nb_flops_matmul(const Call *c);          // x, y
double nb_flops_linear(const Call *c);          // x, weight, [bias]
double nb_flops_convolution(const Call *c);     // x, w, [bias]
double nb_flops_conv_transpose(const Call *c);  // x, w, [bias]
double nb_flops_conv_weight(const Call *c);     // x, g
double nb_flops_pool(const Call *c);            // x, kernel: one for each pixel under the kernel
double nb_flops_attention(const Call *c);       // query, key, value, [attn_mask]
double nb_flops_attention_grad(const Call *c);  // likewise
double nb_flops_self_attention(const Call *c);  // qkv, heads, [attn_mask]
double nb_flops_self_attention_grad(const Call *c);
double nb_flops_recurrent(const Call *c);       // x, weight_ih, weight_hh, [bias_ih], [bias_hh], h, [c], cell
double nb_flops_recurrent_grad(const Call *c);  // weight_hh, states ...

// The leading terms of the usual algorithms (Golub, Van Loan: Matrix Computations), for n×n matrices and k columns.
double nb_flops_inverse(const Call *c);     // 2n³
double nb_flops_factor(const Call *c);      // ⅔n³, of LU
double nb_flops_cholesky(const Call *c);    // ⅓n³
double nb_flops_solve(const Call *c);       // ⅔n³ + 2n²k
double nb_flops_triangular(const Call *c);  // n²k
double nb_flops_qr(const Call *c);     // 4mns − 2(m+n)s² + ⁴⁄₃s³ with s = min(m, n), and as much again for q
double nb_flops_eigen(const Call *c);  // 9n³, with vectors
double nb_flops_singular(const Call *c);  // 4m²n + 8mn² + 9n³ for m×n, with vectors

#endif
