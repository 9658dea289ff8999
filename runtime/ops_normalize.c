// SPDX-License-Identifier: MIT
// Operators: standardising rows, which the normalisation layers are made of.
#include <math.h>

#include "loops.h"
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

// Sums of products of rows in double, several at once.
#define DOT(name, T)                                                                                    \
  static double name(int64_t n, const T *a, const T *b, T less) {                                       \
    double part[4] = {0};                                                                               \
    int64_t k = 0;                                                                                      \
    for (; k + 4 <= n; k += 4)                                                                          \
      for (int64_t j = 0; j < 4; j++) part[j] += (double)(a[k + j] - less) * (double)(b[k + j] - less); \
    for (; k < n; k++) part[0] += (double)(a[k] - less) * (double)(b[k] - less);                        \
    return (part[0] + part[1]) + (part[2] + part[3]);                                                   \
  }
DOT(dot_f32, float)
DOT(dot_f64, double)

#define STANDARDIZE(name, T, DTYPE, dot)                                                           \
  static void name(int64_t begin, int64_t end, void *ctx) {                                        \
    const Rows *r = ctx;                                                                           \
    for (int64_t i = begin; i < end; i++) {                                                        \
      const T *x = (const T *)r->x + i * r->n;                                                     \
      T *y = (T *)r->out + i * r->n, mean = (T)(nb_sum_of(DTYPE, r->n, x) / (double)r->n);         \
      T scale = (T)(1 / sqrt(dot(r->n, x, x, mean) / (double)r->n + r->eps));                      \
      NB_IVDEP for (int64_t k = 0; k < r->n; k++) y[k] = (x[k] - mean) * scale;                    \
      ((T *)r->out_scale)[i] = scale;                                                              \
    }                                                                                              \
  }                                                                                                \
  static void name##_grad(int64_t begin, int64_t end, void *ctx) {                                 \
    const Rows *r = ctx;                                                                           \
    for (int64_t i = begin; i < end; i++) {                                                        \
      const T *g = (const T *)r->x + i * r->n, *y = (const T *)r->y + i * r->n;                    \
      T *out = (T *)r->out + i * r->n, scale = ((const T *)r->scale)[i];                           \
      T mean = (T)(nb_sum_of(DTYPE, r->n, g) / (double)r->n);                                      \
      T along = (T)(dot(r->n, g, y, 0) / (double)r->n);                                            \
      NB_IVDEP for (int64_t k = 0; k < r->n; k++) out[k] = ((g[k] - mean) - y[k] * along) * scale; \
    }                                                                                              \
  }
STANDARDIZE(rows_f32, float, NB_F32, dot_f32)
STANDARDIZE(rows_f64, double, NB_F64, dot_f64)

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
};
const OpFamily ops_normalize = {"Normalisation", ops, COUNT(ops)};
