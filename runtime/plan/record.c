// SPDX-License-Identifier: MIT
// Recording: what happens to tensors becomes the steps of a plan.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/args.h"
#include "nablua/memory.h"
#include "nablua/modes.h"
#include "nablua/tape.h"
#include "steps.h"

static Plan *recording;
static Plan *waiting;  // the last that was recorded and not finished

bool nb_plan_recording(void) {
  return recording;
}

static void refuse(Plan *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void refuse(Plan *p, const char *format, ...) {
  Site site = nb_site_now();
  va_list ap;
  if (p->refused) return;
  p->refused = true;
  va_start(ap, format);
  int n = vsnprintf(p->reason, sizeof p->reason, format, ap);
  va_end(ap);
  if (site.source && n > 0 && (size_t)n < sizeof p->reason)
    snprintf(p->reason + n, sizeof p->reason - (size_t)n, " (%s:%d)", site.source, site.line);
}

// ---- what happens ----

// A new last step, with `extra` bytes behind it for lists; NULL after refusing the plan.
static PlanStep *add(Plan *p, StepKind kind, size_t extra) {
  Error err;
  size_t bytes = sizeof(PlanStep) + extra;
  bool room = nb_grow(&p->step, &p->room, (size_t)p->count + 1, sizeof *p->step, &err);
  PlanStep *s = room ? nb_alloc(bytes, &err) : NULL;
  if (!s) {
    refuse(p, "there is not enough memory to record it");
    return NULL;
  }
  memset(s, 0, bytes);
  s->kind = kind;
  s->bytes = bytes;
  s->site = nb_site_now();
  s->flushes = nb_flushing() > 0;
  p->step[p->count++] = s;
  return s;
}

// Now and then lets go of the bytes that the function needs no more: a record needs layouts.
static void shed(Plan *p, const Applied *a) {
  static const size_t at_least = (size_t)1 << 18, share = 64;
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (a->call->out[i] && !a->in_place) p->fresh += a->call->out[i]->storage->bytes;
  if (p->fresh < at_least || p->fresh < nb_memory_stats().live / share) return;
  p->fresh = 0;
  plan_shed(p);
  if (waiting && waiting != p) plan_shed(waiting);
}

static bool on_applied(void *user, const Applied *a, Error *err) {
  Plan *p = user;
  const Op *op = a->op;
  (void)err;  // what cannot be recorded refuses the plan, and the call goes on
  if (p->refused) return true;
  if (op->dynamic) {
    refuse(p, "the shape of what %s gives depends on values", op->name);
    return true;
  }
  bool of_lua = op->life;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++)
    of_lua = of_lua || nb_arg_kinds[op->params[i].kind].holds == NB_HOLDS_OBJECT;
  if (of_lua) {
    refuse(p, "%s is an operator written in Lua", op->name);
    return true;
  }
  PlanStep *s = add(p, a->in_place ? STEP_IN_PLACE : STEP_CALL, nb_args_list_bytes(op, a->args));
  if (!s) return true;
  s->call = *a->call;
  s->call.args = s->args;
  nb_args_copy(op, s->args, a->args, s + 1, true);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_retain(s->call.out[i]);
  shed(p, a);
  return true;
}

static void on_deposited(void *user, Tensor *leaf, const Tensor *before, bool cleared) {
  Plan *p = user;
  PlanStep *s = p->refused ? NULL : add(p, STEP_GRAD, 0);
  if (!s) return;
  s->leaf = nb_tensor_retain(leaf);
  s->grad = nb_tensor_retain(leaf->grad);
  s->before = before;
  s->cleared = cleared;
}

static void on_stepped(void *user, const OptimizerRule *rule, const OptimizerSlot *slots, int count) {
  Plan *p = user;
  PlanStep *s = p->refused ? NULL : add(p, STEP_OPTIMIZER, (size_t)count * sizeof *slots);
  if (!s) return;
  s->rule = *rule;
  s->slots = (OptimizerSlot *)(s + 1);
  s->slot_count = count;
  for (int i = 0; i < count; i++) {
    s->slots[i] = slots[i];
    for (int k = 0; k < NB_SLOT_TENSORS; k++) nb_tensor_retain(slots[i].all[k]);
  }
}

static void on_refusal(void *user, const char *what) {
  refuse(user, "%s", what);
}

// ---- beginning and ending ----

void plan_stop(Plan *p) {
  nb_unlisten(&p->listener);
  if (recording == p) recording = NULL;
  if (waiting == p) waiting = NULL;
}

void nb_plan_abandon(void) {
  if (recording) plan_stop(recording);
}

Plan *nb_plan_begin(Tensor *const *stand_ins, int count, Error *err) {
  if (recording) {
    nb_fail(err, NB_ERROR_STATE, "compile: a compiled function is being recorded already");
    return NULL;
  }
  if (count > PLAN_INPUTS) {
    nb_fail(err, NB_ERROR_ARGUMENT, "compile: more than %d tensors as arguments", PLAN_INPUTS);
    return NULL;
  }
  Plan *p = nb_alloc(sizeof *p, err);
  if (!p) return NULL;
  memset(p, 0, sizeof *p);
  for (int i = 0; i < count; i++) {
    p->input[i] = nb_tensor_retain(stand_ins[i]);
    p->version[i] = stand_ins[i]->storage->version;
  }
  p->inputs = count;
  p->listener = (Listener){.voice = NB_INNER,
                           .holds = true,
                           .applied = on_applied,
                           .deposited = on_deposited,
                           .stepped = on_stepped,
                           .looked = plan_on_looked,
                           .value_read = on_refusal,
                           .unrepeatable = on_refusal,
                           .user = p};
  nb_listen(&p->listener);
  return recording = p;
}

bool nb_plan_changed(const Plan *p, int i) {
  return i >= 0 && i < p->inputs && p->input[i]->storage->version != p->version[i];
}

// A result that lies in an argument is copied in a last step: when results are looked at, the argument's place is not
// the caller's any more.
static bool add_result(Plan *p, Tensor *t, Error *err) {
  bool lies_in_input = false;
  for (int i = 0; i < p->inputs; i++) lies_in_input = lies_in_input || p->input[i]->storage == t->storage;
  if (!lies_in_input) {
    nb_tensor_retain(t);
  } else if (!nb_apply(nb_op_find("clone"), (Value[NB_MAX_PARAMS]){{.tensor = t}}, &t, err)) {
    return false;
  }
  p->result[p->results++] = t;
  return true;
}

bool nb_plan_end(Plan *p, Tensor *const *results, int count, Error *err) {
  if (count > PLAN_INPUTS) refuse(p, "it returns more than %d tensors", PLAN_INPUTS);
  for (int i = 0; i < p->inputs; i++)
    if (nb_plan_changed(p, i)) refuse(p, "it changes an argument in place");
  for (int i = 0; i < count && !p->refused; i++) {
    if (results[i]->requires_grad || (results[i]->node && !results[i]->node->freed))
      refuse(p, "what it returns is on the tape; call backward inside it, or wrap it in nb.no_grad");
    if (!add_result(p, results[i], err)) refuse(p, "there is not enough memory for its results");
  }
  plan_stop(p);
  waiting = p;
  return !p->refused || nb_fail(err, NB_ERROR_STATE, "%s", p->reason);
}
