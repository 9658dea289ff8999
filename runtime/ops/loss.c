// SPDX-License-Identifier: MIT
// Operators: losses, element by element or sample by sample; their means are the language's.
#include <math.h>

#include "loops.h"
#include "softmax.h"
#include "vector.h"

// Loops of f32 by rows: `prepare` fills v and w from a row x of m elements, `loss` is made of them, x[k] and y[k].
#define LOSS_F32(name, prepare, loss)                                             \
  NB_LOOP(name) {                                                                 \
    float first[NB_ROW], second[NB_ROW], v[NB_ROW], w[NB_ROW], out[NB_ROW];       \
    (void)w;                                                                      \
    for (int64_t i = 0; i < n; i += NB_ROW) {                                     \
      int64_t m = n - i < NB_ROW ? n - i : NB_ROW;                                \
      const float *x = nb_row(first, p[1] + i * s[1], s[1], m);                   \
      const float *y = nb_row(second, p[2] + i * s[2], s[2], m);                  \
      prepare;                                                                    \
      NB_IVDEP for (int64_t k = 0; k < m; k++) out[k] = loss;                     \
      for (int64_t k = 0; k < m; k++) *(float *)(p[0] + (i + k) * s[0]) = out[k]; \
    }                                                                             \
  }

// max(z, 0) − z·y + log(1 + e^−|z|)
static void softplus_below(int64_t m, float *v, const float *x) {
  for (int64_t k = 0; k < m; k++) v[k] = -fabsf(x[k]);
  vector_softplus(m, v, v);
}
LOSS_F32(bce_with_logits_f32, softplus_below(m, v, x), (x[k] > 0 ? x[k] : 0) - x[k] * y[k] + v[k])
NB_BINARY(bce_with_logits_f64, double, double, fmax(x, 0) - x * y + log1p(exp(-fabs(x))) + (x != x ? x : 0))

// Logarithms are limited to −100, as PyTorch has it, so that p = 0 or 1 gives a finite loss.
#define LIMITED(v) ((v) < -100 ? -100 : (v))
static void both_logarithms(int64_t m, float *v, float *w, const float *x) {
  for (int64_t k = 0; k < m; k++) w[k] = -x[k];
  vector_log(m, v, x);
  vector_log1p(m, w, w);
}
LOSS_F32(binary_cross_entropy_f32, both_logarithms(m, v, w, x), -(y[k] * LIMITED(v[k]) + (1 - y[k]) * LIMITED(w[k])))
NB_BINARY(binary_cross_entropy_f64, double, double, -(y *LIMITED(log(x)) + (1 - y) * LIMITED(log1p(-x))))

NB_BINARY_FLOATS(squared_error, (x - y) * (x - y), (x - y) * (x - y))

// 2g(x − y), one pass where first derivatives are wanted.
#define SQUARED_ERROR_GRAD(T)                                                                                  \
  NB_LOOP(squared_error_grad_##T) {                                                                            \
    T *o = (T *)p[0];                                                                                          \
    const T *x = (const T *)p[1], *y = (const T *)p[2], *g = (const T *)p[3];                                  \
    const int64_t w = sizeof(T);                                                                               \
    if (s[0] == w && s[1] == w && s[2] == w && (s[3] == 0 || s[3] == w)) {                                     \
      const T by = s[3] ? 0 : 2 * *g;                                                                          \
      if (s[3] == 0) {                                                                                         \
        NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = by * (x[i] - y[i]);                                    \
      } else {                                                                                                 \
        NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = 2 * g[i] * (x[i] - y[i]);                              \
      }                                                                                                        \
      return;                                                                                                  \
    }                                                                                                          \
    for (int64_t i = 0; i < n; i++)                                                                            \
      *(T *)(p[0] + i * s[0]) =                                                                                \
          2 * *(const T *)(p[3] + i * s[3]) * (*(const T *)(p[1] + i * s[1]) - *(const T *)(p[2] + i * s[2])); \
  }
