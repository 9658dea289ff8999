// SPDX-License-Identifier: MIT
// Operators: attention, and its backward.
#include "attention.h"

#include <math.h>
#include <string.h>

#include "flops.h"
#include "loops.h"

enum { Q, K, V, MASK, CAUSAL, SCALE, GROUPED };          // scaled_dot_product_attention
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

static bool shape_attention_of(Call *c, Error *err) {
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

// How many heads of the query share one of the key and the value; 1 where there is nothing to share, 0 with a sentence.
static int64_t heads_a_group(const Call *c, Error *err) {
  const Value *a = c->args;
  char tq[NB_SHAPE_TEXT], tk[NB_SHAPE_TEXT];
  if (!a[GROUPED].flag) return 1;
  bool deep = a[Q].tensor->layout.ndim >= 3 && a[K].tensor->layout.ndim >= 3 && a[V].tensor->layout.ndim >= 3;
  int64_t heads = deep ? size_at(&a[Q], 3) : 0, shared = deep ? size_at(&a[K], 3) : 0;
  if (deep && shared > 0 && heads > 0 && heads % shared == 0 && size_at(&a[V], 3) == shared) return heads / shared;
  nb_fail(err, NB_ERROR_ARGUMENT,
          "enable_gqa needs key and value with as many heads (the third dimension from the end) as divide the query's, "
          "got shapes %s and %s",
          nb_shape_text(&a[Q].tensor->layout, tq), nb_shape_text(&a[K].tensor->layout, tk));
  return 0;
}

static bool shape_attention(Call *c, Error *err) {
  int64_t count = heads_a_group(c, err);
  if (count <= 1) return count == 1 && shape_attention_of(c, err);
  // Key and value as they are with every head as often as it serves: only their shapes are looked at.
  Value args[GROUPED + 1];
  Tensor wide[2];
  const Value *given = c->args;
  memcpy(args, given, sizeof args);
  for (int i = 0; i < 2; i++) {
    wide[i] = *given[K + i].tensor;
    wide[i].layout.shape[wide[i].layout.ndim - 3] *= count;
    args[K + i].tensor = &wide[i];
  }
  c->args = args;
  bool ok = shape_attention_of(c, err);
  c->args = given;
  return ok;
}

// A key or value with each head `count` times, one after the other.
static Tensor *repeated(Scope *s, Tensor *t, int64_t count) {
  if (!t || count == 1) return t;
  return nb_op(s, "repeat_interleave", (Value[NB_MAX_PARAMS]){{.tensor = t}, {.integer = count}, {.integer = -3}});
}

// δ of the heads that were repeated, added up.
static Tensor *gathered(Scope *s, Tensor *g, int64_t count) {
  if (!g || count == 1) return g;
  Layout l = g->layout;
  int at = l.ndim - 3;
  l.ndim++;
  for (int d = l.ndim - 1; d > at + 1; d--) l.shape[d] = l.shape[d - 1];
  l.shape[at] /= count, l.shape[at + 1] = count;
  int dim = at + 1;
  return nb_sum_dims(s, nb_reshape(s, g, l.shape, l.ndim), &dim, 1, false);
}

// A tensor of matrices as it broadcasts over the batch.
static AttentionOperand matrices_of(const Tensor *t, const Attention *a) {
  const Layout *l = &t->layout;
  AttentionOperand o = {.data = nb_tensor_data(t)};
  for (int d = 0; d < l->ndim; d++) {
    int at = a->dims + 2 - l->ndim + d;
    int64_t step = l->shape[d] == 1 ? 0 : l->strides[d];
    *(at < a->dims ? &o.batch[at] : at == a->dims ? &o.row : &o.column) = step;
  }
  return o;
}

// The tensor in dtype, with elements of a row together.
static Tensor *in_rows(Scope *s, Tensor *t, DType dtype) {
  t = nb_to(s, t, dtype);
  bool apart = t && t->layout.shape[t->layout.ndim - 1] > 1 && t->layout.strides[t->layout.ndim - 1] != 1;
  return apart ? nb_unary(s, "clone", t) : t;
}

static bool operand(Scope *s, Tensor *t, const Attention *a, AttentionOperand *to) {
  if (!(t = in_rows(s, t, a->dtype))) return false;
  *to = matrices_of(t, a);
  return true;
}

static bool mask_operand(Scope *s, Tensor *mask, Attention *a) {
  if (!mask) return true;
  a->truth = mask->layout.dtype == NB_BOOL;
  if (!(mask = nb_to(s, mask, a->truth ? NB_BOOL : a->dtype))) return false;
  a->mask = matrices_of(mask, a);
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
  return operand(s, args[Q].tensor, a, &a->q) && operand(s, args[K].tensor, a, &a->k) &&
         operand(s, args[V].tensor, a, &a->v) && mask_operand(s, args[MASK].tensor, a);
}

static bool forward_attention(Call *c, Error *err) {
  Scope s;
  Attention a;
  int64_t count = heads_a_group(c, err);
  if (count == 0) return false;
  nb_scope_open(&s, err);
  Value args[GROUPED + 1];
  memcpy(args, c->args, sizeof args);
  args[K].tensor = repeated(&s, args[K].tensor, count);
  args[V].tensor = repeated(&s, args[V].tensor, count);
  Call own = *c;
  own.args = args;
  bool ok = args[K].tensor && args[V].tensor && prepare(&s, &own, c->args[CAUSAL].flag, c->args[SCALE].number, &a);
  if (ok) {
    a.y = matrices_of(c->out[0], &a), a.lse = nb_tensor_data(c->out[1]);
    ok = attention_forward(&a, err);
  }
  nb_scope_close(&s);
  return ok;
}

// ---- backward ----

static bool shape_attention_grad(Call *c, Error *err) {
  Layout batch;
  if (!shape_attention_of(c, err)) return false;
  Layout y = c->layout[0], lse = c->layout[1];
  c->compute = nb_dtype_promote(c->args[G_Y].tensor->layout.dtype, NB_F32);
  if (!nb_arg_fits(c, G_Y, &y, err) || !nb_arg_fits(c, G_G, &y, err) || !nb_arg_fits(c, G_LSE, &lse, err) ||
      !batch_shape(c, &batch, err))
    return false;
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
            operand(&s, c->args[G_Y].tensor, &a, &a.y) && operand(&s, c->args[G_G].tensor, &a, &a.g);
  Tensor *lse = ok ? nb_contiguous(&s, nb_to(&s, c->args[G_LSE].tensor, c->compute)) : NULL;
  ok = lse;
  if (ok) {
    a.lse = nb_tensor_data(lse);
    a.dq = matrices_of(c->out[0], &a), a.dk = matrices_of(c->out[1], &a), a.dv = matrices_of(c->out[2], &a);
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

// What the composed backward reads of a call.
typedef struct Parts {
  Tensor *q, *k, *v, *mask, *g, *lse;
  bool causal;
  double scale;
} Parts;

// The weights p, in operators that can be differentiated; rows that see nothing, whose lse is +∞, are 0.
static Tensor *weights(Scope *s, const Parts *t) {
  if (!t->q || !t->k) return NULL;
  int64_t queries = t->q->layout.shape[t->q->layout.ndim - 2], keys = t->k->layout.shape[t->k->layout.ndim - 2];
  Tensor *p = nb_matmul(s, nb_muln(s, t->q, t->scale), nb_swap(s, t->k, t->k->layout.ndim - 2, t->k->layout.ndim - 1));
  if (t->mask && t->mask->layout.dtype == NB_BOOL)
    p = masked_fill(s, p, nb_unary(s, "logical_not", t->mask), -INFINITY);
  else if (t->mask)
    p = nb_add(s, p, nb_to(s, t->mask, t->g->layout.dtype));
  if (p && t->causal) {
    Layout l = {.dtype = NB_BOOL, .ndim = 2, .shape = {queries, keys}};
    Tensor *ones = nb_full(s, &l, 1);
    Tensor *later = ones ? nb_op(s, "triu", (Value[NB_MAX_PARAMS]){{.tensor = ones}, {.integer = 1}}) : NULL;
    p = masked_fill(s, p, later, -INFINITY);
  }
  Layout rows = t->lse->layout;
  rows.shape[rows.ndim++] = 1;
  Tensor *blind = nb_reshape_like(s, t->lse, &rows);
  if (blind) blind = nb_binary(s, "eq", blind, nb_full(s, &(Layout){.dtype = rows.dtype}, INFINITY));
  p = masked_fill(s, p, blind, 0);
  p = p ? nb_op(s, "softmax", (Value[NB_MAX_PARAMS]){{.tensor = p}, {.integer = -1}}) : NULL;
  return masked_fill(s, p, blind, 0);
}

// d[0..3], δ of q, k, v and the scores: dp = g·vᵀ, ds = p∘(dp − Σ p∘dp).
static bool composed_backward(Scope *s, const Parts *t, Tensor **d) {
  Tensor *p = weights(s, t);
  Tensor *dp = p && t->v ? nb_matmul(s, t->g, nb_swap(s, t->v, t->v->layout.ndim - 2, t->v->layout.ndim - 1)) : NULL;
  if (!dp) return false;
  int last = p->layout.ndim - 1;
  d[3] = nb_mul(s, p, nb_sub(s, dp, nb_sum_dims(s, nb_mul(s, p, dp), &last, 1, true)));
  if (!d[3]) return false;
  d[0] = nb_muln(s, nb_matmul(s, d[3], t->k), t->scale);
  d[1] = nb_muln(s, nb_matmul(s, nb_swap(s, d[3], last - 1, last), t->q), t->scale);
  d[2] = nb_matmul(s, nb_swap(s, p, last - 1, last), t->g);
  return d[0] && d[1] && d[2];
}

static bool is_composed(Backward *b, int mask) {
  return nb_grad_enabled() || (nb_in(b, mask) && nb_wants(b, mask));
}

static bool backward_attention(Backward *b) {
  Tensor *d[4];
  const Layout *q = &nb_in(b, Q)->layout, *k = &nb_in(b, K)->layout;
  int64_t count = nb_arg(b, GROUPED)->flag ? q->shape[q->ndim - 3] / k->shape[k->ndim - 3] : 1;
  Tensor *key = repeated(b->scope, nb_in(b, K), count), *value = repeated(b->scope, nb_in(b, V), count);
  if (!key || !value) return false;
  if (is_composed(b, MASK)) {
    double scale = scale_of(nb_arg(b, SCALE)->number, size_at(nb_arg(b, K), 1));
    DType dtype = b->grad[0]->layout.dtype;
    Parts t = {nb_to(b->scope, nb_in(b, Q), dtype),
               nb_to(b->scope, key, dtype),
               nb_to(b->scope, value, dtype),
               nb_in(b, MASK),
               b->grad[0],
               b->node->saved_out[1],
               nb_arg(b, CAUSAL)->flag,
               scale};
    if (!composed_backward(b->scope, &t, d)) return false;
  } else {
    Value args[NB_MAX_PARAMS] = {{.tensor = nb_in(b, Q)},    {.tensor = key},        {.tensor = value},
                                 {.tensor = nb_in(b, MASK)}, {.tensor = b->grad[0]}, {.tensor = nb_out(b, 0)},
                                 {.tensor = nb_out(b, 1)}};
    args[G_CAUSAL].flag = nb_arg(b, CAUSAL)->flag;
    args[G_SCALE].number = nb_arg(b, SCALE)->number;
    if (!nb_op_many(b->scope, "attention_grad", args, d)) return false;
  }
  if (nb_in(b, MASK) && nb_wants(b, MASK) && !nb_give(b, MASK, d[3])) return false;
  for (int i = Q; i <= V; i++)
    if (nb_wants(b, i) && !nb_give(b, i, i == Q ? d[i] : gathered(b->scope, d[i], count))) return false;
  return true;
}

// ---- self-attention ----

enum { X, S_HEADS, S_MASK, S_CAUSAL };                     // self_attention
enum { SG_MASK = S_MASK, SG_G, SG_Y, SG_LSE, SG_CAUSAL };  // self_attention_grad, after the same three

static bool check_heads(const Layout *x, int64_t heads, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (x->ndim == 3 && heads >= 1 && x->shape[2] > 0 && x->shape[2] % 3 == 0 && x->shape[2] / 3 % heads == 0)
    return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "needs batch × length × 3·features, features for %lld heads, got shape %s",
                 (long long)heads, nb_shape_text(x, text));
}

static bool shape_self_attention(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[X].tensor->layout;
  const Tensor *mask = c->args[S_MASK].tensor;
  int64_t heads = c->args[S_HEADS].integer;
  if (!check_heads(x, heads, err)) return false;
  Layout batch = {.ndim = 2, .shape = {x->shape[0], heads}};
  if (mask && !fits(&mask->layout, &batch, x->shape[1], x->shape[1]))
    return nb_fail(err, NB_ERROR_ARGUMENT, "attn_mask must broadcast to batch × heads × length × length, got shape %s",
                   nb_shape_text(&mask->layout, text));
  c->layout[0] = *x;
  c->layout[0].dtype = c->compute = nb_dtype_promote(x->dtype, NB_F32);
  c->layout[0].shape[2] /= 3;
  c->layout[1] = (Layout){.dtype = c->compute, .ndim = 3, .shape = {x->shape[0], heads, x->shape[1]}};
  return true;
}

// The heads of part `part` of batch × length × parts·features.
static AttentionOperand heads_of(const Tensor *t, int64_t heads, int part, int parts) {
  const Layout *l = &t->layout;
  int64_t features = l->shape[2] / parts;
  char *data = (char *)nb_tensor_data(t) + (size_t)(part * features) * nb_dtype_size(l->dtype);
  return (AttentionOperand){data, l->strides[1], 1, {l->strides[0], features / heads}};
}

static bool prepare_self(Scope *s, const Call *c, bool causal, Attention *a) {
  int64_t heads = c->args[S_HEADS].integer;
  Tensor *x = in_rows(s, c->args[X].tensor, c->compute);
  if (!x) return false;
  const Layout *l = &x->layout;
  int64_t features = l->shape[2] / 3 / heads;
  *a = (Attention){.dtype = c->compute, .dims = 2, .batch = {l->shape[0], heads}, .heads = l->shape[0] * heads};
  a->queries = a->keys = l->shape[1], a->features = a->width = features;
  a->causal = causal, a->scale = scale_of(NAN, features);
  a->q = heads_of(x, heads, 0, 3), a->k = heads_of(x, heads, 1, 3), a->v = heads_of(x, heads, 2, 3);
  return mask_operand(s, c->args[S_MASK].tensor, a);
}

static bool forward_self_attention(Call *c, Error *err) {
  Scope s;
  Attention a;
  nb_scope_open(&s, err);
  bool ok = prepare_self(&s, c, c->args[S_CAUSAL].flag, &a);
  if (ok) {
    a.y = heads_of(c->out[0], c->args[S_HEADS].integer, 0, 1), a.lse = nb_tensor_data(c->out[1]);
    ok = attention_forward(&a, err);
  }
  nb_scope_close(&s);
  return ok;
}

static bool shape_self_attention_grad(Call *c, Error *err) {
  if (!shape_self_attention(c, err)) return false;
  Layout y = c->layout[0], lse = c->layout[1];
  c->compute = nb_dtype_promote(c->args[SG_Y].tensor->layout.dtype, NB_F32);
  if (!nb_arg_fits(c, SG_Y, &y, err) || !nb_arg_fits(c, SG_G, &y, err) || !nb_arg_fits(c, SG_LSE, &lse, err))
    return false;
  c->layout[0] = c->args[X].tensor->layout;
  c->layout[0].dtype = c->compute;
  return true;
}

static bool self_attention_grad_forward(Call *c, Error *err) {
  Scope s;
  Attention a;
  int64_t heads = c->args[S_HEADS].integer;
  nb_scope_open(&s, err);
  Tensor *y = in_rows(&s, c->args[SG_Y].tensor, c->compute), *g = in_rows(&s, c->args[SG_G].tensor, c->compute);
  Tensor *lse = nb_contiguous(&s, nb_to(&s, c->args[SG_LSE].tensor, c->compute));
  bool ok = y && g && lse && prepare_self(&s, c, c->args[SG_CAUSAL].flag, &a);
  if (ok) {
    a.y = heads_of(y, heads, 0, 1), a.g = heads_of(g, heads, 0, 1), a.lse = nb_tensor_data(lse);
    a.dq = heads_of(c->out[0], heads, 0, 3), a.dk = heads_of(c->out[0], heads, 1, 3);
    a.dv = heads_of(c->out[0], heads, 2, 3);
    ok = attention_backward(&a, err);
  }
  nb_scope_close(&s);
  return ok;
}

// batch × length × features to batch × heads × length × features of a head, and back.
static Tensor *split(Scope *s, Tensor *t, int64_t heads) {
  if (!t) return NULL;
  const int64_t *n = t->layout.shape;
  return nb_swap(s, nb_reshape(s, t, (int64_t[]){n[0], n[1], heads, n[2] / heads}, 4), 1, 2);
}

static Tensor *joined(Scope *s, Tensor *t) {
  if (!(t = nb_swap(s, t, 1, 2))) return NULL;
  const int64_t *n = t->layout.shape;
  return nb_reshape(s, t, (int64_t[]){n[0], n[1], n[2] * n[3]}, 3);
}

static bool backward_self_attention(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, X), *d[4];
  int64_t heads = nb_arg(b, S_HEADS)->integer, features = x->layout.shape[2] / 3;
  if (!is_composed(b, S_MASK)) {
    Value args[NB_MAX_PARAMS] = {{.tensor = x},          {.integer = heads},       {.tensor = nb_in(b, S_MASK)},
                                 {.tensor = b->grad[0]}, {.tensor = nb_out(b, 0)}, {.tensor = nb_out(b, 1)}};
    args[SG_CAUSAL].flag = nb_arg(b, S_CAUSAL)->flag;
    return !nb_wants(b, X) || nb_give(b, X, nb_op(s, "self_attention_grad", args));
  }
  Tensor *part[3];
  for (int i = 0; i < 3; i++)
    part[i] = split(s,
                    nb_op(s, "narrow",
                          (Value[NB_MAX_PARAMS]){
                              {.tensor = x}, {.integer = 3}, {.integer = i * features + 1}, {.integer = features}}),
                    heads);
  Parts t = {part[0],
             part[1],
             part[2],
             nb_in(b, S_MASK),
             split(s, b->grad[0], heads),
             b->node->saved_out[1],
             nb_arg(b, S_CAUSAL)->flag,
             scale_of(NAN, features / heads)};
  if (!t.g || !composed_backward(s, &t, d)) return false;
  if (nb_in(b, S_MASK) && nb_wants(b, S_MASK) && !nb_give(b, S_MASK, d[3])) return false;
  for (int i = 0; i < 3; i++)
    if (!(d[i] = joined(s, d[i]))) return false;
  return !nb_wants(b, X) || nb_give(b, X, nb_op(s, "cat", (Value[NB_MAX_PARAMS]){{.tensors = {d, 3}}, {.integer = 3}}));
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
  "f(3,1), f(2,1), f(2,1), nb.tensor({{false,false},{true,true},{false,true}}, {dtype='bool'}); "               \
  "f(4,2,3), f(2,3,3), f(2,3,2), {enable_gqa=true, is_causal=true}"

static const Op ops[] = {
    {.name = "scaled_dot_product_attention",
     .doc = "softmax(query·keyᵀ·scale + attn_mask)·value on the last two dimensions; others are batches and broadcast. "
            "A mask of bool is true where a key is seen, numbers are added; a query that sees no key gets zeros.  "
            "There is no dropout_p: nn.MultiheadAttention has dropout.",
     .example = "local q, k, v = nb.tensor{{1}}, nb.tensor{{0}, {0}}, nb.tensor{{2}, {4}}; "
                "return nb.scaled_dot_product_attention(q, k, v)  --> {{3}}",
     .derivative = "∂/∂v = pᵀ·δ; with p the weights, d = δ·vᵀ, s = p∘(d − Σ p∘d): ∂/∂q = s·k·scale, ∂/∂k = sᵀ·q·scale",
     .source = "Vaswani et al. 2017; in tiles: Dao et al., FlashAttention, 2022",
     .sample = {.args = ATTENTION_CASES},
     .role = NB_ROLE_ATTENTION,
     .symbol = "attention",
     .flops = nb_flops_attention,
     .params = {TENSOR("query"),
                TENSOR("key"),
                TENSOR("value"),
                OPTIONAL_TENSOR("attn_mask"),
                CAUSAL_PARAM,
                SCALE_PARAM,
                {.name = "enable_gqa",
                 .kind = NB_PARAM_FLAG,
                 .optional = true,
                 .named = true,
                 .doc = "a head of key and value serves several of the query's, one after the other"}},
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
     .role = NB_ROLE_GRADIENT,
     .symbol = "attention'",
     .flops = nb_flops_attention_grad,
     .params = {TENSOR("query"), TENSOR("key"), TENSOR("value"), OPTIONAL_TENSOR("attn_mask"), TENSOR("g"), TENSOR("y"),
                TENSOR("lse"), CAUSAL_PARAM, SCALE_PARAM},
     .outputs = 3,
     .shape = shape_attention_grad,
     .forward = attention_grad_forward},
    {.name = "self_attention",
     .doc = "scaled_dot_product_attention of every head: query, key and value side by side in the last dimension of "
            "batch × length × 3·features.",
     .example = "return #nb.nn.MultiheadAttention(8, 2)(nb.randn(5, 3, 8), {need_weights=false})  --> 5",
     .derivative = "as of scaled_dot_product_attention",
     .source = "Vaswani et al. 2017",
     .internal = true,
     .sample = {.args = "f(2,3,12), 2; f(2,3,6), 1, f(3,3), {is_causal=true}; f(1,4,18), 2, "
                        "nb.tensor({{false},{true},{true},{false}}, {dtype='bool'})"},
     .role = NB_ROLE_ATTENTION,
     .symbol = "attention",
     .flops = nb_flops_self_attention,
     .params = {TENSOR("qkv"), INT("heads"), OPTIONAL_TENSOR("attn_mask"), CAUSAL_PARAM},
     .outputs = 2,
     .hidden = 1,
     .saves = NB_SAVE_IN(X) | NB_SAVE_IN(S_MASK) | NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_self_attention,
     .forward = forward_self_attention,
     .backward = backward_self_attention},
    {.name = "self_attention_grad",
     .doc = "δ of self_attention's query, key and value, from δ of its result and what the forward kept.",
     .example = "local m = nb.nn.MultiheadAttention(2, 1, {bias=false}); "
                "m(nb.zeros(1, 1, 2), {need_weights=false}):sum():backward(); return m.out_proj.weight.grad  "
                "--> {{0, 0}, {0, 0}}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(2,3,12), 2, nil, f(2,3,4), f(2,3,4), f(2,2,3)"},
     .role = NB_ROLE_GRADIENT,
     .symbol = "attention'",
     .flops = nb_flops_self_attention_grad,
     .params = {TENSOR("qkv"), INT("heads"), OPTIONAL_TENSOR("attn_mask"), TENSOR("g"), TENSOR("y"), TENSOR("lse"),
                CAUSAL_PARAM},
     .shape = shape_self_attention_grad,
     .forward = self_attention_grad_forward},
};
const OpFamily ops_attention = {"Attention", ops, COUNT(ops)};
