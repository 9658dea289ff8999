// SPDX-License-Identifier: MIT
// Applying operators: check, shape, allocate, compute, record.
#include "nablua/op.h"

#include <math.h>
#include <string.h>

#include "nablua/args.h"
#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "nablua/modes.h"
#include "subnormal.h"
#include "tape_private.h"

// ---- the table ----

enum { SLOTS = 1024 };

static const OpFamily *const nothing[] = {NULL}, *const *families = nothing;
static const Op *table[SLOTS];

// Where a name stands, or would stand.
static const Op **slot_of(const char *name) {
  size_t slot = (size_t)nb_hash_text(name) % SLOTS;
  while (table[slot] && strcmp(table[slot]->name, name) != 0) slot = (slot + 1) % SLOTS;
  return &table[slot];
}

bool nb_op_register(const OpFamily *const *list, Error *err) {
  int count = 0;
  memset(table, 0, sizeof table);
  families = list;
  for (const OpFamily *const *f = list; *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      const Op *op = &(*f)->ops[i], **slot = slot_of(op->name);
      if (*slot)
        return nb_fail(err, NB_ERROR_STATE,
                       "the operator %s has two rows, one of them in the family %s; names are for one", op->name,
                       (*f)->title);
      if (++count == SLOTS)
        return nb_fail(err, NB_ERROR_STATE, "the table of operators (op.c) has room for %d rows only", SLOTS - 1);
      *slot = op;
    }
  }
  return true;
}

const OpFamily *const *nb_op_families(void) {
  return families;
}

const Op *nb_op_find(const char *name) {
  return *slot_of(name);
}

const Op *nb_op_need(const char *name, Error *err) {
  const Op *op = nb_op_find(name);
  if (!op) nb_fail(err, NB_ERROR_STATE, "there is no operator named %s", name);
  return op;
}

int nb_op_params(const Op *op) {
  int n = 0;
  while (n < NB_MAX_PARAMS && op->params[n].name) n++;
  return n;
}

int nb_op_results(const Op *op, const Value *args) {
  return op->returns ? op->returns(args) : nb_op_outputs(op) - op->hidden;
}

// What makes a tensor unfit to be an argument, whatever the operator.
static bool check_input(const Op *op, const Tensor *t, bool recording, Error *err) {
  if (!t->storage)
    return nb_fail(err, NB_ERROR_STATE, "%s: a backward rule reads a value that its row does not save", op->name);
  if (recording && t->history != t->storage->history)
    return nb_fail(
        err, NB_ERROR_STATE,
        "%s: this tensor shares its memory with one that was changed in place at %s:%d, so its own history is "
        "out of date; take the view again after the change",
        op->name, t->storage->written.source ? t->storage->written.source : "?", t->storage->written.line);
  return true;
}

enum { POLLED = 1 << 16 };  // elements between two looks at the interrupt flag

// A copy as i64 of a tensor of whole numbers.
static Tensor *as_index(const Op *op, const Param *p, Tensor *t, Scope *s) {
  if (t->layout.dtype == NB_I64) return t;
  if (nb_dtype_is_float(t->layout.dtype)) {
    Tensor *flat = nb_contiguous(s, t);
    if (!flat) return NULL;
    int64_t n = nb_layout_numel(&flat->layout);
    for (int64_t i = 0; i < n; i++) {
      if (i % POLLED == 0 && !nb_poll(s->err)) return NULL;
      double v = nb_tensor_get(flat, i);
      if (v != rint(v) || fabs(v) > 9007199254740992.0) {
        nb_fail(s->err, NB_ERROR_ARGUMENT, "%s: %s must hold whole numbers, but element %lld is %g", op->name, p->name,
                (long long)i + 1, v);
        return NULL;
      }
    }
  }
  return nb_to(s, t, NB_I64);
}

// Checks all tensor arguments and converts index and mask arguments in `args`, a copy.
static bool prepare(const Op *op, Value *args, bool *tracked, Scope *s) {
  bool recording = nb_grad_enabled(), any = false;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    const Param *p = &op->params[i];
    if (nb_arg_is_tensor(p)) {
      Tensor *t = args[i].tensor;
      if (!t) continue;
      if (!check_input(op, t, recording, s->err)) return false;
      any = any || nb_tensor_tracked(t);
      if (p->kind < NB_PARAM_INDEX) continue;
      args[i].tensor = p->kind == NB_PARAM_INDEX ? as_index(op, p, t, s) : nb_to(s, t, NB_BOOL);
      if (!args[i].tensor) return false;
    } else if (p->kind == NB_PARAM_TENSORS) {
      for (int j = 0; j < args[i].tensors.count; j++) {
        const Tensor *t = args[i].tensors.items[j];
        if (!t) continue;
        if (!check_input(op, t, recording, s->err)) return false;
        any = any || nb_tensor_tracked(t);
      }
    }
  }
  *tracked = any && recording && op->backward;
  return true;
}

