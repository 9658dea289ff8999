// SPDX-License-Identifier: MIT
// Recording steps, comparing recordings, replaying.  Memory and groups are plan_memory.c's.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "plan_private.h"
#include "plan_steps.h"

Plan *nb_recording;

bool nb_plan_recording(void) {
  return nb_recording;
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

void nb_plan_refuse(const char *what) {
  if (nb_recording) refuse(nb_recording, "%s", what);
}

// ---- recording ----

Plan *nb_plan_begin(Tensor *const *stand_ins, int count, Error *err) {
  if (nb_recording) {
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
  return nb_recording = p;
}

static bool grow(Plan *p, Error *err) {
  if (p->count < p->capacity) return true;
  int more = p->capacity ? 2 * p->capacity : 64;
  PlanStep **bigger = nb_alloc((size_t)more * sizeof *bigger, err);
  if (!bigger) return false;
  if (p->step) {
    memcpy(bigger, p->step, (size_t)p->count * sizeof *bigger);
    nb_free(p->step, (size_t)p->capacity * sizeof *bigger);
  }
  p->step = bigger;
  p->capacity = more;
  return true;
}

// A new last step, with `extra` bytes behind it for lists; NULL after refusing the plan.
static PlanStep *add(Plan *p, StepKind kind, size_t extra) {
  Error err;
  size_t bytes = sizeof(PlanStep) + extra;
  PlanStep *s = grow(p, &err) ? nb_alloc(bytes, &err) : NULL;
  if (!s) {
    refuse(p, "there is not enough memory to record it");
    return NULL;
  }
  memset(s, 0, bytes);
  s->kind = kind;
  s->bytes = bytes;
  s->site = nb_site_now();
  p->step[p->count++] = s;
  return s;
}

static size_t list_bytes(const Op *op, const Value *args) {
  size_t bytes = 0;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    ParamKind kind = op->params[i].kind;
    if (kind == NB_PARAM_TENSORS) bytes += (size_t)args[i].tensors.count * sizeof(Tensor *);
    if ((kind == NB_PARAM_INTS || kind == NB_PARAM_DIMS) && args[i].ints.count > 0)
      bytes += (size_t)args[i].ints.count * sizeof(int64_t);
  }
  return bytes;
}

void nb_plan_note_call(const Call *c, bool in_place) {
  Plan *p = nb_recording;
  const Op *op = c->op;
  if (p->refused || c->view) return;
  if (op->dynamic) {
    refuse(p, "the shape of what %s gives depends on values", op->name);
    return;
  }
  bool of_lua = op->user;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++)
    of_lua = of_lua || op->params[i].kind == NB_PARAM_OBJECT;
  if (of_lua) {
    refuse(p, "%s is an operator written in Lua", op->name);
    return;
  }
  PlanStep *s = add(p, in_place ? STEP_IN_PLACE : STEP_CALL, list_bytes(op, c->args));
  if (!s) return;
  char *list = (char *)(s + 1);
  s->call = *c;
  s->call.args = s->args;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    ParamKind kind = op->params[i].kind;
    s->args[i] = c->args[i];
    if (kind <= NB_PARAM_MASK) {
      nb_tensor_retain(s->args[i].tensor);
    } else if (kind == NB_PARAM_TENSORS) {
      s->args[i].tensors.items = (Tensor **)list;
      for (int j = 0; j < s->args[i].tensors.count; j++)
        s->args[i].tensors.items[j] = nb_tensor_retain(c->args[i].tensors.items[j]);
      list += (size_t)s->args[i].tensors.count * sizeof(Tensor *);
    } else if ((kind == NB_PARAM_INTS || kind == NB_PARAM_DIMS) && c->args[i].ints.count > 0) {
      s->args[i].ints.items = (int64_t *)list;
      memcpy(list, c->args[i].ints.items, (size_t)c->args[i].ints.count * sizeof(int64_t));
      list += (size_t)c->args[i].ints.count * sizeof(int64_t);
    }
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_retain(s->call.out[i]);
}

void nb_plan_note_grad(Tensor *leaf, const Tensor *before, bool cleared) {
  Plan *p = nb_recording;
  if (!p || p->refused) return;
  PlanStep *s = add(p, STEP_GRAD, 0);
  if (!s) return;
  s->leaf = nb_tensor_retain(leaf);
  s->grad = nb_tensor_retain(leaf->grad);
  s->before = before;
  s->cleared = cleared;
}

