// SPDX-License-Identifier: MIT
// A plan's memory.
//
// A recording needs layouts and no bytes: what nothing but it holds any more gives its bytes back while the function
// still runs.  In the end a storage is inside when nothing but the plan's steps holds it.  One that lives only in a group of
// elementwise steps needs a tile; any other gets a place in the arena for as long as steps use it:
//
//   step     0   1   2   3   4   5
//   a        ├───────┤               ┌────────────┐
//   b            ├───────────┤       │ a | c      │  arena: c takes the place of a
//   c                    ├───────┤   │ b          │
//                                    └────────────┘
#include <stdlib.h>
#include <string.h>

#include "nablua/memory.h"
#include "steps.h"

// What is known of a storage made inside.
typedef struct Place {
  Storage *storage;
  int first, last;  // the steps that use it
  int tensors;      // distinct tensors of the plan on it
  int until;        // the last step that uses one that took it over
  int joined;       // 1 + the place that it takes over, or 0
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

// Joins those that take over another's place: the first of them stands for all.
static int join_places(Survey *v, int *roots) {
  int count = 0;
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage || q->outside) continue;
    v->p->stats.apart += q->storage->bytes;
    if (q->offset == SIZE_MAX) continue;
    q->bytes = (q->storage->bytes + 63) / 64 * 64;
    if (!q->bytes) q->bytes = 64;
    int taken = taken_place(v, i);
    if (taken < 0) {
      roots[count++] = i;
      continue;
    }
    q->joined = 1 + (v->place[taken].joined ? v->place[taken].joined - 1 : taken);
    v->place[q->joined - 1].until = q->last;
  }
  return count;
}

typedef struct Candidate {
  size_t bytes;
  int first, place;
} Candidate;

static int larger_first(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : x->place - y->place;
}

static int end_of(const Place *q) {
  return q->until > q->last ? q->until : q->last;
}

// The largest first, each in the lowest gap that is free for as long as it lives; `placed` is sorted by offset.
static void arrange(Survey *v, Candidate *c, int *placed, int count) {
  Plan *p = v->p;
  for (int i = 0; i < count; i++) {
    const Place *q = &v->place[placed[i]];
    c[i] = (Candidate){q->bytes, q->first, placed[i]};
  }
  qsort(c, (size_t)count, sizeof *c, larger_first);
  for (int i = 0; i < count; i++) {
    Place *q = &v->place[c[i].place];
    size_t at = 0;
    int where = 0, last = end_of(q);
    for (int k = 0; k < i; k++) {
      const Place *other = &v->place[placed[k]];
      if (other->first > last || end_of(other) < q->first) continue;
      if (other->offset >= at + q->bytes) break;
      if (other->offset + other->bytes > at) at = other->offset + other->bytes;
    }
    q->offset = at;
    while (where < i && v->place[placed[where]].offset <= at) where++;
    memmove(placed + where + 1, placed + where, (size_t)(i - where) * sizeof *placed);
    placed[where] = c[i].place;
    if (at + q->bytes > p->arena_bytes) p->arena_bytes = at + q->bytes;
  }
  for (int i = 0; i < v->count; i++)
    if (v->place[i].joined) v->place[i].offset = v->place[v->place[i].joined - 1].offset;
}

static bool find_places(Survey *v, Error *err) {
  size_t bytes = (size_t)(v->count + 1) * (sizeof(Candidate) + sizeof(int));
  Candidate *c = nb_alloc(bytes, err);
  if (!c) return false;
  int *roots = (int *)(c + v->count + 1);
  arrange(v, c, roots, join_places(v, roots));
  nb_free(c, bytes);
  return true;
}

// Counts who holds what, for all storages that steps made.
static void survey(Survey *v) {
  Plan *p = v->p;
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], count_reference, v);
  for (v->step = 0; v->step < p->count; v->step++) plan_each_tensor(p->step[v->step], note_use, v);
  for (int i = 0; i < v->count; i++)
    if (v->place[i].storage && v->place[i].tensors != v->place[i].storage->refs) v->place[i].outside = true;
}

// What a replay gives away stays outside.
static void keep_given(Survey *v) {
  Plan *p = v->p;
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
  p->moved = nb_alloc((size_t)(v->count + 1) * sizeof *p->moved, err);
  if (!p->moved) return false;
  for (int i = 0; i < v->count; i++)
    if (v->place[i].storage && !v->place[i].outside) nb_storage_drop_data(v->place[i].storage);
  if (p->arena_bytes && !(p->arena = nb_alloc(p->arena_bytes, err))) return false;
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage) continue;
    if (q->outside) {  // it gave its bytes back while it was recorded, and needs its own
      if (!q->storage->data && !(q->storage->data = nb_alloc(q->storage->bytes, err))) return false;
      continue;
    }
    q->storage->data = q->offset == SIZE_MAX ? NULL : p->arena + q->offset;
    p->moved[p->moved_count++] = q->storage;
  }
  p->stats.arena = p->arena_bytes;
  return true;
}

static void close_survey(Survey *v) {
  if (v->place) nb_free(v->place, (size_t)(v->count + 1) * sizeof *v->place);
  storage_map_close(&v->tensors);
  storage_map_close(&v->storages);
}

static void count_tensor(void *ctx, Tensor *t) {
  (void)t;
  ++*(int *)ctx;
}

// Looks who holds what; close_survey whatever the result.
static bool open_survey(Survey *v, Plan *p, Error *err) {
  int tensors = 0;
  *v = (Survey){.p = p, .count = p->count * NB_MAX_OUTPUTS};
  size_t bytes = (size_t)(v->count + 1) * sizeof *v->place;
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], count_tensor, &tensors);
  if (!storage_map_open(&v->storages, p, err) || !storage_map_new(&v->tensors, tensors, err) ||
      !(v->place = nb_alloc(bytes, err)))
    return false;
  memset(v->place, 0, bytes);
  survey(v);
  return true;
}

bool plan_arrange(Plan *p, Error *err) {
  Survey v;
  bool ok = open_survey(&v, p, err);
  if (ok) {
    keep_given(&v);
    make_locals(&v);
    widen(&v);
    ok = find_places(&v, err) && move_in(&v, err);
  }
  close_survey(&v);
  return ok;
}

void plan_shed(Plan *p) {
  Error ignored;
  Survey v;
  if (open_survey(&v, p, &ignored)) {
    for (int i = 0; i < v.count; i++) {
      Storage *s = v.place[i].outside ? NULL : v.place[i].storage;
      if (s && !s->within) nb_storage_drop_data(s);
    }
  }
  close_survey(&v);
}

void plan_return_memory(Plan *p) {
  for (int i = 0; i < p->moved_count; i++) p->moved[i]->data = NULL;
  if (p->moved) nb_free(p->moved, ((size_t)p->count * NB_MAX_OUTPUTS + 1) * sizeof *p->moved);
  if (p->arena) nb_free(p->arena, p->arena_bytes);
}
