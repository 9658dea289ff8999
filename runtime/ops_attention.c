// SPDX-License-Identifier: MIT
// Operators: attention, and its backward.
#include <math.h>
#include <string.h>

#include "attention.h"
#include "loops.h"

enum { Q, K, V, MASK, CAUSAL, SCALE };                   // scaled_dot_product_attention
enum { G_G = MASK + 1, G_Y, G_LSE, G_CAUSAL, G_SCALE };  // attention_grad, after the same four

static bool batch_shape(const Call *c, Layout *batch, Error *err) {
  *batch = (Layout){.dtype = NB_F32};
  for (int i = Q; i <= V; i++) {
    Layout part = c->args[i].tensor->layout, all = *batch;
    part.ndim -= 2;
    if (!nb_broadcast_shape(&all, &part, batch, err)) return false;
  }
  return true;
}

static int64_t size_at(const Value *v, int from_end) {
  const Layout *l = &v->tensor->layout;
  return l->shape[l->ndim - from_end];
}

// Whether the mask broadcasts to batch × queries × keys.
static bool fits(const Layout *mask, const Layout *batch, int64_t queries, int64_t keys) {
  Layout scores = *batch;
  scores.shape[scores.ndim++] = queries;
  scores.shape[scores.ndim++] = keys;
  if (mask->ndim > scores.ndim) return false;
  for (int d = 0; d < mask->ndim; d++)
    if (mask->shape[d] != 1 && mask->shape[d] != scores.shape[scores.ndim - mask->ndim + d]) return false;
  return true;
}

static bool shape_attention(Call *c, Error *err) {
  char tq[NB_SHAPE_TEXT], tk[NB_SHAPE_TEXT], tv[NB_SHAPE_TEXT];
  const Value *a = c->args;
  const Tensor *mask = a[MASK].tensor;
  bool deep = true;
  c->compute = NB_F32;
  for (int i = Q; i <= V; i++) {
    deep = deep && a[i].tensor->layout.ndim >= 2;
    c->compute = nb_dtype_promote(c->compute, a[i].tensor->layout.dtype);
  }
  if (!deep || size_at(&a[Q], 1) != size_at(&a[K], 1) || size_at(&a[K], 2) != size_at(&a[V], 2) ||
      size_at(&a[K], 1) == 0 || size_at(&a[V], 1) == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "needs query of ... × queries × features, key of ... × keys × features and value of ... × keys × "
                   "width, got shapes %s, %s and %s",
                   nb_shape_text(&a[Q].tensor->layout, tq), nb_shape_text(&a[K].tensor->layout, tk),
                   nb_shape_text(&a[V].tensor->layout, tv));
  Layout batch;
  if (!batch_shape(c, &batch, err)) return false;
  int64_t queries = size_at(&a[Q], 2), keys = size_at(&a[K], 2);
  if (mask && mask->layout.dtype != NB_BOOL && !nb_dtype_is_float(mask->layout.dtype))
    return nb_fail(err, NB_ERROR_ARGUMENT, "attn_mask must be bool (true: seen) or numbers to add, f32 or f64, got %s",
                   nb_dtype_name(mask->layout.dtype));
  if (mask && !fits(&mask->layout, &batch, queries, keys))
    return nb_fail(err, NB_ERROR_ARGUMENT, "attn_mask must broadcast to %lld queries × %lld keys, got shape %s",
                   (long long)queries, (long long)keys, nb_shape_text(&mask->layout, tq));
  batch.dtype = c->compute;
  c->layout[0] = c->layout[1] = batch;
  c->layout[0].ndim += 2;
  c->layout[0].shape[batch.ndim] = queries;
  c->layout[0].shape[batch.ndim + 1] = size_at(&a[V], 1);
  c->layout[1].ndim++;
  c->layout[1].shape[batch.ndim] = queries;
  return true;
}

