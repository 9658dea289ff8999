// SPDX-License-Identifier: MIT
// Operators: standardising rows and channels, which the normalisation layers are made of.
#include <math.h>

#include "loops.h"
#include "nablua/interrupt.h"
#include "reduce.h"

static bool shape_standardize(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  if (x->ndim == 0 || x->shape[x->ndim - 1] == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs rows of elements, got shape %s", nb_shape_text(x, text));
  c->layout[0] = *x;
  c->layout[0].dtype = c->compute = nb_dtype_promote(x->dtype, NB_F32);
  c->layout[1] = c->layout[0];
  c->layout[1].shape[x->ndim - 1] = 1;
  return true;
}

typedef struct Rows {
  int64_t n;
  double eps;
  const char *x, *y, *scale;  // of the backward: δ, the standardised rows, what they were divided by
  char *out, *out_scale;
} Rows;

#define STANDARDIZE(name, T, DTYPE)                                                                \
  NB_RANGE(name) {                                                                                 \
    const Rows *r = ctx;                                                                           \
    for (int64_t i = begin; i < end; i++) {                                                        \
      const T *x = (const T *)r->x + i * r->n;                                                     \
      T *y = (T *)r->out + i * r->n, mean = (T)(nb_sum_of(DTYPE, r->n, x) / (double)r->n);         \
      T scale = (T)(1 / sqrt(nb_dot_of(DTYPE, r->n, x, x, (double)mean) / (double)r->n + r->eps)); \
      NB_IVDEP for (int64_t k = 0; k < r->n; k++) y[k] = (x[k] - mean) * scale;                    \
      ((T *)r->out_scale)[i] = scale;                                                              \
    }                                                                                              \
  }                                                                                                \
  NB_RANGE(name##_grad) {                                                                          \
    const Rows *r = ctx;                                                                           \
    for (int64_t i = begin; i < end; i++) {                                                        \
      const T *g = (const T *)r->x + i * r->n, *y = (const T *)r->y + i * r->n;                    \
      T *out = (T *)r->out + i * r->n, scale = ((const T *)r->scale)[i];                           \
      T mean = (T)(nb_sum_of(DTYPE, r->n, g) / (double)r->n);                                      \
      T along = (T)(nb_dot_of(DTYPE, r->n, g, y, 0) / (double)r->n);                               \
      NB_IVDEP for (int64_t k = 0; k < r->n; k++) out[k] = ((g[k] - mean) - y[k] * along) * scale; \
    }                                                                                              \
  }
STANDARDIZE(rows_f32, float, NB_F32)
STANDARDIZE(rows_f64, double, NB_F64)

static void each_row(Rows *r, const Layout *l, void (*body)(int64_t, int64_t, void *)) {
  r->n = l->shape[l->ndim - 1];
  nb_parallel_for(nb_layout_numel(l) / r->n, NB_GRAIN / 4 / r->n + 1, body, r);
}

static bool standardize_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  if (x) {
    Rows r = {.eps = c->args[1].number, .x = nb_tensor_data(x), .out = nb_tensor_data(c->out[0])};
    r.out_scale = nb_tensor_data(c->out[1]);
    each_row(&r, &x->layout, c->compute == NB_F32 ? rows_f32 : rows_f64);
  }
  nb_scope_close(&s);
  return x;
}

static bool shape_standardize_grad(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[1].tensor->layout;
  c->compute = c->layout[0].dtype;
  return true;
}

static bool standardize_grad_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  const void *data[3] = {NULL};
  bool ok = true;
  for (int i = 0; ok && i < 3; i++) {
    Tensor *t = nb_contiguous(&s, nb_to(&s, c->args[i].tensor, c->compute));
    if ((ok = t)) data[i] = nb_tensor_data(t);
  }
  if (ok) {
    Rows r = {.x = data[0], .y = data[1], .scale = data[2], .out = nb_tensor_data(c->out[0])};
    each_row(&r, &c->layout[0], c->compute == NB_F32 ? rows_f32_grad : rows_f64_grad);
  }
  nb_scope_close(&s);
  return ok;
}

