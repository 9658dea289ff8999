// SPDX-License-Identifier: MIT
// The interrupt flag.
#include "nablua/interrupt.h"

#include <stdatomic.h>

static atomic_bool requested;

void nb_interrupt(void) {
  atomic_store_explicit(&requested, true, memory_order_relaxed);
}

void nb_interrupt_clear(void) {
  atomic_store_explicit(&requested, false, memory_order_relaxed);
}

bool nb_interrupted(void) {
  return atomic_load_explicit(&requested, memory_order_relaxed);
}

bool nb_poll(Error *err) {
  return !nb_interrupted() || nb_fail(err, NB_ERROR_INTERRUPT, "interrupted");
}
