// SPDX-License-Identifier: MIT
// Groups: elementwise neighbours that take turns on tiles, so that what passes between them stays in the cache.
#include <string.h>

#include "nablua/memory.h"
#include "nablua/parallel.h"
#include "reduce.h"
#include "steps.h"
#include "sums.h"

enum { TILE = 512, GROUP = 64 };

// Whether a step that writes `to` and one that reads operand k of `s` may take turns by tiles.
static bool aligned(const PlanStep *s, int k, const Tensor *to) {
  const Tensor *t = s->tensor[k];
  if (t->storage != to->storage) return true;
  return s->walk.stride[0][k] != 0 && t->layout.offset == to->layout.offset && t->layout.dtype == to->layout.dtype;
}

static bool is_sum(const PlanStep *s) {
  return s->divisor != 0;
}

void plan_walk_sum(PlanStep *s) {
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
  if (s->flushes || p->step[first]->flushes) return false;
  for (int j = first; j < i; j++) {
    PlanStep *t = p->step[j];
    for (int k = 0; k < s->walk.count; k++)
      if (!aligned(s, k, t->tensor[0])) return false;
    for (int k = 0; k < t->walk.count; k++)
      if (!aligned(t, k, s->tensor[0])) return false;
  }
  return true;
}

// Whether `a` uses what `b` writes.
static bool uses(PlanStep *a, const PlanStep *b) {
  PlanSharing s = {.shared = false};
  for (int o = 0; o < NB_MAX_OUTPUTS; o++) {
    if (!(s.with = b->call.out[o])) continue;
    plan_each_tensor(a, plan_look_for, &s);
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

bool plan_make_partials(Plan *p, Error *err) {
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

void plan_make_groups(Plan *p) {
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

bool plan_run_group(Plan *p, int first, int count, Error *err) {
  Group g = {p->step + first, count, 0};
  for (int i = 0; i < count; i++) {
    PlanStep *s = g.step[i];
    if (s->moves) plan_find_operands(s);
    for (int k = 0; k < s->walk.count; k++)
      if (s->local[k] && g.pitch < TILE * s->walk.stride[0][k] + 64) g.pitch = TILE * s->walk.stride[0][k] + 64;
    if (s->kind == STEP_IN_PLACE && !nb_storage_write(s->call.out[0]->storage, s->site, err)) return false;
  }
  nb_parallel_for(tiles_of(g.step[0]), NB_GRAIN / count / 4 / TILE + 1, run_tiles, &g);
  for (int i = 0; i < count; i++) {
    PlanStep *s = g.step[i];
    if (!is_sum(s) || s->local[0]) continue;
    double total = nb_sum_of(NB_F64, tiles_of(s), s->partial);
    nb_tensor_set(s->call.out[0], 0, total);
    if (s->divisor != 1) nb_tensor_set(s->call.out[0], 0, nb_tensor_get(s->call.out[0], 0) / s->divisor);
  }
  return true;
}