void nb_op_name_error(const Op *op, Error *err) {
  size_t n = strlen(op->name);
  if (err->kind != NB_ERROR_ARGUMENT) return;
  if (strncmp(err->message, op->name, n) == 0 && err->message[n] == ':') return;
  char *m = err->message;
  size_t length = strlen(m);
  if (length + n + 3 > sizeof err->message) length = sizeof err->message - n - 3;
  memmove(m + n + 2, m, length);
  m[length + n + 2] = '\0';
  memcpy(m, op->name, n);
  memcpy(m + n, ": ", 2);
}

// Views of the first argument.
static bool make_views(Call *c, Error *err) {
  const Tensor *x = c->args[0].tensor;
  for (int i = 0; i < nb_op_outputs(c->op); i++) {
    if (!nb_layout_check(&c->layout[i], err)) return false;
    Tensor *y = c->out[i] = nb_tensor_alias(c->args[0].tensor, &c->layout[i], err);
    if (!y) return false;
    y->is_view = x->is_view || x->storage->owner == x;
    y->is_blind = y->is_view && (x->is_blind || !nb_grad_enabled());
  }
  return true;
}

static bool allocate(Call *c, Error *err) {
  if (c->view) return make_views(c, err);
  for (int i = 0; i < nb_op_outputs(c->op); i++)
    if (!(c->out[i] = nb_tensor_new(&c->layout[i], err))) return false;
  return true;
}

// ---- what users apply, when somebody listens: these apply again, unheard ----

__attribute__((noinline, cold)) static bool apply_heard(const Op *op, const Value *args, Tensor **out, Error *err) {
  nb_voices.deaf[NB_OUTER]++;
  bool ok = nb_apply(op, args, out, err);
  nb_voices.deaf[NB_OUTER]--;
  if (!ok) return false;
  int count = nb_op_results(op, args);
  if (nb_tell_applied(NB_OUTER, &(Applied){.op = op, .args = args, .out = out, .count = count}, err)) return true;
  for (int i = 0; i < count; i++) nb_tensor_release(&out[i]);
  return false;
}

__attribute__((noinline, cold)) static bool apply_inplace_heard(const Op *op, const Value *args, Error *err) {
  Tensor *target = args[0].tensor;
  if (!nb_tell_writing(target, err)) return false;
  nb_voices.deaf[NB_OUTER]++;
  bool ok = nb_apply_inplace(op, args, err);
  nb_voices.deaf[NB_OUTER]--;
  Applied a = {.op = op, .args = args, .out = &target, .count = 1, .in_place = true};
  return ok && nb_tell_applied(NB_OUTER, &a, err);
}

// Tells who listens to single calls of one whose forward has computed.
__attribute__((noinline, cold)) static bool tell_inner(const Call *c, bool in_place, Error *err) {
  Applied a = {.op = c->op, .args = c->args, .out = c->out, .in_place = in_place, .call = c};
  a.count = in_place ? 1 : nb_op_outputs(c->op);
  return nb_tell_applied(NB_INNER, &a, err);
}

static int flushing;

int nb_flushing(void) {
  return flushing;
}

void nb_flush_more(int by) {
  flushing += by;
}

__attribute__((noinline, cold)) static bool forward_flushing(Call *c, Error *err) {
  uint64_t before = flush_begin();
  bool ok = c->op->forward(c, err);
  float_control_set(before);
  return ok;
}

// A forward may be composed of operators: these leave no nodes of their own, and nobody hears of them.
static inline bool run_forward(Call *c, Error *err) {
  bool grad = nb_grad_enabled();
  if (nb_is_heard(NB_INNER)) nb_tell_computing(c->op);
  if (grad) nb_set_grad_enabled(false);
  nb_voices.deaf[NB_INNER]++;
  bool ok = flushing && !c->op->life ? forward_flushing(c, err) : c->op->forward(c, err);
  nb_voices.deaf[NB_INNER]--;
  if (grad) nb_set_grad_enabled(true);
  return ok;
}

// A call with a copy of its arguments, and scalars' layouts.
static void begin_call(Call *c, const Op *op, const Value *args, Value *local) {
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) local[i] = args[i];
  c->op = op;
  c->args = local;
  c->compute = NB_DTYPES;
  c->view = false;
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) {
    c->layout[i].dtype = NB_BOOL;
    c->layout[i].ndim = 0;
    c->layout[i].offset = 0;
    c->out[i] = NULL;
  }
}

bool nb_apply(const Op *op, const Value *args, Tensor **out, Error *err) {
  if (nb_is_heard(NB_OUTER)) return apply_heard(op, args, out, err);
  Value local[NB_MAX_PARAMS];
  Call c;
  Scope s;
  bool ok = false, tracked;
  int count = nb_op_outputs(op);
  begin_call(&c, op, args, local);
  c.view = op->view;
  nb_scope_open(&s, err);
  if (!prepare(op, local, &tracked, &s)) goto done;
  if (!op->shape(&c, err)) goto done;
  if (!op->dynamic && !allocate(&c, err)) goto done;
  if (!c.view && !(run_forward(&c, err) && nb_poll(err))) goto done;
  ok = (!tracked || nb_record(&c, err)) && (c.view || !nb_is_heard(NB_INNER) || tell_inner(&c, false, err));
done:
  nb_scope_close(&s);
  if (!ok) {
    nb_op_name_error(op, err);
    for (int i = 0; i < count; i++) nb_tensor_release(&c.out[i]);
    return false;
  }
  int results = nb_op_results(op, args);
  for (int i = 0; i < results; i++) out[i] = c.out[i];
  for (int i = results; i < count; i++) nb_tensor_release(&c.out[i]);
  return true;
}

