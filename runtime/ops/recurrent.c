// SPDX-License-Identifier: MIT
// Operators: a recurrent layer over a whole sequence, and its backward.
#include "recurrent.h"

#include <string.h>

#include "flops.h"
#include "gemm.h"
#include "loops.h"
#include "nablua/memory.h"

enum { X, W_IH, W_HH, B_IH, B_HH, H, C, CELL, REVERSE };                                   // recurrent
enum { G_W_HH, G_STATES, G_CELLS, G_KEPT, D_STATES, D_CELLS, D_KEPT, G_CELL, G_REVERSE };  // recurrent_grad

static bool has_shape(const Tensor *t, int ndim, int64_t a, int64_t b) {
  return t->layout.ndim == ndim && t->layout.shape[0] == a && (ndim == 1 || t->layout.shape[1] == b);
}

static bool shape_recurrent(Call *c, Error *err) {
  const Value *args = c->args;
  const RecurrentBlocks *blocks = &recurrent_blocks[args[CELL].choice];
  const Layout *x = &args[X].tensor->layout, *h = &args[H].tensor->layout;
  char tx[NB_SHAPE_TEXT], th[NB_SHAPE_TEXT];
  if (x->ndim != 3 || h->ndim != 2 || h->shape[0] != x->shape[1] || x->shape[0] == 0 || h->shape[1] == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs x of steps × batch × features and h of batch × size, got %s and %s",
                   nb_shape_text(x, tx), nb_shape_text(h, th));
  int64_t n = h->shape[1], wide = blocks->gates * n;
  if ((blocks->state == 2) != (args[C].tensor != NULL))
    return nb_fail(err, NB_ERROR_ARGUMENT, "an LSTM needs the state c, other cells have none");
  if (!has_shape(args[W_IH].tensor, 2, wide, x->shape[2]) || !has_shape(args[W_HH].tensor, 2, wide, n) ||
      (args[B_IH].tensor && !has_shape(args[B_IH].tensor, 1, wide, 0)) ||
      (args[B_HH].tensor && !has_shape(args[B_HH].tensor, 1, wide, 0)) ||
      (args[C].tensor && !has_shape(args[C].tensor, 2, h->shape[0], n)))
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "for x %s and h %s needs weights of %lld × %lld and %lld × %lld, biases of %lld and c as h",
                   nb_shape_text(x, tx), nb_shape_text(h, th), (long long)wide, (long long)x->shape[2], (long long)wide,
                   (long long)n, (long long)wide);
  DType dtype = NB_F32;
  for (int i = X; i <= C; i++)
    if (args[i].tensor) dtype = nb_dtype_promote(dtype, args[i].tensor->layout.dtype);
  c->compute = dtype;
  c->layout[0] = (Layout){.dtype = dtype, .ndim = 3, .shape = {x->shape[0] + 1, x->shape[1], n}};
  c->layout[1] = c->layout[2] = c->layout[0];
  if (blocks->state < 2) c->layout[1].shape[0] = 0;
  c->layout[2].shape[0] = x->shape[0];
  c->layout[2].shape[2] = blocks->kept * n;
  return true;
}

static int recurrent_returns(const Value *args) {
  return recurrent_blocks[args[CELL].choice].state;
}

// An argument as the kernels read it; NULL where it was left out.
static bool ready(Scope *s, const Call *c, int i, const void **data) {
  *data = NULL;
  if (!c->args[i].tensor) return true;
  Tensor *t = nb_contiguous(s, nb_to(s, c->args[i].tensor, c->compute));
  if (t) *data = nb_tensor_data(t);
  return t;
}

static bool recurrent_forward_op(Call *c, Error *err) {
  Scope s;
  const Layout *x = &c->args[X].tensor->layout, *l = &c->layout[0];
  const RecurrentBlocks *blocks = &recurrent_blocks[c->args[CELL].choice];
  Recurrence r = {.cell = (RecurrentCell)c->args[CELL].choice, .dtype = c->compute, .steps = x->shape[0]};
  const void *data[C + 1];
  bool ok = true;
  nb_scope_open(&s, err);
  for (int i = X; ok && i <= C; i++) ok = ready(&s, c, i, &data[i]);
  if (!ok) goto done;
  r.batch = l->shape[1], r.size = l->shape[2], r.reverse = c->args[REVERSE].flag;
  r.weight = data[W_HH], r.bias_ih = data[B_IH], r.bias_hh = data[B_HH];
  r.states = nb_tensor_data(c->out[0]), r.cells = nb_tensor_data(c->out[1]), r.kept = nb_tensor_data(c->out[2]);
  size_t row = (size_t)(r.batch * r.size) * nb_dtype_size(r.dtype), first = r.reverse ? (size_t)r.steps * row : 0;
  memcpy((char *)r.states + first, data[H], row);
  if (data[C]) memcpy((char *)r.cells + first, data[C], row);
  char *gates = blocks->kept ? r.kept : (char *)r.states + (r.reverse ? 0 : row);
  int64_t features = x->shape[2], wide = blocks->gates * r.size;
  ok = nb_gemm(r.dtype, r.steps * r.batch, wide, features, (GemmMatrix){data[X], features, false},
               (GemmMatrix){data[W_IH], features, true}, gates, (blocks->kept ? blocks->kept : 1) * r.size, err) &&
       recurrent_forward(&r, err);
done:
  nb_scope_close(&s);
  return ok;
}

