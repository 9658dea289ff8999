// SPDX-License-Identifier: MIT
// Applying operators: check, shape, allocate, compute, record.
#include "nablua/op.h"

#include <math.h>
#include <string.h>

#include "nablua/compose.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/observe.h"
#include "plan_private.h"
#include "tape_private.h"

extern const OpFamily ops_create, ops_arithmetic, ops_compare, ops_math, ops_activation, ops_reduce, ops_scan,
    ops_shape, ops_join, ops_index, ops_lookup, ops_scatter, ops_mask, ops_sort, ops_pooling, ops_matrix,
    ops_convolution, ops_recurrent, ops_attention, ops_normalize, ops_loss, ops_random, ops_assign, ops_view,
    ops_linalg, ops_spectral;

// The order is the reference's.
const OpFamily *const nb_families[] = {&ops_create,     &ops_arithmetic,  &ops_compare, &ops_math,
                                       &ops_activation, &ops_reduce,      &ops_scan,    &ops_shape,
                                       &ops_join,       &ops_index,       &ops_lookup,  &ops_scatter,
                                       &ops_mask,       &ops_sort,        &ops_matrix,  &ops_linalg,
                                       &ops_spectral,   &ops_convolution, &ops_pooling, &ops_recurrent,
                                       &ops_attention,  &ops_normalize,   &ops_loss,    &ops_random,
                                       &ops_assign,     &ops_view,        NULL};

enum { TABLE = 1024 };

static unsigned hash(const char *name) {
  unsigned h = 2166136261u;
  for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
  return h;
}

const Op *nb_op_find(const char *name) {
  static const Op *table[TABLE];
  static bool filled;
  if (!filled) {
    for (const OpFamily *const *f = nb_families; *f; f++) {
      for (int i = 0; i < (*f)->count; i++) {
        unsigned slot = hash((*f)->ops[i].name) % TABLE;
        while (table[slot]) slot = (slot + 1) % TABLE;
        table[slot] = &(*f)->ops[i];
      }
    }
    filled = true;
  }
  for (unsigned slot = hash(name) % TABLE; table[slot]; slot = (slot + 1) % TABLE)
    if (strcmp(table[slot]->name, name) == 0) return table[slot];
  return NULL;
}

int nb_op_params(const Op *op) {
  int n = 0;
  while (n < NB_MAX_PARAMS && op->params[n].name) n++;
  return n;
}

void nb_object_release(Object **slot) {
  Object *object = *slot;
  *slot = NULL;
  if (object && --object->refs == 0) object->destroy(object);
}

static int output_count(const Op *op) {
  return op->outputs ? op->outputs : 1;
}

int nb_op_results(const Op *op, const Value *args) {
  return op->returns ? op->returns(args) : output_count(op) - op->hidden;
}

