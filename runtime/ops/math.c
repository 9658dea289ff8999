// SPDX-License-Identifier: MIT
// Operators: elementwise functions of one argument, and clamp and where.
#include <math.h>

#include "loops.h"
#include "put.h"
#include "vector.h"

NB_UNARY_FLOATS(neg, -x, -x)
NB_UNARY(neg_i64, int64_t, int64_t, (int64_t)(0 - (uint64_t)x))
NB_UNARY(neg_u8, uint8_t, uint8_t, 0u - x)
NB_UNARY_FLOATS(abs, fabsf(x), fabs(x))
NB_UNARY(abs_i64, int64_t, int64_t, x < 0 ? (int64_t)(0 - (uint64_t)x) : x)
NB_UNARY_FLOATS(sign, (float)((x > 0) - (x < 0)), (double)((x > 0) - (x < 0)))
NB_UNARY(sign_i64, int64_t, int64_t, (x > 0) - (x < 0))
NB_UNARY(sign_u8, uint8_t, uint8_t, x > 0)
NB_UNARY_FLOATS(square, x *x, x *x)
NB_UNARY(square_i64, int64_t, int64_t, (int64_t)((uint64_t)x *(uint64_t)x))
NB_UNARY(square_u8, uint8_t, uint8_t, (unsigned)x *x)
NB_UNARY_VECTOR(exp_f32, vector_exp)
NB_UNARY(exp_f64, double, double, exp(x))
NB_UNARY_VECTOR(expm1_f32, vector_expm1)
NB_UNARY(expm1_f64, double, double, expm1(x))
NB_UNARY_VECTOR(log_f32, vector_log)
NB_UNARY(log_f64, double, double, log(x))
NB_UNARY_VECTOR(log1p_f32, vector_log1p)
NB_UNARY(log1p_f64, double, double, log1p(x))
NB_UNARY_FLOATS(sqrt, sqrtf(x), sqrt(x))
NB_UNARY_FLOATS(rsqrt, 1 / sqrtf(x), 1 / sqrt(x))
NB_UNARY_FLOATS(reciprocal, 1 / x, 1 / x)
NB_UNARY_VECTOR(sin_f32, vector_sin)
NB_UNARY(sin_f64, double, double, sin(x))
NB_UNARY_VECTOR(cos_f32, vector_cos)
NB_UNARY(cos_f64, double, double, cos(x))
NB_UNARY_VECTOR(asin_f32, vector_asin)
NB_UNARY(asin_f64, double, double, asin(x))
NB_UNARY_VECTOR(acos_f32, vector_acos)
NB_UNARY(acos_f64, double, double, acos(x))
NB_UNARY_VECTOR(atan_f32, vector_atan)
NB_UNARY(atan_f64, double, double, atan(x))
NB_UNARY_VECTOR(sinh_f32, vector_sinh)
NB_UNARY(sinh_f64, double, double, sinh(x))
NB_UNARY_VECTOR(cosh_f32, vector_cosh)
NB_UNARY(cosh_f64, double, double, cosh(x))
NB_UNARY_VECTOR(tan_f32, vector_tan)
NB_UNARY(tan_f64, double, double, tan(x))
NB_UNARY_VECTOR(erf_f32, vector_erf)
NB_UNARY(erf_f64, double, double, erf(x))
NB_UNARY_FLOATS(floor, floorf(x), floor(x))
NB_UNARY_FLOATS(ceil, ceilf(x), ceil(x))
NB_UNARY_FLOATS(round, rintf(x), rint(x))
NB_UNARY(whole_i64, int64_t, int64_t, x)
NB_UNARY(whole_u8, uint8_t, uint8_t, x)
NB_UNARY(isnan_f32, float, uint8_t, x != x)
NB_UNARY(isnan_f64, double, uint8_t, x != x)
NB_UNARY(isinf_f32, float, uint8_t, isinf(x) != 0)
NB_UNARY(isinf_f64, double, uint8_t, isinf(x) != 0)
NB_UNARY(isfinite_f32, float, uint8_t, isfinite(x) != 0)
NB_UNARY(isfinite_f64, double, uint8_t, isfinite(x) != 0)

