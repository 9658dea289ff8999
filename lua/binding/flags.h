// SPDX-License-Identifier: MIT
// How often a tensor's requires_grad was set, or a hook of one came or went: who remembers the number need not look at
// tensors until it moves.
#ifndef NABLUA_FLAGS_H
#define NABLUA_FLAGS_H

#include <stdint.h>

void nb_note_flags(void);
int64_t nb_flags_noted(void);

#endif
