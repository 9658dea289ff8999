// SPDX-License-Identifier: MIT
// The interrupt flag.
#include "nablua/interrupt.h"

#include <stdatomic.h>

static atomic_bool requested, raised;
static atomic_int held;  // workers of the pool look, too

void nb_interrupt(void) {
  atomic_store_explicit(&raised, false, memory_order_relaxed);
  atomic_store_explicit(&requested, true, memory_order_relaxed);
}

void nb_interrupt_clear(void) {
  atomic_store_explicit(&requested, false, memory_order_relaxed);
}

bool nb_interrupted(void) {
  return __builtin_expect(atomic_load_explicit(&requested, memory_order_relaxed), 0) &&
         atomic_load_explicit(&held, memory_order_relaxed) == 0;
}

bool nb_poll(Error *err) {
  if (!nb_interrupted()) return true;
  atomic_store_explicit(&raised, true, memory_order_relaxed);
  return nb_fail(err, NB_ERROR_INTERRUPT, "interrupted");
}

bool nb_interrupt_is_raised(void) {
  return atomic_load_explicit(&raised, memory_order_relaxed);
}

static bool (*asked)(void *lua_state);

void nb_interrupt_on_stopped(bool (*put_off)(void *lua_state)) {
  asked = put_off;
}

bool nb_interrupt_is_put_off(void *lua_state) {
  return asked && asked(lua_state);
}

static void hold(int more) {
  atomic_store_explicit(&held, atomic_load_explicit(&held, memory_order_relaxed) + more, memory_order_relaxed);
}

void nb_interrupt_hold(void) {
  hold(1);
}

void nb_interrupt_let(void) {
  hold(-1);
}

bool nb_interrupt_is_held(void) {
  return atomic_load_explicit(&held, memory_order_relaxed) > 0;
}
