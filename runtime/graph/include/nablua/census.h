// SPDX-License-Identifier: MIT
// Looking into tensors, storages and nodes from outside: for tests and debuggers.  Nothing else uses it, and no
// executable that people run contains it.
#ifndef NABLUA_CENSUS_H
#define NABLUA_CENSUS_H

#include <stdio.h>

#include "nablua/op.h"

// What can be reached from some tensors by references.
typedef struct Census {
  size_t tensors, storages, nodes;
  size_t bytes;  // of the storages
} Census;

// Walks from `roots`, which may repeat, and checks what must hold of all that is reached: counts of references are
// positive and no lower than the references found; a storage's size fits its tensors; an edge leads to an earlier
// node; a node's output exists; what was freed holds no values.  False with the first that does not, which is the
// library's fault, or when there is no memory for the walk.
bool nb_census(Tensor *const *roots, size_t count, Census *census, Error *err);

// Prints the tape behind a tensor, the latest node first, a line each: its order, operator, the user's line, how often
// it is held, and what its edges lead to.  For gdb: call (void)nb_tape_dump(stderr, t)
void nb_tape_dump(FILE *to, const Tensor *t);

// Prints a tensor's shape, dtype, references, version, node and first values in a line.
void nb_tensor_dump(FILE *to, const Tensor *t);

#endif
