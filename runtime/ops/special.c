// SPDX-License-Identifier: MIT
// Operators: further elementwise functions: logarithms and powers of 2 and 10, inverse hyperbolic ones, those of
// statistics, mixtures of two and three operands.
#include "special.h"

#include <math.h>

#include "loops.h"
#include "put.h"

#define LN2 0.69314718055994530942
#define LN10 2.30258509299404568402
#define PI 3.14159265358979323846

#define IN NB_SAVE_IN(0)
#define OUT NB_SAVE_OUT(0)
#define BOTH (NB_SAVE_IN(0) | NB_SAVE_IN(1))

// Loops of calls to libm, which no vectors make faster: once, and small.
#define PLAIN_UNARY(name, In, Out, expr)                                                                     \
  static void name(int64_t n, char *const *p, const int64_t *s, __attribute__((unused)) const Value *args) { \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      In x = *(const In *)(p[1] + i * s[1]);                                                                 \
      *(Out *)(p[0] + i * s[0]) = (Out)(expr);                                                               \
    }                                                                                                        \
  }
#define PLAIN_BINARY(name, In, Out, expr)                                                                    \
  static void name(int64_t n, char *const *p, const int64_t *s, __attribute__((unused)) const Value *args) { \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      In x = *(const In *)(p[1] + i * s[1]), y = *(const In *)(p[2] + i * s[2]);                             \
      *(Out *)(p[0] + i * s[0]) = (Out)(expr);                                                               \
    }                                                                                                        \
  }