SQUARED_ERROR_GRAD(float)
SQUARED_ERROR_GRAD(double)

static bool squared_error_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_in(b, 1), *g = b->grad[0], *to_x;
  if (nb_grad_enabled())
    to_x = nb_mul(s, g, nb_muln(s, nb_sub(s, x, y), 2));
  else
    to_x = nb_op(s, "squared_error_grad", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}, {.tensor = g}});
  if (nb_wants(b, 0) && !nb_give(b, 0, to_x)) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_neg(s, to_x));
}

// The lecture's output factor: σ(z) − y.
static bool bce_with_logits_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *z = nb_in(b, 0), *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_mul(s, g, nb_sub(s, nb_unary(s, "sigmoid", z), nb_in(b, 1))))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_neg(s, nb_mul(s, g, z)));
}

// (p − y)/(p(1 − p)), with a denominator of at least 1e-12 as PyTorch has it.
static bool binary_cross_entropy_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *p = nb_in(b, 0), *y = nb_in(b, 1), *g = b->grad[0];
  if (nb_wants(b, 0)) {
    Tensor *spread = nb_mul(s, p, nb_rsub(s, 1, p));
    Tensor *floor = nb_full(s, &(Layout){.dtype = p->layout.dtype}, 1e-12);
    if (!nb_give(b, 0, nb_mul(s, g, nb_div(s, nb_sub(s, p, y), nb_binary(s, "maximum", spread, floor))))) return false;
  }
  if (!nb_wants(b, 1)) return true;
  return nb_give(b, 1, nb_mul(s, g, nb_sub(s, nb_unary(s, "log1p", nb_neg(s, p)), nb_unary(s, "log", p))));
}

// ---- what targets may be ----

// The first of n numbers that is not from lo to hi, as NaN is not; n when all are.  Whole blocks are looked at without
// a branch, since nearly always all are.
#define FIRST_OUTSIDE(T)                                                    \
  static int64_t first_outside_##T(const T *v, int64_t n, T lo, T hi) {     \
    enum { BLOCK = 1024 };                                                  \
    for (int64_t i = 0; i < n; i += BLOCK) {                                \
      int64_t end = n - i < BLOCK ? n : i + BLOCK;                          \
      int bad = 0;                                                          \
      for (int64_t k = i; k < end; k++) bad |= !(v[k] >= lo && v[k] <= hi); \
      for (int64_t k = i; bad && k < end; k++)                              \
        if (!(v[k] >= lo && v[k] <= hi)) return k;                          \
    }                                                                       \
    return n;                                                               \
  }
FIRST_OUTSIDE(float)
FIRST_OUTSIDE(double)

static const double slack = 1e-6;  // what rounding adds to a sum that should be 1

// Whether all of t, read as dtype, lie from lo to hi; else where the first does not and what it is.
static bool all_within(Scope *s, Tensor *t, DType dtype, double lo, double hi, int64_t *at, double *value) {
  *at = -1;
  t = nb_contiguous(s, nb_to(s, t, dtype));
  if (!t) return false;
  int64_t n = nb_layout_numel(&t->layout);
  const float *f = nb_tensor_data(t);
  const double *d = nb_tensor_data(t);
  int64_t first =
      dtype == NB_F32 ? first_outside_float(f, n, (float)lo, (float)hi) : first_outside_double(d, n, lo, hi);
  if (first == n) return true;
  *at = first;
  *value = dtype == NB_F32 ? (double)f[first] : d[first];
  return false;
}

