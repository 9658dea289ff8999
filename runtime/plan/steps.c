// SPDX-License-Identifier: MIT
// What every part of a plan does with its steps: going through their tensors, finding storages, letting go.
#include "steps.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/memory.h"

// ---- maps ----

// The first value of a storage stays.
static bool put(AddressMap *m, const Tensor *t, int place, Error *err) {
  return !t || nb_map_meet(m, t->storage, place, err);
}

bool plan_map_storages(AddressMap *m, const Plan *p, Error *err) {
  if (!nb_map_open(m, p->inputs + p->count * NB_MAX_OUTPUTS, err)) return false;
  bool ok = true;
  for (int i = 0; ok && i < p->inputs; i++) ok = put(m, p->input[i], i, err);
  for (int i = 0; ok && i < p->count; i++) {
    if (p->step[i]->kind != STEP_CALL) continue;
    for (int o = 0; ok && o < NB_MAX_OUTPUTS; o++)
      ok = put(m, p->step[i]->call.out[o], p->inputs + i * NB_MAX_OUTPUTS + o, err);
  }
  if (!ok) nb_map_close(m);
  return ok;
}

int plan_place_of(const AddressMap *storages, const Tensor *t) {
  const int *place = nb_map_get(storages, t->storage);
  return place ? *place : -1;
}

// ---- steps ----

void plan_each_tensor(PlanStep *s, void (*visit)(void *ctx, Tensor *t), void *ctx) {
  if (s->kind > STEP_IN_PLACE) {
    if (s->grad) visit(ctx, s->grad);
    return;
  }
  for (TensorWalk w = nb_tensors_of(s->call.op, s->args); nb_next_tensor(&w);) visit(ctx, *w.slot);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (s->call.out[i]) visit(ctx, s->call.out[i]);
}

void plan_look_for(void *ctx, Tensor *t) {
  PlanSharing *s = ctx;
  s->shared = s->shared || t->storage == s->with->storage;
}

void plan_find_operands(PlanStep *s) {
  for (int k = 0; k < s->walk.count; k++)
    if (!s->local[k]) s->walk.base[k] = nb_tensor_data(s->tensor[k]);
  for (int k = 0; k < COUNT(s->brief_at) && s->brief.tensor[k]; k++)
    s->brief_at[k] = nb_tensor_data(s->brief.tensor[k]);
}

void plan_release_step(PlanStep *s) {
  if (s->kind <= STEP_IN_PLACE) {
    nb_args_release(s->call.op, s->args);
    for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_release(&s->call.out[i]);
  }
  nb_tensor_release(&s->leaf);
  nb_tensor_release(&s->grad);
  for (int i = 0; i < s->slot_count; i++)
    for (int k = 0; k < NB_SLOT_TENSORS; k++) nb_tensor_release(&s->slots[i].all[k]);
  nb_free(s, s->bytes);
}