// A tensor of matrices as it broadcasts over the batch.
static bool operand(Scope *s, Tensor *t, const Attention *a, DType dtype, bool together, AttentionOperand *to) {
  t = nb_to(s, t, dtype);
  if (t && together && t->layout.shape[t->layout.ndim - 1] > 1 && t->layout.strides[t->layout.ndim - 1] != 1)
    t = nb_unary(s, "clone", t);
  if (!t) return false;
  const Layout *l = &t->layout;
  *to = (AttentionOperand){.data = nb_tensor_data(t)};
  for (int d = 0; d < l->ndim; d++) {
    int at = a->dims + 2 - l->ndim + d;
    int64_t step = l->shape[d] == 1 ? 0 : l->strides[d];
    *(at < a->dims ? &to->batch[at] : at == a->dims ? &to->row : &to->column) = step;
  }
  return true;
}

static double scale_of(double given, int64_t features) {
  return isnan(given) ? 1 / sqrt((double)features) : given;
}

// What forward and backward share; false when an operand cannot be laid out.
static bool prepare(Scope *s, const Call *c, bool causal, double scale, Attention *a) {
  const Value *args = c->args;
  Layout batch;
  if (!batch_shape(c, &batch, s->err)) return false;
  *a = (Attention){.dtype = c->compute, .dims = batch.ndim, .heads = nb_layout_numel(&batch), .causal = causal};
  memcpy(a->batch, batch.shape, sizeof a->batch);
  a->queries = size_at(&args[Q], 2), a->keys = size_at(&args[K], 2);
  a->features = size_at(&args[K], 1), a->width = size_at(&args[V], 1);
  a->scale = scale_of(scale, a->features);
  Tensor *mask = args[MASK].tensor;
  a->truth = mask && mask->layout.dtype == NB_BOOL;
  return operand(s, args[Q].tensor, a, c->compute, true, &a->q) &&
         operand(s, args[K].tensor, a, c->compute, true, &a->k) &&
         operand(s, args[V].tensor, a, c->compute, true, &a->v) &&
         (!mask || operand(s, mask, a, a->truth ? NB_BOOL : c->compute, false, &a->mask));
}

static bool forward_attention(Call *c, Error *err) {
  Scope s;
  Attention a;
  nb_scope_open(&s, err);
  bool ok = prepare(&s, c, c->args[CAUSAL].flag, c->args[SCALE].number, &a);
  if (ok) {
    a.y = nb_tensor_data(c->out[0]), a.lse = nb_tensor_data(c->out[1]);
    ok = attention_forward(&a, err);
  }
  nb_scope_close(&s);
  return ok;
}

// ---- backward ----

static bool shape_attention_grad(Call *c, Error *err) {
  Layout batch;
  c->compute = c->args[G_Y].tensor->layout.dtype;
  if (!batch_shape(c, &batch, err)) return false;
  for (int i = Q; i <= V; i++) {
    Layout *l = &c->layout[i];
    *l = batch;
    l->dtype = c->compute;
    l->shape[l->ndim++] = size_at(&c->args[i], 2);
    l->shape[l->ndim++] = size_at(&c->args[i], 1);
  }
  return true;
}

static bool attention_grad_forward(Call *c, Error *err) {
  Scope s;
  Attention a;
  nb_scope_open(&s, err);
  bool ok = prepare(&s, c, c->args[G_CAUSAL].flag, c->args[G_SCALE].number, &a) &&
            operand(&s, c->args[G_G].tensor, &a, c->compute, true, &a.g);
  Tensor *y = ok ? nb_contiguous(&s, c->args[G_Y].tensor) : NULL, *lse = nb_contiguous(&s, c->args[G_LSE].tensor);
  ok = y && lse;
  if (ok) {
    a.y = nb_tensor_data(y), a.lse = nb_tensor_data(lse);
    a.dq = nb_tensor_data(c->out[0]), a.dk = nb_tensor_data(c->out[1]), a.dv = nb_tensor_data(c->out[2]);
    ok = attention_backward(&a, err);
  }
  nb_scope_close(&s);
  return ok;
}

