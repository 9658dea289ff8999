// SPDX-License-Identifier: MIT
// Operators: normalising channels over a batch, and rows by themselves, which the normalisation layers are made of.
#include <math.h>
#include <string.h>

#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

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

// The first tensors of a call as contiguous data of its dtype; list[i] follows args[i], NULL where there is none.
static bool gather(Scope *s, Call *c, const void **list[], int count) {
  for (int i = 0; i < count; i++) {
    Tensor *t = c->args[i].tensor ? nb_contiguous(s, nb_to(s, c->args[i].tensor, c->compute)) : NULL;
    if (c->args[i].tensor && !t) return false;
    *list[i] = t ? nb_tensor_data(t) : NULL;
  }
  return true;
}

// The tensors of a call, as channels see them; the first is x, and list[i] follows args[i].
static bool each_channel(Call *c, Channels *w, const void **list[], int count, Error *err) {
  Scope s;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  bool ok = gather(&s, c, list, count);
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
  const Layout *x = &c->args[0].tensor->layout;
  char text[NB_SHAPE_TEXT];
  if (x->ndim < 2 || nb_layout_numel(x) == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs elements of batch × channels × ..., got shape %s",
                   nb_shape_text(x, text));
  Layout each = {.dtype = nb_dtype_promote(c->args[3].tensor->layout.dtype, NB_F32), .ndim = 1, .shape = {x->shape[1]}};
  c->compute = each.dtype;
  c->layout[0] = *x;
  c->layout[0].dtype = c->compute;
  c->layout[1] = c->layout[2] = each;
  return nb_arg_fits(c, 1, &each, err) && nb_arg_fits(c, 2, x, err) && nb_arg_fits(c, 3, &each, err) &&
         nb_arg_fits(c, 4, &each, err);
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

// ---- rows ----

enum { SUMS = 4 };  // what a part of the backward needs for each weight, in doubles

typedef struct Rows {
  int64_t rows, n, groups, inner, weights;  // weights: how many there are, or 0
  double eps;
  bool centred;
  const void *x, *weight, *bias;
  void *y, *out_mean, *out_inverse;
  const void *g, *mean, *inverse;  // of the backward
  void *dx, *dweight, *dbias;
  int64_t parts;
  double *sums;
} Rows;

#define BITS 32
#include "normalize_rows.h"
#define BITS 64
#include "normalize_rows.h"

enum { ROW_X, ROW_WEIGHT, ROW_BIAS, ROW_SIZE, ROW_EPS, ROW_GROUPS, ROW_CENTRED };
enum { GRAD_X, GRAD_WEIGHT, GRAD_G, GRAD_MEAN, GRAD_INVERSE, GRAD_SIZE, GRAD_GROUPS, GRAD_CENTRED };

static int64_t numel_of(const Tensor *t) {
  return nb_layout_numel(&t->layout);
}

static bool fit_rows(const Tensor *x, const Tensor *weight, const Tensor *bias, int64_t size, int64_t groups,
                     Error *err) {
  char text[NB_SHAPE_TEXT];
  if (size < 1 || groups < 1 || numel_of(x) % size || numel_of(x) / size % groups)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs rows of elements, got shape %s", nb_shape_text(&x->layout, text));
  int64_t count = weight ? numel_of(weight) : 0;
  if (!weight && !bias) return true;
  return (weight && count > 0 && size <= INT64_MAX / groups && size * groups % count == 0 &&
          size % (size * groups / count) == 0 && (!bias || numel_of(bias) == count)) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "weight and bias must fit rows of %lld, got shape %s", (long long)size,
                 nb_shape_text(&(weight ? weight : bias)->layout, text));
}

static bool shape_row_norm(Call *c, Error *err) {
  const Value *a = c->args;
  const Tensor *x = a[ROW_X].tensor, *weight = a[ROW_WEIGHT].tensor;
  if (!fit_rows(x, weight, a[ROW_BIAS].tensor, a[ROW_SIZE].integer, a[ROW_GROUPS].integer, err)) return false;
  c->compute = nb_dtype_promote(x->layout.dtype, NB_F32);
  if (weight) c->compute = nb_dtype_promote(c->compute, weight->layout.dtype);
  c->layout[0] = x->layout;
  c->layout[0].dtype = c->compute;
  c->layout[1] = (Layout){.dtype = c->compute, .ndim = 1, .shape = {numel_of(x) / a[ROW_SIZE].integer}};
  c->layout[2] = c->layout[1];
  return true;
}