// ---- backward ----

// Whether an argument, where it is given, has so many steps of a batch of so many numbers.
static bool is_sequence(const Value *v, int64_t steps, int64_t batch, int64_t wide) {
  const Tensor *t = v->tensor;
  return !t || (has_shape(t, 3, steps, batch) && t->layout.shape[2] == wide);
}

static bool shape_recurrent_grad(Call *c, Error *err) {
  const Value *args = c->args;
  const Layout *states = &args[G_STATES].tensor->layout;
  const RecurrentBlocks *blocks = &recurrent_blocks[args[G_CELL].choice];
  char got[NB_SHAPE_TEXT];
  if (states->ndim != 3 || states->shape[0] < 2 || !nb_dtype_is_float(states->dtype))
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs states of steps + 1 × batch × size in f32 or f64, got %s %s",
                   nb_dtype_name(states->dtype), nb_shape_text(states, got));
  int64_t steps = states->shape[0] - 1, batch = states->shape[1], n = states->shape[2];
  bool all = (args[G_CELLS].tensor != NULL) == (blocks->state == 2) && (args[G_KEPT].tensor || !blocks->kept) &&
             has_shape(args[G_W_HH].tensor, 2, blocks->gates * n, n);
  for (int i = G_CELLS; i <= D_KEPT; i++) {
    bool kept = i == G_KEPT || i == D_KEPT;
    if (!kept && i != D_STATES && blocks->state < 2) continue;  // the empty cells of the others
    all = all && is_sequence(&args[i], steps + !kept, batch, kept ? blocks->kept * n : n);
  }
  if (!all)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "needs what the recurrence gave for states %s: weights of %lld × %lld, cells like the states, and "
                   "%lld kept numbers a step",
                   nb_shape_text(states, got), (long long)(blocks->gates * n), (long long)n,
                   (long long)(blocks->kept * n));
  c->compute = states->dtype;
  c->layout[0] = c->layout[1] = c->layout[2] = *states;
  c->layout[0].shape[0] = states->shape[0] - 1;
  c->layout[0].shape[2] = blocks->gates * states->shape[2];
  c->layout[1] = c->layout[0];
  if (c->args[G_CELL].choice != CELL_GRU) c->layout[1].shape[0] = 0;
  c->layout[2].shape[0] = blocks->state;
  return true;
}

static bool recurrent_grad_forward(Call *c, Error *err) {
  Scope s;
  const Layout *l = &c->layout[0];
  Recurrence r = {.cell = (RecurrentCell)c->args[G_CELL].choice, .dtype = c->compute, .steps = l->shape[0]};
  const void *data[D_KEPT + 1];
  bool ok = true;
  nb_scope_open(&s, err);
  for (int i = G_W_HH; ok && i <= D_KEPT; i++) ok = ready(&s, c, i, &data[i]);
  if (ok) {
    r.batch = l->shape[1], r.size = c->layout[2].shape[2], r.reverse = c->args[G_REVERSE].flag;
    r.weight = data[G_W_HH];
    r.states = (void *)(uintptr_t)data[G_STATES], r.cells = (void *)(uintptr_t)data[G_CELLS];
    r.kept = (void *)(uintptr_t)data[G_KEPT];
    r.d_states = data[D_STATES], r.d_cells = data[D_CELLS], r.d_kept = data[D_KEPT];
    r.d_inputs = nb_tensor_data(c->out[0]), r.d_recurrent = nb_tensor_data(c->out[1]);
    r.d_start = nb_tensor_data(c->out[2]);
    ok = recurrent_backward(&r, err);
  }
  nb_scope_close(&s);
  return ok;
}

static Tensor *narrow(Scope *s, Tensor *t, int dim, int64_t start, int64_t length) {
  if (!t) return NULL;
  return nb_op(s, "narrow", (Value[]){{.tensor = t}, {.integer = dim}, {.integer = start + 1}, {.integer = length}});
}