// The upper limit wins where the lower one is above it, and NaN over all.
#define CLAMP(name, T)                                                                                            \
  NB_INLINE T clamp_one_##name(T x, T lo, T hi) {                                                                 \
    T v = x < lo || lo != lo ? lo : x;                                                                            \
    return v > hi || hi != hi ? hi : v;                                                                           \
  }                                                                                                               \
  NB_LOOP(clamp_##name) {                                                                                         \
    const int64_t w = (int64_t)sizeof(T);                                                                         \
    bool plain = !args[1].tensor;                                                                                 \
    if (plain || (s[2] == 0 && s[3] == 0)) {                                                                      \
      const T lo = plain ? (T)args[1].plain : *(const T *)p[2], hi = plain ? (T)args[2].plain : *(const T *)p[3]; \
      if (s[0] == w && s[1] == w) {                                                                               \
        const T *x = (const T *)p[1];                                                                             \
        T *o = (T *)p[0];                                                                                         \
        NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = clamp_one_##name(x[i], lo, hi);                           \
      } else {                                                                                                    \
        for (int64_t i = 0; i < n; i++)                                                                           \
          *(T *)(p[0] + i * s[0]) = clamp_one_##name(*(const T *)(p[1] + i * s[1]), lo, hi);                      \
      }                                                                                                           \
      return;                                                                                                     \
    }                                                                                                             \
    for (int64_t i = 0; i < n; i++)                                                                               \
      *(T *)(p[0] + i * s[0]) = clamp_one_##name(*(const T *)(p[1] + i * s[1]), *(const T *)(p[2] + i * s[2]),    \
                                                 *(const T *)(p[3] + i * s[3]));                                  \
  }
CLAMP(u8, uint8_t)
CLAMP(i64, int64_t)
CLAMP(f32, float)
CLAMP(f64, double)

static bool neg_backward(Backward *b) {
  return nb_give(b, 0, nb_neg(b->scope, b->grad[0]));
}

static bool abs_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_unary(b->scope, "sign", nb_in(b, 0))));
}

static bool square_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_muln(b->scope, nb_in(b, 0), 2)));
}

static bool exp_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_out(b, 0)));
}

static bool expm1_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_addn(b->scope, nb_out(b, 0), 1)));
}

static bool log_backward(Backward *b) {
  return nb_give(b, 0, nb_div(b->scope, b->grad[0], nb_in(b, 0)));
}

static bool log1p_backward(Backward *b) {
  return nb_give(b, 0, nb_div(b->scope, b->grad[0], nb_addn(b->scope, nb_in(b, 0), 1)));
}

static bool sqrt_backward(Backward *b) {
  return nb_give(b, 0, nb_div(b->scope, b->grad[0], nb_muln(b->scope, nb_out(b, 0), 2)));
}

// d x^(−1/2) = −y³/2
static bool rsqrt_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  return nb_give(b, 0, nb_mul(s, b->grad[0], nb_muln(s, nb_mul(s, y, nb_mul(s, y, y)), -0.5)));
}

static bool reciprocal_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  return nb_give(b, 0, nb_neg(s, nb_mul(s, b->grad[0], nb_mul(s, y, y))));
}

static bool sin_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_unary(b->scope, "cos", nb_in(b, 0))));
}

static bool cos_backward(Backward *b) {
  return nb_give(b, 0, nb_neg(b->scope, nb_mul(b->scope, b->grad[0], nb_unary(b->scope, "sin", nb_in(b, 0)))));
}

static bool tan_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  return nb_give(b, 0, nb_mul(s, b->grad[0], nb_addn(s, nb_mul(s, y, y), 1)));
}

// 1/√(1 − x²)
static Tensor *arc_slope(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return nb_unary(s, "rsqrt", nb_rsub(s, 1, nb_mul(s, x, x)));
}

static bool asin_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], arc_slope(b)));
}

static bool acos_backward(Backward *b) {
  return nb_give(b, 0, nb_neg(b->scope, nb_mul(b->scope, b->grad[0], arc_slope(b))));
}

static bool atan_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return nb_give(b, 0, nb_div(s, b->grad[0], nb_addn(s, nb_mul(s, x, x), 1)));
}

static bool sinh_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_unary(b->scope, "cosh", nb_in(b, 0))));
}

static bool cosh_backward(Backward *b) {
  return nb_give(b, 0, nb_mul(b->scope, b->grad[0], nb_unary(b->scope, "sinh", nb_in(b, 0))));
}

// 2/√π · exp(−x²)
static bool erf_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  Tensor *slope = nb_muln(s, nb_unary(s, "exp", nb_neg(s, nb_mul(s, x, x))), 1.1283791670955126);
  return nb_give(b, 0, nb_mul(s, b->grad[0], slope));
}

