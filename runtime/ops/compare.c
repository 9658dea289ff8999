// SPDX-License-Identifier: MIT
// Operators: comparisons and logic, whose results are masks, and the same logic bit by bit.
#include "loops.h"

#define COMPARE(name, op)                         \
  NB_BINARY(name##_u8, uint8_t, uint8_t, x op y)  \
  NB_BINARY(name##_i64, int64_t, uint8_t, x op y) \
  NB_BINARY(name##_f32, float, uint8_t, x op y)   \
  NB_BINARY(name##_f64, double, uint8_t, x op y)
COMPARE(eq, ==)
COMPARE(ne, !=)
COMPARE(lt, <)
COMPARE(le, <=)
COMPARE(gt, >)
COMPARE(ge, >=)
NB_BINARY(and_bool, uint8_t, uint8_t, x &y)
NB_BINARY(or_bool, uint8_t, uint8_t, x | y)
NB_BINARY(xor_bool, uint8_t, uint8_t, x ^ y)
NB_UNARY(not_bool, uint8_t, uint8_t, x ^ 1u)
NB_BINARY(and_i64, int64_t, int64_t, x &y)
NB_BINARY(or_i64, int64_t, int64_t, x | y)
NB_BINARY(xor_i64, int64_t, int64_t, x ^ y)
NB_UNARY(not_u8, uint8_t, uint8_t, x ^ 0xffu)
NB_UNARY(not_i64, int64_t, int64_t, ~x)

#define COMPARE_ROW(op, sign, shown)                                                                           \
  {                                                                                                            \
    .name = #op, .doc = "Where x " sign " y, as a mask; elementwise with broadcasting.",                       \
    .example = "nb." #op "(nb.tensor{1, 2, 3}, 2)  --> " shown, .no_grad = "a mask is not a number",           \
    .role = NB_ROLE_TEST, .params = {OPERAND("x"), OPERAND("y")}, .compares = true, .shape = nb_shape_compare, \
    .forward = nb_forward_elementwise, .loops = {                                                              \
      [NB_BOOL] = op##_u8,                                                                                     \
      [NB_U8] = op##_u8,                                                                                       \
      [NB_I64] = op##_i64,                                                                                     \
      [NB_F32] = op##_f32,                                                                                     \
      [NB_F64] = op##_f64                                                                                      \
    }                                                                                                          \
  }

#define LOGIC_ROW(op, words, loop, shown)                                                                              \
  {                                                                                                                    \
    .name = "logical_" op, .doc = "Where " words ", as a mask.",                                                       \
    .example = "nb.logical_" op "(nb.tensor{1, 1, 0}, nb.tensor{1, 0, 0})  --> " shown,                                \
    .no_grad = "a mask is not a number", .role = NB_ROLE_TEST, .params = {MASK("x"), MASK("y")}, .shape = shape_logic, \
    .forward = nb_forward_elementwise, .loops = {                                                                      \
      [NB_BOOL] = loop                                                                                                 \
    }                                                                                                                  \
  }

// A mask has one bit, and a byte of it is 0 or 1: the loops of bytes serve u8 and masks.
#define BITS_ROW(op, words, shown)                                                                                   \
  {                                                                                                                  \
    .name = "bitwise_" #op,                                                                                          \
    .doc = "Each bit of two whole numbers where " words ", elementwise with broadcasting; of two masks a mask.",     \
    .example = "nb.bitwise_" #op "(nb.tensor({12, 7}, {dtype=\"i64\"}), 10)  --> " shown,                            \
    .sample = {.args = "i(9, 3,4), i(9, 4); m(3,4), m(3,4)"}, .no_grad = "bits are no numbers that change smoothly", \
    .role = NB_ROLE_TEST, .params = {OPERAND("x"), OPERAND("y")}, .shape = nb_shape_elementwise,                     \
    .forward = nb_forward_elementwise, .loops = {                                                                    \
      [NB_BOOL] = op##_bool,                                                                                         \
      [NB_U8] = op##_bool,                                                                                           \
      [NB_I64] = op##_i64                                                                                            \
    }                                                                                                                \
  }

static bool shape_logic(Call *c, Error *err) {
  c->compute = NB_BOOL;
  c->layout[0].dtype = NB_BOOL;
  return nb_broadcast_shape(&c->args[0].tensor->layout, &c->args[1].tensor->layout, &c->layout[0], err);
}

static bool shape_not(Call *c, Error *err) {
  (void)err;
  c->compute = NB_BOOL;
  c->layout[0] = c->args[0].tensor->layout;
  return true;
}

static const Op ops[] = {
    COMPARE_ROW(eq, "=", "{false, true, false}"),
    COMPARE_ROW(ne, "≠", "{true, false, true}"),
    COMPARE_ROW(lt, "<", "{true, false, false}"),
    COMPARE_ROW(le, "≤", "{true, true, false}"),
    COMPARE_ROW(gt, ">", "{false, false, true}"),
    COMPARE_ROW(ge, "≥", "{false, true, true}"),
    LOGIC_ROW("and", "both are true (not zero)", and_bool, "{true, false, false}"),
    LOGIC_ROW("or", "one or both are true (not zero)", or_bool, "{true, true, false}"),
    LOGIC_ROW("xor", "just one is true (not zero)", xor_bool, "{false, true, false}"),
    {.name = "logical_not",
     .doc = "Where x is false (zero), as a mask.",
     .example = "nb.logical_not(nb.tensor{1, 0})  --> {false, true}",
     .no_grad = "a mask is not a number",
     .role = NB_ROLE_TEST,
     .params = {MASK("x")},
     .shape = shape_not,
     .forward = nb_forward_elementwise,
     .loops = {[NB_BOOL] = not_bool}},
    BITS_ROW(and, "both are 1", "{8, 2}"),
    BITS_ROW(or, "one or both are 1", "{14, 15}"),
    BITS_ROW(xor, "just one is 1", "{6, 13}"),
    {.name = "bitwise_not",
     .doc = "Each bit of whole numbers turned round: of i64 -x - 1, of u8 255 - x, of a mask where it is false.",
     .example = "nb.bitwise_not(nb.tensor({0, 5}, {dtype=\"i64\"}))  --> {-1, -6}",
     .sample = {.args = "i(9, 3,4); m(3,4)"},
     .no_grad = "bits are no numbers that change smoothly",
     .role = NB_ROLE_TEST,
     .params = {TENSOR("x")},
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .loops = {[NB_BOOL] = not_bool, [NB_U8] = not_u8, [NB_I64] = not_i64}},
};
const OpFamily ops_compare = {"Comparison and logic", ops, COUNT(ops)};