static Tensor *join(Scope *s, Tensor **list, int count, int dim) {
  for (int i = 0; i < count; i++)
    if (!list[i]) return NULL;
  return nb_op(s, "cat", (Value[]){{.tensors = {list, count}}, {.integer = dim}});
}

// a + b, of which b may be missing.
static Tensor *plus(Scope *s, Tensor *a, Tensor *b) {
  return b ? nb_add(s, a, b) : a;
}

// d·y(1 − y), the derivative of σ, and d·(1 − y²), that of tanh.
static Tensor *through_sigmoid(Scope *s, Tensor *d, Tensor *y) {
  return nb_mul(s, d, nb_mul(s, y, nb_rsub(s, 1, y)));
}

static Tensor *through_tanh(Scope *s, Tensor *d, Tensor *y) {
  return nb_mul(s, d, nb_rsub(s, 1, nb_mul(s, y, y)));
}

// One step of the kernels' backward in operators: see recurrent_cells.h, whose names these are.
typedef struct StepBack {
  Tensor *k[5], *dk[5];  // the kept blocks and what arrives at them
  Tensor *h_before, *c_before, *h, *dh, *dc;
  Tensor *dx[4], *dz[4];
} StepBack;

static void step_back(Scope *s, int cell, StepBack *q) {
  Tensor **k = q->k, **dk = q->dk, *e = q->dh;
  if (cell == CELL_LSTM) {
    Tensor *dc = nb_add(s, q->dc, through_tanh(s, plus(s, nb_mul(s, e, k[3]), dk[4]), k[4]));
    q->dz[0] = through_sigmoid(s, plus(s, nb_mul(s, dc, k[2]), dk[0]), k[0]);
    q->dz[1] = through_sigmoid(s, plus(s, nb_mul(s, dc, q->c_before), dk[1]), k[1]);
    q->dz[2] = through_tanh(s, plus(s, nb_mul(s, dc, k[0]), dk[2]), k[2]);
    q->dz[3] = through_sigmoid(s, plus(s, nb_mul(s, e, k[4]), dk[3]), k[3]);
    q->dc = nb_mul(s, dc, k[1]);
    q->dh = NULL;
  } else if (cell == CELL_GRU) {
    Tensor *dn = through_tanh(s, plus(s, nb_mul(s, e, nb_rsub(s, 1, k[1])), dk[2]), k[2]);
    q->dx[0] = q->dz[0] = through_sigmoid(s, plus(s, nb_mul(s, dn, k[3]), dk[0]), k[0]);
    q->dx[1] = q->dz[1] = through_sigmoid(s, plus(s, nb_mul(s, e, nb_sub(s, q->h_before, k[2])), dk[1]), k[1]);
    q->dx[2] = dn;
    q->dz[2] = plus(s, nb_mul(s, dn, k[0]), dk[3]);
    q->dh = nb_mul(s, e, k[1]);
  } else {
    q->dz[0] = cell == CELL_TANH ? through_tanh(s, e, q->h)
                                 : nb_mul(s, e, nb_unary(s, "sign", q->h));  // 0 or 1, for h is not negative
    q->dh = NULL;
  }
}

