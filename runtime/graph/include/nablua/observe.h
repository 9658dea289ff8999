// SPDX-License-Identifier: MIT
// Watching operators at work: what inspection and the anomaly check hang on.
//
// There is one observer or none.  While it is told of something, and while an operator or a backward
// works, there is none: only what the user applies is seen, not what rules and composed forwards
// apply inside.  Off, it costs one predictable branch for each operator.
#ifndef NABLUA_OBSERVE_H
#define NABLUA_OBSERVE_H

#include "nablua/op.h"

// A function that is not wanted is NULL.  One that returns false makes the operator or the backward fail.
typedef struct Observer {
  // An operator is about to write into `target`.
  bool (*writing)(void *user, Tensor *target, Error *err);
  // An operator was applied to `args` and gave `count` results, which are the observer's to look at.
  // Where it wrote in place, the one result is the target.
  bool (*applied)(void *user, const Op *op, const Value *args, Tensor *const *out, int count, bool in_place,
                  Error *err);
  // A backward rule got `grad`, one for each output (or NULL), and gave `given`, one for each edge.
  bool (*visited)(void *user, Node *node, Tensor *const *grad, Tensor *const *given, Error *err);
  void *user;
} Observer;

// Sets the observer, which must live until the next call, and returns the one before; NULL is none.
const Observer *nb_observe(const Observer *observer);

#endif
