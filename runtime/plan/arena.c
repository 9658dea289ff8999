// SPDX-License-Identifier: MIT
// A plan's memory.
//
// A storage is inside when nothing but the plan's steps holds it.  One that lives only in a group of
// elementwise steps needs a tile; any other gets a place in the arena for as long as steps use it:
//
//   step     0   1   2   3   4   5
//   a        ├───────┤               ┌────────────┐
//   b            ├───────────┤       │ a | c      │  arena: c takes the place of a
//   c                    ├───────┤   │ b          │
//                                    └────────────┘
#include <string.h>

#include "nablua/memory.h"
#include "steps.h"

// What is known of a storage made inside.
typedef struct Place {
  Storage *storage;
  int first, last;  // the steps that use it
  int tensors;      // distinct tensors of the plan on it
  bool outside;     // somebody else holds it, too
  size_t offset, bytes;
} Place;

typedef struct Survey {
  Plan *p;
  StorageMap storages, tensors;  // tensors: how many references the plan holds
  Place *place;
  int count, step;
} Survey;

static void count_reference(void *ctx, Tensor *t) {
  Survey *v = ctx;
  unsigned at = storage_map_slot(&v->tensors, t);
  if (!v->tensors.key[at]) {
    v->tensors.key[at] = t;
    int place = storage_map_get(&v->storages, t->storage);
    if (place >= v->p->inputs) v->place[place - v->p->inputs].tensors++;
  }
  v->tensors.value[at]++;
}

static void note_use(void *ctx, Tensor *t) {
  Survey *v = ctx;
  int place = storage_map_get(&v->storages, t->storage);
  if (place < v->p->inputs) return;
  Place *q = &v->place[place - v->p->inputs];
  if (!q->storage) *q = (Place){.storage = t->storage, .first = v->step, .tensors = q->tensors};
  q->last = v->step;
  q->outside = q->outside || t->refs != v->tensors.value[storage_map_slot(&v->tensors, t)];
}

static void keep(Survey *v, const Tensor *t) {
  int place = t ? storage_map_get(&v->storages, t->storage) : -1;
  if (place >= v->p->inputs) v->place[place - v->p->inputs].outside = true;
}

// Storages used in one group alone: tiles, as far as there are.
static void make_locals(Survey *v) {
  Plan *p = v->p;
  for (int i = 0; i < p->count; i++) {
    int count = p->step[i]->group, used = 0;
    if (count < 2) continue;
    for (int j = i; j < i + count; j++) {
      PlanStep *s = p->step[j];
      for (int k = 0; k < s->walk.count; k++) {
        int place = storage_map_get(&v->storages, s->tensor[k]->storage) - p->inputs;
        Place *q = place >= 0 ? &v->place[place] : NULL;
        if (!q || q->outside || q->first < i || q->last >= i + count) continue;
        if (!q->bytes) {
          if (used == PLAN_LOCALS) continue;
          q->bytes = (size_t)++used;  // for now: which tile
          q->offset = SIZE_MAX;
        }
        s->local[k] = (int8_t)q->bytes;
      }
    }
  }
}

// The place that output i may take over: that of the first argument, used here for the last time, of a step that could
// work in place.
static int taken_place(const Survey *v, int i) {
  const Plan *p = v->p;
  const PlanStep *s = p->step[i / NB_MAX_OUTPUTS];
  if (s->kind != STEP_CALL || s->group || !s->walk.count || !s->call.op->inplace) return -1;
  const Tensor *from = s->tensor[1], *to = s->tensor[0];
  int at = storage_map_get(&v->storages, from->storage) - p->inputs;
  if (at < 0) return -1;
  const Place *q = &v->place[at];
  if (q->outside || q->offset == SIZE_MAX || q->last != i / NB_MAX_OUTPUTS) return -1;
  if (from->layout.dtype != to->layout.dtype || from->storage->bytes != to->storage->bytes) return -1;
  for (int d = 0; d < s->walk.ndim; d++)
    if (s->walk.stride[d][0] != s->walk.stride[d][1]) return -1;
  for (int k = 2; k < s->walk.count; k++)
    if (s->tensor[k]->storage == from->storage) return -1;
  return at;
}

