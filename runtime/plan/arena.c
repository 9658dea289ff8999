// SPDX-License-Identifier: MIT
// A plan's memory.
//
// A recording needs layouts and no bytes: what nothing but it holds any more gives its bytes back while the function
// still runs.  In the end a storage is inside when nothing but the plan's steps holds it.  One that lives only in a
// group of elementwise steps needs a tile; any other gets a place in the arena for as long as steps use it:
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
  int host;         // 1 + the host that it lies in; 0: the arena
  bool outside;     // somebody else holds it, too
  size_t offset, bytes;
} Place;

// A gradient that a step makes anew: what dies before may lie in its memory, once its last value has been used.
typedef struct Host {
  int place, from;  // the last optimizer step before it is made, which uses the value of the replay before; or −1
  size_t bytes;
} Host;

static const size_t least_host = (size_t)1 << 16;
static const size_t large_arena = (size_t)1 << 20;

typedef struct Survey {
  Plan *p;
  AddressMap storages, tensors;  // tensors: how many references the plan holds
  Place *place;
  int count, step;
  Host host[PLAN_HOSTS];  // the largest
  int hosts;
} Survey;

static void count_reference(void *ctx, Tensor *t) {
  Survey *v = ctx;
  Error never;  // the map has room for them all
  int *references = nb_map_meet(&v->tensors, t, 0, &never);
  if (!*references) {
    int place = plan_place_of(&v->storages, t);
    if (place >= v->p->inputs) v->place[place - v->p->inputs].tensors++;
  }
  ++*references;
}

static void note_use(void *ctx, Tensor *t) {
  Survey *v = ctx;
  int place = plan_place_of(&v->storages, t);
  if (place < v->p->inputs) return;
  Place *q = &v->place[place - v->p->inputs];
  if (!q->storage) *q = (Place){.storage = t->storage, .first = v->step, .tensors = q->tensors};
  q->last = v->step;
  q->outside = q->outside || t->refs != *nb_map_get(&v->tensors, t);
}