static Tensor *masked_fill(Scope *s, Tensor *x, Tensor *mask, double value) {
  Tensor *number = x ? nb_full(s, &(Layout){.dtype = x->layout.dtype}, value) : NULL;
  return number && mask
             ? nb_op(s, "masked_fill", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = mask}, {.tensor = number}})
             : NULL;
}

// The weights p, in operators that can be differentiated; rows that see nothing, whose lse is +∞, are 0.
static Tensor *weights(Backward *b, double scale) {
  Scope *s = b->scope;
  Tensor *q = nb_in(b, Q), *k = nb_in(b, K), *mask = nb_in(b, MASK);
  Tensor *p = nb_matmul(s, nb_muln(s, q, scale), nb_swap(s, k, k->layout.ndim - 2, k->layout.ndim - 1));
  if (mask && mask->layout.dtype == NB_BOOL)
    p = masked_fill(s, p, nb_unary(s, "logical_not", mask), -INFINITY);
  else if (mask)
    p = nb_add(s, p, nb_to(s, mask, b->grad[0]->layout.dtype));
  if (p && nb_arg(b, CAUSAL)->flag) {
    Layout l = {.dtype = NB_BOOL, .ndim = 2, .shape = {size_at(nb_arg(b, Q), 2), size_at(nb_arg(b, K), 2)}};
    Tensor *ones = nb_full(s, &l, 1);
    Tensor *later = ones ? nb_op(s, "triu", (Value[NB_MAX_PARAMS]){{.tensor = ones}, {.integer = 1}}) : NULL;
    p = masked_fill(s, p, later, -INFINITY);
  }
  Layout rows = b->node->saved_out[1]->layout;
  rows.shape[rows.ndim++] = 1;
  Tensor *blind = nb_reshape_like(s, b->node->saved_out[1], &rows);
  if (blind) blind = nb_binary(s, "eq", blind, nb_full(s, &(Layout){.dtype = rows.dtype}, INFINITY));
  p = masked_fill(s, p, blind, 0);
  p = p ? nb_op(s, "softmax", (Value[NB_MAX_PARAMS]){{.tensor = p}, {.integer = -1}}) : NULL;
  return masked_fill(s, p, blind, 0);
}

// dp = δ·vᵀ, ds = p∘(dp − Σ p∘dp).
static bool differentiable_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *q = nb_in(b, Q), *k = nb_in(b, K), *v = nb_in(b, V);
  double scale = scale_of(nb_arg(b, SCALE)->number, size_at(nb_arg(b, K), 1));
  Tensor *p = weights(b, scale), *dp = nb_matmul(s, g, nb_swap(s, v, v->layout.ndim - 2, v->layout.ndim - 1));
  if (!p || !dp) return false;
  int last = p->layout.ndim - 1;
  Tensor *ds = nb_mul(s, p, nb_sub(s, dp, nb_sum_dims(s, nb_mul(s, p, dp), &last, 1, true)));
  if (!ds || (nb_in(b, MASK) && nb_wants(b, MASK) && !nb_give(b, MASK, ds))) return false;
  return (!nb_wants(b, Q) || nb_give(b, Q, nb_muln(s, nb_matmul(s, ds, k), scale))) &&
         (!nb_wants(b, K) || nb_give(b, K, nb_muln(s, nb_matmul(s, nb_swap(s, ds, last - 1, last), q), scale))) &&
         (!nb_wants(b, V) || nb_give(b, V, nb_matmul(s, nb_swap(s, p, last - 1, last), g)));
}