static Tensor *row_mean(Scope *s, Tensor *t) {
  int64_t last = -1;
  return t ? nb_op(s, "mean", (Value[NB_MAX_PARAMS]){{.tensor = t}, {.ints = {&last, 1}}, {.flag = true}}) : NULL;
}

// With y = (x − mean)·s: s·(g − mean(g) − y·mean(g·y)); what arrives at s itself, for second derivatives, −s²·y/n.
static bool standardize_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *y = nb_out(b, 0), *scale = nb_out(b, 1), *d = NULL;
  if (!y || !scale) return false;
  if (!nb_grad_enabled() && g && !b->grad[1])
    return nb_give(
        b, 0, nb_op(s, "standardize_grad", (Value[NB_MAX_PARAMS]){{.tensor = g}, {.tensor = y}, {.tensor = scale}}));
  if (g) {
    Tensor *off = nb_sub(s, g, row_mean(s, g));
    d = nb_mul(s, scale, nb_sub(s, off, nb_mul(s, y, row_mean(s, nb_mul(s, g, y)))));
    if (!d) return false;
  }
  if (b->grad[1]) {
    double n = (double)y->layout.shape[y->layout.ndim - 1];
    Tensor *more = nb_muln(s, nb_mul(s, nb_mul(s, b->grad[1], nb_mul(s, scale, scale)), y), -1 / n);
    d = d ? nb_add(s, d, more) : more;
  }
  return nb_give(b, 0, d);
}

// ---- channels over a batch ----

// LANES sums go side by side and hold SHORT elements at most before they are added up in double.
enum { LANES = 16, SHORT = 512 };

typedef struct Channels {
  int64_t batch, channels, inner;
  double eps;
  const void *x, *weight, *bias;    // weight and bias may be NULL
  const void *g, *mean, *variance;  // of the backward
  void *y, *out_mean, *out_variance;
  void *dx, *dweight, *dbias;
} Channels;

#define BITS 32
#include "normalize_channels.h"
#define BITS 64
#include "normalize_channels.h"

// The tensors of a call, as channels see them; the first is x, and list[i] follows args[i].
static bool each_channel(Call *c, Channels *w, const void **list[], int count, Error *err) {
  Scope s;
  bool ok = true;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  for (int i = 0; ok && i < count; i++) {
    Tensor *t = c->args[i].tensor ? nb_contiguous(&s, nb_to(&s, c->args[i].tensor, c->compute)) : NULL;
    ok = t || !c->args[i].tensor;
    *list[i] = t ? nb_tensor_data(t) : NULL;
  }
  if (ok) {
    w->batch = x->shape[0], w->channels = x->shape[1], w->inner = 1;
    for (int d = 2; d < x->ndim; d++) w->inner *= x->shape[d];
    int64_t items = w->inner == 1 ? (w->channels + LANES - 1) / LANES : w->channels;
    int64_t grain = NB_GRAIN / 4 / (w->batch * w->inner * (w->inner == 1 ? LANES : 1)) + 1;
    nb_parallel_for(items, grain, c->compute == NB_F32 ? f32_body : f64_body, w);
  }
  nb_scope_close(&s);
  return ok;
}

static bool shape_batch_norm(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  if (x->ndim < 2 || nb_layout_numel(x) == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs elements of batch × channels × ..., got shape %s",
                   nb_shape_text(x, text));
  c->compute = nb_dtype_promote(x->dtype, NB_F32);
  for (int i = 1; i <= 2; i++) {
    const Tensor *t = c->args[i].tensor;
    if (t) c->compute = nb_dtype_promote(c->compute, t->layout.dtype);
    if (t && (t->layout.ndim != 1 || t->layout.shape[0] != x->shape[1]))
      return nb_fail(err, NB_ERROR_ARGUMENT, "%s must have shape %lld, one for each channel, got %s",
                     c->op->params[i].name, (long long)x->shape[1], nb_shape_text(&t->layout, text));
  }
  c->layout[0] = *x;
  c->layout[0].dtype = c->compute;
  c->layout[1] = c->layout[2] = (Layout){.dtype = c->compute, .ndim = 1, .shape = {x->shape[1]}};
  return true;
}