#define PLAIN_UNARY_FLOATS(name, f32_expr, f64_expr) \
  PLAIN_UNARY(name##_f32, float, float, f32_expr)    \
  PLAIN_UNARY(name##_f64, double, double, f64_expr)
#define PLAIN_BINARY_FLOATS(name, f32_expr, f64_expr) \
  PLAIN_BINARY(name##_f32, float, float, f32_expr)    \
  PLAIN_BINARY(name##_f64, double, double, f64_expr)

// ---- of one number ----

PLAIN_UNARY_FLOATS(log2, log2f(x), log2(x))
PLAIN_UNARY_FLOATS(log10, log10f(x), log10(x))
PLAIN_UNARY_FLOATS(exp2, exp2f(x), exp2(x))
PLAIN_UNARY_FLOATS(asinh, asinhf(x), asinh(x))
PLAIN_UNARY_FLOATS(acosh, acoshf(x), acosh(x))
PLAIN_UNARY_FLOATS(atanh, atanhf(x), atanh(x))
PLAIN_UNARY_FLOATS(erfc, erfcf(x), erfc(x))
PLAIN_UNARY_FLOATS(erfinv, (float)special_erfinv((double)x), special_erfinv(x))
PLAIN_UNARY_FLOATS(lgamma, (float)special_lgamma((double)x), special_lgamma(x))
PLAIN_UNARY_FLOATS(digamma, (float)special_digamma((double)x), special_digamma(x))
PLAIN_UNARY_FLOATS(polygamma, (float)special_polygamma((int)args[1].integer, (double)x),
                   special_polygamma((int)args[1].integer, x))
NB_UNARY_FLOATS(deg2rad, x *(float)(PI / 180), x *(PI / 180))
NB_UNARY_FLOATS(rad2deg, x *(float)(180 / PI), x *(180 / PI))

static inline double sinc_one(double x) {
  return x == 0 ? 1 : sin(PI * x) / (PI * x);
}
PLAIN_UNARY_FLOATS(sinc, (float)sinc_one((double)x), sinc_one(x))

#define NO_EPS (-1)

// log(x/(1 − x)), of x within eps..1 − eps where there is an eps.
static inline double logit_one(double x, double eps) {
  if (eps >= 0) x = x < eps ? eps : x > 1 - eps ? 1 - eps : x;
  return log(x / (1 - x));
}
PLAIN_UNARY_FLOATS(logit, (float)logit_one((double)x, args[1].number), logit_one(x, args[1].number))

NB_UNARY_FLOATS(trunc, truncf(x), trunc(x))
NB_UNARY(trunc_i64, int64_t, int64_t, x)
NB_UNARY(trunc_u8, uint8_t, uint8_t, x)
NB_UNARY(same_i64, int64_t, int64_t, x)
NB_UNARY(same_u8, uint8_t, uint8_t, x)
NB_UNARY_FLOATS(frac, x - truncf(x), x - trunc(x))
NB_UNARY(signbit_f32, float, uint8_t, signbit(x) != 0)
NB_UNARY(signbit_f64, double, uint8_t, signbit(x) != 0)
NB_UNARY(signbit_i64, int64_t, uint8_t, x < 0)
NB_UNARY(signbit_u8, uint8_t, uint8_t, 0 * x)

#define NAN_TO_NUM(name, T, most)                                                     \
  static inline T name##_one(T x, const Value *args) {                                \
    double high = args[2].number, low = args[3].number;                               \
    if (x != x) return (T)args[1].number;                                             \
    if (!isinf(x)) return x;                                                          \
    return x > 0 ? (high != high ? most : (T)high) : (low != low ? -(most) : (T)low); \
  }                                                                                   \
  PLAIN_UNARY(name, T, T, name##_one(x, args))
NAN_TO_NUM(nan_to_num_f32, float, 3.40282346638528859812e+38f)
NAN_TO_NUM(nan_to_num_f64, double, 1.79769313486231570815e+308)

// ---- of two numbers ----

static inline double logaddexp_one(double x, double y) {
  return x == y && isinf(x) ? x : x != x || y != y ? x + y : fmax(x, y) + log1p(exp(-fabs(x - y)));
}
static inline double logaddexp2_one(double x, double y) {
  return x == y && isinf(x) ? x : x != x || y != y ? x + y : fmax(x, y) + log1p(exp2(-fabs(x - y))) / LN2;
}
PLAIN_BINARY_FLOATS(logaddexp, (float)logaddexp_one((double)x, (double)y), logaddexp_one(x, y))
PLAIN_BINARY_FLOATS(logaddexp2, (float)logaddexp2_one((double)x, (double)y), logaddexp2_one(x, y))
PLAIN_BINARY_FLOATS(hypot, hypotf(x, y), hypot(x, y))
NB_BINARY_FLOATS(copysign, copysignf(x, y), copysign(x, y))
PLAIN_BINARY_FLOATS(fmod, fmodf(x, y), fmod(x, y))
PLAIN_BINARY(fmod_i64, int64_t, int64_t, y == 0 || y == -1 ? 0 : x % y)
PLAIN_BINARY(fmod_u8, uint8_t, uint8_t, y ? x % y : 0)
NB_BINARY_FLOATS(heaviside, x == 0 ? y : (float)(x > 0), x == 0 ? y : (double)(x > 0))
NB_BINARY(heaviside_i64, int64_t, int64_t, x == 0 ? y : x > 0)
NB_BINARY(heaviside_u8, uint8_t, uint8_t, x == 0 ? y : x > 0)
PLAIN_BINARY_FLOATS(xlogy, y != y ? y : x == 0 ? 0 : x * logf(y), y != y ? y : x == 0 ? 0 : x * log(y))

static inline uint8_t is_close(double x, double y, const Value *args) {
  if (x == y) return 1;
  if (x != x || y != y) return x != x && y != y && args[4].flag;
  return !isinf(x) && !isinf(y) && fabs(x - y) <= args[3].number + fabs(args[2].number * y);
}
PLAIN_BINARY(isclose_f32, float, uint8_t, is_close((double)x, (double)y, args))
PLAIN_BINARY(isclose_f64, double, uint8_t, is_close(x, y, args))
// The distance of whole numbers is exact, also where they are more than doubles hold.
static inline uint8_t is_close_whole(int64_t x, int64_t y, const Value *args) {
  uint64_t apart = x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
  return apart == 0 || (double)apart <= args[3].number + fabs(args[2].number * (double)y);
}
PLAIN_BINARY(isclose_i64, int64_t, uint8_t, is_close_whole(x, y, args))
PLAIN_BINARY(isclose_u8, uint8_t, uint8_t, is_close(x, y, args))

// ---- of three numbers ----

#define TERNARY(name, T, expr)                                                                                         \
  NB_LOOP(name) {                                                                                                      \
    const int64_t w = (int64_t)sizeof(T);                                                                              \
    if (s[0] == w && s[1] == w && s[2] == w && s[3] == w) {                                                            \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                                                       \
        const T x = ((const T *)p[1])[i], y = ((const T *)p[2])[i], z = ((const T *)p[3])[i];                          \
        ((T *)p[0])[i] = (T)(expr);                                                                                    \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      const T x = *(const T *)(p[1] + i * s[1]), y = *(const T *)(p[2] + i * s[2]), z = *(const T *)(p[3] + i * s[3]); \
      *(T *)(p[0] + i * s[0]) = (T)(expr);                                                                             \
    }                                                                                                                  \
  }
// From the nearer end, so that both are met exactly.
TERNARY(lerp_f32, float, z < 0.5f ? x + z * (y - x) : y - (y - x) * (1 - z))
TERNARY(lerp_f64, double, z < 0.5 ? x + z * (y - x) : y - (y - x) * (1 - z))
TERNARY(addcmul_f32, float, x + (float)args[3].number * y * z)
TERNARY(addcmul_f64, double, x + args[3].number * y * z)
TERNARY(addcmul_i64, int64_t, (uint64_t)x + (uint64_t)nb_whole(&args[3]) * (uint64_t)y * (uint64_t)z)
TERNARY(addcmul_u8, uint8_t, x + (unsigned)nb_whole(&args[3]) * y * z)
TERNARY(addcdiv_f32, float, x + (float)args[3].number * (y / z))
TERNARY(addcdiv_f64, double, x + args[3].number * (y / z))

// ---- backward ----

static Tensor *zero_of(Scope *s, const Tensor *like) {
  return like ? nb_number(s, 0, like->layout.dtype) : NULL;
}

static Tensor *one_of(Scope *s, const Tensor *like) {
  return like ? nb_number(s, 1, like->layout.dtype) : NULL;
}

// δ·slope
static bool give_slope(Backward *b, int i, Tensor *slope) {
  return nb_give(b, i, nb_mul(b->scope, b->grad[0], slope));
}

static bool scaled(Backward *b, double factor) {
  return nb_give(b, 0, nb_muln(b->scope, b->grad[0], factor));
}

static bool log2_backward(Backward *b) {
  return nb_give(b, 0, nb_div(b->scope, b->grad[0], nb_muln(b->scope, nb_in(b, 0), LN2)));
}

static bool log10_backward(Backward *b) {
  return nb_give(b, 0, nb_div(b->scope, b->grad[0], nb_muln(b->scope, nb_in(b, 0), LN10)));
}

static bool exp2_backward(Backward *b) {
  return give_slope(b, 0, nb_muln(b->scope, nb_out(b, 0), LN2));
}

static bool asinh_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return give_slope(b, 0, nb_unary(s, "rsqrt", nb_addn(s, nb_mul(s, x, x), 1)));
}

// √(x − 1)·√(x + 1), whose square could be too large
static bool acosh_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return give_slope(b, 0, nb_unary(s, "rsqrt", nb_addn(s, nb_mul(s, x, x), -1)));
}

static bool atanh_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return nb_give(b, 0, nb_div(s, b->grad[0], nb_rsub(s, 1, nb_mul(s, x, x))));
}

static bool erfc_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0);
  return give_slope(b, 0, nb_muln(s, nb_unary(s, "exp", nb_neg(s, nb_mul(s, x, x))), -2 / sqrt(PI)));
}

