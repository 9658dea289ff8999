// SPDX-License-Identifier: MIT
// Operators: activations.
#include <math.h>
#include <string.h>

#include "loops.h"
#include "reduce.h"
#include "softmax.h"
#include "vector.h"

// 1/(1 + e^−x), from the side that cannot overflow.
static double sigmoid_one(double x) {
  double e = exp(-fabs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}
static double gelu_one(double x) {
  return 0.5 * x * erfc(-x * 0.70710678118654752440);
}
static double gelu_tanh_one(double x) {
  return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

NB_UNARY_VECTOR(sigmoid_f32, vector_sigmoid)
NB_UNARY(sigmoid_f64, double, double, sigmoid_one(x))
NB_UNARY_VECTOR(tanh_f32, vector_tanh)
NB_UNARY(tanh_f64, double, double, tanh(x))
NB_UNARY_FLOATS(relu, !(x <= 0) ? x : 0, !(x <= 0) ? x : 0)  // NaN stays
NB_UNARY(relu_i64, int64_t, int64_t, x > 0 ? x : 0)
NB_UNARY(relu_u8, uint8_t, uint8_t, x)

// Two slopes, with the number read once: g·1[x > 0] + g·slope·1[x ≤ 0] of g = x too.
#define LEAKY(name, T, operands)                                                                   \
  NB_LOOP(name) {                                                                                  \
    const T slope = (T)args[operands].number, slopes[2] = {slope, 1};                              \
    const int64_t w = (int64_t)sizeof(T);                                                          \
    if (s[0] == w && s[1] == w && s[operands] == w) {                                              \
      T *o = (T *)p[0];                                                                            \
      const T *g = (const T *)p[1], *x = (const T *)p[operands];                                   \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                                   \
        T low = g[i] * slope;                                                                      \
        o[i] = x[i] > 0 ? g[i] : low;                                                              \
      }                                                                                            \
      return;                                                                                      \
    }                                                                                              \
    for (int64_t i = 0; i < n; i++) /* signs may be random: without a branch */                    \
      *(T *)(p[0] + i * s[0]) =                                                                    \
          *(const T *)(p[1] + i * s[1]) * slopes[*(const T *)(p[operands] + i * s[operands]) > 0]; \
  }
LEAKY(leaky_relu_f32, float, 1)
LEAKY(leaky_relu_f64, double, 1)
LEAKY(leaky_relu_grad_f32, float, 2)
LEAKY(leaky_relu_grad_f64, double, 2)

NB_UNARY_VIA(elu_f32, vector_expm1, const float alpha = (float)args[1].number, x > 0 ? x : alpha * v)
NB_UNARY(elu_f64, double, double, x > 0 ? x : args[1].number * expm1(x))
NB_UNARY_VIA(silu_f32, vector_sigmoid, , x *v)
NB_UNARY(silu_f64, double, double, x *sigmoid_one(x))

// The tanh form: ½x(1 + tanh u) with u = √(2/π)·(x + 0.044715x³).
static void gelu_tanh_map(int64_t n, float *out, const float *x) {
  NB_IVDEP for (int64_t k = 0; k < n; k++) out[k] = 0.79788456080286535588f * (x[k] + 0.044715f * x[k] * x[k] * x[k]);
  vector_tanh(n, out, out);
  NB_IVDEP for (int64_t k = 0; k < n; k++) out[k] = 0.5f * x[k] * (1 + out[k]);
}
NB_UNARY_VIA(gelu_f32, (args[1].choice ? gelu_tanh_map : vector_gelu), , v)
NB_UNARY(gelu_f64, double, double, args[1].choice ? gelu_tanh_one(x) : gelu_one(x))

// log(1 + e^(βx))/β; linear beyond the threshold, where the difference is below rounding.
static double softplus_one(double x, const Value *args) {
  double beta = args[1].number, z = beta * x;
  return z > args[2].number ? x : (fmax(z, 0) + log1p(exp(-fabs(z)))) / beta;
}
NB_UNARY(softplus_f64, double, double, softplus_one(x, args))

NB_LOOP(softplus_f32) {
  const float beta = (float)args[1].number, threshold = (float)args[2].number;
  float in[NB_ROW], z[NB_ROW], out[NB_ROW];
  for (int64_t i = 0; i < n; i += NB_ROW) {
    int64_t m = n - i < NB_ROW ? n - i : NB_ROW;
    const float *x = nb_row(in, p[1] + i * s[1], s[1], m);
    for (int64_t k = 0; k < m; k++) z[k] = beta * x[k];
    vector_softplus(m, out, z);
    for (int64_t k = 0; k < m; k++) out[k] = z[k] > threshold ? x[k] : out[k] / beta;
    nb_put_row(out, p[0] + i * s[0], s[0], m);
  }
}

// First derivatives of the commonest activations in one pass each.  Where the backward is itself recorded, for
// second derivatives, the rules below write them in operators; the tests compare the two.
NB_BINARY_FLOATS(sigmoid_grad, x *(y *(1 - y)), x *(y *(1 - y)))
NB_BINARY_FLOATS(tanh_grad, x *(1 - y * y), x *(1 - y * y))
NB_BINARY_FLOATS(relu_grad, !(y <= 0) ? x : 0, !(y <= 0) ? x : 0)
NB_BINARY_VIA(elu_grad_f32, vector_exp, const float alpha = (float)args[2].number, y > 0 ? x : x * (alpha * v))
NB_BINARY(elu_grad_f64, double, double, y > 0 ? x : x * args[2].number * exp(y))
NB_BINARY_VIA(silu_grad_f32, vector_sigmoid, , x *(v *(1 + y * (1 - v))))
NB_BINARY_VIA(gelu_grad_f32, vector_gelu_slope, , x *v)

static double softplus_slope(double x, const Value *numbers) {
  double z = numbers[0].number * x;
  return z > numbers[1].number ? 1 : sigmoid_one(z);
}
NB_BINARY(softplus_grad_f64, double, double, x *softplus_slope(y, args + 2))

NB_LOOP(softplus_grad_f32) {
  const float beta = (float)args[2].number, threshold = (float)args[3].number;
  float first[NB_ROW], second[NB_ROW], z[NB_ROW], slope[NB_ROW], out[NB_ROW];
  for (int64_t i = 0; i < n; i += NB_ROW) {
    int64_t m = n - i < NB_ROW ? n - i : NB_ROW;
    const float *g = nb_row(first, p[1] + i * s[1], s[1], m), *x = nb_row(second, p[2] + i * s[2], s[2], m);
    for (int64_t k = 0; k < m; k++) z[k] = beta * x[k];
    vector_sigmoid(m, slope, z);
    for (int64_t k = 0; k < m; k++) out[k] = z[k] > threshold ? g[k] : g[k] * slope[k];
    nb_put_row(out, p[0] + i * s[0], s[0], m);
  }
}

static double silu_slope(double x) {
  double v = sigmoid_one(x);
  return v * (1 + x * (1 - v));
}
static double gelu_slope(double x) {
  return 0.5 * erfc(-x * 0.70710678118654752440) + x * 0.39894228040143267794 * exp(-0.5 * x * x);
}
NB_BINARY(silu_grad_f64, double, double, x *silu_slope(y))
NB_BINARY(gelu_grad_f64, double, double, x *gelu_slope(y))

static bool sigmoid_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  if (!nb_grad_enabled()) return nb_give(b, 0, nb_on_grad(b, "sigmoid_grad", y));
  return nb_give(b, 0, nb_mul(s, b->grad[0], nb_mul(s, y, nb_rsub(s, 1, y))));
}

