// SPDX-License-Identifier: MIT
// Random numbers by counter: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011).  Number i of a stream depends on seed and counter alone, so the thread count
// does not change it.
#ifndef NABLUA_RANDOM_H
#define NABLUA_RANDOM_H

#include <stdint.h>

typedef struct RandomState {
  uint64_t seed, counter;
} RandomState;

// The library's stream; before the first nb_random_set its seed comes from the system.
RandomState nb_random_get(void);
void nb_random_set(RandomState state);

// Takes `blocks` blocks of four 32-bit numbers out of the stream; returns the state before.
RandomState nb_random_take(uint64_t blocks);

// The block at `index` from a state, each word of which holds two of the numbers, the first in its low half.
void nb_random_block(RandomState state, uint64_t index, uint64_t out[2]);

// `count` blocks from there on.
void nb_random_blocks(RandomState state, uint64_t index, int64_t count, uint64_t *out);

#endif
