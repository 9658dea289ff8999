// SPDX-License-Identifier: MIT
// Operators: arithmetic on two operands with broadcasting.
#include <math.h>

#include "flops.h"
#include "loops.h"
#include "vector.h"

NB_BINARY_FLOATS(add, x + y, x + y)
NB_BINARY(add_i64, int64_t, int64_t, (int64_t)((uint64_t)x + (uint64_t)y))
NB_BINARY(add_u8, uint8_t, uint8_t, (unsigned)x + (unsigned)y)
NB_BINARY(or_bool, uint8_t, uint8_t, x | y)
NB_BINARY(and_bool, uint8_t, uint8_t, x &y)
NB_BINARY_FLOATS(sub, x - y, x - y)
NB_BINARY(sub_i64, int64_t, int64_t, (int64_t)((uint64_t)x - (uint64_t)y))
NB_BINARY(sub_u8, uint8_t, uint8_t, (unsigned)x - (unsigned)y)
NB_BINARY_FLOATS(mul, x *y, x *y)
NB_BINARY(mul_i64, int64_t, int64_t, (int64_t)((uint64_t)x *(uint64_t)y))
NB_BINARY(mul_u8, uint8_t, uint8_t, (unsigned)x *(unsigned)y)
NB_BINARY_FLOATS(div, x / y, x / y)

// x·y + z, rounded twice as the two operators do, for a row x and rows or single numbers y and z.
#define MULTIPLY_ADD(name, T)                                                                           \
  NB_LOOP(name) {                                                                                       \
    const int64_t w = (int64_t)sizeof(T);                                                               \
    const bool turned = s[1] == 0;                                                                      \
    const int64_t sx = turned ? s[2] : s[1], sy = turned ? s[1] : s[2], sz = s[3];                      \
    T *o = (T *)p[0];                                                                                   \
    const T *a = (const T *)p[turned ? 2 : 1], *b = (const T *)p[turned ? 1 : 2], *c = (const T *)p[3]; \
    if (s[0] == w && sx == w && sy == 0 && sz == 0) {                                                   \
      const T y = *b, z = *c;                                                                           \
      NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = a[i] * y + z;                                     \
    } else if (s[0] == w && sx == w && sy == 0 && sz == w) {                                            \
      const T y = *b;                                                                                   \
      NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = a[i] * y + c[i];                                  \
    } else if (s[0] == w && sx == w && sy == w && sz == w) {                                            \
      NB_IVDEP for (int64_t i = 0; i < n; i++) o[i] = a[i] * b[i] + c[i];                               \
    } else {                                                                                            \
      for (int64_t i = 0; i < n; i++) {                                                                 \
        T x = *(const T *)(p[1] + i * s[1]), y = *(const T *)(p[2] + i * s[2]);                         \
        *(T *)(p[0] + i * s[0]) = x * y + *(const T *)(p[3] + i * s[3]);                                \
      }                                                                                                 \
    }                                                                                                   \
  }
MULTIPLY_ADD(multiply_add_f32, float)
MULTIPLY_ADD(multiply_add_f64, double)
NB_BINARY(power_f64, double, double, pow(x, y))

static void power_f32(int64_t n, char *const *p, const int64_t *s, const Value *args) {
  float first[NB_ROW], second[NB_ROW], out[NB_ROW];
  bool same = s[2] == 0;
  (void)args;
  for (int64_t i = 0; i < n; i += NB_ROW) {
    int64_t m = n - i < NB_ROW ? n - i : NB_ROW;
    const float *x = nb_row(first, p[1] + i * s[1], s[1], m);
    const float *y = same ? (const float *)p[2] : nb_row(second, p[2] + i * s[2], s[2], m);
    float *o = s[0] == (int64_t)sizeof *o ? (float *)(p[0] + i * s[0]) : out;
    vector_pow(m, o, x, y, same);
    nb_put_row(o, p[0] + i * s[0], s[0], m);
  }
}