// Binary cross-entropy falls without end for targets beside 0..1, such as class numbers are.
static bool check_binary(Call *c, bool probabilities, Error *err) {
  Scope s;
  int64_t at;
  double value;
  nb_scope_open(&s, err);
  bool ok = all_within(&s, c->args[1].tensor, c->compute, -slack, 1 + slack, &at, &value);
  if (!ok && at >= 0)
    nb_fail(err, NB_ERROR_ARGUMENT, "target %lld is %g, expected 0..1%s", (long long)at + 1, value,
            value == 2    ? " (classes 1 and 2 become 0 and 1 by target - 1)"
            : value == -1 ? " (signs -1 and 1 become 0 and 1 by (target + 1) / 2)"
                          : "");
  if (ok && probabilities) {
    ok = all_within(&s, c->args[0].tensor, c->compute, 0, 1, &at, &value);
    if (!ok && at >= 0)
      nb_fail(err, NB_ERROR_ARGUMENT,
              "predictions must be probabilities from 0 to 1, number %lld is %g; for logits use nn.BCEWithLogitsLoss()",
              (long long)at + 1, value);
  }
  nb_scope_close(&s);
  return ok;
}

static bool forward_of_logits(Call *c, Error *err) {
  return check_binary(c, false, err) && nb_forward_elementwise(c, err);
}

static bool forward_of_probabilities(Call *c, Error *err) {
  return check_binary(c, true, err) && nb_forward_elementwise(c, err);
}

enum { UNIT, SIGNS, LOGS, LABELS, DISTRIBUTION };  // the choices of `within`
enum { W_X, W_KIND, W_MOST, W_DIM };

static bool check_signs(const double *v, int64_t n, Error *err) {
  for (int64_t i = 0; i < n && nb_goes_on(i); i++)
    if (v[i] != 1 && v[i] != -1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "target %lld is %g, expected -1 or 1%s", (long long)i + 1, v[i],
                     v[i] == 0   ? " (0 and 1 become signs by 2 * target - 1)"
                     : v[i] == 2 ? " (classes 1 and 2 become signs by 2 * target - 3)"
                                 : "");
  return nb_poll(err);
}

// The sums along dimension d, each of which is that of one sample's probabilities.
static bool check_sums(const Tensor *x, int d, Error *err) {
  const double *v = nb_tensor_data(x);
  int64_t n = x->layout.shape[d], inner = 1, slices = n ? nb_layout_numel(&x->layout) / n : 0;
  for (int e = d + 1; e < x->layout.ndim; e++) inner *= x->layout.shape[e];
  for (int64_t i = 0; i < slices; i++) {
    double sum = 0;
    if (!nb_poll(err)) return false;
    for (int64_t k = 0; k < n; k++) sum += v[i / inner * n * inner + k * inner + i % inner];
    if (!(fabs(sum - 1) <= 1e-3))
      return nb_fail(err, NB_ERROR_ARGUMENT,
                     "the target's probabilities of sample %lld sum to %g, expected 1; those of "
                     "target / target:sum(%d, {keepdim=true}) do",
                     (long long)i + 1, sum, d + 1);
  }
  return true;
}

static bool check_kind(const Call *c, Scope *s, Error *err) {
  const Value *a = c->args;
  int kind = a[W_KIND].choice, d;
  double most = kind == LABELS ? (double)a[W_MOST].integer : kind == LOGS ? slack : 1 + slack;
  double least = kind == LABELS ? 1 : kind == LOGS ? -INFINITY : -slack, value;
  int64_t at;
  Tensor *x = nb_contiguous(s, nb_to(s, a[W_X].tensor, NB_F64));
  if (!x) return false;
  if (kind == SIGNS) return check_signs(nb_tensor_data(x), nb_layout_numel(&x->layout), err);
  if (!all_within(s, x, NB_F64, least, most, &at, &value)) {
    if (at < 0) return false;
    if (kind == LABELS)
      return nb_fail(err, NB_ERROR_ARGUMENT, "label %lld is %g, expected 1..%g%s", (long long)at + 1, value, most,
                     value == 0 ? " (labels count from 1: add 1 to those that count from 0)" : "");
    return nb_fail(err, NB_ERROR_ARGUMENT, "target %lld is %g, expected %s", (long long)at + 1, value,
                   kind == LOGS ? "the logarithm of a probability, at most 0" : "a probability from 0 to 1");
  }
  return kind != DISTRIBUTION || (nb_dim(a[W_DIM].integer, x->layout.ndim, &d, err) && check_sums(x, d, err));
}

