// SPDX-License-Identifier: MIT
// What a function asked tensors from outside while it was recorded, and did not compute with: whether one requires
// grad, whether it has a gradient.  A replay needs the same answers.
#include <string.h>

#include "nablua/memory.h"
#include "nablua/tape.h"
#include "steps.h"

static bool grow(Plan *p) {
  Error err;
  if (p->looks < p->look_room) return true;
  int more = p->look_room ? 2 * p->look_room : 16;
  PlanLook *bigger = nb_alloc((size_t)more * sizeof *bigger, &err);
  if (!bigger) return false;
  if (p->look) {
    memcpy(bigger, p->look, (size_t)p->looks * sizeof *bigger);
    nb_free(p->look, (size_t)p->look_room * sizeof *bigger);
  }
  p->look = bigger;
  p->look_room = more;
  return true;
}

// Whether the answer is the function's own doing, or is kept already.
static bool is_known(const Plan *p, const Tensor *t, bool of_grad) {
  for (int i = 0; i < p->inputs; i++)
    if (p->input[i] == t) return true;
  for (int i = 0; of_grad && i < p->count; i++)
    if (p->step[i]->kind == STEP_GRAD && p->step[i]->leaf == t) return true;
  for (int i = 0; i < p->looks; i++)
    if (p->look[i].t == t && p->look[i].of_grad == of_grad) return true;
  return false;
}

void plan_on_looked(void *user, Tensor *t, bool of_grad) {
  Plan *p = user;
  if (p->refused || t->node || is_known(p, t, of_grad)) return;
  if (!grow(p)) {
    p->listener.unrepeatable(p, "there is not enough memory to record it");
    return;
  }
  PlanLook *l = &p->look[p->looks++];
  *l = (PlanLook){.t = nb_tensor_retain(t), .of_grad = of_grad};
  l->is = of_grad ? t->grad != NULL : nb_tensor_tracked(t);
  if (of_grad) l->grad = nb_tensor_retain(t->grad);
}

// Whether a step computes with the gradient that was found.
static bool is_used(const Plan *p, const Tensor *grad) {
  PlanSharing with = {.with = grad};
  for (int i = 0; i < p->count && !with.shared; i++) plan_each_tensor(p->step[i], plan_look_for, &with);
  return with.shared;
}

bool plan_keep_looks(Plan *p, Error *err) {
  AddressMap made;
  if (p->looks == 0) return true;
  if (!plan_map_storages(&made, p, err)) return false;
  int kept = 0;
  for (int i = 0; i < p->looks; i++) {
    PlanLook l = p->look[i];
    bool own = plan_place_of(&made, l.t) >= 0;
    if (own || (l.grad && !is_used(p, l.grad))) nb_tensor_release(&l.grad);
    if (own)
      nb_tensor_release(&l.t);
    else
      p->look[kept++] = l;
  }
  p->looks = kept;
  nb_map_close(&made);
  return true;
}

bool plan_looks_same(const Plan *p, bool of_grad) {
  for (int i = 0; i < p->looks; i++) {
    const PlanLook *l = &p->look[i];
    if (l->of_grad != of_grad) continue;
    bool is = of_grad ? l->t->grad != NULL : nb_tensor_tracked(l->t);
    if (is != l->is || (l->grad && l->t->grad != l->grad)) return false;
  }
  return true;
}

void plan_free_looks(Plan *p) {
  for (int i = 0; i < p->looks; i++) {
    nb_tensor_release(&p->look[i].t);
    nb_tensor_release(&p->look[i].grad);
  }
  if (p->look) nb_free(p->look, (size_t)p->look_room * sizeof *p->look);
}