static bool tanh_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  if (!nb_grad_enabled()) return nb_give(b, 0, nb_on_grad(b, "tanh_grad", y));
  return nb_give(b, 0, nb_mul(s, b->grad[0], nb_rsub(s, 1, nb_mul(s, y, y))));
}

static Tensor *positive(Backward *b, Tensor *t) {
  Scope *s = b->scope;
  return t ? nb_binary(s, "gt", t, nb_full(s, &(Layout){.dtype = t->layout.dtype}, 0)) : NULL;
}

static bool relu_backward(Backward *b) {
  Tensor *g = b->grad[0];
  if (!nb_grad_enabled()) return nb_give(b, 0, nb_on_grad(b, "relu_grad", nb_out(b, 0)));
  Tensor *zero = nb_full(b->scope, &(Layout){.dtype = g->layout.dtype}, 0);
  return nb_give(b, 0, nb_where(b->scope, nb_binary(b->scope, "le", nb_out(b, 0), zero), zero, g));
}

// The row of a first derivative that takes g, x and the numbers of the operator's own.
static bool give_grad(Backward *b, const char *name) {
  Value args[NB_MAX_PARAMS] = {{.tensor = b->grad[0]}, {.tensor = nb_in(b, 0)}};
  for (int i = 1, count = nb_op_params(b->node->op); i < count; i++) args[i + 1] = *nb_arg(b, i);
  return nb_give(b, 0, nb_op(b->scope, name, args));
}

