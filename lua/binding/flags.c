// SPDX-License-Identifier: MIT
// One count.
#include "flags.h"

static int64_t noted;

void nb_note_flags(void) {
  noted++;
}

int64_t nb_flags_noted(void) {
  return noted;
}