// First fit, in order of first use.
static void arrange(Survey *v) {
  Plan *p = v->p;
  int *live = p->count ? (int *)v->tensors.value : NULL, living = 0;  // the map is no longer needed
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage || q->outside) continue;
    p->stats.apart += q->storage->bytes;
    if (q->offset == SIZE_MAX) continue;
    q->bytes = (q->storage->bytes + 63) / 64 * 64;
    if (!q->bytes) q->bytes = 64;
    int kept = 0;
    for (int k = 0; k < living; k++)
      if (v->place[live[k]].last >= q->first) live[kept++] = live[k];
    living = kept;
    int taken = taken_place(v, i);
    for (int k = 0; k < living && taken >= 0; k++)
      if (live[k] == taken) live[k] = i;
    if (taken >= 0) {
      q->offset = v->place[taken].offset;
      continue;
    }
    // `live` is sorted by offset: the first gap that is large enough.
    size_t at = 0;
    int where = 0;
    for (; where < living && v->place[live[where]].offset < at + q->bytes; where++) {
      size_t end = v->place[live[where]].offset + v->place[live[where]].bytes;
      if (end > at) at = end;
    }
    memmove(live + where + 1, live + where, (size_t)(living - where) * sizeof *live);
    live[where] = i;
    living++;
    q->offset = at;
    if (at + q->bytes > p->arena_bytes) p->arena_bytes = at + q->bytes;
  }
}

// Counts who holds what, for all storages that steps made.
static void survey(Survey *v) {
  Plan *p = v->p;
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], count_reference, v);
  for (v->step = 0; v->step < p->count; v->step++) plan_each_tensor(p->step[v->step], note_use, v);
  for (int i = 0; i < v->count; i++)
    if (v->place[i].storage && v->place[i].tensors != v->place[i].storage->refs) v->place[i].outside = true;
  for (int i = 0; i < p->results; i++) keep(v, p->result[i]);
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_GRAD) keep(v, p->step[i]->grad);
}

// A group's steps take turns: lifetimes of what is not a tile grow to the bounds of the groups they begin and end in.
static void widen(Survey *v) {
  const Plan *p = v->p;
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage || q->outside) continue;
    while (p->step[q->first]->group < 0) q->first--;
    while (q->last + 1 < p->count && p->step[q->last + 1]->group < 0) q->last++;
  }
}

// Gives the storages that live inside their places in the arena.
static bool move_in(Survey *v, Error *err) {
  Plan *p = v->p;
  if (p->arena_bytes && !(p->arena = nb_alloc(p->arena_bytes, err))) return false;
  p->moved = nb_alloc((size_t)(v->count + 1) * sizeof *p->moved, err);
  if (!p->moved) return false;
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage || q->outside) continue;
    nb_storage_drop_data(q->storage);
    q->storage->data = q->offset == SIZE_MAX ? NULL : p->arena + q->offset;
    p->moved[p->moved_count++] = q->storage;
  }
  p->stats.arena = p->arena_bytes;
  return true;
}

bool plan_arrange(Plan *p, Error *err) {
  Survey v = {.p = p, .count = p->count * NB_MAX_OUTPUTS};
  size_t bytes = (size_t)(v.count + 1) * sizeof *v.place;
  bool ok = false;
  if (!storage_map_open(&v.storages, p, err)) return false;
  if (!storage_map_new(&v.tensors, p->count * (NB_MAX_PARAMS + NB_MAX_OUTPUTS) + 64, err) ||
      !(v.place = nb_alloc(bytes, err)))
    goto done;
  memset(v.place, 0, bytes);
  survey(&v);
  make_locals(&v);
  widen(&v);
  arrange(&v);
  ok = move_in(&v, err);
done:
  if (v.place) nb_free(v.place, bytes);
  storage_map_close(&v.tensors);
  storage_map_close(&v.storages);
  return ok;
}

void plan_return_memory(Plan *p) {
  for (int i = 0; i < p->moved_count; i++) p->moved[i]->data = NULL;
  if (p->moved) nb_free(p->moved, ((size_t)p->count * NB_MAX_OUTPUTS + 1) * sizeof *p->moved);
  if (p->arena) nb_free(p->arena, p->arena_bytes);
}