// The commonest exponents by products and quotients, within an ulp and a half.
NB_UNARY_FLOATS(square, x *x, x *x)
NB_UNARY_FLOATS(cube, x *x *x, x *x *x)
NB_UNARY_FLOATS(inverse, 1 / x, 1 / x)
#define POW(name, T)                                                                       \
  static void pow_##name(int64_t n, char *const *p, const int64_t *s, const Value *args) { \
    Loop loop = power_##name;                                                              \
    if (s[2] == 0) {                                                                       \
      T y = *(const T *)p[2];                                                              \
      if (y == 2) loop = square_##name;                                                    \
      if (y == 3) loop = cube_##name;                                                      \
      if (y == -1) loop = inverse_##name;                                                  \
    }                                                                                      \
    loop(n, p, s, args);                                                                   \
  }
POW(f32, float)
POW(f64, double)

// Whole numbers wrap around as products do.
static uint64_t power_whole(uint64_t x, uint64_t y) {
  uint64_t power = 1;
  for (; y; y >>= 1, x *= x)
    if (y & 1) power *= x;
  return power;
}
NB_BINARY(pow_i64, int64_t, int64_t, (int64_t)power_whole((uint64_t)x, (uint64_t)y))
NB_BINARY(pow_u8, uint8_t, uint8_t, power_whole(x, y))
NB_BINARY_FLOATS(atan2, atan2f(x, y), atan2(x, y))

static bool add_backward(Backward *b) {
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, g)) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, g);
}

static bool sub_backward(Backward *b) {
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, g)) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_neg(b->scope, g));
}

// δ·y is y itself where δ is still the seed of the walk.
static Tensor *unscaled(const Backward *b, Tensor *y) {
  const Tensor *g = b->grad[0];
  bool ones = g->storage->ones && g->storage->version == 0 && nb_unheard();
  return ones && g->layout.dtype == y->layout.dtype && nb_layout_has(&y->layout, g->layout.shape, g->layout.ndim)
             ? y
             : NULL;
}

static bool mul_backward(Backward *b) {
  bool both = nb_wants(b, 0) && nb_wants(b, 1);
  int last = nb_wants(b, 1);
  Tensor *y = both ? unscaled(b, nb_in(b, 1)) : NULL, *other = unscaled(b, nb_in(b, !last));
  if (both && !nb_give(b, 0, y ? y : nb_mul(b->scope, b->grad[0], nb_in(b, 1)))) return false;
  return nb_give(b, last, other ? other : nb_on_grad(b, "mul", nb_in(b, !last)));
}

// δ/y and −δ·(x/y)/y, where x/y is the result: 0 where x is 0, also where 1/y is infinite.
static bool div_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_in(b, 1), *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_div(s, g, y))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_neg(s, nb_div(s, nb_mul(s, g, nb_out(b, 0)), y)));
}

// d(x^y)/dx = y·x^(y−1), which is 0 where y is 0 and 1/x infinite; d/dy = x^y·ln x, which is 0 where x is 0 and y ≥ 0.
static bool pow_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_in(b, 1), *g = b->grad[0], *zero = NULL, *one = NULL;
  bool at_zero = nb_may_hold_zero(x), to_zero = nb_wants(b, 0) && nb_may_hold_zero(y);
  if (to_zero || (nb_wants(b, 1) && at_zero)) {
    zero = nb_full(s, &(Layout){.dtype = x->layout.dtype}, 0);
    one = nb_full(s, &(Layout){.dtype = x->layout.dtype}, 1);
  }
  if (nb_wants(b, 0)) {
    Tensor *base = x, *flat = NULL;
    if (to_zero) {  // the masks stand before the power as well, so that its own slopes there are numbers
      Tensor *some = nb_unary(s, "isfinite", nb_unary(s, "reciprocal", x));
      flat = nb_binary(s, "logical_and", nb_binary(s, "eq", y, zero), nb_unary(s, "logical_not", some));
      base = nb_where(s, flat, one, x);
    }
    Tensor *slope = nb_mul(s, y, nb_binary(s, "pow", base, nb_addn(s, y, -1)));
    if (!nb_give(b, 0, nb_mul(s, g, to_zero ? nb_where(s, flat, zero, slope) : slope))) return false;
  }
  if (!nb_wants(b, 1)) return true;
  Tensor *base = x;
  if (at_zero) {
    Tensor *flat = nb_binary(s, "logical_and", nb_binary(s, "eq", x, zero), nb_binary(s, "ge", y, zero));
    base = nb_where(s, flat, one, x);
  }
  return nb_give(b, 1, nb_mul(s, g, nb_mul(s, nb_binary(s, "pow", x, y), nb_unary(s, "log", base))));
}

