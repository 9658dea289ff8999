// SPDX-License-Identifier: MIT
// Counting the edges to leaves ahead of a walk, so that it knows when nothing more will come for one.
#include "uses.h"

#include "nablua/memory.h"

typedef struct Ahead {
  const Node **nodes;
  size_t count, room;
  AddressMap met;
} Ahead;

static bool meet(Ahead *a, const Node *n, Error *err) {
  size_t before = a->met.count;
  if (!nb_map_meet(&a->met, n, 1, err)) return false;
  if (a->met.count == before) return true;
  if (!nb_grow(&a->nodes, &a->room, a->count + 1, sizeof(Node *), err)) return false;
  a->nodes[a->count++] = n;
  return true;
}

bool nb_count_uses(const Node *root, AddressMap *uses, Error *err) {
  Ahead a = {0};
  bool ok = !root || meet(&a, root, err);
  while (ok && a.count > 0) {
    const Node *n = a.nodes[--a.count];
    for (int i = 0; ok && i < n->edge_count; i++) {
      const Edge *e = &n->edges[i];
      int *count = e->leaf ? nb_map_meet(uses, e->leaf, 0, err) : NULL;
      if (count) ++*count;
      ok = (count || !e->leaf) && (!e->node || meet(&a, e->node, err));
    }
  }
  nb_free(a.nodes, a.room * sizeof(Node *));
  nb_map_close(&a.met);
  return ok;
}
