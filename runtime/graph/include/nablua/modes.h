// SPDX-License-Identifier: MIT
// The modes in which operators are applied: all that a computation finds set and may change for those after it.
//
// One thread computes, so the modes are the process's.  Whoever computes in the middle of somebody else's work sets
// them aside, and puts them back when it is done: neither notices the other.
#ifndef NABLUA_MODES_H
#define NABLUA_MODES_H

#include "nablua/events.h"
#include "nablua/random.h"

typedef struct Modes {
  bool grad;           // gradients are recorded
  int flushing;        // how many want operators to flush: see nb_flushing
  Voices voices;       // who listens to what is applied; who listens to writes hears all
  RandomState random;  // the stream that operators draw from
} Modes;

// Sets the modes as a program finds them: nobody listens to what is applied, and the random stream is the one given.
// Keeps those before in `before`, which stays where it is until they are put back; what is set aside last is put back
// first.  Who began to listen in between has ceased to then.
void nb_modes_set_aside(Modes *before, RandomState random);

void nb_modes_put_back(const Modes *before);

// While somebody wants it, operators that are applied take numbers below the least normal one for 0, as operands and as
// results: what is kept from step to step and decays would linger there, where processors are slow.  Operators written
// in Lua compute as always.  Each nb_flush_more(1) is followed by a nb_flush_more(−1).
int nb_flushing(void);
void nb_flush_more(int by);

#endif