void nb_plan_note_optimizer(const OptimizerRule *rule, const OptimizerSlot *slots, int count) {
  Plan *p = nb_recording;
  if (!p || p->refused) return;
  PlanStep *s = add(p, STEP_OPTIMIZER, (size_t)count * sizeof *slots);
  if (!s) return;
  s->rule = *rule;
  s->slots = (OptimizerSlot *)(s + 1);
  s->slot_count = count;
  for (int i = 0; i < count; i++) {
    s->slots[i] = slots[i];
    for (int k = 0; k < NB_SLOT_TENSORS; k++) nb_tensor_retain(slots[i].all[k]);
  }
}

bool nb_plan_changed(const Plan *p, int i) {
  return i >= 0 && i < p->inputs && p->input[i]->storage->version != p->version[i];
}

bool nb_plan_end(Plan *p, Tensor *const *results, int count, Error *err) {
  nb_recording = NULL;
  if (count > PLAN_INPUTS) refuse(p, "it returns more than %d tensors", PLAN_INPUTS);
  for (int i = 0; i < p->inputs; i++)
    if (nb_plan_changed(p, i)) refuse(p, "it changes an argument in place");
  for (int i = 0; i < count && !p->refused; i++) {
    if (results[i]->requires_grad || (results[i]->node && !results[i]->node->freed))
      refuse(p, "what it returns is on the tape; call backward inside it, or wrap it in nb.no_grad");
    p->result[p->results++] = nb_tensor_retain(results[i]);
  }
  return !p->refused || nb_fail(err, NB_ERROR_STATE, "%s", p->reason);
}

// ---- comparing ----

// A tensor's storage by where it comes from: an input, an output of a step, or outside.
typedef struct Origin {
  int step, output;  // step −1: an input; −2: from outside
} Origin;

static Origin origin_of(const Plan *p, const StorageMap *map, const Tensor *t) {
  int place = storage_map_get(map, t->storage);
  if (place < 0) return (Origin){-2, 0};
  if (place < p->inputs) return (Origin){-1, place};
  return (Origin){(place - p->inputs) / NB_MAX_OUTPUTS, (place - p->inputs) % NB_MAX_OUTPUTS};
}

// Numbers that Lua made into tensors are made anew each time: what counts is their value.
static bool same_constant(const Tensor *a, const Tensor *b) {
  const Storage *x = a->storage, *y = b->storage;
  return x->bytes <= 512 && x->bytes == y->bytes && !a->requires_grad && memcmp(x->data, y->data, x->bytes) == 0;
}

static bool same_layout(const Layout *a, const Layout *b) {
  if (a->dtype != b->dtype || a->ndim != b->ndim || a->offset != b->offset) return false;
  for (int d = 0; d < a->ndim; d++)
    if (a->shape[d] != b->shape[d] || a->strides[d] != b->strides[d]) return false;
  return true;
}

typedef struct Pair {
  const Plan *a, *b;
  StorageMap in_a, in_b;
} Pair;

static bool same_tensor(const Pair *pair, const Tensor *a, const Tensor *b, const PlanStep *s, Error *err) {
  if (!a && !b) return true;
  if (!a || !b || !same_layout(&a->layout, &b->layout))
    return nb_fail(err, NB_ERROR_STATE, "shapes differ from call to call (%s:%d)",
                   s->site.source ? s->site.source : "?", s->site.line);
  Origin x = origin_of(pair->a, &pair->in_a, a), y = origin_of(pair->b, &pair->in_b, b);
  if (x.step == -2 && y.step == -2 && (a->storage == b->storage || same_constant(a, b))) return true;
  if (x.step == y.step && x.output == y.output && x.step != -2) return true;
  return nb_fail(
      err, NB_ERROR_STATE,
      "%s reads a tensor that is another at each call; pass it as an argument, or change it in place (%s:%d)",
      s->kind <= STEP_IN_PLACE ? s->call.op->name : "a step", s->site.source ? s->site.source : "?", s->site.line);
}