// Lua's %: the result has the divisor's sign.
#define LUA_MOD(fmod, zero) (fmod(x, y) + ((fmod(x, y) < zero) != (y < zero) && fmod(x, y) != zero ? y : zero))
NB_BINARY_FLOATS(mod, LUA_MOD(fmodf, 0.0f), LUA_MOD(fmod, 0.0))

// ⌊x/y⌋ of the exact quotient, so that x = y·⌊x/y⌋ + x mod y: where x/y was rounded up to a whole number, the rest says
// so.  Beside an infinite y the quotient is 0, from above or from below.
static inline double floordiv_one(double x, double y) {
  double q = floor(x / y), rest = fma(-q, y, x);
  if (rest == rest) return rest != 0 && (rest < 0) != (y < 0) ? q - 1 : q;
  return q == 0 && x != 0 && (x < 0) != (y < 0) ? -1 : q;
}

// In double the quotient of two floats is rounded to a whole number only if it is one.
static inline double floordiv_float(double x, double y) {
  double q = floor(x / y);
  return q == 0 && x != 0 && (x < 0) != (y < 0) ? -1 : q;
}
NB_BINARY_FLOATS(floordiv, floordiv_float((double)x, (double)y), floordiv_one(x, y))

static int64_t mod_whole(int64_t x, int64_t y) {
  if (y == 0 || y == -1) return 0;
  int64_t r = x % y;
  return r != 0 && (r ^ y) < 0 ? r + y : r;
}
static int64_t floordiv_whole(int64_t x, int64_t y) {
  if (y == 0) return 0;
  if (y == -1) return (int64_t)(0 - (uint64_t)x);
  return x / y - (x % y != 0 && (x ^ y) < 0);
}
NB_BINARY(mod_i64, int64_t, int64_t, mod_whole(x, y))
NB_BINARY(floordiv_i64, int64_t, int64_t, floordiv_whole(x, y))
NB_BINARY(mod_u8, uint8_t, uint8_t, y ? x % y : 0)
NB_BINARY(floordiv_u8, uint8_t, uint8_t, y ? x / y : 0)

static bool is_zero(int64_t y) {
  return y == 0;
}

static bool is_negative(int64_t y) {
  return y < 0;
}

// Whole numbers have neither infinities nor fractions: what would give one is an error, as in Lua and in NumPy.
static bool forward_whole(Call *c, bool (*refused)(int64_t y), const char *sentence, Error *err) {
  Scope s;
  if (nb_dtype_is_float(c->compute)) return nb_forward_elementwise(c, err);
  nb_scope_open(&s, err);
  Tensor *y = nb_contiguous(&s, nb_to(&s, c->args[1].tensor, NB_I64));
  const int64_t *at = y ? nb_tensor_data(y) : NULL;
  int64_t n = y ? nb_layout_numel(&y->layout) : 0;
  bool ok = y;
  for (int64_t i = 0; ok && i < n; i++) ok = !refused(at[i]) || nb_fail(err, NB_ERROR_ARGUMENT, "%s", sentence);
  nb_scope_close(&s);
  return ok && nb_forward_elementwise(c, err);
}

static bool forward_whole_division(Call *c, Error *err) {
  return forward_whole(c, is_zero, "division of whole numbers by zero; convert with :to(\"f32\") for an infinity", err);
}

static bool pow_forward(Call *c, Error *err) {
  return forward_whole(
      c, is_negative,
      "whole numbers to a negative power are no whole numbers; convert with :to(\"f32\"), or write the power as -1.0",
      err);
}

static bool mod_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0) && !nb_give(b, 0, g)) return false;
  if (!nb_wants(b, 1)) return true;
  return nb_give(b, 1, nb_neg(s, nb_mul(s, g, nb_binary(s, "floordiv", nb_in(b, 0), nb_in(b, 1)))));
}

