// SPDX-License-Identifier: MIT
// Replaying: the steps of a finished plan, one after the other.
#include <string.h>

#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "steps.h"
#include "subnormal.h"

// The first that happened to a leaf's gradient tells in what state it was.
bool nb_plan_ready(const Plan *p) {
  for (int i = 0; i < p->grad_guards; i++) {
    const PlanStep *s = p->guard[i];
    if (s->leaf->grad != s->before) return false;
  }
  for (int i = 0; i < p->needs; i++)
    if (!p->needed[i]->grad) return false;
  return plan_looks_same(p, true);
}

bool nb_plan_fits(const Plan *p, Tensor *const *inputs, int count) {
  if (count != p->inputs) return false;
  for (int i = 0; i < count; i++) {
    const Layout *l = &inputs[i]->layout, *want = &p->input[i]->layout;
    if (l->dtype != want->dtype || l->ndim != want->ndim || nb_tensor_tracked(inputs[i])) return false;
    for (int d = 0; d < l->ndim; d++)
      if (l->shape[d] != want->shape[d]) return false;
    if (!nb_layout_contiguous(l)) return false;
    for (int h = 0; h < p->hosts; h++)
      if (p->host[h] == inputs[i]->storage) return false;
  }
  return true;
}

static bool run_call(PlanStep *s, Error *err) {
  if (s->kind == STEP_IN_PLACE && !nb_storage_write(s->call.out[0]->storage, s->site, err)) return false;
  if (s->moves) plan_find_operands(s);
  if (s->walk.count) {
    nb_walk_run(&s->walk);
  } else if (s->brief.run) {
    s->brief.run(s->brief_at, s->brief.n);
  } else if (!s->call.op->forward(&s->call, err)) {
    return false;
  }
  return true;
}

static bool run_flushing(PlanStep *s, Error *err) {
  uint64_t before = flush_begin();
  bool ok = run_call(s, err);
  float_control_set(before);
  return ok;
}

static bool run_step(PlanStep *s, Error *err) {
  switch (s->kind) {
    case STEP_CALL:
    case STEP_IN_PLACE:
      return s->flushes ? run_flushing(s, err) : run_call(s, err);
    case STEP_GRAD:
      if (s->leaf->grad == s->grad) return true;
      nb_tensor_release(&s->leaf->grad);
      s->leaf->grad = nb_tensor_retain(s->grad);
      return true;
    case STEP_OPTIMIZER:
      return nb_optimizer_step_at(s->site, &s->rule, s->slots, s->slot_count, err);
  }
  return true;
}

static bool run_alone(PlanStep *s, Error *err) {
  bool ok = run_step(s, err);
  if (!ok && s->kind <= STEP_IN_PLACE) nb_op_name_error(s->call.op, err);
  return ok;
}

bool plan_make_quick(Plan *p, Error *err) {
  if (!(p->quick = nb_alloc((size_t)(p->count + 1) * sizeof *p->quick, err))) return false;
  for (int i = 0; i < p->count; i++) {
    const PlanStep *s = p->step[i];
    const LoopWalk *w = &s->walk;
    QuickStep *q = &p->quick[i];
    *q = (QuickStep){.kind = QUICK_NOT};
    if (s->kind == STEP_GRAD && s->grad) {
      q->kind = QUICK_GRAD;
      q->as.grad.leaf = s->leaf, q->as.grad.grad = s->grad;
    }
    if (s->kind != STEP_CALL || s->group || s->moves || s->flushes) continue;
    if (w->count && w->ndim == 1 && w->shape[0] <= NB_GRAIN) {
      q->kind = QUICK_ROW;
      q->as.row.loop = w->loop, q->as.row.args = w->args, q->as.row.n = w->shape[0];
      memcpy(q->as.row.stride, w->stride[0], sizeof q->as.row.stride);
      memcpy(q->as.row.base, w->base, sizeof q->as.row.base);
    } else if (!w->count && s->brief.run) {
      q->kind = QUICK_BRIEF;
      q->as.brief.run = s->brief.run;
      memcpy(q->as.brief.at, s->brief_at, sizeof q->as.brief.at);
      memcpy(q->as.brief.n, s->brief.n, sizeof q->as.brief.n);
    }
  }
  return true;
}

// Takes the step in the plainest way, where there is one.
static bool run_quick(const QuickStep *q) {
  switch (q->kind) {
    case QUICK_ROW:
      q->as.row.loop(q->as.row.n, q->as.row.base, q->as.row.stride, q->as.row.args);
      return true;
    case QUICK_BRIEF:
      q->as.brief.run(q->as.brief.at, q->as.brief.n);
      return true;
    case QUICK_GRAD:
      return q->as.grad.leaf->grad == q->as.grad.grad;
    case QUICK_NOT:
      break;
  }
  return false;
}

// After a failure, what lies in the memory of gradients is none.
static void clear_gradients(Plan *p) {
  for (int i = 0; i < p->count && p->hosts; i++) {
    PlanStep *s = p->step[i];
    if (s->kind == STEP_GRAD && s->grad && s->leaf->grad == s->grad) nb_tensor_release(&s->leaf->grad);
  }
}

bool nb_plan_run(Plan *p, Tensor *const *inputs, Error *err) {
  bool grad = nb_grad_enabled(), ok = true, held = false;
  unsigned polled = 0;
  char *own[PLAN_INPUTS];
  nb_set_grad_enabled(false);
  for (int k = 0; k < p->inputs; k++) {
    own[k] = p->input[k]->storage->data;
    p->input[k]->storage->data = nb_tensor_data(inputs[k]);
  }
  const QuickStep *q = p->quick, *end = q + p->lasting;
  for (;; end = p->quick + p->count) {
    for (; q < end; q++) {
      if (run_quick(q)) {
        if (++polled % 8 == 0 && !(ok = nb_poll(err))) goto done;
        continue;
      }
      int i = (int)(q - p->quick), group = p->step[i]->group;
      ok = group > 1 ? plan_run_group(p, i, group, err) : run_alone(p->step[i], err);
      if (!(ok = ok && nb_poll(err))) goto done;
      if (group > 1) q += group - 1;
    }
    if (end == p->quick + p->count) break;
    nb_interrupt_hold();
    held = true;
  }
done:
  if (held) nb_interrupt_let();
  for (int k = 0; k < p->inputs; k++) p->input[k]->storage->data = own[k];
  nb_set_grad_enabled(grad);
  if (!ok) clear_gradients(p);
  return ok;
}

bool nb_plan_set_rule(Plan *p, const int *places, int count, const OptimizerRule *rule, bool first, bool second) {
  int place = 0;  // of the optimizer step, among such steps
  for (int i = 0; i < p->count && count > 0; i++) {
    PlanStep *s = p->step[i];
    if (s->kind != STEP_OPTIMIZER || place++ != *places) continue;
    for (int j = 0; j < s->slot_count; j++)
      if (!s->slots[j].first != !first || !s->slots[j].second != !second) return false;
    if (s->rule.kind != rule->kind) return false;
    s->rule = *rule;
    places++, count--;
  }
  return count == 0;
}