static bool erfinv_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_out(b, 0);
  return give_slope(b, 0, nb_muln(s, nb_unary(s, "exp", nb_mul(s, y, y)), sqrt(PI) / 2));
}

static bool lgamma_backward(Backward *b) {
  return give_slope(b, 0, nb_unary(b->scope, "digamma", nb_in(b, 0)));
}

static Tensor *polygamma(Scope *s, Tensor *x, int64_t n) {
  return x ? nb_op(s, "polygamma", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.integer = n}}) : NULL;
}

static bool digamma_backward(Backward *b) {
  return give_slope(b, 0, polygamma(b->scope, nb_in(b, 0), 1));
}

static bool polygamma_backward(Backward *b) {
  return give_slope(b, 0, polygamma(b->scope, nb_in(b, 0), nb_arg(b, 1)->integer + 1));
}

static bool deg2rad_backward(Backward *b) {
  return scaled(b, PI / 180);
}

static bool rad2deg_backward(Backward *b) {
  return scaled(b, 180 / PI);
}

// (cos πx − sinc x)/x, whose terms cancel near 0: there its series, Σ (−1)^k·π^2k·2k/(2k + 1)!·x^(2k − 1).
static bool sinc_backward(Backward *b) {
  enum { LAST = 9 };
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *square = nb_mul(s, x, x);
  double factor[LAST + 1], power = 1;
  for (int k = 1; k <= LAST; k++) {
    power *= -PI * PI / ((2.0 * k) * (2 * k + 1));
    factor[k] = power * 2 * k;
  }
  Tensor *near = square ? nb_number(s, factor[LAST], square->layout.dtype) : NULL;
  for (int k = LAST - 1; k > 0; k--) near = nb_addn(s, nb_mul(s, near, square), factor[k]);
  near = nb_mul(s, near, x);
  Tensor *is_near = x ? nb_binary(s, "lt", square, nb_number(s, 0.16, x->layout.dtype)) : NULL;
  Tensor *safe = nb_where(s, is_near, one_of(s, x), x), *turns = nb_muln(s, safe, PI);
  Tensor *value = nb_div(s, nb_unary(s, "sin", turns), turns);
  Tensor *slope = nb_div(s, nb_sub(s, nb_unary(s, "cos", turns), value), safe);
  return give_slope(b, 0, nb_where(s, is_near, near, slope));
}