// The larger of two; NaN wins.  Equal values share the gradient, which keeps it right for x = y = z.
NB_BINARY_FLOATS(maximum, x > y || x != x ? x : y, x > y || x != x ? x : y)
NB_BINARY(maximum_i64, int64_t, int64_t, x > y ? x : y)
NB_BINARY(maximum_u8, uint8_t, uint8_t, x > y ? x : y)
NB_BINARY_FLOATS(minimum, x < y || x != x ? x : y, x < y || x != x ? x : y)
NB_BINARY(minimum_i64, int64_t, int64_t, x < y ? x : y)
NB_BINARY(minimum_u8, uint8_t, uint8_t, x < y ? x : y)
// The same where a number wins against NaN.
NB_BINARY_FLOATS(fmax, y != y || x >= y ? x : y, y != y || x >= y ? x : y)
NB_BINARY_FLOATS(fmin, y != y || x <= y ? x : y, y != y || x <= y ? x : y)

static bool extreme_backward(Backward *b, const char *loses, bool nan_wins) {
  Scope *s = b->scope;
  Tensor *x = nb_in(b, 0), *y = nb_in(b, 1), *g = b->grad[0],
         *zero = nb_full(s, &(Layout){.dtype = g->layout.dtype}, 0);
  Tensor *shared = nb_where(s, nb_binary(s, "eq", x, y), nb_muln(s, g, 0.5), g);
  for (int i = 0; i < 2; i++) {
    if (!nb_wants(b, i)) continue;
    Tensor *one = i == 0 ? x : y, *other = i == 0 ? y : x, *lost = nb_binary(s, loses, one, other);
    if (!nan_wins) {
      Tensor *is_number = nb_unary(s, "logical_not", nb_unary(s, "isnan", other));
      lost = nb_binary(s, "logical_or", lost, nb_binary(s, "logical_and", nb_unary(s, "isnan", one), is_number));
    }
    if (!nb_give(b, i, nb_where(s, lost, zero, shared))) return false;
  }
  return true;
}

static bool maximum_backward(Backward *b) {
  return extreme_backward(b, "lt", true);
}

static bool minimum_backward(Backward *b) {
  return extreme_backward(b, "gt", true);
}

static bool fmax_backward(Backward *b) {
  return extreme_backward(b, "lt", false);
}

static bool fmin_backward(Backward *b) {
  return extreme_backward(b, "gt", false);
}

// d atan2(y, x): dy·x/(x²+y²) − dx·y/(x²+y²), and 0 at the origin, in every order.
static bool atan2_backward(Backward *b) {
  Scope *s = b->scope;
  Tensor *y = nb_in(b, 0), *x = nb_in(b, 1), *squares = nb_add(s, nb_mul(s, x, x), nb_mul(s, y, y));
  if (!squares) return false;
  Tensor *g = b->grad[0];
  if (nb_may_hold_zero(squares)) {
    Tensor *zero = nb_full(s, &(Layout){.dtype = squares->layout.dtype}, 0);
    Tensor *one = nb_full(s, &(Layout){.dtype = squares->layout.dtype}, 1);
    Tensor *origin = nb_binary(s, "eq", squares, zero);
    g = nb_where(s, origin, zero, g);
    squares = nb_where(s, origin, one, squares);
  }
  g = nb_div(s, g, squares);
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_mul(s, g, x))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_neg(s, nb_mul(s, g, y)));
}

#define BOTH (NB_SAVE_IN(0) | NB_SAVE_IN(1))

