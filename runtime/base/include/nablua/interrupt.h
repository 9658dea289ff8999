// SPDX-License-Identifier: MIT
// One flag that asks every long loop of the library to stop.
#ifndef NABLUA_INTERRUPT_H
#define NABLUA_INTERRUPT_H

#include <stdbool.h>

#include "nablua/error.h"

// Asks for a stop; safe in a signal handler and from any thread.
void nb_interrupt(void);

// Forgets the request, once it was honoured or is no longer meant.
void nb_interrupt_clear(void);

// True while a stop is asked for.  One relaxed atomic load: cheap enough for inner loops' edges.
bool nb_interrupted(void);

// False with `err` filled while a stop is asked for.
bool nb_poll(Error *err);

#endif