static bool same_args(const Pair *pair, const PlanStep *a, const PlanStep *b, Error *err) {
  const Op *op = a->call.op;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    const Value *x = &a->args[i], *y = &b->args[i];
    bool same = true;
    switch (op->params[i].kind) {
      case NB_PARAM_TENSOR:
      case NB_PARAM_OPERAND:
      case NB_PARAM_INDEX:
      case NB_PARAM_MASK:
        if (!same_tensor(pair, x->tensor, y->tensor, a, err)) return false;
        break;
      case NB_PARAM_TENSORS:
        same = x->tensors.count == y->tensors.count;
        for (int j = 0; same && j < x->tensors.count; j++)
          if (!same_tensor(pair, x->tensors.items[j], y->tensors.items[j], a, err)) return false;
        break;
      case NB_PARAM_INTS:
      case NB_PARAM_DIMS:
        same = x->ints.count == y->ints.count &&
               (x->ints.count <= 0 || !memcmp(x->ints.items, y->ints.items, (size_t)x->ints.count * sizeof(int64_t)));
        break;
      case NB_PARAM_INT:
      case NB_PARAM_DIM:
        same = x->integer == y->integer;
        break;
      case NB_PARAM_NUMBER:
        same = memcmp(&x->number, &y->number, sizeof x->number) == 0 && x->whole == y->whole;
        break;
      case NB_PARAM_FLAG:
        same = x->flag == y->flag;
        break;
      case NB_PARAM_DTYPE:
        same = x->dtype == y->dtype;
        break;
      case NB_PARAM_CHOICE:
        same = x->choice == y->choice;
        break;
      case NB_PARAM_OBJECT:  // refused when it was recorded
        break;
    }
    if (!same)
      return nb_fail(err, NB_ERROR_STATE,
                     "%s of %s is another at each call; a compiled function keeps Lua's numbers (%s:%d)",
                     op->params[i].name, op->name, a->site.source ? a->site.source : "?", a->site.line);
  }
  return true;
}

static bool same_step(const Pair *pair, const PlanStep *a, const PlanStep *b, Error *err) {
  if (a->kind != b->kind || (a->kind <= STEP_IN_PLACE && a->call.op != b->call.op))
    return nb_fail(err, NB_ERROR_STATE, "it does not do the same at each call (%s:%d)",
                   a->site.source ? a->site.source : "?", a->site.line);
  switch (a->kind) {
    case STEP_CALL:
      return same_args(pair, a, b, err);
    case STEP_IN_PLACE:
      return same_args(pair, a, b, err) && same_tensor(pair, a->call.out[0], b->call.out[0], a, err);
    case STEP_GRAD:
      return (a->leaf == b->leaf && !a->grad == !b->grad &&
              (!a->grad || same_tensor(pair, a->grad, b->grad, a, err))) ||
             nb_fail(err, NB_ERROR_STATE,
                     "gradients are not in the same state at each call; call opt:zero_grad() inside");
    case STEP_OPTIMIZER:
      break;
  }
  bool same = a->slot_count == b->slot_count;
  for (int i = 0; same && i < a->slot_count; i++) same = a->slots[i].weight == b->slots[i].weight;
  return same || nb_fail(err, NB_ERROR_STATE, "the optimizer does not move the same parameters at each call");
}

bool nb_plan_same(const Plan *a, const Plan *b, Error *err) {
  Pair pair = {.a = a, .b = b};
  bool ok = false;
  if (!storage_map_open(&pair.in_a, a, err)) return false;
  if (!storage_map_open(&pair.in_b, b, err)) goto done;
  ok = a->count == b->count ||
       nb_fail(err, NB_ERROR_STATE, "it does not do as much at each call: %d steps, then %d", a->count, b->count);
  for (int i = 0; ok && i < a->count; i++) ok = same_step(&pair, a->step[i], b->step[i], err);
  storage_map_close(&pair.in_b);
done:
  storage_map_close(&pair.in_a);
  return ok;
}

// ---- replaying ----

// The first that happened to a leaf's gradient tells in what state it was.
bool nb_plan_ready(const Plan *p) {
  for (int i = 0; i < p->grad_guards; i++) {
    const PlanStep *s = p->guard[i];
    if (s->leaf->grad != s->before) return false;
  }
  return true;
}