static const Op ops[] = {
    {.name = "add",
     .doc = "x + y, elementwise with broadcasting; of two masks, where one or both are true.",
     .example = "nb.tensor{1, 2} + 10  --> {11, 12}",
     .derivative = "∂/∂x = 1, ∂/∂y = 1",
     .role = NB_ROLE_FORMULA,
     .formula = "x + y",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = add_backward,
     .stays_mask = true,
     .loops = {[NB_BOOL] = or_bool, [NB_U8] = add_u8, [NB_I64] = add_i64, [NB_F32] = add_f32, [NB_F64] = add_f64}},
    {.name = "sub",
     .doc = "x − y, elementwise with broadcasting.",
     .example = "nb.tensor{1, 2} - 10  --> {-9, -8}",
     .derivative = "∂/∂x = 1, ∂/∂y = −1",
     .role = NB_ROLE_DIFFERENCE,
     .formula = "x − y",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = sub_backward,
     .narrow = true,
     .loops = {[NB_U8] = sub_u8, [NB_I64] = sub_i64, [NB_F32] = sub_f32, [NB_F64] = sub_f64}},
    {.name = "mul",
     .doc = "x · y, elementwise with broadcasting; of two masks, where both are true.",
     .example = "nb.tensor{1, 2} * nb.tensor{3, 4}  --> {3, 8}",
     .derivative = "∂/∂x = y, ∂/∂y = x",
     .role = NB_ROLE_FORMULA,
     .formula = "x·y",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = mul_backward,
     .stays_mask = true,
     .loops = {[NB_BOOL] = and_bool, [NB_U8] = mul_u8, [NB_I64] = mul_i64, [NB_F32] = mul_f32, [NB_F64] = mul_f64}},
    {.name = "multiply_add",
     .doc = "x · y + z, elementwise with broadcasting.",
     .example = "require(\"nablua.native\").multiply_add(nb.tensor{1, 2}, nb.tensor(3), nb.tensor(4))  --> {7, 10}",
     .no_grad = "it serves plans",
     .internal = true,
     .role = NB_ROLE_FORMULA,
     .symbol = "multiplyAdd",
     .formula = "x·y + z",
     .flops = nb_flops_multiply_add,
     .params = {TENSOR("x"), TENSOR("y"), TENSOR("z")},
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .loops = NB_FLOAT_LOOPS(multiply_add)},
    {.name = "div",
     .doc = "x / y, elementwise with broadcasting; always floating point.",
     .example = "nb.tensor{1, 2} / 4  --> {0.25, 0.5}",
     .derivative = "∂/∂x = 1/y, ∂/∂y = −x/y²",
     .sample = {.lo = 0.5, .hi = 2},
     .role = NB_ROLE_FORMULA,
     .formula = "x/y",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = NB_SAVE_IN(1) | NB_SAVE_OUT(0),
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = div_backward,
     .loops = NB_FLOAT_LOOPS(div)},
    {.name = "pow",
     .doc = "x to the power of y, elementwise with broadcasting; whole numbers give such, and refuse negative powers.",
     .example = "nb.tensor{1, 2, 3} ^ 2  --> {1, 4, 9}",
     .derivative = "∂/∂x = y·x^(y−1), ∂/∂y = x^y·ln(x)",
     .sample = {.lo = 0.5, .hi = 2},
     .role = NB_ROLE_FORMULA,
     .formula = "x^y",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .narrow = true,
     .shape = nb_shape_elementwise,
     .forward = pow_forward,
     .backward = pow_backward,
     .loops = {[NB_U8] = pow_u8, [NB_I64] = pow_i64, [NB_F32] = pow_f32, [NB_F64] = pow_f64}},
    {.name = "mod",
     .doc = "The remainder x − y·⌊x/y⌋, with y's sign as Lua's %.",
     .example = "nb.tensor{-1, 5} % 3  --> {2, 2}",
     .derivative = "∂/∂x = 1, ∂/∂y = −⌊x/y⌋",
     .sample = {.args = "f(3,4), 0.75; f(3,4), f(3,4,{lo=5,hi=6})"},
     .role = NB_ROLE_FORMULA,
     .formula = "mod(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = forward_whole_division,
     .backward = mod_backward,
     .narrow = true,
     .loops = {[NB_U8] = mod_u8, [NB_I64] = mod_i64, [NB_F32] = mod_f32, [NB_F64] = mod_f64}},
    {.name = "floordiv",
     .doc = "⌊x/y⌋, elementwise, as Lua's //, but exact: x is y·(x // y) + x % y up to rounding.",
     .example = "nb.tensor{-1, 5} // 3  --> {-1, 1}",
     .no_grad = "it is piecewise constant",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .shape = nb_shape_elementwise,
     .forward = forward_whole_division,
     .narrow = true,
     .loops = {[NB_U8] = floordiv_u8, [NB_I64] = floordiv_i64, [NB_F32] = floordiv_f32, [NB_F64] = floordiv_f64}},
    {.name = "maximum",
     .doc =
         "The larger of x and y, elementwise with broadcasting.  Where they are equal each gets half of the gradient; "
         "where one is NaN so is the result, and both get all of it.",
     .example = "nb.maximum(nb.tensor{1, 5}, 3)  --> {3, 5}",
     .derivative = "∂/∂x = 1[x > y], ∂/∂y = 1[y > x]",
     .role = NB_ROLE_FORMULA,
     .formula = "max(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = maximum_backward,
     .narrow = true,
     .stays_mask = true,
     .loops = {[NB_BOOL] = or_bool,
               [NB_U8] = maximum_u8,
               [NB_I64] = maximum_i64,
               [NB_F32] = maximum_f32,
               [NB_F64] = maximum_f64}},
    {.name = "minimum",
     .doc =
         "The smaller of x and y, elementwise with broadcasting.  Where they are equal each gets half of the gradient; "
         "where one is NaN so is the result, and both get all of it.",
     .example = "nb.minimum(nb.tensor{1, 5}, 3)  --> {1, 3}",
     .derivative = "∂/∂x = 1[x < y], ∂/∂y = 1[y < x]",
     .role = NB_ROLE_FORMULA,
     .formula = "min(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = minimum_backward,
     .narrow = true,
     .stays_mask = true,
     .loops = {[NB_BOOL] = and_bool,
               [NB_U8] = minimum_u8,
               [NB_I64] = minimum_i64,
               [NB_F32] = minimum_f32,
               [NB_F64] = minimum_f64}},
    {.name = "fmax",
     .doc = "The larger of x and y, and of a number and NaN the number; maximum gives NaN.  Where they are equal each "
            "gets half of the gradient.",
     .example = "nb.fmax(nb.tensor{1, 0/0}, 0)  --> {1, 0}",
     .derivative = "∂/∂x = 1[x > y], ∂/∂y = 1[y > x]",
     .role = NB_ROLE_FORMULA,
     .formula = "fmax(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = fmax_backward,
     .loops = {[NB_BOOL] = maximum_u8,
               [NB_U8] = maximum_u8,
               [NB_I64] = maximum_i64,
               [NB_F32] = fmax_f32,
               [NB_F64] = fmax_f64}},
    {.name = "fmin",
     .doc = "The smaller of x and y, and of a number and NaN the number; minimum gives NaN.  Where they are equal each "
            "gets half of the gradient.",
     .example = "nb.fmin(nb.tensor{1, 0/0}, 0)  --> {0, 0}",
     .derivative = "∂/∂x = 1[x < y], ∂/∂y = 1[y < x]",
     .role = NB_ROLE_FORMULA,
     .formula = "fmin(x, y)",
     .params = {OPERAND("x"), OPERAND("y")},
     .inplace = true,
     .saves = BOTH,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = fmin_backward,
     .loops = {[NB_BOOL] = minimum_u8,
               [NB_U8] = minimum_u8,
               [NB_I64] = minimum_i64,
               [NB_F32] = fmin_f32,
               [NB_F64] = fmin_f64}},
    {.name = "atan2",
     .doc = "The angle of the point (x, y) in radians, −π..π.",
     .example = "nb.atan2(nb.tensor{1.0}, nb.tensor{1.0})  --> {0.7854}",
     .derivative = "∂/∂y = x/(x²+y²), ∂/∂x = −y/(x²+y²)",
     .sample = {.lo = 0.5, .hi = 2},
     .role = NB_ROLE_FORMULA,
     .formula = "atan2(y, x)",
     .params = {OPERAND("y"), OPERAND("x")},
     .saves = BOTH,
     .shape = nb_shape_elementwise_float,
     .forward = nb_forward_elementwise,
     .backward = atan2_backward,
     .loops = NB_FLOAT_LOOPS(atan2)},
};
const OpFamily ops_arithmetic = {"Arithmetic", ops, COUNT(ops)};
