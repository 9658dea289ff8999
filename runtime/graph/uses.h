// SPDX-License-Identifier: MIT
// How often a walk can add to each leaf's gradient.
#ifndef NABLUA_USES_H
#define NABLUA_USES_H

#include "nablua/map.h"
#include "nablua/tape.h"

// Counts the edges to each leaf from all nodes that `root` leads to; `uses`, filled with zeros, becomes the map from
// leaves to them, which the caller closes, also on failure.  A NULL root leads to none.
bool nb_count_uses(const Node *root, AddressMap *uses, Error *err);

#endif