static bool leaky_relu_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (!nb_grad_enabled()) return give_grad(b, "leaky_relu_grad");
  return nb_give(b, 0, nb_where(s, positive(b, nb_in(b, 0)), g, nb_muln(s, g, nb_arg(b, 1)->number)));
}

// α·e^x = y + α on the negative side; at 0 itself the second derivative is 0, as on the other side.
static bool elu_backward(Backward *b) {
  Scope *s = b->scope;
  if (!nb_grad_enabled()) return give_grad(b, "elu_grad");
  Tensor *g = b->grad[0], *x = nb_in(b, 0);
  double alpha = nb_arg(b, 1)->number;
  Tensor *zero = nb_full(s, &(Layout){.dtype = x->layout.dtype}, 0), *up = positive(b, x);
  Tensor *slope = nb_muln(s, nb_unary(s, "exp", nb_where(s, nb_binary(s, "lt", x, zero), x, zero)), alpha);
  return nb_give(b, 0, nb_where(s, up, g, nb_mul(s, g, slope)));
}

// Φ(x) + x·φ(x); of the tanh form: ½(1 + t) + ½x(1 − t²)·u′.
static bool gelu_backward(Backward *b) {
  Scope *s = b->scope;
  if (!nb_grad_enabled() && nb_arg(b, 1)->choice == 0) return give_grad(b, "gelu_grad");
  Tensor *x = nb_in(b, 0), *x2 = nb_mul(s, x, x), *slope;
  if (nb_arg(b, 1)->choice == 0) {
    Tensor *cdf = nb_muln(s, nb_addn(s, nb_unary(s, "erf", nb_muln(s, x, 0.70710678118654752440)), 1), 0.5);
    Tensor *density = nb_muln(s, nb_unary(s, "exp", nb_muln(s, x2, -0.5)), 0.39894228040143267794);
    slope = nb_add(s, cdf, nb_mul(s, x, density));
  } else {
    Tensor *u = nb_muln(s, nb_mul(s, x, nb_addn(s, nb_muln(s, x2, 0.044715), 1)), 0.79788456080286535588);
    Tensor *du = nb_muln(s, nb_addn(s, nb_muln(s, x2, 3 * 0.044715), 1), 0.79788456080286535588);
    Tensor *t = nb_unary(s, "tanh", u);
    Tensor *bend = nb_mul(s, nb_mul(s, x, nb_rsub(s, 1, nb_mul(s, t, t))), du);
    slope = nb_muln(s, nb_add(s, nb_addn(s, t, 1), bend), 0.5);
  }
  return nb_give(b, 0, nb_mul(s, b->grad[0], slope));
}

// σ(x)·(1 + x·(1 − σ(x)))
static bool silu_backward(Backward *b) {
  Scope *s = b->scope;
  if (!nb_grad_enabled()) return give_grad(b, "silu_grad");
  Tensor *x = nb_in(b, 0), *y = nb_unary(s, "sigmoid", x);
  Tensor *slope = nb_mul(s, y, nb_addn(s, nb_mul(s, x, nb_rsub(s, 1, y)), 1));
  return nb_give(b, 0, nb_mul(s, b->grad[0], slope));
}

// σ(β·x), and 1 beyond the threshold, where the value is x.
static bool softplus_backward(Backward *b) {
  Scope *s = b->scope;
  if (!nb_grad_enabled()) return give_grad(b, "softplus_grad");
  Tensor *z = nb_muln(s, nb_in(b, 0), nb_arg(b, 1)->number), *g = b->grad[0];
  if (!z) return false;
  Tensor *limit = nb_full(s, &(Layout){.dtype = z->layout.dtype}, nb_arg(b, 2)->number);
  return nb_give(b, 0, nb_where(s, nb_binary(s, "gt", z, limit), g, nb_mul(s, g, nb_unary(s, "sigmoid", z))));
}