static bool is_tensor(ParamKind kind) {
  return kind <= NB_PARAM_MASK;
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

// A copy as i64 of a tensor of whole numbers.
static Tensor *as_index(const Op *op, const Param *p, Tensor *t, Scope *s) {
  if (t->layout.dtype == NB_I64) return t;
  if (nb_dtype_is_float(t->layout.dtype)) {
    Tensor *flat = nb_contiguous(s, t);
    if (!flat) return NULL;
    int64_t n = nb_layout_numel(&flat->layout);
    for (int64_t i = 0; i < n; i++) {
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
  bool recording = nb_grad_enabled();
  *tracked = false;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    ParamKind kind = op->params[i].kind;
    if (!is_tensor(kind) && kind != NB_PARAM_TENSORS) continue;
    int count = is_tensor(kind) ? 1 : args[i].tensors.count;
    Tensor *const *list = is_tensor(kind) ? &args[i].tensor : args[i].tensors.items;
    for (int j = 0; j < count; j++) {
      const Tensor *t = list[j];
      if (!t) continue;
      if (!check_input(op, t, recording, s->err)) return false;
      if (nb_tensor_tracked(t)) *tracked = true;
    }
    if (kind == NB_PARAM_INDEX && args[i].tensor) {
      if (!(args[i].tensor = as_index(op, &op->params[i], args[i].tensor, s))) return false;
    } else if (kind == NB_PARAM_MASK && args[i].tensor) {
      if (!(args[i].tensor = nb_to(s, args[i].tensor, NB_BOOL))) return false;
    }
  }
  *tracked = *tracked && recording && op->backward;
  return true;
}

// Puts the operator's name before a sentence that lacks it.
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

static bool allocate(Call *c, Error *err) {
  for (int i = 0; i < output_count(c->op); i++) {
    if (c->view && !nb_layout_check(&c->layout[i], err)) return false;
    c->out[i] = c->view ? nb_tensor_alias(c->args[0].tensor, &c->layout[i], err) : nb_tensor_new(&c->layout[i], err);
    if (!c->out[i]) return false;
    const Tensor *x = c->view ? c->args[0].tensor : NULL;
    if (!x) continue;
    c->out[i]->is_view = x->is_view || x->storage->owner == x;
    c->out[i]->is_blind = c->out[i]->is_view && (x->is_blind || !nb_grad_enabled());
  }
  return true;
}

// ---- watching: these apply again with no observer ----

static const Observer *observer;

const Observer *nb_observe(const Observer *o) {
  const Observer *before = observer;
  observer = o;
  return before;
}

__attribute__((noinline, cold)) static bool apply_observed(const Op *op, const Value *args, Tensor **out, Error *err) {
  const Observer *o = nb_observe(NULL);
  bool ok = nb_apply(op, args, out, err);
  if (ok && o->applied) {
    int count = nb_op_results(op, args);
    ok = o->applied(o->user, op, args, out, count, false, err);
    for (int i = 0; !ok && i < count; i++) nb_tensor_release(&out[i]);
  }
  nb_observe(o);
  return ok;
}

__attribute__((noinline, cold)) static bool apply_inplace_observed(const Op *op, const Value *args, Error *err) {
  const Observer *o = nb_observe(NULL);
  bool ok = (!o->writing || o->writing(o->user, args[0].tensor, err)) && nb_apply_inplace(op, args, err);
  if (ok && o->applied) ok = o->applied(o->user, op, args, &(Tensor *){args[0].tensor}, 1, true, err);
  nb_observe(o);
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
  if (observer) return apply_observed(op, args, out, err);
  Value local[NB_MAX_PARAMS];
  Call c;
  Scope s;
  bool ok = false, tracked;
  int count = output_count(op);
  begin_call(&c, op, args, local);
  c.view = op->view;
  nb_scope_open(&s, err);
  if (!prepare(op, local, &tracked, &s)) goto done;
  if (!op->shape(&c, err)) goto done;
  if (!op->dynamic && !allocate(&c, err)) goto done;
  if (!c.view) {
    // A forward composed of operators must not leave nodes of its own.
    bool grad = nb_grad_enabled();
    Plan *plan = nb_recording;
    if (grad) nb_set_grad_enabled(false);
    nb_recording = NULL;
    ok = op->forward(&c, err);
    nb_recording = plan;
    if (grad) nb_set_grad_enabled(true);
    if (!ok || !(ok = nb_poll(err))) goto done;
  }
  ok = !tracked || nb_record(&c, err);
  if (ok && nb_recording) nb_plan_note_call(&c, false);
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
  if (observer) return apply_inplace_observed(op, args, err);
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
    Tensor *t = is_tensor(op->params[i].kind) ? local[i].tensor : NULL;
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
  Plan *plan = nb_recording;
  nb_recording = NULL;
  ok = op->forward(&c, err);
  nb_recording = plan;
  if (ok && plan) nb_plan_note_call(&c, true);
  nb_set_grad_enabled(grad);
  target->storage->version++;
  target->storage->written = nb_site_now();
  if (ok && grad) ok = record_write(&c, target, tracked, owner_current, err);
done:
  nb_set_grad_enabled(grad);
  nb_scope_close(&s);
  if (!ok) nb_op_name_error(op, err);
  return ok;
}