static bool check_target(const Op *op, const Call *c, const Tensor *t, Error *err) {
  char want[NB_SHAPE_TEXT], have[NB_SHAPE_TEXT];
  const Layout *l = &c->layout[0];
  bool same = l->ndim == t->layout.ndim;
  for (int d = 0; same && d < l->ndim; d++) same = l->shape[d] == t->layout.shape[d];
  if (!same)
    return nb_fail(err, NB_ERROR_ARGUMENT, "%s_: the result has shape %s and does not fit in place into %s", op->name,
                   nb_shape_text(l, want), nb_shape_text(&t->layout, have));
  if (l->dtype != t->layout.dtype)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "%s_: the result is %s and does not fit in place into a tensor of %s; convert with :to", op->name,
                   nb_dtype_name(l->dtype), nb_dtype_name(t->layout.dtype));
  for (int d = 0; d < t->layout.ndim; d++)
    if (t->layout.shape[d] > 1 && t->layout.strides[d] == 0)
      return nb_fail(
          err, NB_ERROR_ARGUMENT,
          "%s_: an expanded tensor has elements that share memory; call :contiguous() before writing in place",
          op->name);
  const Tensor *owner = t->is_view ? t->storage->owner : NULL;
  bool leaf = t->requires_grad && !t->node, of_leaf = owner && owner->requires_grad && !owner->node;
  if (nb_grad_enabled() && (leaf || of_leaf))
    return nb_fail(
        err, NB_ERROR_STATE,
        "%s_: a%s leaf that requires grad cannot be changed in place while gradients are recorded; wrap the change "
        "in nb.no_grad(function() ... end)",
        op->name, leaf ? "" : " view of a");
  if (t->is_blind && !op->overwrites && nb_grad_enabled() && owner && nb_tensor_tracked(owner))
    return nb_fail(
        err, NB_ERROR_STATE,
        "%s_: this view was made while gradients were off, so a change through it would lose the gradient of "
        "what it is a view of; make the view outside of nb.no_grad, or change it inside",
        op->name);
  return true;
}

// The tape's side of a write: the target's history ends in it, and so does that of the tensor it is a view of.
static bool record_write(Call *c, Tensor *target, bool tracked, bool owner_current, Error *err) {
  Tensor *owner = target->is_view && owner_current ? target->storage->owner : NULL;
  if (!nb_dtype_is_float(target->layout.dtype)) return true;
  if (tracked) {
    if (!nb_rebind(c, target, err)) return false;
  } else if (target->node || (owner && nb_tensor_tracked(owner))) {
    nb_unbind(target);  // what was written is constant
  } else {
    return true;
  }
  return !owner || nb_rebind_owner(owner, target, err);
}

bool nb_apply_inplace(const Op *op, const Value *args, Error *err) {
  if (nb_is_heard(NB_OUTER)) return apply_inplace_heard(op, args, err);
  Value local[NB_MAX_PARAMS];
  Call c;
  Scope s;
  bool ok = false, tracked, grad = nb_grad_enabled();
  Tensor *target = args[0].tensor, *owner = target->storage->owner;
  bool owner_current = owner && owner->history == target->storage->history;
  begin_call(&c, op, args, local);
  nb_scope_open(&s, err);
  if (!prepare(op, local, &tracked, &s) || !op->shape(&c, err) || !check_target(op, &c, target, err)) goto done;
  // What overlaps the target without being it would be read after it was written.
  nb_set_grad_enabled(false);
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    Tensor *t = nb_arg_is_tensor(&op->params[i]) ? local[i].tensor : NULL;
    bool overlaps = t && t->storage == target->storage && !nb_tensor_same(t, target);
    bool reads_old = t && t->storage == target->storage && tracked && (op->saves & NB_SAVE_IN(i));
    if (!overlaps && !reads_old) continue;
    Tensor *copy = nb_unary(&s, "clone", t);
    if (!copy) goto done;
    if (nb_tensor_tracked(t)) {  // the copy stands for the original on the tape
      copy->node = t->node;
      if (copy->node) nb_node_retain(copy->node);
      copy->output = t->output;
      copy->requires_grad = t->requires_grad;
    }
    local[i].tensor = copy;
  }
  c.out[0] = target;
  if (!nb_poll(err) || !nb_storage_write(target->storage, nb_site_now(), err)) goto done;
  nb_interrupt_hold();  // what is begun is written to the end
  ok = run_forward(&c, err) && (!nb_is_heard(NB_INNER) || tell_inner(&c, true, err));
  nb_interrupt_let();
  nb_set_grad_enabled(grad);
  if (ok && grad) ok = record_write(&c, target, tracked, owner_current, err);
done:
  nb_set_grad_enabled(grad);
  nb_scope_close(&s);
  if (!ok) nb_op_name_error(op, err);
  return ok;
}
