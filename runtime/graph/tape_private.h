// SPDX-License-Identifier: MIT
// What op.c needs of the tape and others do not.
#ifndef NABLUA_TAPE_PRIVATE_H
#define NABLUA_TAPE_PRIVATE_H

#include "nablua/op.h"

struct Hook {
  int32_t refs;
  bool removed;
  int output;  // of the node
  HookFunction f;
  Hook *next;  // owned
};

// Passes the gradient of an output through the hooks of a list; *grad, owned, becomes what they return.
bool nb_hooks_call(Hook *hooks, int output, Tensor **grad, Error *err);

void nb_hooks_release(Hook **hooks);

// Makes the node of a finished call and ties its outputs to it.
bool nb_record(Call *c, Error *err);

// The same for a call that wrote into `target`: its history now ends in this call.
bool nb_rebind(Call *c, Tensor *target, Error *err);

// The target has no history any more.
void nb_unbind(Tensor *target);

// After a write into `view`: its owner's history goes on with the view's new value put into it.
bool nb_rebind_owner(Tensor *owner, Tensor *view, Error *err);

// A view's layout as the rows view_take and view_put have it: {offset, sizes, strides}; returns how many numbers.
int nb_view_place(const Layout *view, int64_t *place);

#endif