static bool within_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  bool ok = check_kind(c, &s, err);
  if (ok) nb_copy(c->out[0], c->args[W_X].tensor);
  nb_scope_close(&s);
  return ok;
}

static bool within_backward(Backward *b) {
  return nb_give(b, 0, b->grad[0]);
}

// ---- cross entropy ----

// Logits are (K), (N, K) or (N, K, d...); targets lack the dimension of the classes.
static int class_dim(const Layout *logits) {
  return logits->ndim == 1 ? 0 : 1;
}

static bool shape_cross_entropy(Call *c, Error *err) {
  char a[NB_SHAPE_TEXT], b[NB_SHAPE_TEXT];
  const Layout *z = &c->args[0].tensor->layout, *t = &c->args[1].tensor->layout;
  if (z->ndim == 0 || z->shape[class_dim(z)] == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "logits need a dimension of classes, got shape %s", nb_shape_text(z, a));
  Layout l = {.dtype = nb_dtype_promote(z->dtype, NB_F32)};
  for (int d = 0; d < z->ndim; d++)
    if (d != class_dim(z)) l.shape[l.ndim++] = z->shape[d];
  bool same = l.ndim == t->ndim;
  for (int d = 0; same && d < l.ndim; d++) same = l.shape[d] == t->shape[d];
  if (!same) {
    nb_fail(err, NB_ERROR_ARGUMENT, "targets must be class numbers of shape %s for logits of shape %s, got shape %s",
            nb_shape_text(&l, (char[NB_SHAPE_TEXT]){0}), nb_shape_text(z, a), nb_shape_text(t, b));
    return false;
  }
  c->layout[0] = l;
  c->compute = l.dtype;
  return true;
}

static bool check_labels(const Tensor *target, int64_t classes, Error *err) {
  const int64_t *k = nb_tensor_data(target);
  int64_t n = nb_layout_numel(&target->layout);
  for (int64_t i = 0; i < n && nb_goes_on(i); i++)
    if (k[i] < 1 || k[i] > classes)
      return nb_fail(err, NB_ERROR_ARGUMENT, "label %lld is %lld, expected 1..%lld%s", (long long)i + 1,
                     (long long)k[i], (long long)classes,
                     k[i] == 0 ? " (classes count from 1: add 1 to labels that count from 0)" : "");
  return nb_poll(err);
}

// Of a cross-entropy with contiguous logits and targets.
static Softmax slices_of(SoftmaxKind kind, const Tensor *z, const Tensor *target, Tensor *out) {
  int d = class_dim(&z->layout);
  Softmax w = {.kind = kind, .dtype = z->layout.dtype, .n = z->layout.shape[d], .inner = 1};
  w.slices = nb_layout_numel(&target->layout);
  w.x = nb_tensor_data(z), w.y = nb_tensor_data(out), w.target = nb_tensor_data(target);
  for (int e = d + 1; e < z->layout.ndim; e++) w.inner *= z->layout.shape[e];
  return w;
}

// −log softmax(z)[target] for each sample.
static bool cross_entropy_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *z = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  Tensor *target = nb_contiguous(&s, c->args[1].tensor);
  bool ok = z && target && check_labels(target, z->layout.shape[class_dim(&z->layout)], err);
  if (ok) nb_softmax(slices_of(NB_CROSS_ENTROPY, z, target, c->out[0]));
  nb_scope_close(&s);
  return ok;
}

static bool shape_like_first(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  c->compute = c->layout[0].dtype;
  return true;
}

static bool shape_cross_entropy_grad(Call *c, Error *err) {
  if (!shape_cross_entropy(c, err)) return false;
  const Layout *z = &c->args[0].tensor->layout, *g = &c->args[2].tensor->layout;
  Layout each = c->layout[0];
  if (!nb_dtype_is_float(z->dtype) || g->dtype != z->dtype)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs logits and g in f32 or in f64, got %s and %s",
                   nb_dtype_name(z->dtype), nb_dtype_name(g->dtype));
  c->layout[0] = *z;
  c->compute = z->dtype;
  return nb_layout_numel(g) == 1 || nb_arg_fits(c, 2, &each, err);
}

