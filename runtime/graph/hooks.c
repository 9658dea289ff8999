// SPDX-License-Identifier: MIT
// Hooks: functions that see the gradient of one tensor on its way and may replace it.
#include <string.h>

#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "tape_private.h"

Hook *nb_tensor_hook(Tensor *t, HookFunction f, Error *err) {
  if (!nb_tensor_tracked(t)) {
    nb_fail(err, NB_ERROR_STATE,
            "register_hook: this tensor depends on none that requires grad, so it will have no gradient");
    return NULL;
  }
  Hook *h = nb_alloc(sizeof *h, err);
  if (!h) return NULL;
  *h = (Hook){.refs = 2, .output = t->node ? t->output : 0, .f = f};
  Hook **end = t->node ? &t->node->hooks : &t->hooks;
  while (*end) {
    if ((*end)->removed) {
      Hook *gone = *end;
      *end = gone->next;
      gone->next = NULL;
      nb_hook_release(&gone);
    } else {
      end = &(*end)->next;
    }
  }
  *end = h;
  return h;
}

void nb_hook_remove(Hook *h) {
  if (!h || h->removed) return;
  h->removed = true;
  h->f.release(h->f.user);
}

void nb_hook_release(Hook **slot) {
  Hook *h = *slot;
  *slot = NULL;
  if (!h || --h->refs > 0) return;
  nb_hook_remove(h);
  nb_hooks_release(&h->next);
  nb_free(h, sizeof *h);
}

void nb_hooks_release(Hook **list) {
  Hook *h = *list;
  *list = NULL;
  while (h) {
    Hook *next = h->next;
    h->next = NULL;
    nb_hook_remove(h);  // nothing calls it any more, whoever holds it
    nb_hook_release(&h);
    h = next;
  }
}

bool nb_hooks_left(const Hook *hooks) {
  while (hooks && hooks->removed) hooks = hooks->next;
  return hooks;
}

static bool fits(const Tensor *replacement, const Tensor *grad, Error *err) {
  char a[NB_SHAPE_TEXT], b[NB_SHAPE_TEXT];
  const Layout *l = &replacement->layout, *want = &grad->layout;
  bool same = l->ndim == want->ndim;
  for (int d = 0; same && d < l->ndim; d++) same = l->shape[d] == want->shape[d];
  return same || nb_fail(err, NB_ERROR_ARGUMENT, "a hook returned a gradient of shape %s for one of shape %s",
                         nb_shape_text(l, a), nb_shape_text(want, b));
}

// Others may hold the gradient too, so a change of its elements would change theirs.
static bool call_one(Hook *h, Tensor **grad, Error *err) {
  Scope s;
  uint32_t version = (*grad)->storage->version;
  Tensor *out = h->f.call(h->f.user, *grad, err);
  if (!out) return false;
  nb_scope_open(&s, err);
  nb_scope_own(&s, out);
  bool ok =
      (*grad)->storage->version == version ||
      nb_fail(err, NB_ERROR_STATE, "a hook changed its gradient in place; return the new gradient in place of that");
  ok = ok && fits(out, *grad, err) && (out = nb_to(&s, out, (*grad)->layout.dtype));
  if (ok) {
    nb_tensor_retain(out);
    nb_tensor_release(grad);
    *grad = out;
  }
  nb_scope_close(&s);
  return ok;
}

bool nb_hooks_call(Hook *hooks, int output, Tensor **grad, Error *err) {
  bool ok = true;
  if (hooks) nb_tell_unrepeatable("its backward calls hooks");
  if (hooks) hooks->refs++;
  for (Hook *h = hooks; h;) {
    if (ok && !h->removed && h->output == output) ok = call_one(h, grad, err);
    Hook *next = h->next;
    if (next) next->refs++;
    nb_hook_release(&h);
    h = next;
  }
  return ok;
}
