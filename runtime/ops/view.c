// SPDX-License-Identifier: MIT
// Operators: what the tape records when a tensor is changed through a view of it.
//
// A view's place is {offset, sizes, strides} in elements of its owner, which is contiguous.  With x = view_put(x, v)
// after each write into the view v, the gradient of v is the view of x's, and x's own has zeros there.
#include <string.h>

#include "loops.h"

// The layout that `place` means within x; false when it leaves it.
static bool place_layout(const Layout *x, const Value *place, Layout *view, Error *err) {
  int count = place->ints.count;
  const int64_t *p = place->ints.items;
  *view = (Layout){.dtype = x->dtype};
  if (count < 1 || count % 2 == 0 || count > 1 + 2 * NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a place is {offset, sizes, strides}, got %d numbers",
                   count < 0 ? 0 : count);
  view->ndim = count / 2;
  view->offset = p[0];
  int64_t last = p[0];
  bool inside = last >= 0, empty = false;
  for (int d = 0; d < view->ndim; d++) {
    int64_t size = view->shape[d] = p[1 + d], stride = view->strides[d] = p[1 + view->ndim + d], reach;
    if (size < 0 || stride < 0) return nb_fail(err, NB_ERROR_ARGUMENT, "sizes and strides must not be negative");
    empty = empty || size == 0;
    inside = inside && !__builtin_mul_overflow(size ? size - 1 : 0, stride, &reach) &&
             !__builtin_add_overflow(last, reach, &last);
  }
  if (empty) view->offset = 0;
  if (empty || (inside && last < nb_layout_numel(x))) return nb_layout_check(view, err);
  return nb_fail(err, NB_ERROR_ARGUMENT, "the place leaves the tensor");
}

static bool shape_take(Call *c, Error *err) {
  return place_layout(&c->args[0].tensor->layout, &c->args[1], &c->layout[0], err);
}

static bool take_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, c->args[0].tensor);
  if (x) {
    Tensor part = *x;
    int64_t start = part.layout.offset;
    bool ok = place_layout(&x->layout, &c->args[1], &part.layout, err);
    part.layout.offset += start;
    if (ok)
      nb_copy(c->out[0], &part);
    else
      x = NULL;
  }
  nb_scope_close(&s);
  return x;
}

static Tensor *put(Scope *s, Tensor *x, Tensor *v, const Value *place) {
  return x && v ? nb_op(s, "view_put", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = v}, *place}) : NULL;
}

static bool take_backward(Backward *b) {
  return nb_give(b, 0, put(b->scope, nb_full(b->scope, &nb_in(b, 0)->layout, 0), b->grad[0], nb_arg(b, 1)));
}

static bool shape_put(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  Layout part;
  const Layout *v = &c->args[1].tensor->layout;
  c->layout[0] = c->args[0].tensor->layout;
  if (!place_layout(&c->layout[0], &c->args[2], &part, err)) return false;
  bool fits = v->ndim == part.ndim;
  for (int d = 0; fits && d < v->ndim; d++) fits = v->shape[d] == part.shape[d];
  return fits || nb_fail(err, NB_ERROR_ARGUMENT, "shape %s does not fill the place, of shape %s",
                         nb_shape_text(v, have), nb_shape_text(&part, want));
}

static bool put_forward(Call *c, Error *err) {
  Tensor part = *c->out[0];
  nb_copy(c->out[0], c->args[0].tensor);
  if (!place_layout(&c->out[0]->layout, &c->args[2], &part.layout, err)) return false;
  nb_copy(&part, c->args[1].tensor);
  return true;
}

static bool put_backward(Backward *b) {
  Scope *s = b->scope;
  if (nb_wants(b, 0) && !nb_give(b, 0, put(s, b->grad[0], nb_full(s, &nb_in(b, 1)->layout, 0), nb_arg(b, 2))))
    return false;
  return !nb_wants(b, 1) ||
         nb_give(b, 1, nb_op(s, "view_take", (Value[NB_MAX_PARAMS]){{.tensor = b->grad[0]}, *nb_arg(b, 2)}));
}

static const Op ops[] = {
    {.name = "view_take",
     .doc = "A copy of a part of x given by {offset, sizes, strides}, counted from 0, none of whose elements meet.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:diag()  --> {1, 4}",
     .derivative = "∂/∂x = δ in the part",
     .sample = {.args = "f(3,4), {1, 3,2, 4,2}; f(3,4), {5}; f(3,4), {0, 2,0, 1,1}"},
     .role = NB_ROLE_PART,
     .symbol = "part",
     .params = {TENSOR("x"), INTS("place")},
     .internal = true,
     .shape = shape_take,
     .forward = take_forward,
     .backward = take_backward},
    {.name = "view_put",
     .doc = "x with v in the part given by {offset, sizes, strides}: what a change of x through a view records.",
     .example = "local t = nb.zeros(2, 2); t[2][1] = 5; return t  --> {{0, 0}, {5, 0}}",
     .derivative = "∂/∂x = 1 outside the part, ∂/∂v = 1",
     .sample = {.args = "f(3,4), f(3,2), {1, 3,2, 4,2}; f(3,4), f(), {5}; f(2,3), f(3,2), {0, 3,2, 1,3}"},
     .role = NB_ROLE_PART,
     .symbol = "put",
     .params = {TENSOR("x"), TENSOR("v"), INTS("place")},
     .internal = true,
     .shape = shape_put,
     .forward = put_forward,
     .backward = put_backward},
};
const OpFamily ops_view = {"Views", ops, COUNT(ops)};
