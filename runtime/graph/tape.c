// SPDX-License-Identifier: MIT
// Recording nodes, walking them back, releasing them.
#include "nablua/tape.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "nablua/op.h"
#include "nablua/references.h"
#include "tape_private.h"
#include "uses.h"

static bool grad_enabled = true;
static uint64_t next_order;
static Node *latest;  // the first of all nodes that live
static Site (*site_provider)(const void **module);

bool nb_grad_enabled(void) {
  return grad_enabled;
}

void nb_set_grad_enabled(bool on) {
  grad_enabled = on;
}

void nb_set_site_provider(Site (*provider)(const void **module)) {
  site_provider = provider;
}

Site nb_site_now(void) {
  return site_provider ? site_provider(NULL) : (Site){NULL, 0};
}

uint64_t nb_last_order(void) {
  return next_order;
}

static const char *site_source(Site s) {
  return s.source ? s.source : "?";
}

// ---- nodes ----

static void join_living(Node *n) {
  n->after = latest;
  if (latest) latest->before = n;
  latest = n;
}

static void leave_living(const Node *n) {
  if (n->after) n->after->before = n->before;
  if (n->before)
    n->before->after = n->after;
  else
    latest = n->after;
}

Node *nb_node_retain(Node *n) {
  n->refs++;
  return n;
}

// Lets go of all values; a node freed by a backward also lets go of what is behind it.
static void drop_values(Node *n) {
  nb_args_release(n->op, n->args);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_release(&n->saved_out[i]);
  nb_hooks_release(&n->hooks);  // what a hook's function refers to may well be the node
  for (int i = 0; i < n->edge_count; i++) {
    nb_node_release(&n->edges[i].node);
    nb_tensor_release(&n->edges[i].leaf);
  }
}

void nb_node_release(Node **slot) {
  static Node *dead;
  static bool draining;
  Node *n = *slot;
  *slot = NULL;
  if (!n || --n->refs > 0) return;
  n->next_dead = dead;
  dead = n;
  if (draining) return;
  draining = true;
  while (dead) {
    n = dead;
    dead = n->next_dead;
    Object *life = n->op->life;
    drop_values(n);
    leave_living(n);
    nb_free(n, n->bytes);
    if (life) nb_object_release(&life);
  }
  draining = false;
}

// A rule that runs what users wrote may meet another walk over its own node, which somebody holds meanwhile: what the
// rule reads stays until it has ended.
static inline void end_use(Node *n) {
  if (--n->uses == 0 && n->freed) drop_values(n);
}

void nb_node_forget(const Tensor *t) {
  if (t->node && t->node->watcher[t->output] == t) t->node->watcher[t->output] = NULL;
}

void nb_tensor_retain_grad(Tensor *t) {
  t->retains_grad = true;
  if (t->node) t->node->watcher[t->output] = t;
}

// Copies the arguments into the node's own block: [Node | args | edges | lists | versions].
static Node *node_new(const Op *op, const Value *args, Error *err) {
  int params = nb_op_params(op), edges = nb_args_edges(op, args);
  size_t bytes = sizeof(Node) + (size_t)params * sizeof(Value) + (size_t)edges * (sizeof(Edge) + sizeof(uint32_t)) +
                 nb_args_list_bytes(op, args);
  Node *n = nb_alloc(bytes, err);
  if (!n) return NULL;
  memset(n, 0, bytes);
  n->op = op;
  if (op->life) op->life->refs++;
  n->refs = 1;
  n->bytes = bytes;
  n->edge_count = edges;
  n->args = (Value *)(n + 1);
  n->edges = (Edge *)(n->args + params);
  n->versions = nb_args_copy(op, n->args, args, n->edges + edges, false);
  join_living(n);
  return n;
}

// The node's own hold on a tensor argument: itself when backward reads it, else its shape alone.
static bool hold(const Op *op, int param, Tensor *t, Tensor **slot, Edge *edge, uint32_t *version, Error *err) {
  if (!t) return true;
  bool needed = op->saves & NB_SAVE_IN(param);
  *version = t->storage->version;
  if (t->node) {
    edge->node = nb_node_retain(t->node);
    edge->output = t->output;
  } else if (t->requires_grad) {
    edge->leaf = nb_tensor_retain(t);
  }
  *slot = needed || edge->leaf ? nb_tensor_retain(t) : nb_tensor_shape_only(&t->layout, err);
  return *slot;
}