static bool shape_test(Call *c, Error *err) {
  if (!nb_shape_unary_float(c, err)) return false;
  c->layout[0].dtype = NB_BOOL;
  return true;
}

// Two numbers in the wrong order are a slip; tensors may cross, where the upper limit wins.
static bool shape_clamp(Call *c, Error *err) {
  const Tensor *lo = c->args[1].tensor, *hi = c->args[2].tensor;
  bool plain = !lo;
  if (plain || (lo->layout.ndim == 0 && hi->layout.ndim == 0)) {
    double least = plain ? c->args[1].plain : nb_tensor_get(lo, 0),
           most = plain ? c->args[2].plain : nb_tensor_get(hi, 0);
    if (isnan(least) || isnan(most))
      return nb_fail(err, NB_ERROR_ARGUMENT, "min and max must be numbers, got %g and %g", least, most);
    if (least > most) return nb_fail(err, NB_ERROR_ARGUMENT, "min must not exceed max, got %g and %g", least, most);
  }
  return plain ? nb_shape_unary(c, err) : nb_shape_elementwise(c, err);
}

// Where x is at limit i, a number, or beyond it; *mask is NULL where the limit is infinite, which is none.  Who listens
// meets other limits: there NaN, that no x is beyond, stands for an infinite one.
static bool at_limit(Backward *b, int i, const char *beyond, double none, Tensor **mask) {
  Scope *s = b->scope;
  Layout number = {.dtype = b->grad[0]->layout.dtype};
  Tensor *limit = nb_in(b, i);
  *mask = NULL;
  if (!limit || nb_unheard()) {
    double given = limit ? nb_tensor_get(limit, 0) : nb_arg(b, i)->plain;
    if (given == none) return true;
    if (!limit) limit = nb_number(s, given, number.dtype);
  } else {
    Tensor *no = nb_full(s, &number, (double)NAN), *infinite = nb_binary(s, "eq", limit, nb_full(s, &number, none));
    limit = nb_where(s, infinite, no, limit);
  }
  *mask = nb_binary(s, beyond, nb_in(b, 0), limit);
  return *mask;
}

// δ where x is inside two limits that are numbers.
static Tensor *grad_inside(Backward *b) {
  Tensor *below, *above, *g = b->grad[0];
  if (!at_limit(b, 1, "le", -INFINITY, &below) || !at_limit(b, 2, "ge", INFINITY, &above)) return NULL;
  Tensor *outside = below && above ? nb_binary(b->scope, "logical_or", below, above) : below ? below : above;
  return outside ? nb_where(b->scope, outside, nb_number(b->scope, 0, g->layout.dtype), g) : g;
}

// To x inside and to the limit that x is cut off at.  At a limit that is a tensor the two share, as in maximum; at one
// that is a number the slope is 0, as relu's is at 0.  That is PyTorch's rule.
static bool clamp_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *lo = nb_in(b, 1), *hi = nb_in(b, 2), *g = b->grad[0];
  bool numbers = !lo || (lo->layout.ndim == 0 && hi->layout.ndim == 0);
  if (numbers && !nb_wants(b, 1) && !nb_wants(b, 2)) return nb_give(b, 0, grad_inside(b));
  Tensor *zero = nb_number(s, 0, g->layout.dtype);
  Tensor *half = nb_muln(s, g, 0.5), *room = nb_binary(s, "lt", lo, hi);
  Tensor *below = nb_binary(s, "logical_and", nb_binary(s, "lt", x, lo), nb_binary(s, "le", lo, hi));
  Tensor *above = nb_binary(s, "logical_or", nb_binary(s, "gt", x, hi), nb_binary(s, "gt", lo, hi));
  Tensor *no_room = nb_binary(s, "logical_and", nb_binary(s, "eq", x, hi), nb_binary(s, "eq", lo, hi));
  above = nb_binary(s, "logical_or", above, no_room);
  Tensor *at_lo = nb_binary(s, "logical_and", nb_binary(s, "eq", x, lo), room);
  Tensor *at_hi = nb_binary(s, "logical_and", nb_binary(s, "eq", x, hi), room);
  if (nb_wants(b, 0)) {
    Tensor *kept = nb_where(s, nb_binary(s, "logical_or", at_lo, at_hi), half, g);
    if (!nb_give(b, 0, nb_where(s, nb_binary(s, "logical_or", below, above), zero, kept))) return false;
  }
  if (nb_wants(b, 1) && !nb_give(b, 1, nb_where(s, below, g, nb_where(s, at_lo, half, zero)))) return false;
  return !nb_wants(b, 2) || nb_give(b, 2, nb_where(s, above, g, nb_where(s, at_hi, half, zero)));
}