// The whole gradient in one pass.
static bool cross_entropy_grad_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *z = nb_contiguous(&s, c->args[0].tensor), *target = nb_contiguous(&s, c->args[1].tensor);
  Tensor *g = c->args[2].tensor;
  bool single = nb_layout_is_single(&g->layout);
  if (!single) g = nb_contiguous(&s, g);
  bool ok = z && target && g && check_labels(target, z->layout.shape[class_dim(&z->layout)], err);
  if (ok) {
    Softmax w = slices_of(NB_CROSS_ENTROPY_GRAD, z, target, c->out[0]);
    w.g = nb_tensor_data(g);
    w.gstep = !single;
    nb_softmax(w);
  }
  nb_scope_close(&s);
  return ok;
}

// softmax(z) − one_hot(target): the lecture's ŷ − y.
static bool cross_entropy_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *z = nb_in(b, 0), *g = b->grad[0];
  if (!nb_grad_enabled() && g->layout.dtype == z->layout.dtype)
    return nb_give(
        b, 0,
        nb_op(s, "cross_entropy_grad", (Value[NB_MAX_PARAMS]){{.tensor = z}, {.tensor = nb_in(b, 1)}, {.tensor = g}}));
  int d = class_dim(&z->layout), last = z->layout.ndim - 1;
  Layout with = z->layout;
  with.shape[d] = 1;
  Tensor *y = nb_op(s, "softmax", (Value[NB_MAX_PARAMS]){{.tensor = z}, {.integer = d + 1}});
  Tensor *hot = nb_op(
      s, "one_hot",
      (Value[NB_MAX_PARAMS]){{.tensor = nb_in(b, 1)}, {.integer = z->layout.shape[d]}, {.dtype = z->layout.dtype}});
  for (int e = last; hot && e > d; e--) hot = nb_swap(s, hot, e, e - 1);
  return nb_give(b, 0, nb_mul(s, nb_sub(s, y, hot), nb_reshape_like(s, g, &with)));
}