// 1/(x(1 − x)), which is NaN where the value is: outside of 0..1; where eps cuts x off it is 0.
static bool logit_backward(Backward *b) {
  Scope *s = b->scope;
  double eps = nb_arg(b, 1)->number;
  Tensor *x = nb_in(b, 0), *g = b->grad[0];
  double least = eps < 0 ? 0 : eps;
  Tensor *low = nb_binary(s, "lt", x, nb_number(s, least, g->layout.dtype));
  Tensor *high = nb_binary(s, "gt", x, nb_number(s, 1 - least, g->layout.dtype));
  Tensor *off = nb_binary(s, "logical_or", low, high), *safe = nb_where(s, off, nb_number(s, 0.5, g->layout.dtype), x);
  Tensor *outside = nb_number(s, eps < 0 ? NAN : 0, g->layout.dtype);
  return nb_give(b, 0, nb_where(s, off, outside, nb_div(s, g, nb_mul(s, safe, nb_rsub(s, 1, safe)))));
}

static bool shape_logit(Call *c, Error *err) {
  double eps = c->args[1].number;
  if (eps > 1 || eps != eps || (eps < 0 && eps != NO_EPS))
    return nb_fail(err, NB_ERROR_ARGUMENT, "eps must be a number from 0 to 1, got %g", eps);
  return nb_shape_unary_float(c, err);
}

static bool shape_polygamma(Call *c, Error *err) {
  int64_t n = c->args[1].integer;
  if (n < 1 || n > 60)
    return nb_fail(err, NB_ERROR_ARGUMENT, "n must be a whole number from 1 to 60 (digamma is the 0th), got %lld",
                   (long long)n);
  return nb_shape_unary_float(c, err);
}

static bool frac_backward(Backward *b) {
  return nb_give(b, 0, b->grad[0]);
}

static bool nan_to_num_backward(Backward *b) {
  Scope *s = b->scope;
  return nb_give(b, 0, nb_where(s, nb_unary(s, "isfinite", nb_in(b, 0)), b->grad[0], zero_of(s, b->grad[0])));
}

// σ of the difference, to each from the other.
static bool share_by_sigmoid(Backward *b, double scale) {
  Scope *s = b->scope;
  Tensor *off = nb_sub(s, nb_in(b, 0), nb_in(b, 1));
  if (scale != 1) off = nb_muln(s, off, scale);
  if (nb_wants(b, 0) && !give_slope(b, 0, nb_unary(s, "sigmoid", off))) return false;
  return !nb_wants(b, 1) || give_slope(b, 1, nb_unary(s, "sigmoid", nb_neg(s, off)));
}

static bool logaddexp_backward(Backward *b) {
  return share_by_sigmoid(b, 1);
}

static bool logaddexp2_backward(Backward *b) {
  return share_by_sigmoid(b, LN2);
}

// x/√(x² + y²), and 0 at the origin, in every order.
static bool hypot_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_in(b, 1), *r = nb_out(b, 0), *g = b->grad[0];
  if (!r) return false;
  if (nb_may_hold_zero(r)) {
    Tensor *zero = zero_of(s, r), *origin = nb_binary(s, "eq", r, zero);
    g = nb_where(s, origin, zero, g);
    r = nb_where(s, origin, one_of(s, r), r);
  }
  g = nb_div(s, g, r);
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_mul(s, g, x))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_mul(s, g, y));
}

// The sign that x got by its own, and 0 where x is 0.
static bool copysign_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_in(b, 1), *g = b->grad[0];
  if (nb_wants(b, 1) && !nb_give(b, 1, nb_full(s, &y->layout, 0))) return false;
  if (!nb_wants(b, 0)) return true;
  Tensor *turned = nb_binary(s, "copysign", one_of(s, g), y);
  return nb_give(b, 0, nb_mul(s, g, nb_mul(s, nb_unary(s, "sign", nb_in(b, 0)), turned)));
}

static bool fmod_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, g)) return false;
  if (!nb_wants(b, 1)) return true;
  Tensor *turns = nb_unary(s, "trunc", nb_div(s, nb_in(b, 0), nb_in(b, 1)));
  return nb_give(b, 1, nb_neg(s, nb_mul(s, g, turns)));
}

// log y, which is taken as 0 where x is 0 and y no logarithm has; x/y.
static bool xlogy_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_in(b, 1), *zero = zero_of(s, x);
  if (nb_wants(b, 0)) {
    Tensor *flat = nb_binary(s, "logical_and", nb_binary(s, "eq", x, zero), nb_binary(s, "le", y, zero));
    if (!give_slope(b, 0, nb_unary(s, "log", nb_where(s, flat, one_of(s, y), y)))) return false;
  }
  return !nb_wants(b, 1) || give_slope(b, 1, nb_div(s, x, y));
}

