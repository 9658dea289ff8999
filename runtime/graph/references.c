// SPDX-License-Identifier: MIT
// The references of tensors and nodes, and the tensors that may be in cycles of them.
#include "nablua/references.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/memory.h"
#include "tape_private.h"

static void visit_hooks(const Hook *hooks, const Visitor *v) {
  for (const Hook *h = hooks; h; h = h->next)
    if (!h->removed) v->hook(v->user, &h->f);
}

void nb_tensor_references(const Tensor *t, const Visitor *v) {
  if (t->node) v->node(v->user, t->node);
  if (t->grad) v->tensor(v->user, t->grad);
  visit_hooks(t->hooks, v);
}

void nb_node_references(const Node *n, const Visitor *v) {
  for (int i = 0; i < NB_MAX_PARAMS && n->op->params[i].name; i++) {
    const Param *p = &n->op->params[i];
    Tensor **list;
    for (int j = 0, count = nb_arg_tensors(p, &n->args[i], &list); j < count; j++)
      if (list[j]) v->tensor(v->user, list[j]);
    if (nb_arg_kinds[p->kind].holds == NB_HOLDS_OBJECT && n->args[i].object) v->object(v->user, n->args[i].object);
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (n->saved_out[i]) v->tensor(v->user, n->saved_out[i]);
  for (int i = 0; i < n->edge_count; i++) {
    if (n->edges[i].node) v->node(v->user, n->edges[i].node);
    if (n->edges[i].leaf) v->tensor(v->user, n->edges[i].leaf);
  }
  visit_hooks(n->hooks, v);
}

int32_t nb_tensor_count(const Tensor *t) {
  return t->refs;
}

int32_t nb_node_count(const Node *n) {
  return n->refs;
}

// ---- suspects ----

static Tensor **suspects;
static int suspect_count, suspect_capacity;

static void add_suspect(Tensor *t) {
  Error err;
  if (suspect_count == suspect_capacity) {
    int capacity = suspect_capacity ? 2 * suspect_capacity : 64;
    Tensor **bigger = nb_alloc((size_t)capacity * sizeof(Tensor *), &err);
    if (!bigger) return;
    if (suspects) {
      memcpy(bigger, suspects, (size_t)suspect_count * sizeof(Tensor *));
      nb_free(suspects, (size_t)suspect_capacity * sizeof(Tensor *));
    }
    suspects = bigger;
    suspect_capacity = capacity;
  }
  suspects[suspect_count++] = nb_tensor_retain(t);
}

// The parameters of a net come again with each step; what is noted twice all the same is found out by whoever sifts.
void nb_suspect(Tensor *t) {
  enum { RECENT = 64 };
  for (int i = suspect_count - 1; i >= 0 && i >= suspect_count - RECENT; i--)
    if (suspects[i] == t) return;
  add_suspect(t);
}

Tensor *const *nb_suspects(int *count) {
  *count = suspect_count;
  return suspects;
}

void nb_suspects_sift(bool (*keep)(void *user, Tensor *t, bool *broken), void *user) {
  Tensor **old = suspects;
  int count = suspect_count, capacity = suspect_capacity;
  suspects = NULL;
  suspect_count = suspect_capacity = 0;
  for (int i = 0; i < count; i++) {
    bool broken = false;
    if (keep(user, old[i], &broken)) add_suspect(old[i]);
    if (!broken) continue;
    nb_tensor_release(&old[i]->grad);
    nb_unbind(old[i]);
  }
  for (int i = 0; i < count; i++) nb_tensor_release(&old[i]);
  if (old) nb_free(old, (size_t)capacity * sizeof(Tensor *));
}
