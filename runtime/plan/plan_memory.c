// SPDX-License-Identifier: MIT
// A plan's memory and groups.
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
#include "plan_steps.h"
#include "reduce.h"

enum { TILE = 512, GROUP = 64 };

// ---- maps ----

static unsigned slot_of(const StorageMap *m, const void *key) {
  uint64_t h = (uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u;
  unsigned at = (unsigned)(h >> 40) & (unsigned)(m->size - 1);
  while (m->key[at] && m->key[at] != key) at = (at + 1) & (unsigned)(m->size - 1);
  return at;
}

bool storage_map_new(StorageMap *m, int entries, Error *err) {
  for (m->size = 64; m->size < 2 * entries; m->size *= 2) {
  }
  size_t n = (size_t)m->size;
  m->key = nb_alloc(n * (sizeof *m->key + sizeof *m->value), err);
  if (!m->key) return false;
  memset(m->key, 0, n * (sizeof *m->key + sizeof *m->value));
  m->value = (int *)(m->key + n);
  return true;
}

void storage_map_close(StorageMap *m) {
  if (m->key) nb_free(m->key, (size_t)m->size * (sizeof *m->key + sizeof *m->value));
  m->key = NULL;
}

int storage_map_get(const StorageMap *m, const void *key) {
  unsigned at = slot_of(m, key);
  return m->key[at] ? m->value[at] : -1;
}

void storage_map_put(StorageMap *m, const void *key, int value) {
  unsigned at = slot_of(m, key);
  if (m->key[at]) return;
  m->key[at] = key;
  m->value[at] = value;
}

bool storage_map_open(StorageMap *m, const Plan *p, Error *err) {
  if (!storage_map_new(m, p->inputs + p->count * NB_MAX_OUTPUTS, err)) return false;
  for (int i = 0; i < p->inputs; i++) storage_map_put(m, p->input[i]->storage, i);
  for (int i = 0; i < p->count; i++) {
    if (p->step[i]->kind != STEP_CALL) continue;
    for (int o = 0; o < NB_MAX_OUTPUTS; o++) {
      const Tensor *t = p->step[i]->call.out[o];
      if (t) storage_map_put(m, t->storage, p->inputs + i * NB_MAX_OUTPUTS + o);
    }
  }
  return true;
}

void plan_each_tensor(PlanStep *s, void (*visit)(void *ctx, Tensor *t), void *ctx) {
  if (s->kind > STEP_IN_PLACE) {
    if (s->grad) visit(ctx, s->grad);
    return;
  }
  const Op *op = s->call.op;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    if (op->params[i].kind <= NB_PARAM_MASK && s->args[i].tensor) visit(ctx, s->args[i].tensor);
    if (op->params[i].kind == NB_PARAM_TENSORS)
      for (int j = 0; j < s->args[i].tensors.count; j++) visit(ctx, s->args[i].tensors.items[j]);
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (s->call.out[i]) visit(ctx, s->call.out[i]);
}

// ---- groups ----

// Whether a step that writes `to` and one that reads operand k of `s` may take turns by tiles.
static bool aligned(const PlanStep *s, int k, const Tensor *to) {
  const Tensor *t = s->tensor[k];
  if (t->storage != to->storage) return true;
  return s->walk.stride[0][k] != 0 && t->layout.offset == to->layout.offset && t->layout.dtype == to->layout.dtype;
}

static bool is_sum(const PlanStep *s) {
  return s->divisor != 0;
}

// A sum or mean of all elements may end a group: its walk is over what it adds up.
static void walk_sum(PlanStep *s) {
  if (s->kind != STEP_CALL || s->walk.count || !nb_is_sum_of_all(&s->call, &s->divisor)) return;
  Tensor *x = s->args[0].tensor;
  s->walk = (LoopWalk){.count = 2, .ndim = 1};
  s->walk.shape[0] = nb_layout_numel(&x->layout);
  s->walk.stride[0][1] = (int64_t)nb_dtype_size(x->layout.dtype);
  s->tensor[0] = s->call.out[0];
  s->tensor[1] = x;
}

static bool flat(const PlanStep *s) {
  if (s->kind > STEP_IN_PLACE || !s->walk.count || s->walk.ndim != 1) return false;
  for (int k = 0; k < s->walk.count; k++) {
    int64_t size = (int64_t)nb_dtype_size(s->tensor[k]->layout.dtype), stride = s->walk.stride[0][k];
    if (stride != size && ((k == 0 && !is_sum(s)) || stride != 0)) return false;
  }
  return true;
}

static bool joins(const Plan *p, int first, int i) {
  PlanStep *s = p->step[i];
  if (i - first >= GROUP || !flat(s) || s->walk.shape[0] != p->step[first]->walk.shape[0]) return false;
  if (s->walk.shape[0] <= TILE) return false;  // one tile needs no turns
  for (int j = first; j < i; j++) {
    PlanStep *t = p->step[j];
    for (int k = 0; k < s->walk.count; k++)
      if (!aligned(s, k, t->tensor[0])) return false;
    for (int k = 0; k < t->walk.count; k++)
      if (!aligned(t, k, s->tensor[0])) return false;
  }
  return true;
}

typedef struct Sharing {
  const Tensor *with;
  bool shared;
} Sharing;

static void look_for(void *ctx, Tensor *t) {
  Sharing *s = ctx;
  s->shared = s->shared || t->storage == s->with->storage;
}

// Whether `a` uses what `b` writes.
static bool uses(PlanStep *a, const PlanStep *b) {
  Sharing s = {.shared = false};
  for (int o = 0; o < NB_MAX_OUTPUTS; o++) {
    if (!(s.with = b->call.out[o])) continue;
    plan_each_tensor(a, look_for, &s);
  }
  return s.shared;
}

// Brings a step that joins the group before `end` forward over calls that it has nothing to do with, such as
// the sum of a loss between the elementwise steps of forward and backward.
static bool draw_near(Plan *p, int first, int end) {
  enum { FAR = 6 };
  for (int j = end + 1; j < p->count && j <= end + FAR; j++) {
    if (p->step[j - 1]->kind != STEP_CALL) return false;
    bool free = p->step[j]->kind == STEP_CALL && flat(p->step[j]);
    for (int d = end; free && d < j; d++) free = !uses(p->step[j], p->step[d]) && !uses(p->step[d], p->step[j]);
    if (!free) continue;
    PlanStep *moved = p->step[j];
    memmove(p->step + end + 1, p->step + end, (size_t)(j - end) * sizeof *p->step);
    p->step[end] = moved;
    if (joins(p, first, end)) return true;
    memmove(p->step + end, p->step + end + 1, (size_t)(j - end) * sizeof *p->step);
    p->step[j] = moved;
  }
  return false;
}

static int64_t tiles_of(const PlanStep *s) {
  return (s->walk.shape[0] + TILE - 1) / TILE;
}

// Memory for the sums of tiles; a sum that is in no group goes its own way.
static bool make_partials(Plan *p, Error *err) {
  size_t most = 0;
  for (int pass = 0; pass < 2; pass++) {
    size_t used = 0;
    for (int i = 0; i < p->count; i++) {
      PlanStep *s = p->step[i];
      if (s->group >= 0) used = 0;
      if (!is_sum(s)) continue;
      if (s->group == 0) {
        s->walk.count = 0;
        s->divisor = 0;
        continue;
      }
      if (pass) s->partial = p->partial + used;
      used += (size_t)tiles_of(s);
      if (used > most) most = used;
    }
    if (!most) return true;
    p->partial_bytes = most * sizeof *p->partial;
    if (!p->partial && !(p->partial = nb_alloc(p->partial_bytes, err))) return false;
  }
  return true;
}

static void make_groups(Plan *p) {
  for (int i = 0; i < p->count;) {
    int end = i + 1;
    if (flat(p->step[i]))
      while (end < p->count && (joins(p, i, end) || draw_near(p, i, end))) end++;
    if (end - i > 1) {
      p->step[i]->group = end - i;
      for (int j = i + 1; j < end; j++) p->step[j]->group = -1;
      p->stats.groups++;
      p->stats.grouped += end - i;
    }
    i = end;
  }
}

typedef struct Group {
  PlanStep **step;
  int count;
  int64_t pitch;  // bytes from a local tile to the next; powers of two would have them share few lines of the cache
} Group;

// While a step works on a tile, an operand in memory comes near for the next one.
static void fetch(const char *p, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(p + b, 1);
}

static void run_tiles(int64_t begin, int64_t end, void *ctx) {
  const Group *g = ctx;
  _Alignas(64) char buffer[PLAN_LOCALS * (TILE * sizeof(double) + 64)];
  for (int64_t tile = begin; tile < end; tile++) {
    int64_t at = tile * TILE, left = g->step[0]->walk.shape[0] - at, n = left < TILE ? left : TILE;
    int64_t next = left < 2 * TILE ? left - n : TILE;
    for (int i = 0; i < g->count; i++) {
      const PlanStep *s = g->step[i];
      const int64_t *stride = s->walk.stride[0];
      char *q[NB_MAX_OPERANDS];
      for (int k = 0; k < s->walk.count; k++) {
        if (s->local[k]) {
          q[k] = buffer + (s->local[k] - 1) * g->pitch;
          continue;
        }
        q[k] = s->walk.base[k] + at * stride[k];
        if (stride[k]) fetch(q[k] + n * stride[k], next * stride[k]);
      }
      if (is_sum(s))
        s->partial[tile] = nb_sum_of(s->call.compute, n, q[1]);
      else
        s->walk.loop(n, q, stride, s->walk.args);
    }
  }
}

void plan_run_group(Plan *p, int first, int count) {
  Group g = {p->step + first, count, 0};
  for (int i = 0; i < count; i++) {
    PlanStep *s = g.step[i];
    if (s->moves) plan_find_operands(s);
    for (int k = 0; k < s->walk.count; k++)
      if (s->local[k] && g.pitch < TILE * s->walk.stride[0][k] + 64) g.pitch = TILE * s->walk.stride[0][k] + 64;
    if (s->kind == STEP_IN_PLACE) {
      s->call.out[0]->storage->version++;
      s->call.out[0]->storage->written = s->site;
    }
  }
  nb_parallel_for(tiles_of(g.step[0]), NB_GRAIN / count / 4 / TILE + 1, run_tiles, &g);
  for (int i = 0; i < count; i++) {
    PlanStep *s = g.step[i];
    if (!is_sum(s) || s->local[0]) continue;
    double total = nb_sum_of(NB_F64, tiles_of(s), s->partial);
    nb_tensor_set(s->call.out[0], 0, total);
    if (s->divisor != 1) nb_tensor_set(s->call.out[0], 0, nb_tensor_get(s->call.out[0], 0) / s->divisor);
  }
}

// ---- places ----

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
  unsigned at = slot_of(&v->tensors, t);
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
  q->outside = q->outside || t->refs != v->tensors.value[slot_of(&v->tensors, t)];
}

