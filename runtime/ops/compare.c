// SPDX-License-Identifier: MIT
// Operators: comparisons and logic; their results are masks.
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
};
const OpFamily ops_compare = {"Comparison and logic", ops, COUNT(ops)};