static Rows rows_of(const Tensor *x, const Tensor *weight, int64_t size, int64_t groups, bool centred) {
  Rows w = {.n = size, .groups = groups, .inner = 1, .centred = centred};
  w.rows = numel_of(x) / size;
  if (weight) w.weights = numel_of(weight), w.inner = size * groups / w.weights;
  return w;
}

static bool row_norm_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  const Value *a = c->args;
  Rows w =
      rows_of(a[ROW_X].tensor, a[ROW_WEIGHT].tensor, a[ROW_SIZE].integer, a[ROW_GROUPS].integer, a[ROW_CENTRED].flag);
  w.eps = a[ROW_EPS].number;
  w.y = nb_tensor_data(c->out[0]), w.out_mean = nb_tensor_data(c->out[1]), w.out_inverse = nb_tensor_data(c->out[2]);
  bool ok = gather(&s, c, (const void **[]){&w.x, &w.weight, &w.bias}, 3);
  if (ok) nb_parallel_for(w.rows, NB_GRAIN / 4 / w.n + 1, c->compute == NB_F32 ? f32_rows : f64_rows, &w);
  nb_scope_close(&s);
  return ok;
}

static bool shape_row_norm_grad(Call *c, Error *err) {
  const Value *a = c->args;
  const Tensor *x = a[GRAD_X].tensor, *weight = a[GRAD_WEIGHT].tensor;
  if (!fit_rows(x, weight, NULL, a[GRAD_SIZE].integer, a[GRAD_GROUPS].integer, err)) return false;
  int64_t rows = numel_of(x) / a[GRAD_SIZE].integer;
  if (numel_of(a[GRAD_G].tensor) != numel_of(x) || numel_of(a[GRAD_MEAN].tensor) != rows ||
      numel_of(a[GRAD_INVERSE].tensor) != rows)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs δ of x's shape and two numbers for each of %lld rows",
                   (long long)rows);
  c->layout[0] = x->layout;
  c->layout[0].dtype = c->compute = nb_dtype_promote(a[GRAD_MEAN].tensor->layout.dtype, NB_F32);
  c->layout[1] = weight ? weight->layout : (Layout){.ndim = 1};
  c->layout[1].dtype = c->compute;
  c->layout[2] = c->layout[1];
  return true;
}

// The parts depend on the rows alone, so that the sums do not on the threads.
static bool row_norm_grad_forward(Call *c, Error *err) {
  enum { PART = 64, PARTS = 16 };
  Scope s;
  nb_scope_open(&s, err);
  const Value *a = c->args;
  Rows w = rows_of(a[GRAD_X].tensor, a[GRAD_WEIGHT].tensor, a[GRAD_SIZE].integer, a[GRAD_GROUPS].integer,
                   a[GRAD_CENTRED].flag);
  w.dx = nb_tensor_data(c->out[0]), w.dweight = nb_tensor_data(c->out[1]), w.dbias = nb_tensor_data(c->out[2]);
  w.parts = w.rows / PART < 1 ? 1 : w.rows / PART > PARTS ? PARTS : w.rows / PART;
  size_t bytes = (size_t)(w.parts * SUMS * w.weights + 1) * sizeof *w.sums;
  bool ok = gather(&s, c, (const void **[]){&w.x, &w.weight, &w.g, &w.mean, &w.inverse}, 5) &&
            (w.sums = nb_alloc(bytes, err));
  if (ok) {
    nb_parallel_for(w.parts, NB_GRAIN / 4 / (w.rows / w.parts * w.n + 1) + 1,
                    c->compute == NB_F32 ? f32_parts_grad : f64_parts_grad, &w);
    (c->compute == NB_F32 ? f32_add_parts : f64_add_parts)(&w);
  }
  if (w.sums) nb_free(w.sums, bytes);
  nb_scope_close(&s);
  return ok;
}

