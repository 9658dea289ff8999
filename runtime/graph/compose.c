// SPDX-License-Identifier: MIT
// Scopes and the operators that backward rules are written in.
#include "nablua/compose.h"

#include <string.h>

#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "tape_private.h"

void nb_scope_open(Scope *s, Error *err) {
  s->err = err;
  s->count = 0;
  s->capacity = (int)(sizeof s->first / sizeof *s->first);
  s->items = s->first;
}

void nb_scope_close(Scope *s) {
  for (int i = s->count - 1; i >= 0; i--) nb_tensor_release(&s->items[i]);
  if (s->items != s->first) nb_free(s->items, (size_t)s->capacity * sizeof *s->items);
  s->items = s->first;
  s->count = 0;
}

Tensor *nb_scope_own(Scope *s, Tensor *t) {
  if (!t) return NULL;
  if (s->count == s->capacity) {
    Tensor **bigger = nb_alloc((size_t)s->capacity * 2 * sizeof *bigger, s->err);
    if (!bigger) {
      nb_tensor_release(&t);
      return NULL;
    }
    memcpy(bigger, s->items, (size_t)s->count * sizeof *bigger);
    if (s->items != s->first) nb_free(s->items, (size_t)s->capacity * sizeof *s->items);
    s->items = bigger;
    s->capacity *= 2;
  }
  s->items[s->count++] = t;
  return t;
}

// Rules name operators by literals: the address of one is as good as its text.
static const Op *find(const char *name) {
  enum { SLOTS = 512 };
  static struct {
    const char *name;
    const Op *op;
  } seen[SLOTS];
  unsigned slot = (unsigned)((uintptr_t)name >> 1) % SLOTS;
  if (seen[slot].name != name) {
    seen[slot].op = nb_op_find(name);
    seen[slot].name = name;
  }
  return seen[slot].op;
}

bool nb_op_many(Scope *s, const char *name, const Value *args, Tensor **out) {
  const Op *op = find(name);
  if (!op) return nb_fail(s->err, NB_ERROR_STATE, "there is no operator named %s", name);
  if (!nb_apply(op, args, out, s->err)) return false;
  bool ok = true;
  int count = nb_op_results(op, args);
  for (int i = 0; i < count; i++) ok = nb_scope_own(s, out[i]) && ok;
  return ok;
}

Tensor *nb_op(Scope *s, const char *name, const Value *args) {
  Tensor *out[NB_MAX_OUTPUTS];
  return nb_op_many(s, name, args, out) ? out[0] : NULL;
}

bool nb_unheard(void) {
  return !nb_grad_enabled() && !nb_is_heard(NB_INNER);
}

Tensor *nb_unary(Scope *s, const char *name, Tensor *x) {
  return x ? nb_op(s, name, (Value[NB_MAX_PARAMS]){{.tensor = x}}) : NULL;
}

Tensor *nb_binary(Scope *s, const char *name, Tensor *a, Tensor *b) {
  return a && b ? nb_op(s, name, (Value[NB_MAX_PARAMS]){{.tensor = a}, {.tensor = b}}) : NULL;
}

Tensor *nb_add(Scope *s, Tensor *a, Tensor *b) {
  return nb_binary(s, "add", a, b);
}

Tensor *nb_sub(Scope *s, Tensor *a, Tensor *b) {
  return nb_binary(s, "sub", a, b);
}

Tensor *nb_mul(Scope *s, Tensor *a, Tensor *b) {
  return nb_binary(s, "mul", a, b);
}

Tensor *nb_div(Scope *s, Tensor *a, Tensor *b) {
  return nb_binary(s, "div", a, b);
}

Tensor *nb_neg(Scope *s, Tensor *a) {
  return nb_unary(s, "neg", a);
}

static Tensor *number_like(Scope *s, const Tensor *a, double number) {
  DType dtype = nb_dtype_is_float(a->layout.dtype) ? a->layout.dtype : NB_F32;
  return nb_scope_own(s, nb_tensor_scalar(number, dtype, s->err));
}

Tensor *nb_addn(Scope *s, Tensor *a, double number) {
  return a ? nb_add(s, a, number_like(s, a, number)) : NULL;
}

Tensor *nb_rsub(Scope *s, double number, Tensor *a) {
  return a ? nb_sub(s, number_like(s, a, number), a) : NULL;
}