static void keep(Survey *v, const Tensor *t) {
  int place = t ? plan_place_of(&v->storages, t) : -1;
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
        int place = plan_place_of(&v->storages, s->tensor[k]) - p->inputs;
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
  int at = plan_place_of(&v->storages, from) - p->inputs;
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

// The lowest free offset for a place in a host, or in the arena, beside the `count` that are placed, which are sorted
// by offset.
static size_t gap_for(const Survey *v, const Place *q, int host, const int *placed, int count) {
  size_t at = 0;
  int last = end_of(q);
  for (int k = 0; k < count; k++) {
    const Place *other = &v->place[placed[k]];
    if (other->host != host || other->first > last || end_of(other) < q->first) continue;
    if (other->offset >= at + q->bytes) break;
    if (other->offset + other->bytes > at) at = other->offset + other->bytes;
  }
  return at;
}

// Finds room for a place: in the gradient that is made soonest after it dies, else in the arena.
static void settle(Survey *v, Place *q, const int *placed, int count) {
  int best = -1;
  for (int h = 0; h < v->hosts; h++) {
    const Host *host = &v->host[h];
    int made = v->place[host->place].first;
    if (q->bytes > host->bytes || q->first <= host->from || end_of(q) >= made) continue;
    if (best >= 0 && v->place[v->host[best].place].first <= made) continue;
    if (gap_for(v, q, h + 1, placed, count) + q->bytes <= host->bytes) best = h;
  }
  q->host = best + 1;
  q->offset = gap_for(v, q, q->host, placed, count);
  if (!q->host && q->offset + q->bytes > v->p->arena_bytes) v->p->arena_bytes = q->offset + q->bytes;
}

// The largest first.
static void arrange(Survey *v, Candidate *c, int *placed, int count) {
  for (int i = 0; i < count; i++) {
    const Place *q = &v->place[placed[i]];
    c[i] = (Candidate){q->bytes, q->first, placed[i]};
  }
  qsort(c, (size_t)count, sizeof *c, larger_first);
  for (int i = 0; i < count; i++) {
    Place *q = &v->place[c[i].place];
    int where = 0;
    settle(v, q, placed, i);
    while (where < i && v->place[placed[where]].offset <= q->offset) where++;
    memmove(placed + where + 1, placed + where, (size_t)(i - where) * sizeof *placed);
    placed[where] = c[i].place;
  }
  for (int i = 0; i < v->count; i++) {
    if (!v->place[i].joined) continue;
    v->place[i].offset = v->place[v->place[i].joined - 1].offset;
    v->place[i].host = v->place[v->place[i].joined - 1].host;
  }
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

static void add_host(Survey *v, Host host) {
  int at = v->hosts;
  for (int i = 0; i < v->hosts; i++)
    if (v->host[i].place == host.place) return;
  while (at > 0 && v->host[at - 1].bytes < host.bytes) at--;
  if (at == PLAN_HOSTS) return;
  if (v->hosts < PLAN_HOSTS) v->hosts++;
  memmove(v->host + at + 1, v->host + at, (size_t)(v->hosts - 1 - at) * sizeof *v->host);
  v->host[at] = host;
}

// Gradients keep memory of their own, in which they stay between replays.
static void find_hosts(Survey *v) {
  Plan *p = v->p;
  for (int i = 0; i < p->count; i++) {
    const PlanStep *s = p->step[i];
    int place = s->kind == STEP_GRAD && s->grad ? plan_place_of(&v->storages, s->grad) - p->inputs : -1;
    if (place < 0) continue;
    const Place *q = &v->place[place];
    if (!q->storage || q->storage->within || q->storage->bytes < least_host) continue;
    bool given = false;
    for (int r = 0; r < p->results; r++) given = given || p->result[r]->storage == q->storage;
    int from = q->first - 1;
    while (from >= 0 && p->step[from]->kind != STEP_OPTIMIZER) from--;
    if (!given) add_host(v, (Host){place, from, q->storage->bytes / 64 * 64});
  }
}

// Gives the storages that live inside their places in the arena.
static bool move_in(Survey *v, Error *err) {
  Plan *p = v->p;
  p->moved = nb_alloc((size_t)(v->count + 1) * sizeof *p->moved, err);
  if (!p->moved) return false;
  for (int i = 0; i < v->count; i++)
    if (v->place[i].storage && !v->place[i].outside) nb_storage_drop_data(v->place[i].storage);
  // The steps that were recorded worked in blocks that are cached now: the arena is in their place, not beside them.
  if (p->arena_bytes >= large_arena) nb_memory_trim();
  if (p->arena_bytes && !(p->arena = nb_alloc(p->arena_bytes, err))) return false;
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage) continue;
    if (q->outside) {  // it gave its bytes back while it was recorded, and needs its own
      if (!q->storage->data && !(q->storage->data = nb_alloc(q->storage->bytes, err))) return false;
      continue;
    }
    p->moved[p->moved_count++] = q->storage;
  }
  for (int i = 0; i < v->count; i++) {
    Place *q = &v->place[i];
    if (!q->storage || q->outside) continue;
    char *base = q->host ? v->place[v->host[q->host - 1].place].storage->data : p->arena;
    q->storage->data = q->offset == SIZE_MAX ? NULL : base + q->offset;
  }
  for (int h = 0; h < v->hosts; h++) p->host[p->hosts++] = v->place[v->host[h].place].storage;
  p->stats.arena = p->arena_bytes;
  return true;
}

static void close_survey(Survey *v) {
  if (v->place) nb_free(v->place, (size_t)(v->count + 1) * sizeof *v->place);
  nb_map_close(&v->tensors);
  nb_map_close(&v->storages);
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
  if (!plan_map_storages(&v->storages, p, err) || !nb_map_open(&v->tensors, tensors, err) ||
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
    find_hosts(&v);
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