static Node *make_node(Call *c, Error *err) {
  const Op *op = c->op;
  Node *n = node_new(op, c->args, err);
  if (!n) return NULL;
  int edge = 0;
  for (int i = 0; i < NB_MAX_PARAMS && op->params[i].name; i++) {
    Tensor **from, **to;
    int count = nb_arg_tensors(&op->params[i], &c->args[i], &from);
    nb_arg_tensors(&op->params[i], &n->args[i], &to);
    for (int j = 0; j < count; j++, edge++) {
      if (!hold(op, i, from[j], &to[j], &n->edges[edge], &n->versions[edge], err)) {
        nb_node_release(&n);
        return NULL;
      }
    }
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) {
    if (!(op->saves & NB_SAVE_OUT(i))) continue;
    n->saved_out[i] = nb_tensor_alias(c->out[i], &c->out[i]->layout, err);
    if (!n->saved_out[i]) {
      nb_node_release(&n);
      return NULL;
    }
    n->out_version[i] = c->out[i]->storage->version;
  }
  n->order = ++next_order;
  if (site_provider) n->site = site_provider(&n->module);
  return n;
}

bool nb_record(Call *c, Error *err) {
  int count = nb_op_outputs(c->op);
  Node *n = make_node(c, err);
  if (!n) return false;
  for (int i = 0; i < count; i++) {
    if (!nb_dtype_is_float(c->out[i]->layout.dtype)) continue;
    c->out[i]->node = nb_node_retain(n);
    c->out[i]->output = i;
  }
  nb_node_release(&n);
  return true;
}

bool nb_rebind(Call *c, Tensor *target, Error *err) {
  Node *n = make_node(c, err);
  if (!n) return false;
  if (target->refs > 1) nb_suspect(target);  // what is written may come from it, or be of what it is the gradient of
  nb_node_forget(target);
  nb_node_release(&target->node);
  target->node = n;
  target->output = 0;
  target->history = ++target->storage->history;
  if (target->retains_grad) n->watcher[0] = target;
  return true;
}

void nb_unbind(Tensor *target) {
  nb_node_forget(target);
  nb_node_release(&target->node);
  target->history = ++target->storage->history;
}

int nb_view_place(const Layout *view, int64_t *place) {
  place[0] = view->offset;
  memcpy(place + 1, view->shape, (size_t)view->ndim * sizeof *place);
  memcpy(place + 1 + view->ndim, view->strides, (size_t)view->ndim * sizeof *place);
  return 1 + 2 * view->ndim;
}

bool nb_rebind_owner(Tensor *owner, Tensor *view, Error *err) {
  int64_t place[1 + 2 * NB_MAX_DIMS];
  Call c = {.op = nb_op_need("view_put", err),
            .args = (Value[NB_MAX_PARAMS]){
                {.tensor = owner}, {.tensor = view}, {.ints = {place, nb_view_place(&view->layout, place)}}}};
  if (!c.op || !nb_rebind(&c, owner, err)) return false;
  view->history = owner->history;
  return true;
}

// ---- backward ----

typedef struct Pending {
  Node *node;  // owned
  Tensor *grad[NB_MAX_OUTPUTS];
  intptr_t before;  // node->place in the walk within which this one was called
} Pending;

typedef struct LeafGrad {
  Tensor *leaf, *grad;  // owned
  bool told;            // that it has arrived
} LeafGrad;

// One walk.  `heap` orders the indices of `pending` by node; slots in nodes and leaves find them.
typedef struct Walk {
  Pending *pending;
  int *heap;
  int pending_count, heap_count;
  size_t pending_room, heap_room, leaf_room;
  LeafGrad *leaves;
  int leaf_count;
  BackwardOptions options;
  Tensor *const *targets;
  Tensor **results;
  int target_count;
  bool heard;       // somebody hears of each visit; of what rules apply nobody does
  bool awaited;     // somebody hears of leaves whose gradient is all there
  AddressMap uses;  // then: how many edges to each leaf are left
  Site site;
  Error *err;
} Walk;

static bool later(const Walk *w, int a, int b) {
  return w->pending[w->heap[a]].node->order > w->pending[w->heap[b]].node->order;
}

