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
  bool grad;            // gradients are recorded
  int deaf[NB_VOICES];  // reasons not to tell listeners
  RandomState random;   // the stream that operators draw from
} Modes;

// The modes as a program finds them, but that outer and inner listeners do not hear, and a random stream of its own;
// returns those before.
Modes nb_modes_set_aside(RandomState random);

void nb_modes_put_back(const Modes *before);

#endif