static bool lerp_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *w = nb_in(b, 2);
  if (nb_wants(b, 0) && !give_slope(b, 0, nb_rsub(s, 1, w))) return false;
  if (nb_wants(b, 1) && !give_slope(b, 1, w)) return false;
  return !nb_wants(b, 2) || give_slope(b, 2, nb_sub(s, nb_in(b, 1), nb_in(b, 0)));
}

static Tensor *valued(Backward *b) {
  double value = nb_arg(b, 3)->number;
  return value == 1 ? b->grad[0] : nb_muln(b->scope, b->grad[0], value);
}

static bool addcmul_backward(Backward *b) {
  Scope *s = b->scope;
  if (nb_wants(b, 0) && !nb_give(b, 0, b->grad[0])) return false;
  if (!nb_wants(b, 1) && !nb_wants(b, 2)) return true;
  Tensor *g = valued(b);
  if (nb_wants(b, 1) && !nb_give(b, 1, nb_mul(s, g, nb_in(b, 2)))) return false;
  return !nb_wants(b, 2) || nb_give(b, 2, nb_mul(s, g, nb_in(b, 1)));
}

static bool addcdiv_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *z = nb_in(b, 2);
  if (nb_wants(b, 0) && !nb_give(b, 0, b->grad[0])) return false;
  if (!nb_wants(b, 1) && !nb_wants(b, 2)) return true;
  Tensor *g = nb_div(s, valued(b), z);
  if (nb_wants(b, 1) && !nb_give(b, 1, g)) return false;
  return !nb_wants(b, 2) || nb_give(b, 2, nb_neg(s, nb_mul(s, g, nb_div(s, nb_in(b, 1), z))));
}

// Whole numbers take a whole number of their dtype as value.
static bool shape_addcmul(Call *c, Error *err) {
  if (!nb_shape_elementwise(c, err)) return false;
  return nb_dtype_is_float(c->compute) || nb_check_number(&c->args[3], c->compute, err);
}

static bool shape_test(Call *c, Error *err) {
  if (!nb_shape_unary(c, err)) return false;
  c->layout[0].dtype = NB_BOOL;
  return true;
}

static bool fmod_forward(Call *c, Error *err) {
  if (!nb_dtype_is_float(c->compute)) {
    Scope s;
    nb_scope_open(&s, err);
    Tensor *all = nb_op(&s, "all", (Value[NB_MAX_PARAMS]){{.tensor = c->args[1].tensor}, {.ints = {NULL, -1}}});
    bool ok = all && (nb_tensor_get(all, 0) != 0 ||
                      nb_fail(err, NB_ERROR_ARGUMENT,
                              "division of whole numbers by zero; convert with :to(\"f32\") for a NaN"));
    nb_scope_close(&s);
    if (!ok) return false;
  }
  return nb_forward_elementwise(c, err);
}

#define UNARY(NAME, DOC, EXAMPLE, DERIVATIVE, SAVES, LO, HI)                                                 \
  {                                                                                                          \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .derivative = DERIVATIVE, .sample = {.lo = LO, .hi = HI}, \
    .params = {TENSOR("x")}, .inplace = true, .saves = SAVES, .shape = nb_shape_unary_float,                 \
    .forward = nb_forward_elementwise, .backward = NAME##_backward, .loops = NB_FLOAT_LOOPS(NAME)            \
  }

#define BINARY(NAME, DOC, EXAMPLE, DERIVATIVE, SAVES, LO, HI)                                                     \
  {                                                                                                               \
    .name = #NAME, .doc = DOC, .example = EXAMPLE, .derivative = DERIVATIVE, .sample = {.lo = LO, .hi = HI},      \
    .params = {OPERAND("x"), OPERAND("y")}, .inplace = true, .saves = SAVES, .shape = nb_shape_elementwise_float, \
    .forward = nb_forward_elementwise, .backward = NAME##_backward, .loops = NB_FLOAT_LOOPS(NAME)                 \
  }