static void heap_swap(Walk *w, int a, int b) {
  int t = w->heap[a];
  w->heap[a] = w->heap[b];
  w->heap[b] = t;
}

static void heap_push(Walk *w, int index) {
  int i = w->heap_count++;
  w->heap[i] = index;
  for (; i > 0 && later(w, i, (i - 1) / 2); i = (i - 1) / 2) heap_swap(w, i, (i - 1) / 2);
}

static int heap_pop(Walk *w) {
  int top = w->heap[0];
  w->heap[0] = w->heap[--w->heap_count];
  for (int i = 0;;) {
    int best = i, left = 2 * i + 1;
    if (left < w->heap_count && later(w, left, best)) best = left;
    if (left + 1 < w->heap_count && later(w, left + 1, best)) best = left + 1;
    if (best == i) return top;
    heap_swap(w, i, best);
    i = best;
  }
}

// The place of a node among the pending, made when it has none.
static Pending *pending_of(Walk *w, Node *n) {
  intptr_t slot = n->place;
  if (slot > 0 && slot <= w->pending_count && w->pending[slot - 1].node == n) return &w->pending[slot - 1];
  if (!nb_grow(&w->pending, &w->pending_room, (size_t)w->pending_count + 1, sizeof *w->pending, w->err) ||
      !nb_grow(&w->heap, &w->heap_room, (size_t)w->heap_count + 1, sizeof *w->heap, w->err))
    return NULL;
  w->pending[w->pending_count] = (Pending){.node = nb_node_retain(n), .before = n->place};
  heap_push(w, w->pending_count++);
  n->place = w->pending_count;
  return &w->pending[w->pending_count - 1];
}

// *sum += grad; takes the gradient as it is when it is the first.
static bool accumulate(Walk *w, Tensor **sum, Tensor *grad) {
  Scope s;
  if (!*sum) {
    *sum = nb_tensor_retain(grad);
    return true;
  }
  bool ours = (*sum)->refs == 1 && (*sum)->storage->refs == 1 && !(*sum)->node && !w->options.create_graph &&
              nb_layout_contiguous(&(*sum)->layout);
  if (ours) {
    const Op *add = nb_op_need("add", w->err);
    return add && nb_apply_inplace(add, (Value[NB_MAX_PARAMS]){{.tensor = *sum}, {.tensor = grad}}, w->err);
  }
  nb_scope_open(&s, w->err);
  Tensor *total = nb_tensor_retain(nb_add(&s, *sum, grad));
  nb_scope_close(&s);
  if (!total) return false;
  nb_tensor_release(sum);
  *sum = total;
  return true;
}

static bool accumulate_leaf(Walk *w, Tensor *leaf, Tensor *grad) {
  for (int i = 0; i < w->leaf_count; i++)
    if (w->leaves[i].leaf == leaf) return accumulate(w, &w->leaves[i].grad, grad);
  if (!nb_grow(&w->leaves, &w->leaf_room, (size_t)w->leaf_count + 1, sizeof *w->leaves, w->err)) return false;
  w->leaves[w->leaf_count++] = (LeafGrad){nb_tensor_retain(leaf), nb_tensor_retain(grad), false};
  return true;
}

static bool send(Walk *w, const Edge *e, Tensor *grad) {
  if (e->node) {
    Pending *p = pending_of(w, e->node);
    return p && accumulate(w, &p->grad[e->output], grad);
  }
  return !e->leaf || accumulate_leaf(w, e->leaf, grad);
}

static bool changed(const Node *n, const Tensor *t, Error *err) {
  return nb_fail(
      err, NB_ERROR_STATE,
      "backward: %s at %s:%d needs a tensor that was changed in place later, at %s:%d; use the form that makes a new "
      "tensor there, or change a :clone()",
      n->op->name, site_source(n->site), n->site.line, site_source(t->storage->written), t->storage->written.line);
}

