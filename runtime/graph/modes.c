// SPDX-License-Identifier: MIT
// Setting modes aside.
#include "nablua/modes.h"

#include "nablua/tape.h"

void nb_modes_set_aside(Modes *before, RandomState random) {
  *before =
      (Modes){.grad = nb_grad_enabled(), .flushing = nb_flushing(), .voices = nb_voices, .random = nb_random_get()};
  before->voices.list[NB_WRITE] = NULL;
  nb_voices = (Voices){.list = {[NB_WRITE] = nb_voices.list[NB_WRITE]}, .aside = &before->voices};
  nb_set_grad_enabled(true);
  nb_flush_more(-before->flushing);
  nb_random_set(random);
}

void nb_modes_put_back(const Modes *before) {
  Listener *writes = nb_voices.list[NB_WRITE];
  nb_voices = before->voices;
  nb_voices.list[NB_WRITE] = writes;
  nb_set_grad_enabled(before->grad);
  nb_flush_more(before->flushing - nb_flushing());
  nb_random_set(before->random);
}