static const Op ops[] = {
    {.name = "within",
     .doc = "x itself, once its numbers are found to be what a loss takes for targets: from 0 to 1 (unit), -1 or 1 "
            "(signs), at most 0 (logs), 1..most (labels), or probabilities that sum to 1 along dim (distribution).",
     .example = "nb.nn.hinge(nb.tensor{0.5}, nb.tensor{1})  --> 0.5",
     .derivative = "∂/∂x = 1",
     .internal = true,
     .sample = {.args = "f(2,3); f(4)", .lo = 0.1, .hi = 0.9},
     .role = NB_ROLE_STRUCTURE,
     .symbol = "checked",
     .params = {TENSOR("x"),
                {.name = "kind",
                 .kind = NB_PARAM_CHOICE,
                 .optional = true,
                 .named = true,
                 .choices = "unit|signs|logs|labels|distribution"},
                {.name = "most", .kind = NB_PARAM_INT, .optional = true, .named = true},
                {.name = "dim", .kind = NB_PARAM_INT, .optional = true, .named = true, .fallback = 1}},
     .shape = shape_like_first,
     .forward = within_forward,
     .backward = within_backward},
    {.name = "cross_entropy_grad",
     .doc = "δ of cross_entropy's logits: (softmax(z) − one_hot(target))·g.",
     .example = "local z = nb.tensor({0, 0}, {requires_grad=true}); nb.cross_entropy(z, nb.tensor(2)):backward(); "
                "return z.grad  --> {0.5, -0.5}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .sample = {.args = "f(5,3), i(3, 5), f(5); f(4), i(4), f(); f(2,3,4), i(3, 2,4), f(2,4)"},
     .role = NB_ROLE_GRADIENT,
     .symbol = "CE'",
     .params = {TENSOR("logits"), INDEX("target"), TENSOR("g")},
     .shape = shape_cross_entropy_grad,
     .forward = cross_entropy_grad_forward},
    {.name = "squared_error_grad",
     .doc = "δ of squared_error's x: 2g·(x − y).",
     .example = "local x = nb.tensor({3}, {requires_grad=true}); nb.squared_error(x, nb.tensor{1}):backward(); "
                "return x.grad  --> {4}",
     .no_grad = "it serves first derivatives",
     .internal = true,
     .role = NB_ROLE_GRADIENT,
     .symbol = "(x−y)²'",
     .params = {TENSOR("x"), TENSOR("y"), TENSOR("g")},
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .loops = {[NB_F32] = squared_error_grad_float, [NB_F64] = squared_error_grad_double}},
    {.name = "squared_error",
     .doc = "(x − y)², elementwise with broadcasting.",
     .example = "nb.squared_error(nb.tensor{1, 4}, nb.tensor{2, 2})  --> {1, 4}",
     .derivative = "∂/∂x = 2(x − y), ∂/∂y = −2(x − y)",
     .role = NB_ROLE_DIFFERENCE,
     .symbol = "SE",
     .formula = "(x − y)²",
     .params = {TENSOR("x"), OPERAND("y")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = squared_error_backward,
     .loops = NB_FLOAT_LOOPS(squared_error)},
    {.name = "bce_with_logits",
     .doc = "Binary cross-entropy of logits z and targets y in 0..1, elementwise: −y·log σ(z) − (1 − y)·log(1 − σ(z)).",
     .example = "nb.bce_with_logits(nb.tensor{0}, nb.tensor{1})  --> {0.693147}",
     .derivative = "∂/∂z = σ(z) − y",
     .role = NB_ROLE_LOSS,
     .symbol = "BCE",
     .factor = "ŷ − y",
     .params = {TENSOR("z"), OPERAND("y")},
     .sample = {.args = "f(2,3,4, {lo=-2, hi=2}), f(2,3,4)", .lo = 0.1, .hi = 0.9},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = nb_shape_elementwise_float,
     .forward = forward_of_logits,
     .backward = bce_with_logits_backward,
     .loops = NB_FLOAT_LOOPS(bce_with_logits)},
    {.name = "binary_cross_entropy",
     .doc = "Binary cross-entropy of probabilities p and targets y in 0..1, elementwise; bce_with_logits is more "
            "accurate.",
     .example = "nb.binary_cross_entropy(nb.tensor{0.5}, nb.tensor{1})  --> {0.693147}",
     .derivative = "∂/∂p = (p − y)/(p·(1 − p))",
     .sample = {.lo = 0.1, .hi = 0.9},
     .role = NB_ROLE_LOSS,
     .symbol = "BCE",
     .params = {TENSOR("p"), OPERAND("y")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = nb_shape_elementwise_float,
     .forward = forward_of_probabilities,
     .backward = binary_cross_entropy_backward,
     .loops = NB_FLOAT_LOOPS(binary_cross_entropy)},
    {.name = "cross_entropy",
     .doc = "−log softmax(logits)[target] for each sample; targets are class numbers 1..K.",
     .example = "nb.cross_entropy(nb.tensor{{0, 0}}, nb.tensor{2})  --> {0.693147}",
     .derivative = "∂/∂logits = softmax(logits) − one_hot(target)",
     .sample = {.args = "f(5,3), i(3, 5); f(4), i(4); f(2,3,4), i(3, 2,4)"},
     .role = NB_ROLE_LOSS,
     .symbol = "CE",
     .factor = "ŷ − y",
     .params = {TENSOR("logits"), INDEX("target")},
     .saves = NB_SAVE_IN(0) | NB_SAVE_IN(1),
     .shape = shape_cross_entropy,
     .forward = cross_entropy_forward,
     .backward = cross_entropy_backward},
};
const OpFamily ops_loss = {"Losses", ops, COUNT(ops)};