static void keep(Survey *v, const Tensor *t) {
  int place = t ? storage_map_get(&v->storages, t->storage) : -1;
  if (place >= v->p->inputs) v->place[place - v->p->inputs].outside = true;
}

static void forget_tape(void *ctx, Tensor *t) {
  (void)ctx;
  if (!t->node || !t->node->freed) return;
  nb_node_forget(t);
  nb_node_release(&t->node);
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

static bool make_guards(Plan *p, Error *err) {
  int count = 0;
  for (int i = 0; i < p->count; i++) count += p->step[i]->kind == STEP_GRAD;
  if (!count) return true;
  if (!(p->guard = nb_alloc((size_t)p->count * sizeof *p->guard, err))) return false;
  for (int i = 0; i < p->count; i++) {
    PlanStep *s = p->step[i];
    bool first = s->kind == STEP_GRAD;
    for (int j = 0; first && j < i; j++) first = p->step[j]->kind != STEP_GRAD || p->step[j]->leaf != s->leaf;
    if (first && !s->cleared) p->guard[p->grad_guards++] = s;
  }
  return true;
}

bool nb_plan_finish(Plan *p, Error *err) {
  Survey v = {.p = p, .count = p->count * NB_MAX_OUTPUTS};
  size_t bytes = (size_t)(v.count + 1) * sizeof *v.place;
  bool ok = false;
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], forget_tape, NULL);
  for (int i = 0; i < p->results; i++) forget_tape(NULL, p->result[i]);
  plan_rewrite(p);
  v.count = p->count * NB_MAX_OUTPUTS;
  if (!make_guards(p, err)) return false;
  p->stats.steps = p->count;
  for (int i = 0; i < p->count; i++) {
    PlanStep *s = p->step[i];
    if (s->kind > STEP_IN_PLACE) continue;
    nb_walk_of(&s->call, &s->walk, s->tensor);
    walk_sum(s);
    if (s->kind == STEP_CALL && s->call.op->brief) s->call.op->brief(&s->call, &s->brief);
  }
  make_groups(p);
  if (!make_partials(p, err)) return false;
  if (!storage_map_open(&v.storages, p, err)) return false;
  if (!storage_map_new(&v.tensors, p->count * (NB_MAX_PARAMS + NB_MAX_OUTPUTS) + 64, err) ||
      !(v.place = nb_alloc(bytes, err)))
    goto done;
  memset(v.place, 0, bytes);
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], count_reference, &v);
  for (v.step = 0; v.step < p->count; v.step++) plan_each_tensor(p->step[v.step], note_use, &v);
  for (int i = 0; i < v.count; i++)
    if (v.place[i].storage && v.place[i].tensors != v.place[i].storage->refs) v.place[i].outside = true;
  for (int i = 0; i < p->results; i++) keep(&v, p->result[i]);
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_GRAD) keep(&v, p->step[i]->grad);
  make_locals(&v);
  // A group's steps take turns: lifetimes of the others grow to the bounds of the groups they begin and end in.
  for (int i = 0; i < v.count; i++) {
    Place *q = &v.place[i];
    if (!q->storage || q->outside) continue;
    while (p->step[q->first]->group < 0) q->first--;
    while (q->last + 1 < p->count && p->step[q->last + 1]->group < 0) q->last++;
  }
  arrange(&v);
  if (p->arena_bytes && !(p->arena = nb_alloc(p->arena_bytes, err))) goto done;
  p->moved = nb_alloc((size_t)(v.count + 1) * sizeof *p->moved, err);
  if (!p->moved) goto done;
  for (int i = 0; i < v.count; i++) {
    Place *q = &v.place[i];
    if (!q->storage || q->outside) continue;
    nb_storage_drop_data(q->storage);
    q->storage->data = q->offset == SIZE_MAX ? NULL : p->arena + q->offset;
    p->moved[p->moved_count++] = q->storage;
  }
  p->stats.arena = p->arena_bytes;
  for (int i = 0; i < p->count; i++) {
    PlanStep *s = p->step[i];
    for (int k = 0; k < p->inputs && !s->moves; k++) {
      Sharing with = {.with = p->input[k]};
      plan_each_tensor(s, look_for, &with);
      s->moves = with.shared;
    }
    plan_find_operands(s);
  }
  ok = plan_make_quick(p, err);
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
  if (p->partial) nb_free(p->partial, p->partial_bytes);
  if (p->guard) nb_free(p->guard, (size_t)p->count * sizeof *p->guard);
}