static bool shape_softplus(Call *c, Error *err) {
  if (!(c->args[1].number > 0))
    return nb_fail(err, NB_ERROR_ARGUMENT, "beta must be above 0, got %g", c->args[1].number);
  return nb_shape_unary_float(c, err);
}

// ---- softmax ----

// First derivatives of rows: y·(g − Σ g·y), or g − e^y·Σ g.  `out` may be g.
typedef struct SoftmaxGrad {
  const void *g, *y;
  void *out;
  int64_t n;
  bool logarithm;
} SoftmaxGrad;

#define SOFTMAX_GRAD(name, T, DTYPE, EXP)                                                                              \
  NB_RANGE(name) {                                                                                                     \
    const SoftmaxGrad *w = ctx;                                                                                        \
    int64_t n = w->n;                                                                                                  \
    for (int64_t r = begin; r < end; r++) {                                                                            \
      const T *g = (const T *)w->g + r * n, *y = (const T *)w->y + r * n;                                              \
      T *out = (T *)w->out + r * n, total = (T)(w->logarithm ? nb_sum_of(DTYPE, n, g) : nb_dot_of(DTYPE, n, g, y, 0)); \
      T e[NB_ROW];                                                                                                     \
      for (int64_t at = 0; w->logarithm && at < n; at += NB_ROW) {                                                     \
        int64_t m = n - at < NB_ROW ? n - at : NB_ROW;                                                                 \
        EXP(m, e, y + at);                                                                                             \
        NB_IVDEP for (int64_t k = 0; k < m; k++) out[at + k] = g[at + k] - e[k] * total;                               \
      }                                                                                                                \
      if (w->logarithm) continue;                                                                                      \
      NB_IVDEP for (int64_t k = 0; k < n; k++) out[k] = y[k] * (g[k] - total);                                         \
    }                                                                                                                  \
  }
static void exp_row(int64_t n, double *out, const double *x) {
  for (int64_t i = 0; i < n; i++) out[i] = exp(x[i]);
}
SOFTMAX_GRAD(softmax_grad_f32, float, NB_F32, vector_exp)
SOFTMAX_GRAD(softmax_grad_f64, double, NB_F64, exp_row)

// A scalar is a slice of one.
static bool softmax_dim(int64_t dim, int ndim, int *d, Error *err) {
  *d = 0;
  return (ndim == 0 && (dim == 1 || dim == -1)) || nb_dim(dim, ndim, d, err);
}

static bool shape_softmax(Call *c, Error *err) {
  int d = 0;
  return nb_shape_unary_float(c, err) && softmax_dim(c->args[1].integer, c->layout[0].ndim, &d, err);
}

static bool run_softmax(Call *c, SoftmaxKind kind, Error *err) {
  Scope s;
  int d = 0;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  bool ok = x && softmax_dim(c->args[1].integer, c->layout[0].ndim, &d, err);
  if (ok) {
    Softmax w = {.kind = kind, .dtype = c->compute, .n = x->layout.ndim ? x->layout.shape[d] : 1, .inner = 1};
    for (int e = d + 1; e < x->layout.ndim; e++) w.inner *= x->layout.shape[e];
    w.slices = w.n ? nb_layout_numel(&x->layout) / w.n : 0;
    w.x = nb_tensor_data(x), w.y = nb_tensor_data(c->out[0]);
    nb_softmax(w);
  }
  nb_scope_close(&s);
  return ok;
}

static bool softmax_forward(Call *c, Error *err) {
  return run_softmax(c, NB_SOFTMAX, err);
}

static bool log_softmax_forward(Call *c, Error *err) {
  return run_softmax(c, NB_LOG_SOFTMAX, err);
}

static bool shape_softmax_grad(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  const Layout *g = &c->args[0].tensor->layout, *y = &c->args[1].tensor->layout;
  c->layout[0] = *y;
  c->compute = c->layout[0].dtype = nb_dtype_promote(y->dtype, NB_F32);
  return nb_layout_has(g, y->shape, y->ndim) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "g must have the shape of y, %s, got %s", nb_shape_text(y, want),
                 nb_shape_text(g, have));
}