static bool batch_norm_forward(Call *c, Error *err) {
  Channels w = {.eps = c->args[3].number, .y = nb_tensor_data(c->out[0])};
  w.out_mean = nb_tensor_data(c->out[1]), w.out_variance = nb_tensor_data(c->out[2]);
  return each_channel(c, &w, (const void **[]){&w.x, &w.weight, &w.bias}, 3, err);
}

static bool shape_batch_norm_grad(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  c->layout[0].dtype = c->compute = c->args[3].tensor->layout.dtype;
  c->layout[1] = c->layout[2] = (Layout){.dtype = c->compute, .ndim = 1, .shape = {c->layout[0].shape[1]}};
  return true;
}

static bool batch_norm_grad_forward(Call *c, Error *err) {
  Channels w = {.eps = c->args[5].number, .dx = nb_tensor_data(c->out[0])};
  w.dweight = nb_tensor_data(c->out[1]), w.dbias = nb_tensor_data(c->out[2]);
  return each_channel(c, &w, (const void **[]){&w.x, &w.weight, &w.g, &w.mean, &w.variance}, 5, err);
}

// 1 × channels × 1 ..., to fit x.
static Tensor *beside(Scope *s, Tensor *t, const Layout *x) {
  Layout l = {.ndim = x->ndim};
  for (int d = 0; d < x->ndim; d++) l.shape[d] = d == 1 ? x->shape[1] : 1;
  return nb_reshape_like(s, t, &l);
}

static Tensor *over_channels(Scope *s, Tensor *t) {
  int dims[NB_MAX_DIMS] = {0}, count = 1;
  if (!t) return NULL;
  for (int d = 2; d < t->layout.ndim; d++) dims[count++] = d;
  return nb_sum_dims(s, t, dims, count, false);
}

// With u = (x − mean)·s and s = 1/√(variance + eps): weight·s·(g − mean(g) − u·mean(g·u)); what arrives at the mean and
// the variance reaches every x as 1/n and 2(x − mean)/n.
static bool batch_norm_composed(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *weight = nb_in(b, 1), *g = b->grad[0], *mean = nb_out(b, 1), *variance = nb_out(b, 2);
  if (!mean || !variance) return false;
  const Layout *l = &x->layout;
  double n = (double)(nb_layout_numel(l) / l->shape[1]);
  Tensor *off = nb_sub(s, x, beside(s, mean, l)), *dx = NULL;
  if (!off) return false;
  if (g) {
    Tensor *scale = nb_unary(s, "rsqrt", nb_addn(s, variance, nb_arg(b, 3)->number));
    Tensor *u = nb_mul(s, off, beside(s, scale, l)), *sum = over_channels(s, g),
           *along = over_channels(s, nb_mul(s, g, u));
    if (!sum || !along) return false;
    if (weight && nb_wants(b, 1) && !nb_give(b, 1, along)) return false;
    if (nb_in(b, 2) && nb_wants(b, 2) && !nb_give(b, 2, sum)) return false;
    dx = nb_sub(s, g, beside(s, nb_muln(s, sum, 1 / n), l));
    dx = nb_sub(s, dx, nb_mul(s, u, beside(s, nb_muln(s, along, 1 / n), l)));
    dx = nb_mul(s, dx, beside(s, weight ? nb_mul(s, scale, weight) : scale, l));
    if (!dx) return false;
  }
  for (int i = 1; i <= 2; i++) {
    if (!b->grad[i]) continue;
    Tensor *more = beside(s, nb_muln(s, b->grad[i], i / n), l);
    more = i == 1 ? nb_expand_like(s, more, l) : nb_mul(s, off, more);
    dx = dx ? nb_add(s, dx, more) : more;
    if (!dx) return false;
  }
  return !nb_wants(b, 0) || nb_give(b, 0, dx);
}

