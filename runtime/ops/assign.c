// SPDX-License-Identifier: MIT
// Operators that exist for writing in place: copy_, fill_, zero_.
#include "loops.h"
#include "put.h"

static bool shape_target(Call *c, Error *err) {
  char a[NB_SHAPE_TEXT], b[NB_SHAPE_TEXT];
  const Layout *to = &c->args[0].tensor->layout;
  Layout l = *to;
  c->layout[0] = *to;
  if (c->op->params[1].kind != NB_PARAM_OPERAND) return true;
  const Layout *from = &c->args[1].tensor->layout;
  Error ignored;
  bool fits = nb_broadcast_shape(to, from, &l, &ignored) && l.ndim == to->ndim;
  for (int d = 0; fits && d < to->ndim; d++) fits = l.shape[d] == to->shape[d];
  return fits || nb_fail(err, NB_ERROR_ARGUMENT, "a value of shape %s does not fit into shape %s",
                         nb_shape_text(from, b), nb_shape_text(to, a));
}

// One number, as a tensor that may want its gradient.
static bool shape_fill(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  c->layout[0] = c->args[0].tensor->layout;
  if (!c->args[1].tensor) return true;
  const Layout *value = &c->args[1].tensor->layout;
  return nb_layout_numel(value) == 1 ||
         nb_fail(err, NB_ERROR_ARGUMENT, "value must be one number, got shape %s; :copy_() takes tensors",
                 nb_shape_text(value, text));
}

static bool copy_forward(Call *c, Error *err) {
  (void)err;
  nb_copy(c->out[0], c->args[1].tensor);
  return true;
}

// The old values no longer matter; the new ones come from the second argument.
static bool copy_backward(Backward *b) {
  Scope *s = b->scope;
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_full(s, &b->grad[0]->layout, 0))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, b->grad[0]);
}

static bool fill_with(Call *c, double value, Error *err) {
  Tensor *number = nb_tensor_scalar(value, c->out[0]->layout.dtype, err);
  if (!number) return false;
  nb_copy(c->out[0], number);
  nb_tensor_release(&number);
  return true;
}

static bool fill_forward(Call *c, Error *err) {
  const Tensor *value = c->args[1].tensor;
  if (!value) return fill_with(c, c->args[1].plain, err);
  if (!nb_check_whole(value, c->out[0]->layout.dtype, err)) return false;
  nb_copy(c->out[0], value);
  return true;
}

static bool fill_backward(Backward *b) {
  Scope *s = b->scope;
  if (nb_wants(b, 0) && !nb_give(b, 0, nb_full(s, &b->grad[0]->layout, 0))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, nb_reshape_like(s, nb_sum_all(s, b->grad[0]), &nb_in(b, 1)->layout));
}

static bool zero_forward(Call *c, Error *err) {
  return fill_with(c, 0, err);
}

static bool zero_backward(Backward *b) {
  return nb_give(b, 0, nb_full(b->scope, &b->grad[0]->layout, 0));
}

static const Op ops[] = {
    {.name = "copy",
     .doc = "Writes y, broadcast and converted, into x.",
     .example = "nb.zeros(2):copy_(nb.tensor{1, 2})  --> {1, 2}",
     .derivative = "∂/∂x = 0, ∂/∂y = 1",
     .role = NB_ROLE_PART,
     .symbol = "copy",
     .params = {TENSOR("x"), OPERAND("y")},
     .internal = true,
     .inplace = true,
     .overwrites = true,
     .shape = shape_target,
     .forward = copy_forward,
     .backward = copy_backward},
    {.name = "fill",
     .doc = "Writes one number into every element of x.",
     .example = "nb.zeros(2):fill_(7)  --> {7, 7}",
     .derivative = "∂/∂x = 0, ∂/∂value = Σ δ",
     .sample = {.args = "f(2,3), 7; f(2,3), f(); f(2,3), f(1,1,1)"},
     .role = NB_ROLE_CREATION,
     .symbol = "fill",
     .params = {TENSOR("x"), PLAIN_OPERAND("value")},
     .internal = true,
     .inplace = true,
     .overwrites = true,
     .shape = shape_fill,
     .forward = fill_forward,
     .backward = fill_backward},
    {.name = "zero",
     .doc = "Writes 0 into every element of x.",
     .example = "nb.ones(2):zero_()  --> {0, 0}",
     .derivative = "∂/∂x = 0",
     .role = NB_ROLE_CREATION,
     .symbol = "zero",
     .params = {TENSOR("x")},
     .internal = true,
     .inplace = true,
     .overwrites = true,
     .shape = shape_target,
     .forward = zero_forward,
     .backward = zero_backward},
};
const OpFamily ops_assign = {"Writing in place", ops, COUNT(ops)};
