// SPDX-License-Identifier: MIT
// Attention of many heads, y = softmax(q·kᵀ·scale + mask)·v, in tiles that stay in the cache.
//
//              keys ──►                     The scores of a tile live only while it is at work: the forward
//           ┌────┬────┬────┐                goes along a row of tiles and keeps the largest score, the sum of
//   queries │tile│tile│    │                exponentials and y up to here; the backward makes each tile again
//      │    ├────┼────┼────┤                from the saved logarithm of that sum.
//      ▼    │    │    │    │
//           └────┴────┴────┘                T. Dao et al., FlashAttention, 2022
#ifndef NABLUA_ATTENTION_H
#define NABLUA_ATTENTION_H

#include "nablua/tensor.h"

// One matrix a head: element (i, j) lies at i·row + j·column past the head's place.  Strides count elements.
typedef struct AttentionOperand {
  void *data;
  int64_t row, column;
  int64_t batch[NB_MAX_DIMS];
} AttentionOperand;

typedef struct Attention {
  DType dtype;  // f32 or f64, of everything but a mask of truth
  int dims;
  int64_t batch[NB_MAX_DIMS];
  int64_t heads;                           // the product of these
  int64_t queries, keys, features, width;  // features of q and k, width of v and y; both at least 1
  AttentionOperand q, k, v, y, g;          // g: δ of y, of the backward; columns of all of them lie together
  AttentionOperand dq, dk, dv;             // of the backward
  AttentionOperand mask;                   // data NULL: none
  bool truth;                              // the mask is bool and true where a key is seen; else it is added
  bool causal;                             // query i sees keys 0..i
  double scale;
  void *lse;  // heads × queries, lying together: log Σ e^score, +∞ where a query sees no key
} Attention;

// y, which is 0 where a query sees no key, and lse; dq, dk and dv from these and g.  False when there is no memory for
// the tiles, or after an interrupt.
bool attention_forward(const Attention *a, Error *err);
bool attention_backward(const Attention *a, Error *err);

#endif