Tensor *nb_muln(Scope *s, Tensor *a, double number) {
  return a ? nb_mul(s, a, number_like(s, a, number)) : NULL;
}

Tensor *nb_pown(Scope *s, Tensor *a, double number) {
  return a ? nb_binary(s, "pow", a, number_like(s, a, number)) : NULL;
}

Tensor *nb_matmul(Scope *s, Tensor *a, Tensor *b) {
  return nb_binary(s, "matmul", a, b);
}

Tensor *nb_to(Scope *s, Tensor *a, DType dtype) {
  if (!a || a->layout.dtype == dtype) return a;
  return nb_op(s, "to", (Value[]){{.tensor = a}, {.dtype = dtype}});
}

Tensor *nb_where(Scope *s, Tensor *mask, Tensor *a, Tensor *b) {
  if (!mask || !a || !b) return NULL;
  return nb_op(s, "where", (Value[]){{.tensor = mask}, {.tensor = a}, {.tensor = b}});
}

Tensor *nb_full(Scope *s, const Layout *like, double value) {
  Layout l = *like;
  Tensor *number = nb_scope_own(s, nb_tensor_scalar(value, l.dtype, s->err));
  return nb_contiguous(s, nb_expand(s, number, l.shape, l.ndim));
}

Tensor *nb_contiguous(Scope *s, Tensor *a) {
  if (!a || nb_layout_contiguous(&a->layout)) return a;
  return nb_unary(s, "contiguous", a);
}

static Tensor *with_shape(Scope *s, const char *name, Tensor *a, const int64_t *shape, int ndim) {
  int64_t sizes[NB_MAX_DIMS];
  if (!a) return NULL;
  for (int d = 0; d < ndim; d++) sizes[d] = shape[d];
  return nb_op(s, name, (Value[]){{.tensor = a}, {.ints = {sizes, ndim}}});
}

Tensor *nb_reshape(Scope *s, Tensor *a, const int64_t *shape, int ndim) {
  return a && nb_layout_has(&a->layout, shape, ndim) ? a : with_shape(s, "reshape", a, shape, ndim);
}

Tensor *nb_reshape_like(Scope *s, Tensor *a, const Layout *like) {
  return nb_reshape(s, a, like->shape, like->ndim);
}

Tensor *nb_expand(Scope *s, Tensor *a, const int64_t *shape, int ndim) {
  return a && nb_layout_has(&a->layout, shape, ndim) ? a : with_shape(s, "expand", a, shape, ndim);
}

Tensor *nb_expand_like(Scope *s, Tensor *a, const Layout *like) {
  return nb_expand(s, a, like->shape, like->ndim);
}

Tensor *nb_swap(Scope *s, Tensor *a, int d, int e) {
  return a ? nb_op(s, "transpose", (Value[]){{.tensor = a}, {.integer = d + 1}, {.integer = e + 1}}) : NULL;
}

Tensor *nb_sum_dims(Scope *s, Tensor *a, const int *dims, int count, bool keepdim) {
  int64_t list[NB_MAX_DIMS];
  if (!a || count == 0) return a;
  for (int i = 0; i < count; i++) list[i] = dims[i] + 1;
  return nb_op(s, "sum", (Value[]){{.tensor = a}, {.ints = {list, count}}, {.flag = keepdim}});
}

Tensor *nb_sum_all(Scope *s, Tensor *a) {
  return a ? nb_op(s, "sum", (Value[]){{.tensor = a}, {.ints = {NULL, -1}}, {.flag = false}}) : NULL;
}

Tensor *nb_sum_to(Scope *s, Tensor *a, const Layout *like) {
  int dims[NB_MAX_DIMS], count = 0;
  if (!a || nb_layout_has(&a->layout, like->shape, like->ndim)) return a;
  int extra = a->layout.ndim - like->ndim;
  for (int d = 0; d < a->layout.ndim; d++)
    if (d < extra || (like->shape[d - extra] == 1 && a->layout.shape[d] != 1)) dims[count++] = d;
  if (count == extra) return nb_sum_dims(s, a, dims, count, false);
  return nb_reshape_like(s, nb_sum_dims(s, a, dims, count, true), like);
}

