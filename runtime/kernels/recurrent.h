// SPDX-License-Identifier: MIT
// Recurrent layers over a whole sequence: everything that depends on the state, forward and backward.
//
// The forward begins with gates that already hold the inputs' share (x·W_ihᵀ) and adds the state's, step by step;
// the backward leaves δ of all gates, from which single products over the sequence make the weights' gradients.
// Sequences of a batch are independent: each thread takes its own through all steps.
#ifndef NABLUA_RECURRENT_H
#define NABLUA_RECURRENT_H

#include "nablua/tensor.h"

typedef enum RecurrentCell { CELL_LSTM, CELL_GRU, CELL_TANH, CELL_RELU, CELLS } RecurrentCell;

// Blocks of `size` numbers that a cell has per step and sequence.
typedef struct RecurrentBlocks {
  int gates;  // in the weights:                      LSTM i f g o; GRU r z n; else h
  int kept;   // for the backward, gates' values:     LSTM i f g o tanh(c); GRU r z n W_hn·h + b_hn; else none
  int state;  // LSTM h c; else h
} RecurrentBlocks;
extern const RecurrentBlocks recurrent_blocks[CELLS];

// One pass.  All arrays are contiguous and of one dtype, steps × batch × ... where they have steps.  Where a pass goes
// from the end, `reverse`, states and cells lie as the steps do: the first state is the last of them.
typedef struct Recurrence {
  RecurrentCell cell;
  DType dtype;
  int64_t steps, batch, size;
  bool reverse;
  const void *weight;             // gates·size × size
  const void *bias_ih, *bias_hh;  // gates·size, or NULL
  void *states, *cells;           // (steps + 1) × batch × size; of the first state given.  LSTM alone has cells.
  void *kept;                     // steps × batch × kept·size; given: the inputs' share of the gates, where there
                                  // are none in `states`
  const void *d_states, *d_cells, *d_kept;  // the gradients of these three, or NULL
  void *d_inputs;                           // δ of the gates as the inputs see it, steps × batch × gates·size
  void *d_recurrent;                        // GRU: as the state sees it
  void *d_start;                            // state × batch × size: the gradients of the first h, and c
} Recurrence;

// False when there is no memory for the packed weights, or after an interrupt.
bool recurrent_forward(const Recurrence *r, Error *err);
bool recurrent_backward(const Recurrence *r, Error *err);

#endif
