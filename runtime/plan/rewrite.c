// SPDX-License-Identifier: MIT
// Fewer steps that do the same: a plan's multiplications by a constant one, such as the seed of backward, go; a product
// that only a sum reads is made in one step with it; a gradient that is set anew is not cleared first.
#include <string.h>

#include "nablua/args.h"
#include "nablua/memory.h"
#include "steps.h"

// What the plan knows of a storage.
typedef struct Uses {
  const Tensor *tensor;     // the first on it
  int references, tensors;  // of the steps to that tensor; tensors on the storage, or more than one
  bool made, written;       // by a call; in place or by an optimizer
  bool kept;                // a result, an input, or somebody's gradient
} Uses;

typedef struct Rewrite {
  Plan *p;
  AddressMap map;
  Uses *uses;
  int count, capacity;
} Rewrite;

static Uses *uses_of(Rewrite *w, const Tensor *t) {
  Error never;  // the map has room for them all
  int at = *nb_map_meet(&w->map, t->storage, w->count, &never);
  if (at < w->count) return &w->uses[at];
  w->uses[w->count] = (Uses){.tensor = t};
  return &w->uses[w->count++];
}

static void count_use(void *ctx, Tensor *t) {
  Uses *u = uses_of(ctx, t);
  u->references += t == u->tensor;
  if (t != u->tensor || !u->tensors) u->tensors++;
}

static void count_reference(void *ctx, Tensor *t) {
  (void)t;
  ++*(int *)ctx;
}

static bool open(Rewrite *w) {
  Error ignored;
  int most = w->p->inputs + w->p->results;
  for (int i = 0; i < w->p->count; i++) {
    plan_each_tensor(w->p->step[i], count_reference, &most);
    most += NB_SLOT_TENSORS * w->p->step[i]->slot_count;
  }
  w->capacity = most + 1;
  if (!nb_map_open(&w->map, w->capacity, &ignored)) return false;
  w->uses = nb_alloc((size_t)w->capacity * sizeof *w->uses, &ignored);
  if (!w->uses) {
    nb_map_close(&w->map);
    return false;
  }
  for (int i = 0; i < w->p->count; i++) {
    PlanStep *s = w->p->step[i];
    plan_each_tensor(s, count_use, w);
    if (s->kind == STEP_GRAD && s->grad) uses_of(w, s->grad)->kept = true;
    if (s->kind == STEP_IN_PLACE) uses_of(w, s->call.out[0])->written = true;
    for (int o = 0; o < NB_MAX_OUTPUTS && s->kind == STEP_CALL; o++)
      if (s->call.out[o]) uses_of(w, s->call.out[o])->made = true;
    for (int k = 0; k < s->slot_count; k++)
      for (int c = 0; c < NB_SLOT_TENSORS; c++)
        if (s->slots[k].all[c]) uses_of(w, s->slots[k].all[c])->written = true;
  }
  for (int i = 0; i < w->p->inputs; i++) uses_of(w, w->p->input[i])->kept = true;
  for (int i = 0; i < w->p->results; i++) uses_of(w, w->p->result[i])->kept = true;
  return true;
}

// Whether nothing but the steps' arguments and outputs knows of the tensor, and none of them writes to it again.
static bool is_passing(Rewrite *w, const Tensor *t) {
  const Uses *u = uses_of(w, t);
  return !u->kept && !u->written && u->tensors == 1 && t->refs == u->references && t->storage->refs == 1;
}

// Whether a step in [first, end) writes to the storage of an older tensor.
static bool is_written(const Plan *p, const Tensor *t, int first, int end) {
  for (int i = first; i < end; i++) {
    const PlanStep *s = p->step[i];
    if (s->kind == STEP_IN_PLACE && s->call.out[0]->storage == t->storage) return true;
    for (int k = 0; k < s->slot_count; k++)
      for (int c = 0; c < NB_SLOT_TENSORS; c++)
        if (s->slots[k].all[c] && s->slots[k].all[c]->storage == t->storage) return true;
  }
  return false;
}

static void drop_step(Plan *p, int i) {
  plan_release_step(p->step[i]);
  p->count--;
  for (; i < p->count; i++) p->step[i] = p->step[i + 1];
}

// ---- multiplications by one ----

// One element for all, which nothing but the steps can reach and none of them writes.
static bool is_constant_one(Rewrite *w, const Tensor *t) {
  return nb_layout_is_single(&t->layout) && !t->requires_grad && nb_layout_numel(&t->layout) > 0 &&
         !uses_of(w, t)->made && is_passing(w, t) && nb_tensor_get(t, 0) == 1;
}