bool nb_plan_fits(const Plan *p, Tensor *const *inputs, int count) {
  if (count != p->inputs) return false;
  for (int i = 0; i < count; i++) {
    const Layout *l = &inputs[i]->layout, *want = &p->input[i]->layout;
    if (l->dtype != want->dtype || l->ndim != want->ndim || nb_tensor_tracked(inputs[i])) return false;
    for (int d = 0; d < l->ndim; d++)
      if (l->shape[d] != want->shape[d]) return false;
    if (!nb_layout_contiguous(l)) return false;
  }
  return true;
}

void plan_find_operands(PlanStep *s) {
  for (int k = 0; k < s->walk.count; k++)
    if (!s->local[k]) s->walk.base[k] = nb_tensor_data(s->tensor[k]);
  for (int k = 0; k < COUNT(s->brief_at) && s->brief.tensor[k]; k++)
    s->brief_at[k] = nb_tensor_data(s->brief.tensor[k]);
}

static bool run_call(PlanStep *s, Error *err) {
  if (s->moves) plan_find_operands(s);
  if (s->walk.count) {
    nb_walk_run(&s->walk);
  } else if (s->brief.run) {
    s->brief.run(s->brief_at, s->brief.n);
  } else if (!s->call.op->forward(&s->call, err)) {
    return false;
  }
  if (s->kind == STEP_IN_PLACE) {
    s->call.out[0]->storage->version++;
    s->call.out[0]->storage->written = s->site;
  }
  return true;
}

static bool run_step(PlanStep *s, Error *err) {
  switch (s->kind) {
    case STEP_CALL:
    case STEP_IN_PLACE:
      return run_call(s, err);
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
    if (s->kind != STEP_CALL || s->group || s->moves) continue;
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

bool nb_plan_run(Plan *p, Tensor *const *inputs, Error *err) {
  bool grad = nb_grad_enabled(), ok = true;
  char *own[PLAN_INPUTS];
  nb_set_grad_enabled(false);
  for (int i = 0; i < p->inputs; i++) {
    own[i] = p->input[i]->storage->data;
    p->input[i]->storage->data = nb_tensor_data(inputs[i]);
  }
  for (int i = 0; ok && i < p->count;) {
    if (run_quick(&p->quick[i])) {
      if (++i % 8 == 0) ok = nb_poll(err);
      continue;
    }
    PlanStep *s = p->step[i];
    if (s->group > 1) {
      plan_run_group(p, i, s->group);
      i += s->group;
    } else {
      ok = run_step(s, err);
      if (!ok && s->kind <= STEP_IN_PLACE) nb_op_name_error(s->call.op, err);
      i++;
    }
    ok = ok && nb_poll(err);
  }
  for (int i = 0; i < p->inputs; i++) p->input[i]->storage->data = own[i];
  nb_set_grad_enabled(grad);
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

int nb_plan_results(const Plan *p) {
  return p->results;
}

Tensor *nb_plan_result(const Plan *p, int i) {
  return p->result[i];
}

// ---- the rest ----

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

void plan_release_step(PlanStep *s) {
  if (s->kind <= STEP_IN_PLACE) {
    const Op *op = s->call.op;
    for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
      if (op->params[i].kind <= NB_PARAM_MASK) nb_tensor_release(&s->args[i].tensor);
      if (op->params[i].kind == NB_PARAM_TENSORS)
        for (int j = 0; j < s->args[i].tensors.count; j++) nb_tensor_release(&s->args[i].tensors.items[j]);
    }
    for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_release(&s->call.out[i]);
  }
  nb_tensor_release(&s->leaf);
  nb_tensor_release(&s->grad);
  for (int i = 0; i < s->slot_count; i++)
    for (int k = 0; k < NB_SLOT_TENSORS; k++) nb_tensor_release(&s->slots[i].all[k]);
  nb_free(s, s->bytes);
}

void nb_plan_free(Plan **slot) {
  Plan *p = *slot;
  *slot = NULL;
  if (!p) return;
  if (nb_recording == p) nb_recording = NULL;
  plan_return_memory(p);
  for (int i = 0; i < p->count; i++) plan_release_step(p->step[i]);
  for (int i = 0; i < p->inputs; i++) nb_tensor_release(&p->input[i]);
  for (int i = 0; i < p->results; i++) nb_tensor_release(&p->result[i]);
  nb_free(p->quick, (size_t)(p->count + 1) * sizeof *p->quick);
  if (p->step) nb_free(p->step, (size_t)p->capacity * sizeof *p->step);
  nb_free(p, sizeof *p);
}