static Tensor *row_mean(Scope *s, Tensor *t) {
  int64_t last = -1;
  return t ? nb_op(s, "mean", (Value[NB_MAX_PARAMS]){{.tensor = t}, {.ints = {&last, 1}}, {.flag = true}}) : NULL;
}

// A value for each weight, from one for each element of the groups' rows.
static Tensor *to_weights(Scope *s, Tensor *t, const Layout *weight, int64_t inner) {
  int64_t shape[] = {-1, nb_layout_numel(weight), inner};
  if (!t) return NULL;
  shape[0] = nb_layout_numel(&t->layout) / (shape[1] * inner);
  return nb_reshape_like(s, nb_sum_dims(s, nb_reshape(s, t, shape, 3), (int[]){0, 2}, 2, false), weight);
}

// With u = (x − mean)·s: s·(h − mean(h) − u·mean(h·u)) of h = weight·g; what arrives at the mean reaches every x as
// 1/n, what arrives at s itself as −s²·u/n.
static bool row_norm_composed(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, ROW_X), *weight = nb_in(b, ROW_WEIGHT), *g = b->grad[0], *mean = nb_out(b, 1),
         *inverse = nb_out(b, 2), *d = NULL;
  if (!mean || !inverse) return false;
  bool centred = nb_arg(b, ROW_CENTRED)->flag;
  int64_t n = nb_arg(b, ROW_SIZE)->integer, groups = nb_arg(b, ROW_GROUPS)->integer;
  int64_t shape[] = {mean->layout.shape[0] / groups, groups, n}, each[] = {shape[0], groups, 1};
  mean = nb_reshape(s, mean, each, 3), inverse = nb_reshape(s, inverse, each, 3);
  Tensor *u = nb_mul(s, nb_sub(s, nb_reshape(s, x, shape, 3), mean), inverse);
  if (!u) return false;
  if (g) {
    Tensor *h = g = nb_reshape(s, g, shape, 3);
    if (weight) {
      int64_t count = nb_layout_numel(&weight->layout), inner = n * groups / count;
      if (nb_wants(b, ROW_WEIGHT) && !nb_give(b, ROW_WEIGHT, to_weights(s, nb_mul(s, g, u), &weight->layout, inner)))
        return false;
      if (nb_in(b, ROW_BIAS) && nb_wants(b, ROW_BIAS) &&
          !nb_give(b, ROW_BIAS, to_weights(s, g, &nb_in(b, ROW_BIAS)->layout, inner)))
        return false;
      Tensor *all = nb_reshape(s, weight, (int64_t[]){count, 1}, 2);
      all = nb_expand(s, all, (int64_t[]){count, inner}, 2);
      h = nb_mul(s, g, nb_reshape(s, all, (int64_t[]){1, groups, n}, 3));
    }
    d = centred ? nb_sub(s, h, row_mean(s, h)) : h;
    d = nb_mul(s, inverse, nb_sub(s, d, nb_mul(s, u, row_mean(s, nb_mul(s, h, u)))));
    if (!d) return false;
  }
  if (b->grad[1] && centred) {
    Tensor *more = nb_expand(s, nb_muln(s, nb_reshape(s, b->grad[1], each, 3), 1 / (double)n), shape, 3);
    d = d ? nb_add(s, d, more) : more;
    if (!d) return false;
  }
  if (b->grad[2]) {
    Tensor *arrives = nb_mul(s, nb_reshape(s, b->grad[2], each, 3), nb_mul(s, inverse, inverse));
    Tensor *more = nb_muln(s, nb_mul(s, arrives, u), -1 / (double)n);
    d = d ? nb_add(s, d, more) : more;
  }
  return !nb_wants(b, ROW_X) || nb_give(b, ROW_X, nb_reshape_like(s, d, &x->layout));
}