static bool check_unchanged(const Node *n, Error *err) {
  int edge = 0;
  for (int i = 0; i < NB_MAX_PARAMS && n->op->params[i].name; i++) {
    Tensor **list;
    for (int j = 0, count = nb_arg_tensors(&n->op->params[i], &n->args[i], &list); j < count; j++, edge++)
      if (list[j] && (n->op->saves & NB_SAVE_IN(i)) && list[j]->storage->version != n->versions[edge])
        return changed(n, list[j], err);
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (n->saved_out[i] && n->saved_out[i]->storage->version != n->out_version[i])
      return changed(n, n->saved_out[i], err);
  return true;
}

// Whether the node's rule reads what a storage holds now.
static bool needs(const Node *n, const Storage *s) {
  int edge = 0;
  for (int i = 0; i < NB_MAX_PARAMS && n->op->params[i].name; i++) {
    Tensor **list;
    for (int j = 0, count = nb_arg_tensors(&n->op->params[i], &n->args[i], &list); j < count; j++, edge++)
      if (list[j] && (n->op->saves & NB_SAVE_IN(i)) && list[j]->storage == s && n->versions[edge] == s->version)
        return true;
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (n->saved_out[i] && n->saved_out[i]->storage == s && n->out_version[i] == s->version) return true;
  return false;
}

uint64_t nb_tape_order(void) {
  return next_order;
}

const Node *nb_tape_needs(const Storage *s, uint64_t order) {
  for (const Node *n = latest; n; n = n->after)
    if (!n->freed && n->order <= order && needs(n, s)) return n;
  return NULL;
}

// The node's own rule: what `grad` of the outputs makes of each edge.
static bool apply_rule(Node *n, Tensor *const *grad, Tensor **given, bool last, Error *err) {
  Scope s;
  if (n->freed)
    return nb_fail(err, NB_ERROR_STATE,
                   "backward: the tape behind %s (%s:%d) was freed by the backward at %s:%d; compute J again, or pass "
                   "{retain_graph=true} there",
                   n->op->name, site_source(n->site), n->site.line, site_source(n->freed_at), n->freed_at.line);
  if (!check_unchanged(n, err)) return false;
  nb_scope_open(&s, err);
  Backward b = {.node = n, .scope = &s, .given = given, .last = last};
  memcpy(b.grad, grad, sizeof b.grad);
  bool ok = n->op->backward(&b);
  nb_scope_close(&s);
  return ok;
}

bool nb_node_backward(Node *n, Tensor *const *grad, Tensor **given, Error *err) {
  n->refs++;
  n->uses++;
  bool ok = apply_rule(n, grad, given, false, err);
  end_use(n);
  nb_node_release(&n);
  return ok;
}

// A gradient that users get to see must not be a tensor that others hold: it becomes a copy where more than `held` do.
static bool make_own(Walk *w, Tensor **grad, int held) {
  Scope s;
  Tensor *g = *grad;
  if (g->refs <= held && g->storage->refs == 1 && nb_layout_contiguous(&g->layout) && !g->node && !g->requires_grad)
    return true;
  nb_scope_open(&s, w->err);
  Tensor *copy = nb_tensor_retain(nb_unary(&s, "clone", g));
  nb_scope_close(&s);
  if (!copy) return false;
  nb_tensor_release(grad);
  *grad = copy;
  return true;
}

// Keeps the gradients of outputs that somebody asked for.
static bool keep_grads(Walk *w, const Pending *p) {
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) {
    if (!p->grad[i]) continue;
    for (int t = 0; t < w->target_count; t++)
      if (w->targets[t]->node == p->node && w->targets[t]->output == i && !w->results[t])
        w->results[t] = nb_tensor_retain(p->grad[i]);
    Tensor *watcher = p->node->watcher[i];
    if (!watcher || w->targets) continue;
    if (!accumulate(w, &watcher->grad, p->grad[i])) return false;
    if (nb_tensor_tracked(watcher->grad)) nb_suspect(watcher);
  }
  return true;
}

// ---- arrivals ----

static bool tell_arrival(Walk *w, LeafGrad *g) {
  bool before = grad_enabled;
  if (g->told) return true;
  g->told = true;
  grad_enabled = false;
  bool ok = nb_tell_arrived(g->leaf, &g->grad, w->err);
  grad_enabled = before;
  return ok;
}

// A node has been visited: the leaves that nothing else leads to have all that comes.
static bool tell_arrivals(Walk *w, const Node *n) {
  for (int i = 0; i < n->edge_count; i++) {
    const Tensor *leaf = n->edges[i].leaf;
    int *left = leaf ? nb_map_get(&w->uses, leaf) : NULL;
    if (!left || --*left > 0 || leaf->hooks) continue;
    for (int j = 0; j < w->leaf_count; j++)
      if (w->leaves[j].leaf == leaf && !tell_arrival(w, &w->leaves[j])) return false;
  }
  return true;
}

// Of those that were not told of: behind nodes to which no gradient came, and with hooks.
static bool tell_rest(Walk *w) {
  for (int i = 0; i < w->leaf_count; i++)
    if (!tell_arrival(w, &w->leaves[i])) return false;
  return true;
}

static bool visit(Walk *w, int index) {
  Node *n = w->pending[index].node;
  for (int i = 0; n->hooks && i < NB_MAX_OUTPUTS; i++) {
    Tensor **grad = &w->pending[index].grad[i];
    if (*grad && !(make_own(w, grad, 1) && nb_hooks_call(n->hooks, i, grad, w->err))) return false;
  }
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (n->watcher[i] && w->pending[index].grad[i] && !make_own(w, &w->pending[index].grad[i], 1)) return false;
  Pending p = w->pending[index];
  if (!nb_poll(w->err) || !keep_grads(w, &p)) return false;
  Tensor *few[8] = {NULL}, **given = few;
  size_t bytes = (size_t)n->edge_count * sizeof *given;
  if (n->edge_count > 8) {
    if (!(given = nb_alloc(bytes, w->err))) return false;
    memset(given, 0, bytes);
  }
  n->uses++;
  if (nb_is_heard(NB_INNER)) nb_tell_visiting(n);
  bool ok = apply_rule(n, p.grad, given, !w->heard, w->err);
  if (ok && w->heard) ok = nb_tell_visited(n, p.grad, given, w->err);
  for (int i = 0; i < n->edge_count; i++) {
    if (given[i] && ok) ok = send(w, &n->edges[i], given[i]);
    nb_tensor_release(&given[i]);
  }
  if (nb_is_heard(NB_INNER)) nb_tell_visiting(NULL);
  if (given != few) nb_free(given, bytes);
  if (ok && w->awaited) ok = tell_arrivals(w, n);
  if (ok && !w->options.retain_graph && !n->freed) {
    n->freed = true;
    n->freed_at = w->site;
  }
  end_use(n);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) nb_tensor_release(&w->pending[index].grad[i]);
  return ok;
}