// Returns how many there were.
static int replace_arguments(PlanStep *s, const Tensor *from, Tensor *to) {
  int count = 0;
  if (s->kind > STEP_IN_PLACE) return 0;
  for (TensorWalk w = nb_tensors_of(s->call.op, s->args); nb_next_tensor(&w);) {
    if (*w.slot != from) continue;
    nb_tensor_retain(to);
    nb_tensor_release(w.slot);
    *w.slot = to;
    count++;
  }
  return count;
}

static bool drop_one(Rewrite *w, int i) {
  Plan *p = w->p;
  PlanStep *s = p->step[i];
  const Tensor *out = s->call.out[0];
  for (int k = 0; k < 2; k++) {
    Tensor *x = s->args[k].tensor, *one = s->args[1 - k].tensor;
    const Layout *l = &x->layout;
    if (l->dtype != out->layout.dtype || !nb_layout_has(l, out->layout.shape, out->layout.ndim) ||
        !nb_layout_contiguous(l) || uses_of(w, x)->written || !is_constant_one(w, one) || !is_passing(w, out))
      continue;
    int more = -1;
    for (int j = i + 1, left = uses_of(w, out)->references - 1; j < p->count && more + 1 < left; j++)
      more += replace_arguments(p->step[j], out, x);
    if (uses_of(w, x)->tensor == x) uses_of(w, x)->references += more;
    uses_of(w, one)->references--;
    drop_step(p, i);
    return true;
  }
  return false;
}

// ---- products in sums ----

// Joins step i, a product, with the only step that reads it, if that adds something to it.
static bool join_sum(Rewrite *w, int i, const Op *add, const Op *multiply_add) {
  Plan *p = w->p;
  PlanStep *s = p->step[i];
  const Tensor *out = s->call.out[0];
  if (!multiply_add->loops[s->call.compute] || uses_of(w, out)->references != 2 || !is_passing(w, out)) return false;
  int j = i + 1;
  for (; j < p->count; j++) {
    if (p->step[j]->kind != STEP_CALL || p->step[j]->call.op != add) continue;
    if (p->step[j]->args[0].tensor == out || p->step[j]->args[1].tensor == out) break;
  }
  if (j == p->count) return false;
  PlanStep *sum = p->step[j];
  if (sum->call.compute != s->call.compute) return false;
  int other = sum->args[0].tensor == out;
  Tensor *x = s->args[0].tensor, *y = s->args[1].tensor, *z = sum->args[other].tensor;
  const Layout *l = &sum->call.out[0]->layout;
  DType dtype = s->call.compute;
  if (x->layout.dtype != dtype || y->layout.dtype != dtype || z->layout.dtype != dtype ||
      !nb_layout_has(&out->layout, l->shape, l->ndim) || is_written(p, x, i, j) || is_written(p, y, i, j))
    return false;
  nb_tensor_release(&sum->args[!other].tensor);
  sum->args[0].tensor = nb_tensor_retain(x);
  sum->args[1].tensor = nb_tensor_retain(y);
  sum->args[2].tensor = z;
  sum->call.op = multiply_add;
  drop_step(p, i);
  return true;
}

// ---- gradients ----

// A gradient that is cleared and then set anew needs no clearing.
static bool drop_clearing(Plan *p, int i) {
  const PlanStep *s = p->step[i];
  if (s->kind != STEP_GRAD || s->grad) return false;
  for (int j = i + 1; j < p->count; j++) {
    PlanStep *t = p->step[j];
    if (t->kind == STEP_OPTIMIZER) return false;
    if (t->kind != STEP_GRAD || t->leaf != s->leaf) continue;
    if (!t->grad) return false;
    t->cleared = s->cleared;
    t->before = s->before;
    drop_step(p, i);
    return true;
  }
  return false;
}

void plan_rewrite(Plan *p) {
  const Op *mul = nb_op_find("mul"), *add = nb_op_find("add"), *multiply_add = nb_op_find("multiply_add");
  Rewrite w = {.p = p};
  for (int i = 0; i < p->count; i++)
    if (drop_clearing(p, i)) i--;
  if (!open(&w)) return;
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_CALL && p->step[i]->call.op == mul && drop_one(&w, i)) i--;
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_CALL && p->step[i]->call.op == mul && join_sum(&w, i, add, multiply_add)) i--;
  nb_map_close(&w.map);
  nb_free(w.uses, (size_t)w.capacity * sizeof *w.uses);
}