// What recurrent_grad computes, in operators that can be differentiated again: out[0..2], of which out[1] is out[0]
// where a cell has no δ of its own for the state.
static bool differentiable_grad(Backward *b, Tensor **out) {
  Scope *s = b->scope;
  int cell = nb_arg(b, CELL)->choice;
  const RecurrentBlocks *blocks = &recurrent_blocks[cell];
  bool reverse = nb_arg(b, REVERSE)->flag, ok = false;
  Tensor *states = nb_out(b, 0), *cells = blocks->state == 2 ? nb_out(b, 1) : NULL;
  Tensor *kept = blocks->kept ? nb_out(b, 2) : NULL, *w = nb_in(b, W_HH);
  if (!states) return false;
  int64_t steps = states->layout.shape[0] - 1, batch = states->layout.shape[1], n = states->layout.shape[2];
  size_t bytes = (size_t)steps * 2 * sizeof(Tensor *);
  Tensor **dx = nb_alloc(bytes, s->err), **dz = dx + steps;
  if (!dx) return false;
  Layout zero = {.dtype = states->layout.dtype, .ndim = 3, .shape = {1, batch, n}};
  StepBack q = {.dh = nb_full(s, &zero, 0), .dc = nb_full(s, &zero, 0)};
  Tensor *none[NB_MAX_OUTPUTS] = {NULL}, **grad = b->grad;
  if (grad[0] == NULL) grad = b->grad[1] || b->grad[2] ? b->grad : none;
  for (int64_t i = steps - 1; i >= 0; i--) {
    int64_t t = reverse ? steps - 1 - i : i, from = t + reverse, to = t + !reverse;
    q.h_before = narrow(s, states, 1, from, 1);
    q.h = narrow(s, states, 1, to, 1);
    q.c_before = narrow(s, cells, 1, from, 1);
    q.dh = plus(s, q.dh, narrow(s, grad[0], 1, to, 1));
    q.dc = plus(s, q.dc, narrow(s, grad[1], 1, to, 1));
    Tensor *k = narrow(s, kept, 1, t, 1), *dk = kept ? narrow(s, grad[2], 1, t, 1) : NULL;
    for (int g = 0; g < blocks->kept; g++) {
      q.k[g] = narrow(s, k, 3, g * n, n);
      q.dk[g] = narrow(s, dk, 3, g * n, n);
    }
    step_back(s, cell, &q);
    dz[t] = join(s, q.dz, blocks->gates, 3);
    dx[t] = cell == CELL_GRU ? join(s, q.dx, blocks->gates, 3) : dz[t];
    q.dh = plus(s, nb_matmul(s, dz[t], w), q.dh);
    if (!q.dh) goto done;
  }
  q.dh = plus(s, q.dh, narrow(s, grad[0], 1, reverse ? steps : 0, 1));
  q.dc = plus(s, q.dc, narrow(s, grad[1], 1, reverse ? steps : 0, 1));
  out[0] = join(s, dx, (int)steps, 1);
  out[1] = cell == CELL_GRU ? join(s, dz, (int)steps, 1) : out[0];
  out[2] = join(s, (Tensor *[]){q.dh, q.dc}, blocks->state, 1);
  ok = out[0] && out[1] && out[2];
done:
  nb_free(dx, bytes);
  return ok;
}

static bool kernel_grad(Backward *b, Tensor **out) {
  int cell = nb_arg(b, CELL)->choice;
  const RecurrentBlocks *blocks = &recurrent_blocks[cell];
  Value args[NB_MAX_PARAMS] = {[G_W_HH] = {.tensor = nb_in(b, W_HH)}, [G_STATES] = {.tensor = nb_out(b, 0)}};
  if (blocks->state == 2) args[G_CELLS].tensor = nb_out(b, 1);
  if (blocks->kept) args[G_KEPT].tensor = nb_out(b, 2);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) args[D_STATES + i].tensor = b->grad[i];
  args[G_CELL].choice = cell;
  args[G_REVERSE].flag = nb_arg(b, REVERSE)->flag;
  if (!nb_op_many(b->scope, "recurrent_grad", args, out)) return false;
  if (cell != CELL_GRU) out[1] = out[0];
  return true;
}

static Tensor *rows_of(Scope *s, Tensor *t) {
  return t ? nb_reshape(s, t, (int64_t[]){t->layout.shape[0] * t->layout.shape[1], t->layout.shape[2]}, 2) : NULL;
}

// δᵀ·x over all steps.
static Tensor *weight_grad(Scope *s, Tensor *d, Tensor *x) {
  Tensor *rows = rows_of(s, d), *flat = rows_of(s, x);
  return rows && flat ? nb_matmul(s, nb_swap(s, rows, 0, 1), flat) : NULL;
}

static bool give_start(Backward *b, int i, Tensor *start, int64_t at) {
  if (!nb_in(b, i) || !nb_wants(b, i)) return true;
  return nb_give(b, i, nb_reshape_like(b->scope, narrow(b->scope, start, 1, at, 1), &nb_in(b, i)->layout));
}

static bool recurrent_backward_op(Backward *b) {
  Scope *s = b->scope;
  Tensor *d[NB_MAX_OUTPUTS];  // δ as the inputs see it, as the state sees it, and of the first state
  if (!(nb_grad_enabled() ? differentiable_grad : kernel_grad)(b, d)) return false;
  bool wants_ih = nb_in(b, B_IH) && nb_wants(b, B_IH), wants_hh = nb_in(b, B_HH) && nb_wants(b, B_HH);
  if (nb_wants(b, X) && !nb_give(b, X, nb_matmul(s, d[0], nb_in(b, W_IH)))) return false;
  if (nb_wants(b, W_IH) && !nb_give(b, W_IH, weight_grad(s, d[0], nb_in(b, X)))) return false;
  if (nb_wants(b, W_HH)) {
    Tensor *states = nb_out(b, 0), *before = NULL;
    if (states) before = narrow(s, states, 1, nb_arg(b, REVERSE)->flag, states->layout.shape[0] - 1);
    if (!nb_give(b, W_HH, weight_grad(s, d[1], before))) return false;
  }
  if (wants_ih || wants_hh) {
    const Layout *l = &nb_in(b, wants_ih ? B_IH : B_HH)->layout;
    Tensor *sum = nb_sum_to(s, d[wants_ih ? 0 : 1], l);
    if (wants_ih && !nb_give(b, B_IH, sum)) return false;
    if (wants_ih && wants_hh && d[0] != d[1]) sum = nb_sum_to(s, d[1], l);
    if (wants_hh && !nb_give(b, B_HH, sum)) return false;
  }
  return give_start(b, H, d[2], 0) && give_start(b, C, d[2], 1);
}