// ---- where ----

// Masks may be random: without a branch, bit by bit.
#define WHERE_ROW(first, second)                   \
  NB_IVDEP for (int64_t i = 0; i < n; i++) {       \
    T keep = (T)(0 - (T)(m[i] != 0));              \
    o[i] = (T)((keep & first) | (~keep & second)); \
  }

#define WHERE_LOOP(name, Bits)                                                                                 \
  NB_LOOP(name) {                                                                                              \
    typedef Bits T;                                                                                            \
    const int64_t w = (int64_t)sizeof(T);                                                                      \
    T *o = (T *)p[0];                                                                                          \
    const uint8_t *m = (const uint8_t *)p[1];                                                                  \
    const T *x = (const T *)p[2], *y = (const T *)p[3];                                                        \
    if (s[0] == w && s[1] == 1 && s[2] == w && s[3] == w) {                                                    \
      WHERE_ROW(x[i], y[i])                                                                                    \
    } else if (s[0] == w && s[1] == 1 && s[2] == w && s[3] == 0) {                                             \
      const T other = *y;                                                                                      \
      WHERE_ROW(x[i], other)                                                                                   \
    } else if (s[0] == w && s[1] == 1 && s[2] == 0 && s[3] == w) {                                             \
      const T other = *x;                                                                                      \
      WHERE_ROW(other, y[i])                                                                                   \
    } else {                                                                                                   \
      for (int64_t i = 0; i < n; i++)                                                                          \
        *(T *)(p[0] + i * s[0]) = m[i * s[1]] ? *(const T *)(p[2] + i * s[2]) : *(const T *)(p[3] + i * s[3]); \
    }                                                                                                          \
  }
WHERE_LOOP(where_8, uint8_t)
WHERE_LOOP(where_32, uint32_t)
WHERE_LOOP(where_64, uint64_t)

static bool where_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *zero = nb_full(s, &(Layout){.dtype = g->layout.dtype}, 0);
  if (nb_wants(b, 1) && !nb_give(b, 1, nb_where(s, nb_in(b, 0), g, zero))) return false;
  return !nb_wants(b, 2) || nb_give(b, 2, nb_where(s, nb_in(b, 0), zero, g));
}

#define UNARY(NAME, ROLE, FORM, DOC, EXAMPLE, DERIVATIVE, SAVES, LO, HI)                                              \
  {                                                                                                                   \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .derivative = DERIVATIVE, .role = NB_ROLE_##ROLE, .formula = FORM, \
    .sample = {.lo = LO, .hi = HI}, .params = {TENSOR("x")}, .inplace = true, .saves = SAVES,                         \
    .shape = nb_shape_unary_float, .forward = nb_forward_elementwise, .backward = NAME##_backward,                    \
    .loops = NB_FLOAT_LOOPS(NAME)                                                                                     \
  }

#define STEP(NAME, DOC, EXAMPLE)                                                                                     \
  {                                                                                                                  \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .no_grad = "it is piecewise constant", .params = {TENSOR("x")},   \
    .inplace = true, .narrow = true, .stays_mask = true, .shape = nb_shape_unary, .forward = nb_forward_elementwise, \
    .loops = {                                                                                                       \
      [NB_BOOL] = whole_u8,                                                                                          \
      [NB_U8] = whole_u8,                                                                                            \
      [NB_I64] = whole_i64,                                                                                          \
      [NB_F32] = NAME##_f32,                                                                                         \
      [NB_F64] = NAME##_f64                                                                                          \
    }                                                                                                                \
  }

#define TEST(NAME, DOC, EXAMPLE)                                                                                   \
  {                                                                                                                \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .no_grad = "a mask is not a number", .role = NB_ROLE_TEST,      \
    .params = {TENSOR("x")}, .shape = shape_test, .forward = nb_forward_elementwise, .loops = NB_FLOAT_LOOPS(NAME) \
  }

#define IN NB_SAVE_IN(0)
#define OUT NB_SAVE_OUT(0)

