// SPDX-License-Identifier: MIT
// What every part of a plan does with its steps: going through their tensors, finding storages, letting go.
#include "steps.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/memory.h"

// ---- maps ----

unsigned storage_map_slot(const StorageMap *m, const void *key) {
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
  unsigned at = storage_map_slot(m, key);
  return m->key[at] ? m->value[at] : -1;
}

void storage_map_put(StorageMap *m, const void *key, int value) {
  unsigned at = storage_map_slot(m, key);
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