#define CELL_PARAM \
  { .name = "cell", .kind = NB_PARAM_CHOICE, .optional = true, .named = true, .choices = "lstm|gru|tanh|relu" }
#define LSTM_CASE(more) "f(3,2,3), f(8,3), f(8,2), f(8), f(8), f(2,2), f(2,2)" more
#define OTHER_CASE(gates, cell) \
  "f(3,2,3), f(" gates ",3), f(" gates ",2), f(" gates "), f(" gates "), f(2,2), {cell='" cell "'}"

static const Op ops[] = {
    {.name = "recurrent",
     .doc = "All steps of a recurrent layer: the states h before, between and after them, and an LSTM's c.",
     .example = "local nn = nb.nn; local y = nn.LSTM(3, 5)(nb.ones(7, 2, 3)); return #y  --> 7",
     .derivative = "∂/∂x = δ·W_ih, ∂/∂W_ih = Σₜ δᵀ·x[t], ∂/∂W_hh = Σₜ δᵀ·h[t−1], δ of the gates through time",
     .internal = true,
     .sample = {.args = LSTM_CASE("; ") LSTM_CASE(", {reverse=true}; ") OTHER_CASE("6", "gru") "; " OTHER_CASE(
                    "2", "tanh") "; f(1,1,2), f(3,2), f(3,1), nil, nil, f(1,1), {cell='gru', reverse=true}; "
                                 "f(4,3,1), f(2,1), f(2,2), nil, f(2), f(3,2), {cell='relu', reverse=true}"},
     .role = NB_ROLE_RECURRENCE,
     .symbol = "cells",
     .flops = nb_flops_recurrent,
     .params = {TENSOR("x"), TENSOR("weight_ih"), TENSOR("weight_hh"), OPTIONAL_TENSOR("bias_ih"),
                OPTIONAL_TENSOR("bias_hh"), TENSOR("h"), OPTIONAL_TENSOR("c"), CELL_PARAM, NAMED_FLAG("reverse")},
     .outputs = 3,
     .hidden = 1,
     .returns = recurrent_returns,
     .saves = NB_SAVE_IN(X) | NB_SAVE_IN(W_IH) | NB_SAVE_IN(W_HH) | NB_SAVE_IN(B_IH) | NB_SAVE_IN(B_HH) |
              NB_SAVE_IN(H) | NB_SAVE_IN(C) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1) | NB_SAVE_OUT(2),
     .shape = shape_recurrent,
     .forward = recurrent_forward_op,
     .backward = recurrent_backward_op},
    {.name = "recurrent_grad",
     .doc =
         "δ of a recurrent layer's gates as its inputs and as its state see them, and the gradient of its first state.",
     .example = "local nn = nb.nn; local net = nn.RNN(1, 1); net(nb.ones(1, 1, 1)):sum():backward(); "
                "return net.weight_hh_l0.grad  --> {{0}}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(8,2), f(4,3,2), f(4,3,2), f(3,3,10), f(4,3,2); "
                        "f(6,2), f(4,3,2), nil, f(3,3,8), f(4,3,2), nil, f(3,3,8), {cell='gru'}; "
                        "f(2,2), f(4,3,2), nil, nil, f(4,3,2), {cell='tanh', reverse=true}"},
     .role = NB_ROLE_GRADIENT,
     .symbol = "cells'",
     .flops = nb_flops_recurrent_grad,
     .params = {TENSOR("weight_hh"), TENSOR("states"), OPTIONAL_TENSOR("cells"), OPTIONAL_TENSOR("kept"),
                OPTIONAL_TENSOR("d_states"), OPTIONAL_TENSOR("d_cells"), OPTIONAL_TENSOR("d_kept"), CELL_PARAM,
                NAMED_FLAG("reverse")},
     .outputs = 3,
     .shape = shape_recurrent_grad,
     .forward = recurrent_grad_forward},
};
const OpFamily ops_recurrent = {"Recurrent layers", ops, COUNT(ops)};
