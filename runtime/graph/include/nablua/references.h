// SPDX-License-Identifier: MIT
// Who holds whom: for whoever must find cycles that counting references does not.
#ifndef NABLUA_REFERENCES_H
#define NABLUA_REFERENCES_H

#include "nablua/op.h"

// Hears of the references of a tensor or a node, one by one.
typedef struct Visitor {
  void (*tensor)(void *user, Tensor *t);
  void (*node)(void *user, Node *n);
  void (*hook)(void *user, const HookFunction *f);  // one that was not removed
  void (*object)(void *user, Object *object);       // an argument's
  void *user;
} Visitor;

void nb_tensor_references(const Tensor *t, const Visitor *v);
void nb_node_references(const Node *n, const Visitor *v);

int32_t nb_tensor_count(const Tensor *t);  // how many references there are to it
int32_t nb_node_count(const Node *n);

// Notes a tensor whose gradient or history may lead back to it, as the gradient of a leaf does that was computed with
// create_graph; it is held until somebody has looked.  Without memory it is not noted.
void nb_suspect(Tensor *t);

// Those that were noted, each with one reference of this list.
Tensor *const *nb_suspects(int *count);

// Lets go of the suspects that `keep` does not want to look at again; those for which it sets *broken lose gradient and
// history.
void nb_suspects_sift(bool (*keep)(void *user, Tensor *t, bool *broken), void *user);

#endif
