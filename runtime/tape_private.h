// SPDX-License-Identifier: MIT
// What op.c needs of the tape and others do not.
#ifndef NABLUA_TAPE_PRIVATE_H
#define NABLUA_TAPE_PRIVATE_H

#include "nablua/op.h"

// Makes the node of a finished call and ties its outputs to it.
bool nb_record(Call *c, Error *err);

// The same for a call that wrote into `target`: its history now ends in this call.
bool nb_rebind(Call *c, Tensor *target, Error *err);

#endif