static bool batch_norm_backward(Backward *b) {
  if (nb_grad_enabled() || !b->grad[0] || b->grad[1] || b->grad[2]) return batch_norm_composed(b);
  Tensor *d[NB_MAX_OUTPUTS];
  Value args[NB_MAX_PARAMS] = {{.tensor = nb_in(b, 0)},  {.tensor = nb_in(b, 1)},  {.tensor = b->grad[0]},
                               {.tensor = nb_out(b, 1)}, {.tensor = nb_out(b, 2)}, {.number = nb_arg(b, 3)->number}};
  if (!nb_op_many(b->scope, "batch_norm_grad", args, d)) return false;
  for (int i = 0; i < 3; i++)
    if (nb_in(b, i) && nb_wants(b, i) && !nb_give(b, i, d[i])) return false;
  return true;
}

static const Op ops[] = {
    {.name = "standardize",
     .doc = "Each row (of the last dimension) less its mean, over √(variance + eps).",
     .example = "nb.nn.LayerNorm(2)(nb.tensor{{1, 3}})  --> {{-1, 1}}",
     .derivative = "(δ − mean(δ) − y·mean(δ·y))/√(variance + eps)",
     .source = "Ba, Kiros, Hinton: Layer normalization, 2016",
     .internal = true,
     .sample = {.args = "f(2,3,5); f(4), 0.1; f(3,7)"},
     .params = {TENSOR("x"), OPTIONAL_NUMBER("eps", 1e-5)},
     .outputs = 2,
     .hidden = 1,
     .saves = NB_SAVE_OUT(0) | NB_SAVE_OUT(1),
     .shape = shape_standardize,
     .forward = standardize_forward,
     .backward = standardize_backward},
    {.name = "standardize_grad",
     .doc = "δ of standardize's rows from δ of y and what they were divided by.",
     .example = "local x = nb.tensor({{1, 3}}, {requires_grad=true}); nb.nn.LayerNorm(2)(x):sum():backward(); "
                "return x.grad  --> {{0, 0}}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(2,5), f(2,5), f(2,1)"},
     .params = {TENSOR("g"), TENSOR("y"), TENSOR("scale")},
     .shape = shape_standardize_grad,
     .forward = standardize_grad_forward},
    {.name = "batch_norm",
     .doc =
         "Each channel (of the second dimension) less its mean, over √(variance + eps), times weight, plus bias; also "
         "the means, and the variances divided by n.",
     .example = "nb.nn.BatchNorm1d(2)(nb.tensor{{1, 5}, {3, 9}})  --> {{-1, -1}, {1, 1}}",
     .derivative =
         "∂/∂x = weight·(δ − mean(δ) − u·mean(δ·u))/√(variance + eps) with u standardised, ∂/∂weight = Σ δ·u, "
         "∂/∂bias = Σ δ",
     .source = "Ioffe and Szegedy 2015",
     .internal = true,
     .sample = {.args = "f(4,3), f(3), f(3); f(3,2,5), nil, nil, 0.1; f(2,17,2,3), f(17), f(17), 0; f(5,18)"},
     .params = {TENSOR("x"), OPTIONAL_TENSOR("weight"), OPTIONAL_TENSOR("bias"), OPTIONAL_NUMBER("eps", 1e-5)},
     .outputs = 3,
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1) | NB_SAVE_OUT(1) | NB_SAVE_OUT(2),
     .shape = shape_batch_norm,
     .forward = batch_norm_forward,
     .backward = batch_norm_backward},
    {.name = "batch_norm_grad",
     .doc = "δ of batch_norm's x, weight and bias from δ of its result and what the forward found.",
     .example = "local m = nb.nn.BatchNorm1d(1); m(nb.tensor{{1}, {3}}):sum():backward(); return m.bias.grad  --> {2}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(4,3), f(3), f(4,3), f(3), f(3,{lo=0.1}); f(2,3,2), nil, f(2,3,2), f(3), f(3,{lo=0.1})"},
     .params = {TENSOR("x"), OPTIONAL_TENSOR("weight"), TENSOR("g"), TENSOR("mean"), TENSOR("variance"),
                OPTIONAL_NUMBER("eps", 1e-5)},
     .outputs = 3,
     .shape = shape_batch_norm_grad,
     .forward = batch_norm_grad_forward},
};
const OpFamily ops_normalize = {"Normalisation", ops, COUNT(ops)};
