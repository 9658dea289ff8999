// SPDX-License-Identifier: MIT
// A plan from the end of its recording to its own: finishing, describing, freeing.
#include <stdio.h>

#include "nablua/memory.h"
#include "nablua/tape.h"
#include "steps.h"

static void forget_tape(void *ctx, Tensor *t) {
  (void)ctx;
  if (!t->node || !t->node->freed) return;
  nb_node_forget(t);
  nb_node_release(&t->node);
}

static bool is_set_before(const Plan *p, int step, const Tensor *leaf) {
  for (int i = 0; i < step; i++)
    if (p->step[i]->kind == STEP_GRAD && p->step[i]->leaf == leaf) return true;
  return false;
}

static size_t slots_of(const Plan *p) {
  size_t count = 0;
  for (int i = 0; i < p->count; i++) count += (size_t)p->step[i]->slot_count;
  return count;
}

// Which gradients must be there when it begins.
static bool find_needs(Plan *p, Error *err) {
  size_t slots = slots_of(p);
  if (slots == 0) return true;
  if (!(p->needed = nb_alloc(slots * sizeof *p->needed, err))) return false;
  for (int i = 0; i < p->count; i++)
    for (int k = 0; k < p->step[i]->slot_count; k++)
      if (!is_set_before(p, i, p->step[i]->slots[k].weight)) p->needed[p->needs++] = p->step[i]->slots[k].weight;
  return true;
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

// How each call can be run without its forward.
static void look_at_calls(Plan *p) {
  for (int i = 0; i < p->count; i++) {
    PlanStep *s = p->step[i];
    if (s->kind > STEP_IN_PLACE) continue;
    nb_walk_of(&s->call, &s->walk, s->tensor);
    plan_walk_sum(s);
    if (s->kind == STEP_CALL && s->call.op->brief) s->call.op->brief(&s->call, &s->brief);
  }
}

// Which steps have operands that lie elsewhere at each call.
static void find_moving(Plan *p) {
  for (int i = 0; i < p->count; i++) {
    PlanStep *s = p->step[i];
    for (int k = 0; k < p->inputs && !s->moves; k++) {
      PlanSharing with = {.with = p->input[k]};
      plan_each_tensor(s, plan_look_for, &with);
      s->moves = with.shared;
    }
    plan_find_operands(s);
  }
}

// From the first write into what outlives the plan on, an interrupt waits: a replay is whole or has changed nothing.
static bool find_lasting(Plan *p, Error *err) {
  AddressMap made;
  if (!plan_map_storages(&made, p, err)) return false;
  for (p->lasting = 0; p->lasting < p->count; p->lasting++) {
    const PlanStep *s = p->step[p->lasting];
    if (s->kind == STEP_OPTIMIZER) break;
    if (s->kind == STEP_IN_PLACE && plan_place_of(&made, s->call.out[0]) < 0) break;
  }
  while (p->lasting < p->count && p->step[p->lasting]->group < 0) p->lasting--;
  nb_map_close(&made);
  return true;
}

// ---- leaves ----

typedef struct Leaves {
  AddressMap made, held;  // what steps made; how many references to a tensor the plan holds
  Tensor **list;
  int count, room;
} Leaves;

static void count_one(void *ctx, Tensor *t) {
  (void)t;
  ++*(int *)ctx;
}

static void note_leaf(void *ctx, Tensor *t) {
  Leaves *v = ctx;
  Error never;  // the map has room for them all
  int *references = nb_map_get(&v->held, t);
  if (references) {
    ++*references;
  } else if (!t->node && plan_place_of(&v->made, t) < 0) {
    nb_map_meet(&v->held, t, 1, &never);
    v->list[v->count++] = t;
  }
}

// Keeps the leaves that somebody else holds, too: what nobody else can reach stays as it is.
static bool keep_leaves(Plan *p, Error *err) {
  Leaves v = {.count = 0};
  bool ok = false;
  for (int i = 0; i < p->count; i++) {
    plan_each_tensor(p->step[i], count_one, &v.room);
    v.room += p->step[i]->kind == STEP_GRAD;
  }
  size_t bytes = (size_t)(v.room + 1) * sizeof *v.list;
  if (!plan_map_storages(&v.made, p, err)) return false;
  if (!nb_map_open(&v.held, v.room + 1, err) || !(v.list = nb_alloc(bytes, err))) goto done;
  for (int i = 0; i < p->count; i++) {
    if (p->step[i]->kind == STEP_GRAD) note_leaf(&v, p->step[i]->leaf);
    plan_each_tensor(p->step[i], note_leaf, &v);
  }
  int kept = 0;
  for (int i = 0; i < v.count; i++)
    if (v.list[i]->requires_grad || v.list[i]->refs > *nb_map_get(&v.held, v.list[i])) v.list[kept++] = v.list[i];
  if (kept && !(p->leaf = nb_alloc((size_t)kept * sizeof *p->leaf, err))) goto done;
  for (int wants = 1; wants >= 0; wants--) {
    for (int i = 0; i < kept; i++)
      if (v.list[i]->requires_grad == wants) p->leaf[p->leaves++] = nb_tensor_retain(v.list[i]);
    if (wants) p->leaves_with_grad = p->leaves;
  }
  ok = true;
done:
  if (v.list) nb_free(v.list, bytes);
  nb_map_close(&v.held);
  nb_map_close(&v.made);
  return ok;
}

bool nb_plan_leaves_same(const Plan *p) {
  for (int i = 0; i < p->leaves; i++) {
    const Tensor *t = p->leaf[i];
    if (t->requires_grad != (i < p->leaves_with_grad) || nb_hooks_left(t->hooks)) return false;
  }
  return plan_looks_same(p, false);
}

static void count_bytes(void *ctx, Tensor *t) {
  Plan *p = ctx;
  if (t->refs == 1 && t->storage->refs == 1) p->bytes += t->storage->bytes;
}

size_t nb_plan_bytes(const Plan *p) {
  return p->bytes;
}

bool nb_plan_finish(Plan *p, Error *err) {
  plan_stop(p);
  if (!keep_leaves(p, err) || !plan_keep_looks(p, err)) return false;
  for (int i = 0; i < p->count; i++) plan_each_tensor(p->step[i], forget_tape, NULL);
  for (int i = 0; i < p->results; i++) forget_tape(NULL, p->result[i]);
  plan_rewrite(p);
  p->stats.steps = p->count;
  if (!make_guards(p, err) || !find_needs(p, err)) return false;
  look_at_calls(p);
  plan_make_groups(p);
  if (!plan_make_partials(p, err) || !find_lasting(p, err) || !plan_arrange(p, err)) return false;
  find_moving(p);
  p->bytes = sizeof *p + p->arena_bytes + p->partial_bytes + (size_t)p->count * sizeof *p->quick;
  for (int i = 0; i < p->count; i++) {
    p->bytes += p->step[i]->bytes;
    plan_each_tensor(p->step[i], count_bytes, p);
    if (p->step[i]->kind == STEP_GRAD && p->step[i]->grad) p->bytes += p->step[i]->grad->storage->bytes;
  }
  for (int i = 0; i < p->inputs; i++) p->bytes += p->input[i]->storage->bytes;
  for (int i = 0; i < p->results; i++) p->bytes += p->result[i]->storage->bytes;
  return plan_make_quick(p, err);
}

int nb_plan_results(const Plan *p) {
  return p->results;
}

Tensor *nb_plan_result(const Plan *p, int i) {
  return p->result[i];
}

PlanStats nb_plan_stats(const Plan *p) {
  return p->stats;
}

bool nb_plan_describe(const Plan *p, int i, char *text, size_t size) {
  char shape[NB_SHAPE_TEXT];
  if (i >= p->count) return false;
  const PlanStep *s = p->step[i];
  switch (s->kind) {
    case STEP_CALL:
    case STEP_IN_PLACE:
      snprintf(text, size, "%s%s%s %s", s->group ? "  │ " : "", s->call.op->name, s->kind == STEP_IN_PLACE ? "_" : "",
               nb_shape_text(&s->call.out[0]->layout, shape));
      break;
    case STEP_GRAD:
      snprintf(text, size, "%s gradient of %s %s", s->grad ? "set" : "clear", s->leaf->name ? s->leaf->name : "a leaf",
               nb_shape_text(&s->leaf->layout, shape));
      break;
    case STEP_OPTIMIZER:
      snprintf(text, size, "optimizer step of %d parameters", s->slot_count);
      break;
  }
  return true;
}

void nb_plan_free(Plan **slot) {
  Plan *p = *slot;
  *slot = NULL;
  if (!p) return;
  plan_stop(p);
  plan_return_memory(p);
  if (p->partial) nb_free(p->partial, p->partial_bytes);
  if (p->needed) nb_free(p->needed, slots_of(p) * sizeof *p->needed);
  if (p->guard) nb_free(p->guard, (size_t)p->count * sizeof *p->guard);
  for (int i = 0; i < p->count; i++) plan_release_step(p->step[i]);
  for (int i = 0; i < p->inputs; i++) nb_tensor_release(&p->input[i]);
  for (int i = 0; i < p->leaves; i++) nb_tensor_release(&p->leaf[i]);
  if (p->leaf) nb_free(p->leaf, (size_t)p->leaves * sizeof *p->leaf);
  plan_free_looks(p);
  for (int i = 0; i < p->results; i++) nb_tensor_release(&p->result[i]);
  nb_free(p->quick, (size_t)(p->count + 1) * sizeof *p->quick);
  if (p->step) nb_free(p->step, p->room * sizeof *p->step);
  nb_free(p, sizeof *p);
}
