// SPDX-License-Identifier: MIT
// Setting modes aside.
#include "nablua/modes.h"

#include "nablua/tape.h"

Modes nb_modes_set_aside(RandomState random) {
  Modes before = {.grad = nb_grad_enabled(), .random = nb_random_get()};
  for (int v = 0; v < NB_VOICES; v++) before.deaf[v] = nb_voices.deaf[v];
  nb_set_grad_enabled(true);
  nb_voices.deaf[NB_OUTER]++;
  nb_voices.deaf[NB_INNER]++;
  nb_random_set(random);
  return before;
}

void nb_modes_put_back(const Modes *before) {
  nb_set_grad_enabled(before->grad);
  for (int v = 0; v < NB_VOICES; v++) nb_voices.deaf[v] = before->deaf[v];
  nb_random_set(before->random);
}
