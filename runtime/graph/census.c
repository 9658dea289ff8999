// SPDX-License-Identifier: MIT
// Walking all that tensors lead to, counting it and holding it to what must be true of it.
#include "nablua/census.h"

#include <string.h>

#include "nablua/memory.h"
#include "nablua/references.h"

typedef enum Kind { TENSOR, STORAGE, NODE } Kind;

// A thing that was reached, and the references to it that were found.
typedef struct Thing {
  const void *at;
  Kind kind;
  int32_t found;
} Thing;

typedef struct Walk {
  Thing *things;
  size_t count, room;
  size_t *slots, slot_count;  // of a hash table: 1 + place among the things
  const char *from;           // what is looked at, for a sentence
  Census *census;
  Error *err;
  bool ok;
} Walk;

static size_t slot_of(const Walk *w, const void *at) {
  size_t i = ((uintptr_t)at >> 4) * (size_t)0x9E3779B97F4A7C15u % w->slot_count;
  while (w->slots[i] && w->things[w->slots[i] - 1].at != at) i = (i + 1) % w->slot_count;
  return i;
}

static bool widen(Walk *w) {
  size_t wanted = w->slot_count ? 2 * w->slot_count : 1024;
  size_t *slots = nb_alloc(wanted * sizeof *slots, w->err);
  if (!slots) return false;
  memset(slots, 0, wanted * sizeof *slots);
  nb_free(w->slots, w->slot_count * sizeof *slots);
  w->slots = slots;
  w->slot_count = wanted;
  for (size_t i = 0; i < w->count; i++) w->slots[slot_of(w, w->things[i].at)] = i + 1;
  return true;
}

// Counts a reference, and queues what it leads to when that is new.
static void reach(Walk *w, const void *at, Kind kind) {
  if (!w->ok) return;
  if (2 * w->count >= w->slot_count && !(w->ok = widen(w))) return;
  size_t slot = slot_of(w, at);
  if (!w->slots[slot]) {
    if (!(w->ok = nb_grow(&w->things, &w->room, w->count + 1, sizeof *w->things, w->err))) return;
    w->things[w->count] = (Thing){at, kind, 0};
    w->slots[slot] = ++w->count;
  }
  w->things[w->slots[slot] - 1].found++;
}

static void reach_tensor(void *user, Tensor *t) {
  reach(user, t, TENSOR);
}

static void reach_node(void *user, Node *n) {
  reach(user, n, NODE);
}

static void pass_hook(void *user, const HookFunction *f) {
  (void)user, (void)f;
}

static void pass_object(void *user, Object *object) {
  (void)user, (void)object;
}

static void wrong(Walk *w, const char *what, const void *at, const char *clause) {
  if (w->ok) w->ok = nb_fail(w->err, NB_ERROR_STATE, "invariant: %s at %p %s", what, at, clause);
}

// One past the last byte that a layout reaches in its storage.
static int64_t reach_of(const Layout *l) {
  int64_t first = l->offset, last = l->offset;
  for (int d = 0; d < l->ndim; d++) {
    if (l->shape[d] == 0) return 0;
    int64_t step = (l->shape[d] - 1) * l->strides[d];
    if (step < 0)
      first += step;
    else
      last += step;
  }
  return first < 0 ? -1 : (last + 1) * (int64_t)nb_dtype_size(l->dtype);
}

static void look_at_tensor(Walk *w, const Tensor *t, const Visitor *v) {
  const Layout *l = &t->layout;
  w->census->tensors++;
  if (t->refs <= 0) wrong(w, "a tensor", t, "is held by nobody, and used");
  if ((unsigned)l->dtype >= NB_DTYPES || l->ndim < 0 || l->ndim > NB_MAX_DIMS)
    wrong(w, "a tensor", t, "has no dtype or too many dimensions");
  for (int d = 0; w->ok && d < l->ndim; d++)
    if (l->shape[d] < 0) wrong(w, "a tensor", t, "has a negative size");
  if (t->node && (t->output < 0 || t->output >= NB_MAX_OUTPUTS)) wrong(w, "a tensor", t, "is no output of its node");
  if (t->node && t->requires_grad) wrong(w, "a tensor", t, "is a leaf and comes from a node");
  if (!w->ok) return;
  const Storage *s = t->storage;
  if (s) {
    int64_t bytes = reach_of(l);
    if (s->data && (bytes < 0 || (uint64_t)bytes > s->bytes)) wrong(w, "a tensor", t, "reaches beyond its storage");
    if (t->history > s->history) wrong(w, "a tensor", t, "knows of writes that its storage does not");
    reach(w, s, STORAGE);
  }
  nb_tensor_references(t, v);
}

static void look_at_storage(Walk *w, const Storage *s) {
  w->census->storages++;
  w->census->bytes += s->bytes;
  if (s->refs <= 0) wrong(w, "a storage", s, "is held by nobody, and used");
  if (s->owner && s->owner->storage != s) wrong(w, "a storage", s, "has an owner of another storage");
}

static void look_at_node(Walk *w, const Node *n, const Visitor *v) {
  w->census->nodes++;
  if (n->refs <= 0) wrong(w, "a node", n, "is held by nobody, and used");
  if (!n->op || !n->op->name) wrong(w, "a node", n, "has no operator");
  if (n->edge_count < 0 || n->uses < 0) wrong(w, "a node", n, "has a negative count");
  for (int i = 0; w->ok && i < n->edge_count; i++) {
    const Edge *e = &n->edges[i];
    if (e->node && e->leaf) wrong(w, "a node", n, "has an edge to a leaf and a node at once");
    if (e->node && e->node->order >= n->order) wrong(w, "a node", n, "has an edge to a node that came later");
    if (e->leaf && e->leaf->node) wrong(w, "a node", n, "has an edge to a leaf that comes from a node");
  }
  for (int i = 0; w->ok && i < NB_MAX_OUTPUTS; i++) {
    if (n->watcher[i] && n->watcher[i]->node != n) wrong(w, "a node", n, "stands for a tensor of another node");
    if (n->freed && n->saved_out[i]) wrong(w, "a node", n, "is freed and holds a value");
  }
  if (w->ok) nb_node_references(n, v);
}

static int32_t refs_of(const Thing *t) {
  return t->kind == TENSOR    ? ((const Tensor *)t->at)->refs
         : t->kind == STORAGE ? ((const Storage *)t->at)->refs
                              : ((const Node *)t->at)->refs;
}

bool nb_census(Tensor *const *roots, size_t count, Census *census, Error *err) {
  static const char *const names[] = {"a tensor", "a storage", "a node"};
  *census = (Census){.tensors = 0};
  Walk w = {.census = census, .err = err, .ok = true};
  Visitor v = {reach_tensor, reach_node, pass_hook, pass_object, &w};
  for (size_t i = 0; i < count; i++) reach(&w, roots[i], TENSOR);
  for (size_t i = 0; i < w.count && w.ok; i++) {
    Thing t = w.things[i];
    if (t.kind == TENSOR)
      look_at_tensor(&w, t.at, &v);
    else if (t.kind == STORAGE)
      look_at_storage(&w, t.at);
    else
      look_at_node(&w, t.at, &v);
  }
  for (size_t i = 0; i < w.count && w.ok; i++)
    if (refs_of(&w.things[i]) < w.things[i].found)
      wrong(&w, names[w.things[i].kind], w.things[i].at, "is held more often than it counts");
  nb_free(w.things, w.room * sizeof *w.things);
  nb_free(w.slots, w.slot_count * sizeof *w.slots);
  return w.ok;
}