static bool check_root(Tensor *J, Tensor *grad, Error *err) {
  char a[NB_SHAPE_TEXT], b[NB_SHAPE_TEXT];
  if (!nb_tensor_tracked(J))
    return nb_fail(
        err, NB_ERROR_STATE,
        "backward: this tensor depends on none that requires grad; make a parameter with {requires_grad=true}, and "
        "compute outside nb.no_grad");
  if (!nb_dtype_is_float(J->layout.dtype))
    return nb_fail(err, NB_ERROR_ARGUMENT, "backward: gradients need f32 or f64, not %s",
                   nb_dtype_name(J->layout.dtype));
  if (!grad && nb_layout_numel(&J->layout) != 1)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "backward: J must be a single number, got shape %s; reduce it with :sum() or :mean(), or pass dL/dJ",
                   nb_shape_text(&J->layout, a));
  if (!grad) return true;
  bool same = grad->layout.ndim == J->layout.ndim;
  for (int d = 0; same && d < J->layout.ndim; d++) same = grad->layout.shape[d] == J->layout.shape[d];
  return same || nb_fail(err, NB_ERROR_ARGUMENT, "backward: dL/dJ has shape %s, but J has %s",
                         nb_shape_text(&grad->layout, b), nb_shape_text(&J->layout, a));
}

static bool walk_back(Walk *w, Tensor *J, Tensor *grad) {
  Scope s;
  bool ok = false, before = grad_enabled, ours = !grad;
  if (!check_root(J, grad, w->err)) return false;
  w->site = nb_site_now();
  nb_scope_open(&s, w->err);
  Layout l = J->layout;
  grad_enabled = w->options.create_graph;
  if (!grad && nb_unheard()) {
    if ((grad = nb_scope_own(&s, nb_tensor_new(&l, w->err)))) nb_tensor_set(grad, 0, 1);
  } else {
    grad = grad ? nb_to(&s, grad, l.dtype) : nb_full(&s, &l, 1);
  }
  Edge root = {.node = J->node, .leaf = J->node ? NULL : J, .output = J->output};
  if (grad && ours && !w->targets && !w->heard) grad->storage->ones = true;
  ok = grad && send(w, &root, grad);
  while (ok && w->heap_count > 0) ok = visit(w, heap_pop(w));
  for (int i = 0; ok && i < w->leaf_count; i++)
    ok = !w->leaves[i].leaf->hooks ||
         (make_own(w, &w->leaves[i].grad, 1) && nb_hooks_call(w->leaves[i].leaf->hooks, 0, &w->leaves[i].grad, w->err));
  grad_enabled = before;
  nb_scope_close(&s);
  return ok;
}

