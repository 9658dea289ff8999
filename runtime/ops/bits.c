// SPDX-License-Identifier: MIT
// Operators: bit by bit, of whole numbers and masks.
#include "loops.h"

#define BITWISE(name, op)                        \
  NB_BINARY(name##_u8, uint8_t, uint8_t, x op y) \
  NB_BINARY(name##_i64, int64_t, int64_t, x op y)
BITWISE(bits_and, &)
BITWISE(bits_or, |)
BITWISE(bits_xor, ^)
NB_UNARY(bits_not_bool, uint8_t, uint8_t, x ^ 1u)
NB_UNARY(bits_not_u8, uint8_t, uint8_t, ~(unsigned)x)
NB_UNARY(bits_not_i64, int64_t, int64_t, ~x)

// By more places than there are, or by fewer than none, nothing of the number stays but the sign of what goes right.
static inline int64_t shifted_left(int64_t x, int64_t y) {
  return y < 0 || y > 63 ? 0 : (int64_t)((uint64_t)x << y);
}

static inline int64_t shifted_right(int64_t x, int64_t y) {
  int places = y < 0 || y > 63 ? 63 : (int)y;
  return x < 0 ? ~(~x >> places) : x >> places;
}

NB_BINARY(left_u8, uint8_t, uint8_t, y > 7 ? 0u : (unsigned)x << y)
NB_BINARY(left_i64, int64_t, int64_t, shifted_left(x, y))
NB_BINARY(right_u8, uint8_t, uint8_t, y > 7 ? 0u : (unsigned)x >> y)
NB_BINARY(right_i64, int64_t, int64_t, shifted_right(x, y))

static bool shape_bits(Call *c, Error *err) {
  const Param *p = c->op->params;
  for (int i = 0; i < NB_MAX_PARAMS && p[i].name; i++) {
    DType dtype = c->args[i].tensor->layout.dtype;
    if (dtype == NB_F32 || dtype == NB_F64)
      return nb_fail(err, NB_ERROR_ARGUMENT, "%s must be whole numbers or a mask, got %s (:to(\"i64\") makes it whole)",
                     p[i].name, nb_dtype_name(dtype));
  }
  return p[1].name ? nb_shape_elementwise(c, err) : nb_shape_unary(c, err);
}

// Masks are counted, as in other arithmetic that 0 and 1 leave.
static bool shape_shift(Call *c, Error *err) {
  if (!shape_bits(c, err)) return false;
  if (c->args[0].tensor->layout.dtype == NB_BOOL && c->args[1].tensor->layout.dtype == NB_BOOL)
    c->compute = c->layout[0].dtype = NB_I64;
  return true;
}

#define WHOLE .no_grad = "whole numbers have no slope", .forward = nb_forward_elementwise, .inplace = true

#define BITS_ROW(op, words, shown)                                                                        \
  {                                                                                                       \
    .name = "bitwise_" #op,                                                                               \
    .doc = "The bits that are 1 in " words ", of whole numbers or masks; elementwise with broadcasting.", \
    .example = "nb.bitwise_" #op "(nb.tensor({12, 10}, {dtype=\"i64\"}), 6)  --> " shown,                 \
    .sample = {.args = "i(9,2,3), i(9,3)"}, .params = {OPERAND("x"), OPERAND("y")}, .shape = shape_bits,  \
    .loops = {[NB_BOOL] = bits_##op##_u8, [NB_U8] = bits_##op##_u8, [NB_I64] = bits_##op##_i64}, WHOLE    \
  }

static const Op ops[] = {
    BITS_ROW(and, "both", "{4, 2}"),
    BITS_ROW(or, "one or both", "{14, 14}"),
    BITS_ROW(xor, "just one of both", "{10, 12}"),
    {.name = "bitwise_not",
     .doc = "The other bits: −x − 1 of i64, 255 − x of u8, what is false of a mask.",
     .example = "nb.bitwise_not(nb.tensor({0, 5}, {dtype=\"i64\"}))  --> {-1, -6}",
     .sample = {.args = "i(9,2,3)"},
     .params = {OPERAND("x")},
     .shape = shape_bits,
     .loops = {[NB_BOOL] = bits_not_bool, [NB_U8] = bits_not_u8, [NB_I64] = bits_not_i64},
     WHOLE},
    {.name = "bitwise_left_shift",
     .doc = "x, whole numbers, with its bits y places to the left, x·2^y; those that leave are lost.",
     .example = "nb.bitwise_left_shift(nb.tensor({1, 3}, {dtype=\"i64\"}), 2)  --> {4, 12}",
     .sample = {.args = "i(9,2,3), i(9,3)"},
     .params = {OPERAND("x"), OPERAND("y")},
     .shape = shape_shift,
     .loops = {[NB_U8] = left_u8, [NB_I64] = left_i64},
     WHOLE},
    {.name = "bitwise_right_shift",
     .doc = "x, whole numbers, with its bits y places to the right, ⌊x / 2^y⌋.",
     .example = "nb.bitwise_right_shift(nb.tensor({8, -1}, {dtype=\"i64\"}), 2)  --> {2, -1}",
     .sample = {.args = "i(9,2,3), i(9,3)"},
     .params = {OPERAND("x"), OPERAND("y")},
     .shape = shape_shift,
     .loops = {[NB_U8] = right_u8, [NB_I64] = right_i64},
     WHOLE},
};
const OpFamily ops_bits = {"Bits", ops, COUNT(ops)};
