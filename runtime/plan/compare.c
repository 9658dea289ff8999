// SPDX-License-Identifier: MIT
// Whether two recordings of a function did the same, each on its own inputs.
#include <string.h>

#include "nablua/args.h"
#include "steps.h"

// A tensor's storage by where it comes from: an input, an output of a step, or outside.
typedef struct Origin {
  int step, output;  // step −1: an input; −2: from outside
} Origin;

static Origin origin_of(const Plan *p, const AddressMap *map, const Tensor *t) {
  int place = plan_place_of(map, t);
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
  AddressMap in_a, in_b;
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

// One comparison of tensors within that of arguments.
typedef struct Question {
  const Pair *pair;
  const PlanStep *step;
  Error *err;
} Question;

static bool ask_tensor(void *ctx, const Tensor *a, const Tensor *b) {
  const Question *q = ctx;
  return same_tensor(q->pair, a, b, q->step, q->err);
}

static bool same_args(const Pair *pair, const PlanStep *a, const PlanStep *b, Error *err) {
  const Op *op = a->call.op;
  Question q = {pair, a, err};
  int differs = nb_args_compare(op, a->args, b->args, ask_tensor, &q);
  return differs == NB_ARGS_SAME ||
         (differs != NB_ARGS_TENSOR &&
          nb_fail(err, NB_ERROR_STATE,
                  "%s of %s is another at each call; a compiled function keeps Lua's numbers (%s:%d)",
                  op->params[differs].name, op->name, a->site.source ? a->site.source : "?", a->site.line));
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
  if (!plan_map_storages(&pair.in_a, a, err)) return false;
  if (!plan_map_storages(&pair.in_b, b, err)) goto done;
  ok = a->count == b->count ||
       nb_fail(err, NB_ERROR_STATE, "it does not do as much at each call: %d steps, then %d", a->count, b->count);
  for (int i = 0; ok && i < a->count; i++) ok = same_step(&pair, a->step[i], b->step[i], err);
  nb_map_close(&pair.in_b);
done:
  nb_map_close(&pair.in_a);
  return ok;
}
