// SPDX-License-Identifier: MIT
// One flag that asks every long loop of the library to stop.
//
// What changes something that outlives it (a step of an optimizer, a write in place) holds the flag back while it does:
// it is whole or not begun.
#ifndef NABLUA_INTERRUPT_H
#define NABLUA_INTERRUPT_H

#include <stdbool.h>

#include "nablua/error.h"

// Asks for a stop; safe in a signal handler and from any thread.
void nb_interrupt(void);

// Forgets the request, once it was honoured or is no longer meant.
void nb_interrupt_clear(void);

// True while a stop is asked for and not held back.  Relaxed atomic loads: cheap enough for inner loops' edges.
bool nb_interrupted(void);

// False with `err` filled while a stop is asked for and not held back.
bool nb_poll(Error *err);

// Whether a poll has failed since the last request: the error is on its way, and what cleans up behind it must not be
// stopped once more.
bool nb_interrupt_is_raised(void);

// Sets who is asked when an operator that a Lua state called was stopped: true puts the interrupt off, and the operator
// is applied once more.
void nb_interrupt_on_stopped(bool (*put_off)(void *lua_state));
bool nb_interrupt_is_put_off(void *lua_state);

// Between these what runs is whole: nobody is told to stop.  They nest; the computing thread's alone.
void nb_interrupt_hold(void);
void nb_interrupt_let(void);
bool nb_interrupt_is_held(void);

#endif