static bool row_norm_backward(Backward *b) {
  if (nb_grad_enabled() || !b->grad[0] || b->grad[1] || b->grad[2]) return row_norm_composed(b);
  Tensor *d[NB_MAX_OUTPUTS];
  Value args[NB_MAX_PARAMS] = {{.tensor = nb_in(b, ROW_X)}, {.tensor = nb_in(b, ROW_WEIGHT)}, {.tensor = b->grad[0]},
                               {.tensor = nb_out(b, 1)},    {.tensor = nb_out(b, 2)},         *nb_arg(b, ROW_SIZE),
                               *nb_arg(b, ROW_GROUPS),      *nb_arg(b, ROW_CENTRED)};
  if (!nb_op_many(b->scope, "row_norm_grad", args, d)) return false;
  for (int i = 0; i < 3; i++)
    if (nb_in(b, i) && nb_wants(b, i) && !nb_give(b, i, d[i])) return false;
  return true;
}

#define GROUPS \
  { .name = "groups", .kind = NB_PARAM_INT, .optional = true, .fallback = 1 }
#define CENTRED \
  { .name = "centred", .kind = NB_PARAM_FLAG, .optional = true, .fallback = 1 }

static const Op ops[] = {
    {.name = "row_norm",
     .doc = "Each row of size elements less its mean, over √(variance + eps), times weight, plus bias; rows take turns "
            "with the weights of `groups`, and a weight serves as many neighbours as are left.  Not centred: over "
            "√(mean(x²) + eps).",
     .example = "nb.nn.LayerNorm(2)(nb.tensor{{1, 3}})  --> {{-1, 1}}",
     .derivative = "∂/∂x = (h − mean(h) − u·mean(h·u))/√(variance + eps) with u standardised and h = weight·δ, "
                   "∂/∂weight = Σ δ·u, ∂/∂bias = Σ δ",
     .source = "Ba, Kiros and Hinton 2016; Wu and He 2018; Zhang and Sennrich 2019",
     .internal = true,
     .sample = {.args = "f(2,3,5), f(5), f(5), 5; f(4), nil, nil, 4, 0.1; f(3,7), f(7), nil, 7, 0.1, 1, false; "
                        "f(2,4,3), f(4), f(4), 6, 0.1, 2; f(2,2,3), f(2,3), f(2,3), 6"},
     .role = NB_ROLE_NORMALISATION,
     .symbol = "Norm",
     .params = {TENSOR("x"), OPTIONAL_TENSOR("weight"), OPTIONAL_TENSOR("bias"), INT("size"),
                OPTIONAL_NUMBER("eps", 1e-5), GROUPS, CENTRED},
     .outputs = 3,
     .hidden = 2,
     .saves = NB_SAVE_IN(ROW_X) | NB_SAVE_IN(ROW_WEIGHT) | NB_SAVE_OUT(1) | NB_SAVE_OUT(2),
     .shape = shape_row_norm,
     .forward = row_norm_forward,
     .backward = row_norm_backward},
    {.name = "row_norm_grad",
     .doc = "δ of row_norm's x, weight and bias from δ of its result and what the forward found.",
     .example = "local x = nb.tensor({{1, 3}}, {requires_grad=true}); nb.nn.LayerNorm(2)(x):sum():backward(); "
                "return x.grad  --> {{0, 0}}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(2,5), f(5), f(2,5), f(2), f(2), 5; f(2,5), nil, f(2,5), f(2), f(2), 5"},
     .role = NB_ROLE_GRADIENT,
     .symbol = "Norm'",
     .params = {TENSOR("x"), OPTIONAL_TENSOR("weight"), TENSOR("g"), TENSOR("mean"), TENSOR("inverse"), INT("size"),
                GROUPS, CENTRED},
     .outputs = 3,
     .shape = shape_row_norm_grad,
     .forward = row_norm_grad_forward},
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
     .role = NB_ROLE_NORMALISATION,
     .symbol = "BatchNorm",
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
     .role = NB_ROLE_GRADIENT,
     .symbol = "BatchNorm'",
     .params = {TENSOR("x"), OPTIONAL_TENSOR("weight"), TENSOR("g"), TENSOR("mean"), TENSOR("variance"),
                OPTIONAL_NUMBER("eps", 1e-5)},
     .outputs = 3,
     .shape = shape_batch_norm_grad,
     .forward = batch_norm_grad_forward},
};
const OpFamily ops_normalize = {"Normalisation", ops, COUNT(ops)};
