// SPDX-License-Identifier: MIT
// Sums over the group of what lies in the ranks' memory, in place, piece by piece.
//
// On one machine each rank adds up one part of every piece, in the order of the ranks, and gives the sum to the others,
// so that all have the same bits:
//
//   parts to who adds them up ──► their sum, times the factor ──► that to all
//
// Nothing more is moved, and nothing is copied on the way where a process may read another's memory.  Between machines
// MPI adds up, which knows the network.
#ifndef NABLUA_PIECES_H
#define NABLUA_PIECES_H

#include "group.h"
#include "nablua/tensor.h"

// Numbers that become the sum of what the ranks have there, times a factor.  Who adds it fills the first five; the
// memory stays until nothing is left.
typedef struct Range {
  DType dtype;  // f32 or f64
  void *at;
  int64_t count;
  double factor;
  int64_t piece;        // so many bytes at most move at once
  int64_t next, left;   // the first that is not on its way; how many are not summed
  double begun, ended;  // by nb_clock; 0: not yet
  struct Range *after;
} Range;

// Ranges of a channel begin in the order in which they are added, which is the same on all ranks.
void nb_pieces_add(Channel channel, Range *r);

// Lets what is under way move on; *moved says whether any did.
bool nb_pieces_move(Channel channel, bool *moved, Error *err);

// After a failure: what is under way is forgotten.  MPI may still write to its memory, which stays.
void nb_pieces_forget(Channel channel);

// One range alone, to its end; `text` says what waits.
bool nb_pieces_whole(Channel channel, Range *r, const char *text, Error *err);

#endif