static void walk_begin(Walk *w) {
  if (w->options.create_graph) w->options.retain_graph = true;
  w->heard = nb_is_heard(NB_OUTER);
  nb_voices.deaf[NB_OUTER]++;
}

static void walk_end(Walk *w) {
  nb_voices.deaf[NB_OUTER]--;
  for (int i = 0; i < w->pending_count; i++) {
    for (int j = 0; j < NB_MAX_OUTPUTS; j++) nb_tensor_release(&w->pending[i].grad[j]);
    w->pending[i].node->place = w->pending[i].before;
    nb_node_release(&w->pending[i].node);
  }
  for (int i = 0; i < w->leaf_count; i++) {
    nb_tensor_release(&w->leaves[i].leaf);
    nb_tensor_release(&w->leaves[i].grad);
  }
  nb_map_close(&w->uses);
  nb_free(w->pending, w->pending_room * sizeof *w->pending);
  nb_free(w->heap, w->heap_room * sizeof *w->heap);
  nb_free(w->leaves, w->leaf_room * sizeof *w->leaves);
}

// Adds a collected gradient to its leaf, whose `grad` becomes a tensor of its own.
static bool deposit(Walk *w, LeafGrad *g) {
  bool before = grad_enabled, ok = true;
  grad_enabled = w->options.create_graph;
  if (!g->leaf->grad && !w->options.create_graph) {
    if (!(ok = make_own(w, &g->grad, 1 + nb_holders()))) goto done;
  }
  const Tensor *was = g->leaf->grad;
  ok = accumulate(w, &g->leaf->grad, g->grad);
  if (ok && nb_tensor_tracked(g->leaf->grad)) nb_suspect(g->leaf);
  if (ok && nb_is_heard(NB_INNER)) nb_tell_deposited(g->leaf, was, false);
done:
  grad_enabled = before;
  return ok;
}

bool nb_backward(Tensor *J, Tensor *grad, BackwardOptions options, Error *err) {
  Walk w = {.options = options, .err = err};
  walk_begin(&w);
  w.awaited = nb_awaits_arrivals();
  if (w.awaited) nb_tell_walks();
  bool ok = (!w.awaited || nb_count_uses(J->node, &w.uses, err)) && walk_back(&w, J, grad);
  if (w.awaited) ok = ok && tell_rest(&w);
  for (int i = 0; ok && i < w.leaf_count; i++) ok = deposit(&w, &w.leaves[i]);
  if (w.awaited) {
    ok = nb_tell_walked(ok, err) && ok;
    nb_tell_unrepeatable("its gradients are taken as they arrive");
  }
  walk_end(&w);
  return ok;
}

bool nb_grad(Tensor *J, Tensor *grad, Tensor *const *x, int count, BackwardOptions options, Tensor **results,
             Error *err) {
  Walk w = {.options = options, .targets = x, .results = results, .target_count = count, .err = err};
  walk_begin(&w);
  for (int i = 0; i < count; i++) {
    nb_tensor_retain(x[i]);  // hooks and rules may make the caller's caller let go of it
    results[i] = NULL;
  }
  bool ok = walk_back(&w, J, grad);
  for (int i = 0; ok && i < count; i++) {
    if (x[i]->node) continue;
    for (int j = 0; j < w.leaf_count; j++)
      if (w.leaves[j].leaf == x[i]) results[i] = nb_tensor_retain(w.leaves[j].grad);
  }
  walk_end(&w);
  for (int i = 0; i < count; i++) {
    Tensor *t = x[i];
    nb_tensor_release(&t);
    if (!ok) nb_tensor_release(&results[i]);
  }
  return ok;
}