static bool run_softmax_grad(Call *c, bool logarithm, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  const Layout *l = &c->layout[0];
  Tensor *g = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  Tensor *y = nb_contiguous(&s, nb_to(&s, c->args[1].tensor, c->compute));
  if (g && y && nb_layout_numel(l) > 0) {
    int64_t n = l->ndim ? l->shape[l->ndim - 1] : 1;
    SoftmaxGrad w = {nb_tensor_data(g), nb_tensor_data(y), nb_tensor_data(c->out[0]), n, logarithm};
    nb_parallel_for(nb_layout_numel(l) / n, NB_GRAIN / 4 / n + 1,
                    c->compute == NB_F32 ? softmax_grad_f32 : softmax_grad_f64, &w);
  }
  nb_scope_close(&s);
  return g && y;
}

static bool softmax_grad_forward(Call *c, Error *err) {
  return run_softmax_grad(c, false, err);
}

static bool log_softmax_grad_forward(Call *c, Error *err) {
  return run_softmax_grad(c, true, err);
}

// Whether the slices lie in rows and nobody asks for second derivatives.
static bool in_rows(Backward *b) {
  int d = 0, ndim = nb_out(b, 0)->layout.ndim;
  return !nb_grad_enabled() && softmax_dim(nb_arg(b, 1)->integer, ndim, &d, b->scope->err) &&
         d == (ndim ? ndim - 1 : 0);
}

static Tensor *sum_along(Backward *b, Tensor *t) {
  int d = 0;
  if (!t || t->layout.ndim == 0) return t;
  if (!nb_dim(nb_arg(b, 1)->integer, t->layout.ndim, &d, b->scope->err)) return NULL;
  return nb_sum_dims(b->scope, t, &d, 1, true);
}

// y·(g − Σ g·y)
static bool softmax_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0), *g = b->grad[0];
  if (in_rows(b)) return nb_give(b, 0, nb_on_grad(b, "softmax_grad", y));
  return nb_give(b, 0, nb_mul(s, y, nb_sub(s, g, sum_along(b, nb_mul(s, g, y)))));
}

// g − e^y·Σ g
static bool log_softmax_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0), *g = b->grad[0];
  if (in_rows(b)) return nb_give(b, 0, nb_on_grad(b, "log_softmax_grad", y));
  return nb_give(b, 0, nb_sub(s, g, nb_mul(s, nb_unary(s, "exp", y), sum_along(b, g))));
}

#define SIDES "f(3,4,{lo=0.1,hi=2}); f(3,4,{lo=-2,hi=-0.1})"