static const Op ops[] = {
    {.name = "neg",
     .doc = "−x, elementwise.",
     .example = "-nb.tensor{1, -2}  --> {-1, 2}",
     .derivative = "−1",
     .role = NB_ROLE_FORMULA,
     .formula = "−x",
     .params = {TENSOR("x")},
     .inplace = true,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = neg_backward,
     .narrow = true,
     .loops = {[NB_U8] = neg_u8, [NB_I64] = neg_i64, [NB_F32] = neg_f32, [NB_F64] = neg_f64}},
    {.name = "abs",
     .doc = "|x|, elementwise.",
     .example = "nb.abs(nb.tensor{1, -2})  --> {1, 2}",
     .derivative = "sign(x)",
     .sample = {.args = "f(3,4,{lo=0.1,hi=2}); f(3,4,{lo=-2,hi=-0.1})"},
     .role = NB_ROLE_FORMULA,
     .formula = "|x|",
     .params = {TENSOR("x")},
     .inplace = true,
     .saves = IN,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = abs_backward,
     .narrow = true,
     .stays_mask = true,
     .loops = {[NB_BOOL] = whole_u8, [NB_U8] = whole_u8, [NB_I64] = abs_i64, [NB_F32] = abs_f32, [NB_F64] = abs_f64}},
    {.name = "square",
     .doc = "x², elementwise.",
     .example = "nb.square(nb.tensor{1, -2})  --> {1, 4}",
     .derivative = "2x",
     .role = NB_ROLE_FORMULA,
     .formula = "x²",
     .params = {TENSOR("x")},
     .inplace = true,
     .saves = IN,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = square_backward,
     .narrow = true,
     .loops = {[NB_U8] = square_u8, [NB_I64] = square_i64, [NB_F32] = square_f32, [NB_F64] = square_f64}},
    UNARY(exp, FORMULA, "e^x", "e to the power of x, elementwise.", "nb.exp(nb.tensor{0, 1})  --> {1, 2.71828}", "e^x",
          OUT, 0, 0),
    UNARY(expm1, FORMULA, "e^x − 1", "exp(x) − 1 without cancellation near 0.", "nb.expm1(nb.tensor{0})  --> {0}",
          "e^x", OUT, 0, 0),
    UNARY(log, LOGARITHM, "log(x)", "The natural logarithm, elementwise.", "nb.log(nb.tensor{1})  --> {0}", "1/x", IN,
          0.3, 3),
    UNARY(log1p, LOGARITHM, "log(1 + x)", "log(1 + x) without cancellation near 0.", "nb.log1p(nb.tensor{0})  --> {0}",
          "1/(1 + x)", IN, -0.5, 2),
    UNARY(sqrt, FORMULA, "√x", "The square root, elementwise.", "nb.sqrt(nb.tensor{4, 9})  --> {2, 3}", "1/(2√x)", OUT,
          0.3, 3),
    UNARY(rsqrt, FORMULA, "1/√x", "1/√x, elementwise.", "nb.rsqrt(nb.tensor{4})  --> {0.5}", "−1/(2x^(3/2))", OUT, 0.3,
          3),
    UNARY(reciprocal, FORMULA, "1/x", "1/x, elementwise.", "nb.reciprocal(nb.tensor{4})  --> {0.25}", "−1/x²", OUT, 0.5,
          2),
    UNARY(sin, FORMULA, "sin(x)", "The sine of x in radians, elementwise.", "nb.sin(nb.tensor{0})  --> {0}", "cos(x)",
          IN, 0, 0),
    UNARY(cos, FORMULA, "cos(x)", "The cosine of x in radians, elementwise.", "nb.cos(nb.tensor{0})  --> {1}",
          "−sin(x)", IN, 0, 0),
    UNARY(tan, FORMULA, "tan(x)", "The tangent of x in radians, elementwise.", "nb.tan(nb.tensor{0})  --> {0}",
          "1 + tan(x)²", OUT, -1, 1),
    UNARY(asin, FORMULA, "asin(x)", "The arc sine in radians, elementwise.", "nb.asin(nb.tensor{1})  --> {1.5708}",
          "1/√(1 − x²)", IN, -0.8, 0.8),
    UNARY(acos, FORMULA, "acos(x)", "The arc cosine in radians, elementwise.", "nb.acos(nb.tensor{1})  --> {0}",
          "−1/√(1 − x²)", IN, -0.8, 0.8),
    UNARY(atan, FORMULA, "atan(x)", "The arc tangent in radians, elementwise.", "nb.atan(nb.tensor{1})  --> {0.785398}",
          "1/(1 + x²)", IN, 0, 0),
    UNARY(sinh, FORMULA, "sinh(x)", "The hyperbolic sine, elementwise.", "nb.sinh(nb.tensor{0})  --> {0}", "cosh(x)",
          IN, 0, 0),
    UNARY(cosh, FORMULA, "cosh(x)", "The hyperbolic cosine, elementwise.", "nb.cosh(nb.tensor{0})  --> {1}", "sinh(x)",
          IN, 0, 0),
    UNARY(erf, FORMULA, "erf(x)", "The error function, elementwise.", "nb.erf(nb.tensor{0})  --> {0}", "2/√π·e^(−x²)",
          IN, 0, 0),
    {.name = "sign",
     .doc = "−1, 0 or 1, elementwise.",
     .example = "nb.sign(nb.tensor{-3, 0, 2})  --> {-1, 0, 1}",
     .no_grad = "it is piecewise constant",
     .params = {TENSOR("x")},
     .inplace = true,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .narrow = true,
     .stays_mask = true,
     .loops = {[NB_BOOL] = whole_u8, [NB_U8] = sign_u8, [NB_I64] = sign_i64, [NB_F32] = sign_f32, [NB_F64] = sign_f64}},
    STEP(floor, "The largest whole number that is not above x.", "nb.floor(nb.tensor{-1.5, 1.5})  --> {-2, 1}"),
    STEP(ceil, "The smallest whole number that is not below x.", "nb.ceil(nb.tensor{-1.5, 1.5})  --> {-1, 2}"),
    STEP(round, "The nearest whole number; halves go to the even one.", "nb.round(nb.tensor{0.5, 1.5})  --> {0, 2}"),
    TEST(isnan, "Where x is not a number, as a mask.", "nb.isnan(nb.tensor{0/0, 1})  --> {true, false}"),
    TEST(isinf, "Where x is infinite, as a mask.", "nb.isinf(nb.tensor{1/0, 1})  --> {true, false}"),
    TEST(isfinite, "Where x is neither infinite nor NaN, as a mask.",
         "nb.isfinite(nb.tensor{1/0, 1})  --> {false, true}"),
    {.name = "clamp",
     .doc =
         "x limited to the range from min to max, numbers or tensors, which broadcast; where min exceeds max the "
         "result is max.  Just at a limit the gradient is 0 if that is a number, and half x's, half the limit's if it "
         "is a tensor.",
     .example = "nb.clamp(nb.tensor{-5, 0.5, 5}, 0, 1)  --> {0, 0.5, 1}",
     .derivative = "∂/∂x = 1[min < x < max], ∂/∂min = 1[x < min], ∂/∂max = 1[x > max]",
     .sample = {.args = "f(3,4), -10, 10; f(3,4,{lo=2,hi=3}), 0, 1; f(3,4), {min=-3}; f(3,4), f(4,{lo=-1,hi=0}), "
                        "f(3,1,{lo=0,hi=1}); f(2,3,4), f(3,1), f(4); f(3,4), {max=f()}"},
     .params = {TENSOR("x"), OPTIONAL_PLAIN("min", -INFINITY), OPTIONAL_PLAIN("max", INFINITY)},
     .inplace = true,
     .narrow = true,
     .saves = IN | NB_SAVE_IN(1) | NB_SAVE_IN(2),
     .shape = shape_clamp,
     .forward = nb_forward_elementwise,
     .backward = clamp_backward,
     .stays_mask = true,
     .loops =
         {[NB_BOOL] = clamp_u8, [NB_U8] = clamp_u8, [NB_I64] = clamp_i64, [NB_F32] = clamp_f32, [NB_F64] = clamp_f64}},
    {.name = "where",
     .doc = "x where the mask is true, else y; elementwise with broadcasting.  Both are computed before, so a gradient "
            "that is infinite or NaN in the one not taken makes NaN of 0: in nb.where(x:gt(0), x:log(), 0) guard the "
            "argument too, nb.where(x:gt(0), x, 1):log().",
     .example = "nb.where(nb.tensor{true, false}, 1, nb.tensor{5, 6})  --> {1, 6}",
     .derivative = "∂/∂x = 1[mask], ∂/∂y = 1[not mask]",
     .sample = {.args = "m(3,4), f(3,4), f(3,4); m(3,1), f(4), 2"},
     .role = NB_ROLE_PART,
     .params = {MASK("mask"), OPERAND("x"), OPERAND("y")},
     .saves = IN,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = where_backward,
     .loops = {[NB_BOOL] = where_8, [NB_U8] = where_8, [NB_I64] = where_64, [NB_F32] = where_32, [NB_F64] = where_64}},
};
const OpFamily ops_math = {"Elementwise functions", ops, COUNT(ops)};