// The number of edges before those of parameter i.
static int edge_of(const Backward *b, int i) {
  const Node *n = b->node;
  Tensor **list;
  int edge = 0;
  for (int p = 0; p < i; p++) edge += nb_arg_tensors(&n->op->params[p], &n->args[p], &list);
  return edge;
}

static Tensor *given(const Backward *b, int i) {
  return b->node->args[i].tensor;
}

// Elementwise rows compute in one dtype, and so do their rules: x·x of u8 would wrap, and x − 1 of i64 round.
Tensor *nb_in(Backward *b, int i) {
  Tensor *t = given(b, i);
  const Op *op = b->node->op;
  if (!op->loops[NB_F32] || !t || t->layout.dtype == b->grad[0]->layout.dtype) return t;
  return op->params[i].kind == NB_PARAM_MASK ? t : nb_to(b->scope, t, b->grad[0]->layout.dtype);
}

Tensor *nb_in_list(Backward *b, int i, int j) {
  return b->node->args[i].tensors.items[j];
}

const Value *nb_arg(Backward *b, int i) {
  return &b->node->args[i];
}

// While second derivatives are recorded the output must know where it came from; kept in the node
// itself, that would be a cycle of references.
Tensor *nb_out(Backward *b, int i) {
  Tensor *saved = b->node->saved_out[i];
  if (!nb_grad_enabled() || !nb_dtype_is_float(saved->layout.dtype)) return saved;
  Tensor *y = nb_scope_own(b->scope, nb_tensor_alias(saved, &saved->layout, b->scope->err));
  if (!y) return NULL;
  y->node = nb_node_retain(b->node);
  y->output = i;
  y->history = y->storage->history;  // the walk has found the value unchanged, and its history is this node
  return y;
}

// Whether f(g, y) may be written over g: a gradient of this walk's own that nobody keeps, large enough to matter, that
// has the result's shape.
static bool may_overwrite(const Backward *b, const Tensor *g, const Tensor *y) {
  enum { LARGE = 4096 };
  const Layout *l = &g->layout, *m = &y->layout;
  if (!b->last || nb_grad_enabled() || nb_is_kept() || g->refs != 1 || g->storage->refs != 1 || g->node || g->hooks)
    return false;
  if (nb_layout_numel(l) < LARGE || !nb_layout_contiguous(l) || l->dtype != m->dtype) return false;
  return nb_layout_has(l, m->shape, m->ndim) || m->ndim == 0;
}

Tensor *nb_on_grad(Backward *b, const char *name, Tensor *y) {
  Tensor *g = b->grad[0];
  if (!y || !may_overwrite(b, g, y)) return nb_binary(b->scope, name, g, y);
  return nb_apply_inplace(find(name), (Value[NB_MAX_PARAMS]){{.tensor = g}, {.tensor = y}}, b->scope->err) ? g : NULL;
}

Tensor *nb_into_zeros(Scope *s, const char *name, const Layout *l, Value *args) {
  enum { MANY = 4096 };
  Tensor *zeros = args[0].tensor = nb_full(s, l, 0);
  if (!zeros) return NULL;
  if (nb_grad_enabled() || nb_layout_numel(l) < MANY) return nb_op(s, name, args);
  return nb_apply_inplace(find(name), args, s->err) ? zeros : NULL;
}

static bool wanted(const Backward *b, int edge) {
  const Edge *e = &b->node->edges[edge];
  return e->node || e->leaf;
}

bool nb_wants(Backward *b, int i) {
  return wanted(b, edge_of(b, i));
}

bool nb_wants_list(Backward *b, int i, int j) {
  return wanted(b, edge_of(b, i) + j);
}

static bool give(Backward *b, int edge, Tensor *input, Tensor *grad) {
  if (!grad) return false;
  grad = nb_to(b->scope, nb_sum_to(b->scope, grad, &input->layout), input->layout.dtype);
  if (!grad) return false;
  nb_tensor_release(&b->given[edge]);
  b->given[edge] = nb_tensor_retain(grad);
  return true;
}

bool nb_give(Backward *b, int i, Tensor *grad) {
  return give(b, edge_of(b, i), given(b, i), grad);
}

bool nb_give_list(Backward *b, int i, int j, Tensor *grad) {
  return give(b, edge_of(b, i) + j, nb_in_list(b, i, j), grad);
}