#define GRAD_ROW(of, sign, which, example_, ...)                                                              \
  {                                                                                                           \
    .name = #of "_grad", .doc = "δ times the derivative of " #of " " which ".", .example = example_,          \
    .no_grad = "it serves first derivatives", .role = NB_ROLE_GRADIENT, .symbol = sign "'", .internal = true, \
    .inplace = true, .params = {TENSOR("g"), __VA_ARGS__}, .shape = nb_shape_elementwise,                     \
    .forward = nb_forward_elementwise, .loops = NB_FLOAT_LOOPS(of##_grad)                                     \
  }
#define OF_VALUE "whose value is y"
#define AT_INPUT "at x"
#define SLOPE_OF(of, x) \
  "local x = nb.tensor({" x "}, {requires_grad=true}); nb." of "(x):sum():backward(); return x.grad"

#define SOFTMAX_GRAD_ROW(of, sign, form, example_)                                                            \
  {                                                                                                           \
    .name = #of "_grad", .doc = "δ of " #of "'s rows, of value y: " form ".", .example = example_,            \
    .no_grad = "it serves first derivatives", .role = NB_ROLE_GRADIENT, .symbol = sign "'", .internal = true, \
    .sample = {.args = "f(2,5), f(2,5); f(7), f(7)"}, .params = {TENSOR("g"), TENSOR("y")},                   \
    .shape = shape_softmax_grad, .forward = of##_grad_forward                                                 \
  }

static const Op ops[] = {
    SOFTMAX_GRAD_ROW(softmax, "softmax", "y·(g − Σ g·y)",
                     "local x = nb.tensor({0, 0}, {requires_grad=true}); nb.softmax(x, 1)[1]:backward(); "
                     "return x.grad  --> {0.25, -0.25}"),
    SOFTMAX_GRAD_ROW(log_softmax, "log softmax", "g − e^y·Σ g",
                     "local x = nb.tensor({0, 0}, {requires_grad=true}); nb.log_softmax(x, 1)[1]:backward(); "
                     "return x.grad  --> {0.5, -0.5}"),
    GRAD_ROW(sigmoid, "σ", OF_VALUE, SLOPE_OF("sigmoid", "0") "  --> {0.25}", TENSOR("y")),
    GRAD_ROW(tanh, "tanh", OF_VALUE, SLOPE_OF("tanh", "0") "  --> {1}", TENSOR("y")),
    GRAD_ROW(relu, "ReLU", OF_VALUE, SLOPE_OF("relu", "2") "  --> {1}", TENSOR("y")),
    GRAD_ROW(silu, "SiLU", AT_INPUT, SLOPE_OF("silu", "0") "  --> {0.5}", TENSOR("x")),
    GRAD_ROW(gelu, "GELU", AT_INPUT, SLOPE_OF("gelu", "0") "  --> {0.5}", TENSOR("x")),
    GRAD_ROW(leaky_relu, "LeakyReLU", AT_INPUT, SLOPE_OF("leaky_relu", "-2, 2") "  --> {0.01, 1}", TENSOR("x"),
             OPTIONAL_NUMBER("negative_slope", 0.01)),
    GRAD_ROW(elu, "ELU", AT_INPUT, SLOPE_OF("elu", "0, 2") "  --> {1, 1}", TENSOR("x"), OPTIONAL_NUMBER("alpha", 1)),
    GRAD_ROW(softplus, "softplus", AT_INPUT, SLOPE_OF("softplus", "0, 30") "  --> {0.5, 1}", TENSOR("x"),
             OPTIONAL_NUMBER("beta", 1), OPTIONAL_NUMBER("threshold", 20)),
    {.name = "sigmoid",
     .doc = "σ(x) = 1/(1 + e^−x), elementwise.",
     .example = "nb.sigmoid(nb.tensor{0})  --> {0.5}",
     .derivative = "σ(x)·(1 − σ(x))",
     .layer = "Sigmoid",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "σ",
     .latex = "\\sigma",
     .probability = "y",
     .shrinks = "σ' is at most ¼",
     .params = {TENSOR("x")},
     .inplace = true,
     .saves = NB_SAVE_OUT(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = sigmoid_backward,
     .loops = NB_FLOAT_LOOPS(sigmoid)},
    {.name = "tanh",
     .doc = "The hyperbolic tangent, elementwise.",
     .example = "nb.tanh(nb.tensor{0})  --> {0}",
     .derivative = "1 − tanh² x",
     .layer = "Tanh",
     .role = NB_ROLE_ACTIVATION,
     .shrinks = "tanh' is near 0 where tanh saturates",
     .params = {TENSOR("x")},
     .inplace = true,
     .saves = NB_SAVE_OUT(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = tanh_backward,
     .loops = NB_FLOAT_LOOPS(tanh)},
    {.name = "relu",
     .doc = "max(x, 0), elementwise.",
     .example = "nb.relu(nb.tensor{-1, 2})  --> {0, 2}",
     .derivative = "1[x > 0]",
     .sample = {.args = SIDES},
     .layer = "ReLU",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "ReLU",
     .shrinks = "ReLU' is 0 for every unit that is off",
     .params = {{.name = "x", .kind = NB_PARAM_TENSOR, .doc = "where it is 0 the slope is 0; NaN stays NaN"}},
     .inplace = true,
     .saves = NB_SAVE_OUT(0),
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = relu_backward,
     .narrow = true,
     .stays_mask = true,
     .loops = {[NB_BOOL] = relu_u8, [NB_U8] = relu_u8, [NB_I64] = relu_i64, [NB_F32] = relu_f32, [NB_F64] = relu_f64}},
    {.name = "leaky_relu",
     .doc = "x where it is above 0, else x times negative_slope.",
     .example = "nb.leaky_relu(nb.tensor{-1, 2}, 0.1)  --> {-0.1, 2}",
     .derivative = "1[x > 0] + slope·1[x ≤ 0]",
     .sample = {.args = SIDES "; f(3,4,{lo=-2,hi=-0.1}), 0.3"},
     .layer = "LeakyReLU",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "LeakyReLU",
     .params = {TENSOR("x"), OPTIONAL_NUMBER("negative_slope", 0.01)},
     .inplace = true,
     .saves = NB_SAVE_IN(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = leaky_relu_backward,
     .loops = NB_FLOAT_LOOPS(leaky_relu)},
    {.name = "elu",
     .doc = "x where it is above 0, else alpha·(e^x − 1).",
     .example = "nb.elu(nb.tensor{0, 2})  --> {0, 2}",
     .derivative = "1[x > 0] + α·e^x·1[x ≤ 0]",
     .source = "Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by ELUs, 2015",
     .sample = {.args = SIDES "; f(3,4,{lo=-2,hi=-0.1}), 0.7"},
     .layer = "ELU",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "ELU",
     .params = {TENSOR("x"), OPTIONAL_NUMBER("alpha", 1)},
     .inplace = true,
     .saves = NB_SAVE_IN(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = elu_backward,
     .loops = NB_FLOAT_LOOPS(elu)},
    {.name = "gelu",
     .doc = "x·Φ(x), with the normal distribution function Φ; approximate=\"tanh\" for the older form.",
     .example = "nb.gelu(nb.tensor{0})  --> {0}",
     .derivative = "Φ(x) + x·φ(x)",
     .source = "Hendrycks, Gimpel: Gaussian error linear units, 2016",
     .sample = {.args = "f(3,4); f(3,4), {approximate='tanh'}"},
     .layer = "GELU",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "GELU",
     .params =
         {TENSOR("x"),
          {.name = "approximate", .kind = NB_PARAM_CHOICE, .optional = true, .named = true, .choices = "none|tanh"}},
     .saves = NB_SAVE_IN(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = gelu_backward,
     .loops = NB_FLOAT_LOOPS(gelu)},
    {.name = "silu",
     .doc = "x·σ(x), elementwise.",
     .example = "nb.silu(nb.tensor{0})  --> {0}",
     .derivative = "σ(x)·(1 + x·(1 − σ(x)))",
     .layer = "SiLU",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "SiLU",
     .params = {TENSOR("x")},
     .saves = NB_SAVE_IN(0),
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = silu_backward,
     .loops = NB_FLOAT_LOOPS(silu)},
    {.name = "softplus",
     .doc = "log(1 + e^(beta·x))/beta, a smooth relu; x itself where beta·x is above threshold.",
     .example = "nb.softplus(nb.tensor{0})  --> {0.693147}",
     .derivative = "σ(β·x), 1 above the threshold",
     .sample = {.args = "f(3,4); f(3,4), 2; f(3,4,{lo=1.5,hi=3}), 2, 2; f(3,4,{lo=-1,hi=0.5}), 2, 2"},
     .layer = "Softplus",
     .role = NB_ROLE_ACTIVATION,
     .params = {TENSOR("x"), OPTIONAL_NUMBER("beta", 1), OPTIONAL_NUMBER("threshold", 20)},
     .saves = NB_SAVE_IN(0),
     .shape = shape_softplus,
     .forward = nb_forward_elementwise,
     .backward = softplus_backward,
     .loops = NB_FLOAT_LOOPS(softplus)},
    {.name = "softmax",
     .doc = "e^x over the sum of e^x along dimension dim: positive numbers that add up to 1.",
     .example = "nb.softmax(nb.tensor{0, 0}, 1)  --> {0.5, 0.5}",
     .derivative = "diag(y) − y·yᵀ",
     .sample = {.args = "f(2,3,4), 2; f(3,4), -1; f(4), 1"},
     .layer = "Softmax",
     .role = NB_ROLE_ACTIVATION,
     .params = {TENSOR("x"), DIM("dim")},
     .saves = NB_SAVE_OUT(0),
     .shape = shape_softmax,
     .forward = softmax_forward,
     .backward = softmax_backward},
    {.name = "log_softmax",
     .doc = "The logarithm of softmax along dimension dim, without overflow or cancellation.",
     .example = "nb.log_softmax(nb.tensor{0, 0}, 1)  --> {-0.693147, -0.693147}",
     .derivative = "1 − softmax(x)",
     .sample = {.args = "f(2,3,4), 2; f(3,4), -1; f(4), 1"},
     .layer = "LogSoftmax",
     .role = NB_ROLE_ACTIVATION,
     .symbol = "log softmax",
     .probability = "e^y",
     .params = {TENSOR("x"), DIM("dim")},
     .saves = NB_SAVE_OUT(0),
     .shape = shape_softmax,
     .forward = log_softmax_forward,
     .backward = log_softmax_backward},
};
const OpFamily ops_activation = {"Activations", ops, COUNT(ops)};