#define WHOLE_LOOPS(NAME) \
  { [NB_U8] = NAME##_u8, [NB_I64] = NAME##_i64, [NB_F32] = NAME##_f32, [NB_F64] = NAME##_f64 }

static const Op ops[] = {
    UNARY(log2, "The logarithm to base 2, elementwise.", "nb.log2(nb.tensor{8})  --> {3}", "1/(x·ln 2)", IN, 0.3, 3),
    UNARY(log10, "The logarithm to base 10, elementwise.", "nb.log10(nb.tensor{1000})  --> {3}", "1/(x·ln 10)", IN, 0.3,
          3),
    UNARY(exp2, "2 to the power of x, elementwise.", "nb.exp2(nb.tensor{3})  --> {8}", "2^x·ln 2", OUT, 0, 0),
    UNARY(asinh, "The inverse hyperbolic sine, elementwise.", "nb.asinh(nb.tensor{0, 1})  --> {0, 0.881374}",
          "1/√(x² + 1)", IN, 0, 0),
    UNARY(acosh, "The inverse hyperbolic cosine, elementwise; NaN below 1.",
          "nb.acosh(nb.tensor{1, 2})  --> {0, 1.31696}", "1/√(x² − 1)", IN, 1.2, 3),
    UNARY(atanh, "The inverse hyperbolic tangent, elementwise; NaN outside of −1..1.",
          "nb.atanh(nb.tensor{0, 0.5})  --> {0, 0.549306}", "1/(1 − x²)", IN, -0.8, 0.8),
    UNARY(erfc, "1 − erf(x) without cancellation, elementwise.", "nb.erfc(nb.tensor{0})  --> {1}", "−2/√π·e^(−x²)", IN,
          0, 0),
    UNARY(erfinv, "The x whose erf is y, elementwise; NaN outside of −1..1.",
          "nb.erfinv(nb.tensor{0.5}):erf()  --> {0.5}", "√π/2·e^(erfinv(x)²)", OUT, -0.8, 0.8),
    UNARY(lgamma, "log |Γ(x)|, elementwise: of whole numbers log (x − 1)!.", "nb.lgamma(nb.tensor{4}):exp()  --> {6}",
          "digamma(x)", IN, 0.5, 3),
    UNARY(digamma, "ψ(x), the derivative of log Γ(x), elementwise.", "nb.digamma(nb.tensor{1})  --> {-0.577216}",
          "ψ'(x)", IN, 0.5, 3),
    {.name = "polygamma",
     .doc = "ψ⁽ⁿ⁾(x), the nth derivative of digamma, elementwise.  PyTorch takes n first, here it follows.",
     .example = "nb.polygamma(nb.tensor{1}, 1)  --> {1.644934}",
     .derivative = "polygamma(x, n + 1)",
     .sample = {.lo = 0.5, .hi = 3, .args = "f(3,4); f(3,4), 2"},
     .params = {TENSOR("x"), {.name = "n", .kind = NB_PARAM_INT, .optional = true, .fallback = 1}},
     .inplace = true,
     .saves = IN,
     .shape = shape_polygamma,
     .forward = nb_forward_elementwise,
     .backward = polygamma_backward,
     .loops = NB_FLOAT_LOOPS(polygamma)},
    UNARY(sinc, "sin(πx)/(πx), elementwise, and 1 at 0.", "nb.sinc(nb.tensor{0, 0.5})  --> {1, 0.63662}",
          "(cos(πx) − sinc(x))/x", IN, 0.3, 2),
    {.name = "logit",
     .doc = "log(x/(1 − x)), the inverse of sigmoid, elementwise; with eps of x limited to eps..1 − eps.",
     .example = "nb.logit(nb.tensor{0.5, 0.9})  --> {0, 2.19722}",
     .derivative = "1/(x·(1 − x))",
     .sample = {.lo = 0.2, .hi = 0.8, .args = "f(3,4); f(3,4), 0.1; f(3,4,{lo=0,hi=0.05}), {eps=0.1}"},
     .params = {TENSOR("x"), OPTIONAL_NUMBER("eps", NO_EPS)},
     .inplace = true,
     .saves = IN,
     .shape = shape_logit,
     .forward = nb_forward_elementwise,
     .backward = logit_backward,
     .loops = NB_FLOAT_LOOPS(logit)},
    UNARY(deg2rad, "Degrees in radians, elementwise.", "nb.deg2rad(nb.tensor{180})  --> {3.14159}", "π/180", 0, 0, 0),
    UNARY(rad2deg, "Radians in degrees, elementwise.", "nb.rad2deg(nb.tensor{math.pi})  --> {180}", "180/π", 0, 0, 0),
    {.name = "trunc",
     .doc = "x without its fraction: rounded towards 0, elementwise.",
     .example = "nb.trunc(nb.tensor{-1.5, 1.5})  --> {-1, 1}",
     .no_grad = "it is piecewise constant",
     .params = {TENSOR("x")},
     .inplace = true,
     .narrow = true,
     .stays_mask = true,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .loops =
         {[NB_BOOL] = trunc_u8, [NB_U8] = trunc_u8, [NB_I64] = trunc_i64, [NB_F32] = trunc_f32, [NB_F64] = trunc_f64}},
    {.name = "frac",
     .doc = "The fraction of x with its sign, x − trunc(x), elementwise.",
     .example = "nb.frac(nb.tensor{-1.5, 2.25})  --> {-0.5, 0.25}",
     .derivative = "1",
     .sample = {.args = "f(3,4,{lo=0.1,hi=0.9}); f(3,4,{lo=-1.9,hi=-1.1})"},
     .role = NB_ROLE_FORMULA,
     .formula = "frac(x)",
     .params = {TENSOR("x")},
     .inplace = true,
     .shape = nb_shape_unary_float,
     .forward = nb_forward_elementwise,
     .backward = frac_backward,
     .loops = NB_FLOAT_LOOPS(frac)},
    {.name = "signbit",
     .doc = "Where x is below 0 or −0, as a mask.",
     .example = "nb.signbit(nb.tensor{-1, 0, 1})  --> {true, false, false}",
     .no_grad = "a mask is not a number",
     .role = NB_ROLE_TEST,
     .params = {TENSOR("x")},
     .shape = shape_test,
     .forward = nb_forward_elementwise,
     .loops = {[NB_BOOL] = signbit_u8,
               [NB_U8] = signbit_u8,
               [NB_I64] = signbit_i64,
               [NB_F32] = signbit_f32,
               [NB_F64] = signbit_f64}},
    {.name = "nan_to_num",
     .doc = "x with numbers in place of NaN and the infinities: nan (0), posinf and neginf (the largest numbers of the "
            "dtype).",
     .example = "nb.nan_to_num(nb.tensor{0/0, 1/0, 3}, {posinf=9})  --> {0, 9, 3}",
     .derivative = "1, and 0 where x was none",
     .sample = {.args = "f(3,4); f(3,4), 1, 2, -2"},
     .role = NB_ROLE_PART,
     .symbol = "nanToNum",
     .params = {TENSOR("x"), OPTIONAL_NUMBER("nan", 0), OPTIONAL_NUMBER("posinf", (double)NAN),
                OPTIONAL_NUMBER("neginf", (double)NAN)},
     .inplace = true,
     .saves = IN,
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = nan_to_num_backward,
     .loops = {[NB_BOOL] = same_u8,
               [NB_U8] = same_u8,
               [NB_I64] = same_i64,
               [NB_F32] = nan_to_num_f32,
               [NB_F64] = nan_to_num_f64}},
    BINARY(logaddexp, "log(e^x + e^y) without overflow, elementwise with broadcasting.",
           "nb.logaddexp(nb.tensor{1000}, 1000)  --> {1000.693}", "∂/∂x = σ(x − y), ∂/∂y = σ(y − x)", BOTH, 0, 0),
    BINARY(logaddexp2, "log₂(2^x + 2^y) without overflow, elementwise with broadcasting.",
           "nb.logaddexp2(nb.tensor{3}, 3)  --> {4}", "∂/∂x = 1/(1 + 2^(y − x)), ∂/∂y = 1/(1 + 2^(x − y))", BOTH, 0, 0),
    BINARY(hypot, "√(x² + y²) without overflow, elementwise with broadcasting; at the origin the gradient is 0.",
           "nb.hypot(nb.tensor{3}, 4)  --> {5}", "∂/∂x = x/hypot(x, y), ∂/∂y = y/hypot(x, y)", BOTH | OUT, 0.5, 2),
    {.name = "copysign",
     .doc = "|x| with y's sign, that of −0 too, elementwise with broadcasting.",
     .example = "nb.copysign(nb.tensor{1, -2}, nb.tensor{-1, 1})  --> {-1, 2}",
     .derivative = "∂/∂x = 1 where it kept its sign and −1 where not, ∂/∂y = 0",
     .sample = {.lo = 0.1, .hi = 2},
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = copysign_backward,
     .loops = NB_FLOAT_LOOPS(copysign)},
    {.name = "fmod",
     .doc = "The remainder x − y·trunc(x/y), with x's sign as C's fmod; mod has y's.",
     .example = "nb.fmod(nb.tensor{-5, 5}, 3)  --> {-2, 2}",
     .derivative = "∂/∂x = 1, ∂/∂y = −trunc(x/y)",
     .sample = {.args = "f(3,4), 0.75; f(3,4), f(3,4,{lo=5,hi=6})"},
     .role = NB_ROLE_FORMULA,
     .formula = "fmod(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = fmod_forward,
     .backward = fmod_backward,
     .narrow = true,
     .loops = WHOLE_LOOPS(fmod)},
    {.name = "heaviside",
     .doc = "0 where x is below 0, 1 where it is above, and y where it is 0.",
     .example = "nb.heaviside(nb.tensor{-2, 0, 2}, 0.5)  --> {0, 0.5, 1}",
     .no_grad = "it is piecewise constant",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .loops = {[NB_BOOL] = heaviside_u8,
               [NB_U8] = heaviside_u8,
               [NB_I64] = heaviside_i64,
               [NB_F32] = heaviside_f32,
               [NB_F64] = heaviside_f64}},
    BINARY(xlogy, "x·log(y), and 0 where x is 0, elementwise with broadcasting.",
           "nb.xlogy(nb.tensor{0, 2}, nb.tensor{0, 1})  --> {0, 0}", "∂/∂x = log(y), ∂/∂y = x/y", BOTH, 0.5, 2),
    {.name = "isclose",
     .doc = "Where |x − y| ≤ atol + rtol·|y|, as a mask; equal infinities are close, and NaN is to NaN with equal_nan.",
     .example = "nb.isclose(nb.tensor{1, 2}, nb.tensor{1 + 1e-7, 2.1})  --> {true, false}",
     .no_grad = "a mask is not a number",
     .sample = {.args = "f(3,4), f(3,4); f(3,1), f(4), {rtol=0.5}"},
     .role = NB_ROLE_TEST,
     .params = {OPERAND("x"), OPERAND("y"), NAMED_NUMBER("rtol", 1e-5), NAMED_NUMBER("atol", 1e-8),
                NAMED_FLAG("equal_nan")},
     .compares = true,
     .shape = nb_shape_compare,
     .forward = nb_forward_elementwise,
     .loops = {[NB_BOOL] = isclose_u8,
               [NB_U8] = isclose_u8,
               [NB_I64] = isclose_i64,
               [NB_F32] = isclose_f32,
               [NB_F64] = isclose_f64}},
    {.name = "lerp",
     .doc = "x + weight·(y − x), elementwise with broadcasting: from x (weight 0) to y (weight 1).",
     .example = "nb.lerp(nb.tensor{0, 10}, nb.tensor{10, 20}, 0.25)  --> {2.5, 12.5}",
     .derivative = "∂/∂x = 1 − weight, ∂/∂y = weight, ∂/∂weight = y − x",
     .sample = {.args = "f(3,4), f(3,4), 0.3; f(2,3,4), f(3,1), f(4)"},
     .role = NB_ROLE_FORMULA,
     .formula = "lerp(x, y, weight)",
     .params = {TENSOR("x"), OPERAND("y"), OPERAND("weight")},
     .inplace = true,
     .saves = BOTH | NB_SAVE_IN(2),
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = lerp_backward,
     .loops = NB_FLOAT_LOOPS(lerp)},
    {.name = "addcmul",
     .doc = "x + value·y·z, elementwise with broadcasting.",
     .example = "nb.addcmul(nb.tensor{1}, nb.tensor{2}, nb.tensor{3}, {value=10})  --> {61}",
     .derivative = "∂/∂x = 1, ∂/∂y = value·z, ∂/∂z = value·y",
     .sample = {.args = "f(3,4), f(3,4), f(3,4); f(2,3,4), f(3,1), f(4), {value=-0.5}"},
     .role = NB_ROLE_FORMULA,
     .formula = "x + value·y·z",
     .params = {TENSOR("x"), TENSOR("y"), TENSOR("z"), NAMED_NUMBER("value", 1)},
     .inplace = true,
     .saves = NB_SAVE_IN(1) | NB_SAVE_IN(2),
     .shape = shape_addcmul,
     .forward = nb_forward_elementwise,
     .backward = addcmul_backward,
     .loops = WHOLE_LOOPS(addcmul)},
    {.name = "addcdiv",
     .doc = "x + value·y/z, elementwise with broadcasting; always floating point.",
     .example = "nb.addcdiv(nb.tensor{1}, nb.tensor{6}, nb.tensor{3}, {value=10})  --> {21}",
     .derivative = "∂/∂x = 1, ∂/∂y = value/z, ∂/∂z = −value·y/z²",
     .sample = {.lo = 0.5, .hi = 2, .args = "f(3,4), f(3,4), f(3,4); f(2,3,4), f(3,1), f(4), {value=-0.5}"},
     .role = NB_ROLE_FORMULA,
     .formula = "x + value·y/z",
     .params = {TENSOR("x"), TENSOR("y"), TENSOR("z"), NAMED_NUMBER("value", 1)},
     .inplace = true,
     .saves = NB_SAVE_IN(1) | NB_SAVE_IN(2),
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = addcdiv_backward,
     .loops = NB_FLOAT_LOOPS(addcdiv)},
};
const OpFamily ops_special = {"Further elementwise functions", ops, COUNT(ops)};