static bool backward_attention(Backward *b) {
  Tensor *d[NB_MAX_OUTPUTS];
  if (nb_grad_enabled() || (nb_in(b, MASK) && nb_wants(b, MASK))) return differentiable_backward(b);
  Value args[NB_MAX_PARAMS] = {{.tensor = nb_in(b, Q)},    {.tensor = nb_in(b, K)}, {.tensor = nb_in(b, V)},
                               {.tensor = nb_in(b, MASK)}, {.tensor = b->grad[0]},  {.tensor = nb_out(b, 0)},
                               {.tensor = nb_out(b, 1)}};
  args[G_CAUSAL].flag = nb_arg(b, CAUSAL)->flag;
  args[G_SCALE].number = nb_arg(b, SCALE)->number;
  if (!nb_op_many(b->scope, "attention_grad", args, d)) return false;
  for (int i = Q; i <= V; i++)
    if (nb_wants(b, i) && !nb_give(b, i, d[i])) return false;
  return true;
}

#define CAUSAL_PARAM \
  { .name = "is_causal", .kind = NB_PARAM_FLAG, .optional = true, .named = true, .doc = "query i sees keys 1..i only" }
#define SCALE_PARAM                                                                             \
  {                                                                                             \
    .name = "scale", .kind = NB_PARAM_NUMBER, .optional = true, .named = true, .fallback = NAN, \
    .doc = "of the products; left out: 1/√features"                                           \
  }
#define ATTENTION_CASES                                                                                         \
  "f(2,3,4), f(2,5,4), f(2,5,3); f(4,2), f(4,2), f(4,3), {is_causal=true}; f(2,1,3,2), f(4,5,2), f(4,5,2), "    \
  "{scale=0.7}; f(2,3,2), f(2,4,2), f(2,4,2), m(3,4); f(2,3,2), f(3,2), f(1,3,2), f(2,1,3), {is_causal=true}; " \
  "f(3,1), f(2,1), f(2,1), nb.tensor({{false,false},{true,true},{false,true}}, {dtype='bool'})"

static const Op ops[] = {
    {.name = "scaled_dot_product_attention",
     .doc = "softmax(query·keyᵀ·scale + attn_mask)·value on the last two dimensions; others are batches and broadcast. "
            "A mask of bool is true where a key is seen, numbers are added; a query that sees no key gets zeros.",
     .example = "local q, k, v = nb.tensor{{1}}, nb.tensor{{0}, {0}}, nb.tensor{{2}, {4}}; "
                "return nb.scaled_dot_product_attention(q, k, v)  --> {{3}}",
     .derivative = "∂/∂v = pᵀ·δ; with p the weights, d = δ·vᵀ, s = p∘(d − Σ p∘d): ∂/∂q = s·k·scale, ∂/∂k = sᵀ·q·scale",
     .source = "Vaswani et al. 2017; in tiles: Dao et al., FlashAttention, 2022",
     .sample = {.args = ATTENTION_CASES},
     .params = {TENSOR("query"), TENSOR("key"), TENSOR("value"), OPTIONAL_TENSOR("attn_mask"), CAUSAL_PARAM,
                SCALE_PARAM},
     .outputs = 2,
     .hidden = 1,
     .saves = NB_SAVE_IN(Q) | NB_SAVE_IN(K) | NB_SAVE_IN(V) | NB_SAVE_IN(MASK) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_attention,
     .forward = forward_attention,
     .backward = backward_attention},
    {.name = "attention_grad",
     .doc = "δ of attention's query, key and value, from δ of its result and what the forward kept.",
     .example = "local q, k = nb.tensor({{2}}, {requires_grad=true}), nb.tensor{{1}}; "
                "nb.scaled_dot_product_attention(q, k, k):sum():backward(); return q.grad  --> {{0}}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(2,3,4), f(2,5,4), f(2,5,2), nil, f(2,3,2), f(2,3,2), f(2,3)"},
     .params = {TENSOR("query"), TENSOR("key"), TENSOR("value"), OPTIONAL_TENSOR("attn_mask"), TENSOR("g"), TENSOR("y"),
                TENSOR("lse"), CAUSAL_PARAM, SCALE_PARAM},
     .outputs = 3,
     .shape = shape_attention_grad,
     .forward = attention_grad_forward},
};
const OpFamily ops_attention = {"Attention", ops, COUNT(ops)};
