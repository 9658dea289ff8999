// SPDX-License-Identifier: MIT
// Fewer steps that do the same: a plan's multiplications by a constant one, such as the seed of backward, go; a product
// that only a sum reads is made in one step with it.
#include "plan_steps.h"

// What the plan's steps know of a storage.
typedef struct Uses {
  const Storage *storage;
  const Tensor *tensor;     // the first on it
  int references, tensors;  // of the steps to the tensor; tensors on the storage, or more than one
} Uses;

static void count_use(void *ctx, Tensor *t) {
  Uses *u = ctx;
  if (t->storage != u->storage) return;
  if (!u->tensor) u->tensor = t;
  if (t == u->tensor) {
    u->references++;
    u->tensors = u->tensors > 1 ? u->tensors : 1;
  } else {
    u->tensors = 2;
  }
}

static Uses uses_from(const Plan *p, int first, const Storage *storage) {
  Uses u = {.storage = storage};
  for (int i = first; i < p->count; i++) plan_each_tensor(p->step[i], count_use, &u);
  return u;
}

// Whether a step in [first, end) writes to the storage of an older tensor.
static bool is_written(const Plan *p, const Tensor *t, int first, int end) {
  for (int i = first; i < end; i++) {
    const PlanStep *s = p->step[i];
    if (s->kind == STEP_IN_PLACE && s->call.out[0]->storage == t->storage) return true;
    for (int k = 0; k < s->slot_count; k++) {
      const Tensor *const changed[] = {s->slots[k].weight, s->slots[k].first, s->slots[k].second, s->slots[k].step};
      for (int j = 0; j < 4; j++)
        if (changed[j] && changed[j]->storage == t->storage) return true;
    }
  }
  return false;
}

// Whether nothing but this step's and later steps' arguments knows of what step i makes.
static bool is_passing(const Plan *p, int i) {
  const Tensor *t = p->step[i]->call.out[0];
  Uses u = uses_from(p, i, t->storage);
  if (u.tensors != 1 || t->refs != u.references || t->storage->refs != 1 || is_written(p, t, i, p->count)) return false;
  for (int k = 0; k < p->results; k++)
    if (p->result[k] == t) return false;
  for (int k = i; k < p->count; k++)
    if (p->step[k]->kind == STEP_GRAD && p->step[k]->grad == t) return false;
  return true;
}

static void drop_step(Plan *p, int i) {
  plan_release_step(p->step[i]);
  p->count--;
  for (; i < p->count; i++) p->step[i] = p->step[i + 1];
}

// ---- multiplications by one ----

// One element for all, which nothing but the steps can reach and none of them writes.
static bool is_constant_one(const Plan *p, const Tensor *t) {
  for (int d = 0; d < t->layout.ndim; d++)
    if (t->layout.shape[d] != 1 && t->layout.strides[d] != 0) return false;
  if (t->requires_grad || nb_layout_numel(&t->layout) == 0 || nb_tensor_get(t, 0) != 1) return false;
  for (int i = 0; i < p->inputs; i++)
    if (p->input[i]->storage == t->storage) return false;
  for (int i = 0; i < p->count; i++)
    for (int o = 0; o < NB_MAX_OUTPUTS && p->step[i]->kind == STEP_CALL; o++)
      if (p->step[i]->call.out[o] && p->step[i]->call.out[o]->storage == t->storage) return false;
  Uses u = uses_from(p, 0, t->storage);
  return u.tensors == 1 && t->refs == u.references && t->storage->refs == 1 && !is_written(p, t, 0, p->count);
}

static void replace_arguments(PlanStep *s, const Tensor *from, Tensor *to) {
  if (s->kind > STEP_IN_PLACE) return;
  const Op *op = s->call.op;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    bool many = op->params[i].kind == NB_PARAM_TENSORS;
    if (!many && op->params[i].kind > NB_PARAM_MASK) continue;
    for (int j = 0; j < (many ? s->args[i].tensors.count : 1); j++) {
      Tensor **slot = many ? &s->args[i].tensors.items[j] : &s->args[i].tensor;
      if (*slot != from) continue;
      nb_tensor_retain(to);
      nb_tensor_release(slot);
      *slot = to;
    }
  }
}

static bool drop_one(Plan *p, int i) {
  PlanStep *s = p->step[i];
  const Tensor *out = s->call.out[0];
  for (int k = 0; k < 2; k++) {
    Tensor *x = s->args[k].tensor;
    const Layout *l = &x->layout;
    if (l->dtype != out->layout.dtype || !nb_layout_has(l, out->layout.shape, out->layout.ndim) ||
        !nb_layout_contiguous(l))
      continue;
    if (!is_constant_one(p, s->args[1 - k].tensor) || !is_passing(p, i) || is_written(p, x, i, p->count)) continue;
    for (int j = i + 1; j < p->count; j++) replace_arguments(p->step[j], out, x);
    drop_step(p, i);
    return true;
  }
  return false;
}

// ---- products in sums ----

// Joins step i, a product, with the only step that reads it, if that adds something to it.
static bool join_sum(Plan *p, int i, const Op *add, const Op *multiply_add) {
  PlanStep *s = p->step[i];
  const Tensor *out = s->call.out[0];
  if (!multiply_add->loops[s->call.compute] || uses_from(p, i + 1, out->storage).references != 1 || !is_passing(p, i))
    return false;
  int j = i + 1;
  for (; j < p->count; j++) {
    Uses u = {.storage = out->storage};
    plan_each_tensor(p->step[j], count_use, &u);
    if (u.references) break;
  }
  if (j == p->count) return false;
  PlanStep *sum = p->step[j];
  if (sum->kind != STEP_CALL || sum->call.op != add || sum->call.compute != s->call.compute) return false;
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
  for (int i = 0; i < p->count; i++)
    if (drop_clearing(p, i)) i--;
  const Op *mul = nb_op_find("mul"), *add = nb_op_find("add"), *multiply_add = nb_op_find("multiply_add");
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_CALL && p->step[i]->call.op == mul && drop_one(p, i)) i--;
  for (int i = 0; i < p->count; i++)
    if (p->step[i]->kind == STEP_CALL && p->step[i]->call.op == mul && join_sum(p, i, add, multiply_add)) i--;
}
