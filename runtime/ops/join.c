// SPDX-License-Identifier: MIT
// Operators: joining tensors, repeating, turning round and padding; all copy.
#include "loops.h"
#include "put.h"

// Part of `t` from `start` on along dimension d, as many elements as `like` has there; a header to copy through.
static Tensor part_of(const Tensor *t, int d, int64_t start, int64_t length) {
  Tensor part = *t;
  part.layout.shape[d] = length;
  part.layout.offset += length > 0 ? start * t->layout.strides[d] : 0;
  return part;
}

static Tensor *narrow(Scope *s, Tensor *x, int d, int64_t start, int64_t length) {
  if (!x) return NULL;
  return nb_op(s, "narrow", (Value[]){{.tensor = x}, {.integer = d + 1}, {.integer = start + 1}, {.integer = length}});
}

// ---- cat and stack ----

static bool join_dim(const Call *c, int ndim, int *d, Error *err) {
  *d = 0;
  return !c->args[1].integer || nb_dim(c->args[1].integer, ndim, d, err);
}

static bool misfit(const Layout *a, const Layout *b, int number, int d, Error *err) {
  char ta[NB_SHAPE_TEXT], tb[NB_SHAPE_TEXT];
  return nb_fail(err, NB_ERROR_ARGUMENT, "tensor %d has shape %s, which does not join shape %s along dimension %d",
                 number, nb_shape_text(b, tb), nb_shape_text(a, ta), d + 1);
}

// A vector without elements goes with any shape: lists are begun with one.
static bool is_nothing(const Layout *l) {
  return l->ndim == 1 && l->shape[0] == 0;
}

static bool shape_cat(Call *c, Error *err) {
  int count = c->args[0].tensors.count, d, first = 0;
  Tensor **t = c->args[0].tensors.items;
  Layout *out = &c->layout[0];
  if (count < 1) return nb_fail(err, NB_ERROR_ARGUMENT, "needs at least one tensor");
  while (first < count - 1 && is_nothing(&t[first]->layout)) first++;
  if (t[first]->layout.ndim == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "scalars have no dimension to join; use stack");
  if (!join_dim(c, t[first]->layout.ndim, &d, err)) return false;
  *out = t[first]->layout;
  for (int i = 0; i < count; i++) {
    const Layout *l = &t[i]->layout;
    out->dtype = nb_dtype_promote(out->dtype, l->dtype);
    if (i == first || is_nothing(l)) continue;
    bool fits = l->ndim == out->ndim;
    for (int e = 0; fits && e < l->ndim; e++) fits = e == d || l->shape[e] == out->shape[e];
    if (!fits) return misfit(&t[first]->layout, l, i + 1, d, err);
    out->shape[d] += l->shape[d];
  }
  return true;
}

static bool forward_cat(Call *c, Error *err) {
  int64_t at = 0;
  int d;
  if (!join_dim(c, c->layout[0].ndim, &d, err)) return false;
  for (int i = 0; i < c->args[0].tensors.count; i++) {
    const Tensor *t = c->args[0].tensors.items[i];
    if (is_nothing(&t->layout)) continue;
    Tensor part = part_of(c->out[0], d, at, t->layout.shape[d]);
    nb_copy(&part, t);
    at += t->layout.shape[d];
  }
  return true;
}

static bool backward_cat(Backward *b) {
  int64_t at = 0, dim = nb_arg(b, 1)->integer;
  int d = 0;
  if (dim && !nb_dim(dim, b->grad[0]->layout.ndim, &d, b->scope->err)) return false;
  for (int i = 0; i < nb_arg(b, 0)->tensors.count; i++) {
    const Layout *l = &nb_in_list(b, 0, i)->layout;
    if (is_nothing(l)) {
      if (nb_wants_list(b, 0, i) && !nb_give_list(b, 0, i, nb_full(b->scope, l, 0))) return false;
      continue;
    }
    int64_t length = l->shape[d];
    if (nb_wants_list(b, 0, i) && !nb_give_list(b, 0, i, narrow(b->scope, b->grad[0], d, at, length))) return false;
    at += length;
  }
  return true;
}

static bool shape_stack(Call *c, Error *err) {
  int count = c->args[0].tensors.count, d;
  Tensor **t = c->args[0].tensors.items;
  Layout *out = &c->layout[0];
  if (count < 1) return nb_fail(err, NB_ERROR_ARGUMENT, "needs at least one tensor");
  const Layout *first = &t[0]->layout;
  if (first->ndim == NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions, not %d", NB_MAX_DIMS, NB_MAX_DIMS + 1);
  if (!join_dim(c, first->ndim + 1, &d, err)) return false;
  *out = *first;
  for (int i = 1; i < count; i++) {
    const Layout *l = &t[i]->layout;
    bool fits = l->ndim == first->ndim;
    for (int e = 0; fits && e < l->ndim; e++) fits = l->shape[e] == first->shape[e];
    if (!fits) return misfit(first, l, i + 1, d, err);
    out->dtype = nb_dtype_promote(out->dtype, l->dtype);
  }
  out->ndim++;
  for (int e = out->ndim - 1; e > d; e--) out->shape[e] = out->shape[e - 1];
  out->shape[d] = count;
  return true;
}

static bool forward_stack(Call *c, Error *err) {
  const Layout *l = &c->out[0]->layout;
  int d;
  if (!join_dim(c, l->ndim, &d, err)) return false;
  for (int i = 0; i < c->args[0].tensors.count; i++) {
    Tensor part = *c->out[0];
    part.layout.offset += i * l->strides[d];
    part.layout.ndim--;
    for (int e = d; e < part.layout.ndim; e++) {
      part.layout.shape[e] = l->shape[e + 1];
      part.layout.strides[e] = l->strides[e + 1];
    }
    nb_copy(&part, c->args[0].tensors.items[i]);
  }
  return true;
}

static bool backward_stack(Backward *b) {
  Value dim = *nb_arg(b, 1);
  if (!dim.integer) dim.integer = 1;
  for (int i = 0; i < nb_arg(b, 0)->tensors.count; i++) {
    if (!nb_wants_list(b, 0, i)) continue;
    if (!nb_give_list(b, 0, i, nb_op(b->scope, "select", (Value[]){{.tensor = b->grad[0]}, dim, {.integer = i + 1}})))
      return false;
  }
  return true;
}

// ---- repeating ----

// x as outer×size×inner around dimension d.
static void around(const Layout *x, int d, int64_t *outer, int64_t *inner) {
  *outer = *inner = 1;
  for (int e = 0; e < d; e++) *outer *= x->shape[e];
  for (int e = d + 1; e < x->ndim; e++) *inner *= x->shape[e];
}

static bool bad_repeats(int64_t repeats, Error *err) {
  return nb_fail(err, NB_ERROR_ARGUMENT, "cannot repeat %lld times", (long long)repeats);
}

// Missing repeats at the front are 1; missing dimensions at the front have size 1.
static bool shape_tile(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int count = c->args[1].ints.count < 0 ? 0 : c->args[1].ints.count;
  if (count > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions, not %d", NB_MAX_DIMS, count);
  *out = (Layout){.dtype = x->dtype, .ndim = count > x->ndim ? count : x->ndim};
  for (int d = 0; d < out->ndim; d++) {
    int e = d - (out->ndim - x->ndim), i = d - (out->ndim - count);
    int64_t repeats = i < 0 ? 1 : c->args[1].ints.items[i];
    if (repeats < 0) return bad_repeats(repeats, err);
    if (__builtin_mul_overflow(e < 0 ? 1 : x->shape[e], repeats, &out->shape[d]))
      return nb_fail(err, NB_ERROR_ARGUMENT, "the sizes are too large");
  }
  return true;
}

static int64_t tile_repeats(const Value *repeats, int ndim, int d) {
  int count = repeats->ints.count < 0 ? 0 : repeats->ints.count, i = d - (ndim - count);
  return i < 0 ? 1 : repeats->ints.items[i];
}

// Repeats dimension d: whole blocks one after the other, or each element beside itself.
static Tensor *repeat_dim(Scope *s, Tensor *x, int d, int64_t repeats, bool elements) {
  int64_t outer, inner;
  if (!x || repeats == 1) return x;
  Layout out = x->layout;
  around(&out, d, &outer, &inner);
  int64_t a = elements ? outer * out.shape[d] : outer, b = elements ? inner : out.shape[d] * inner;
  out.shape[d] *= repeats;
  x = nb_reshape(s, x, (int64_t[]){a, 1, b}, 3);
  return nb_reshape_like(s, nb_expand(s, x, (int64_t[]){a, repeats, b}, 3), &out);
}

// The transpose of repeat_dim: sums over the repeats.
static Tensor *unrepeat_dim(Scope *s, Tensor *g, int d, int64_t repeats, bool elements) {
  int64_t outer, inner;
  if (!g || repeats == 1) return g;
  Layout out = g->layout;
  around(&out, d, &outer, &inner);
  if (repeats == 0) return NULL;
  out.shape[d] /= repeats;
  int64_t a = elements ? outer * out.shape[d] : outer, b = elements ? inner : out.shape[d] * inner;
  g = nb_reshape(s, g, (int64_t[]){a, repeats, b}, 3);
  return nb_reshape_like(s, nb_sum_dims(s, g, (int[]){1}, 1, false), &out);
}

static bool into_out(Call *c, Scope *s, Tensor *result) {
  if (result) nb_copy(c->out[0], result);
  nb_scope_close(s);
  return result;
}

static bool forward_tile(Call *c, Error *err) {
  Scope s;
  int ndim = c->layout[0].ndim;
  if (nb_layout_numel(&c->layout[0]) == 0) return true;
  nb_scope_open(&s, err);
  Tensor *x = nb_lead(&s, c->args[0].tensor, ndim);
  for (int d = ndim - 1; d >= 0; d--) x = repeat_dim(&s, x, d, tile_repeats(&c->args[1], ndim, d), false);
  return into_out(c, &s, x);
}

static bool backward_tile(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  const Layout *x = &nb_in(b, 0)->layout;
  if (nb_layout_numel(&g->layout) == 0) return nb_give(b, 0, nb_full(s, x, 0));
  int ndim = g->layout.ndim;
  for (int d = 0; d < ndim; d++) g = unrepeat_dim(s, g, d, tile_repeats(nb_arg(b, 1), ndim, d), false);
  return nb_give(b, 0, nb_reshape_like(s, g, x));
}

static bool shape_repeat(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int64_t repeats = c->args[1].integer;
  int d = 0;
  if (repeats < 0) return bad_repeats(repeats, err);
  if (c->args[2].integer) {
    if (!nb_dim(c->args[2].integer, x->ndim, &d, err)) return false;
    *out = *x;
  } else {
    *out = (Layout){.dtype = x->dtype, .ndim = 1, .shape = {nb_layout_numel(x)}};
  }
  if (__builtin_mul_overflow(out->shape[d], repeats, &out->shape[d]))
    return nb_fail(err, NB_ERROR_ARGUMENT, "the sizes are too large");
  return true;
}

static bool forward_repeat(Call *c, Error *err) {
  Scope s;
  int64_t dim = c->args[2].integer;
  int d = 0;
  if (nb_layout_numel(&c->layout[0]) == 0) return true;
  if (dim && !nb_dim(dim, c->layout[0].ndim, &d, err)) return false;
  nb_scope_open(&s, err);
  Tensor *x = c->args[0].tensor;
  if (!dim) x = nb_reshape(&s, x, (int64_t[]){nb_layout_numel(&x->layout)}, 1);
  return into_out(c, &s, repeat_dim(&s, x, d, c->args[1].integer, true));
}

static bool backward_repeat(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t dim = nb_arg(b, 2)->integer;
  int d = 0;
  if (nb_layout_numel(&g->layout) == 0) return nb_give(b, 0, nb_full(s, x, 0));
  if (dim && !nb_dim(dim, x->ndim, &d, s->err)) return false;
  return nb_give(b, 0, nb_reshape_like(s, unrepeat_dim(s, g, d, nb_arg(b, 1)->integer, true), x));
}

// ---- flip and roll ----

static bool shape_flip(Call *c, Error *err) {
  bool mask[NB_MAX_DIMS];
  c->layout[0] = c->args[0].tensor->layout;
  return nb_dims(&c->args[1], c->layout[0].ndim, mask, err) >= 0;
}

static bool forward_flip(Call *c, Error *err) {
  bool mask[NB_MAX_DIMS];
  Tensor back = *c->args[0].tensor;
  Layout *l = &back.layout;
  if (nb_dims(&c->args[1], l->ndim, mask, err) < 0) return false;
  for (int d = 0; d < l->ndim; d++) {
    if (!mask[d] || l->shape[d] == 0) continue;
    l->offset += (l->shape[d] - 1) * l->strides[d];
    l->strides[d] = -l->strides[d];
  }
  nb_copy(c->out[0], &back);
  return true;
}

static bool backward_flip(Backward *b) {
  return nb_give(b, 0, nb_op(b->scope, "flip", (Value[]){{.tensor = b->grad[0]}, *nb_arg(b, 1)}));
}

static bool shape_roll(Call *c, Error *err) {
  int d;
  c->layout[0] = c->args[0].tensor->layout;
  return !c->args[2].integer || nb_dim(c->args[2].integer, c->layout[0].ndim, &d, err);
}

static bool forward_roll(Call *c, Error *err) {
  Scope s;
  bool ok = false;
  int64_t dim = c->args[2].integer;
  int d = 0;
  if (nb_layout_numel(&c->layout[0]) == 0) return true;
  if (dim && !nb_dim(dim, c->layout[0].ndim, &d, err)) return false;
  nb_scope_open(&s, err);
  Tensor *x = c->args[0].tensor, *out = c->out[0];
  if (!dim) {
    int64_t n = nb_layout_numel(&x->layout);
    x = nb_reshape(&s, x, &n, 1);
    out = nb_reshape(&s, out, &n, 1);
  }
  if (!x || !out) goto done;
  int64_t size = x->layout.shape[d], shift = c->args[1].integer % size;
  if (shift < 0) shift += size;
  Tensor tail = part_of(x, d, size - shift, shift), head = part_of(x, d, 0, size - shift);
  Tensor first = part_of(out, d, 0, shift), rest = part_of(out, d, shift, size - shift);
  nb_copy(&first, &tail);
  nb_copy(&rest, &head);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static bool backward_roll(Backward *b) {
  Value back = {.integer = (int64_t)(0 - (uint64_t)nb_arg(b, 1)->integer)};
  return nb_give(b, 0, nb_op(b->scope, "roll", (Value[]){{.tensor = b->grad[0]}, back, *nb_arg(b, 2)}));
}

// ---- pad ----

// How much goes before and after dimension d: the amounts start with the last dimension.
static void pad_amounts(const Value *amounts, int ndim, int d, int64_t *before, int64_t *after) {
  int i = 2 * (ndim - 1 - d);
  bool given = i + 1 < amounts->ints.count;
  *before = given ? amounts->ints.items[i] : 0;
  *after = given ? amounts->ints.items[i + 1] : 0;
}

static bool shape_pad(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  Layout *out = &c->layout[0];
  int count = c->args[1].ints.count < 0 ? 0 : c->args[1].ints.count;
  *out = c->args[0].tensor->layout;
  if (count % 2 != 0 || count > 2 * out->ndim)
    return nb_fail(
        err, NB_ERROR_ARGUMENT,
        "needs pairs of amounts {left, right, top, bottom, ...} from the last dimension of shape %s, got %d numbers",
        nb_shape_text(out, text), count);
  for (int d = 0; d < out->ndim; d++) {
    int64_t before, after, size;
    pad_amounts(&c->args[1], out->ndim, d, &before, &after);
    if (__builtin_add_overflow(out->shape[d], before, &size) || __builtin_add_overflow(size, after, &size))
      return nb_fail(err, NB_ERROR_ARGUMENT, "the sizes are too large");
    if (size < 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "amounts %lld and %lld cut more than the %lld elements of dimension %d",
                     (long long)before, (long long)after, (long long)out->shape[d], d + 1);
    out->shape[d] = size;
  }
  return true;
}

static bool forward_pad(Call *c, Error *err) {
  Tensor from = *c->args[0].tensor, to = *c->out[0];
  Scope s;
  nb_scope_open(&s, err);
  Tensor *value = nb_number_of(&s, &c->args[2], to.layout.dtype);
  if (value) nb_copy(&to, value);
  nb_scope_close(&s);
  if (!value) return false;
  for (int d = 0; d < to.layout.ndim; d++) {
    int64_t before, after;
    pad_amounts(&c->args[1], to.layout.ndim, d, &before, &after);
    int64_t length = from.layout.shape[d] + (before < 0 ? before : 0) + (after < 0 ? after : 0);
    if (length <= 0) return true;
    to = part_of(&to, d, before > 0 ? before : 0, length);
    from = part_of(&from, d, before < 0 ? -before : 0, length);
  }
  nb_copy(&to, &from);
  return true;
}

// Padding the gradient by the opposite amounts cuts off what was added.
static bool backward_pad(Backward *b) {
  const Value *amounts = nb_arg(b, 1);
  int64_t opposite[2 * NB_MAX_DIMS];
  int count = amounts->ints.count < 0 ? 0 : amounts->ints.count;
  for (int i = 0; i < count; i++) opposite[i] = -amounts->ints.items[i];
  return nb_give(b, 0,
                 nb_op(b->scope, "pad", (Value[]){{.tensor = b->grad[0]}, {.ints = {opposite, count}}, {.number = 0}}));
}

static const Op ops[] = {
    {.name = "cat",
     .doc = "Joins tensors along a dimension they have; without dim, the first.",
     .example = "nb.cat({nb.tensor{1, 2}, nb.tensor{3}})  --> {1, 2, 3}",
     .derivative = "∂/∂xᵢ = 1 on its part",
     .sample = {.args = "{f(2,3), f(1,3)}; {f(2,3), f(2,1), f(2,2)}, 2; {f(2,0,3), f(2,2,3)}, -2"},
     .role = NB_ROLE_PART,
     .params = {TENSORS("tensors"), OPTIONAL_DIM("dim")},
     .shape = shape_cat,
     .forward = forward_cat,
     .backward = backward_cat},
    {.name = "stack",
     .doc = "Joins tensors of one shape along a new dimension, which becomes dimension dim; without it, the first.",
     .example = "nb.stack({nb.tensor{1, 2}, nb.tensor{3, 4}})  --> {{1, 2}, {3, 4}}",
     .derivative = "∂/∂xᵢ = 1 on its part",
     .sample = {.args = "{f(2,3), f(2,3)}; {f(2,3), f(2,3)}, 2; {f(3), f(3), f(3)}, -1"},
     .role = NB_ROLE_PART,
     .params = {TENSORS("tensors"), OPTIONAL_DIM("dim")},
     .shape = shape_stack,
     .forward = forward_stack,
     .backward = backward_stack},
    {.name = "tile",
     .doc = "Repeats the whole tensor along each dimension; fewer repeats than dimensions count from the last.",
     .example = "nb.tile(nb.tensor{1, 2}, 2)  --> {1, 2, 1, 2}",
     .derivative = "∂/∂x = the sum over the repeats",
     .sample = {.args = "f(2,3), {2}; f(2,3), {3,1,2}; f(2,3,2), {2,1,3}"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), INTS("repeats")},
     .shape = shape_tile,
     .forward = forward_tile,
     .backward = backward_tile},
    {.name = "repeat_interleave",
     .doc =
         "Repeats each element beside itself along dim; without dim, of the flattened tensor.  repeats may be a tensor "
         "of counts, one for each.",
     .example = "nb.repeat_interleave(nb.tensor{1, 2}, 2)  --> {1, 1, 2, 2}",
     .derivative = "∂/∂x = the sum over the repeats",
     .sample = {.args = "f(2,3), 2; f(2,3), 3, 1; f(2,3), 2, -1"},
     .role = NB_ROLE_PART,
     .symbol = "repeat",
     .params = {TENSOR("x"), INT("repeats"), OPTIONAL_DIM("dim")},
     .shape = shape_repeat,
     .forward = forward_repeat,
     .backward = backward_repeat},
    {.name = "flip",
     .doc = "Reverses the order along the dimensions given; without them, along all.",
     .example = "nb.flip(nb.tensor{1, 2, 3})  --> {3, 2, 1}",
     .derivative = "∂/∂x = 1, reversed back",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), {1,-1}"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), OPTIONAL_DIMS("dims")},
     .shape = shape_flip,
     .forward = forward_flip,
     .backward = backward_flip},
    {.name = "roll",
     .doc = "Moves elements by shift places along dim, round the end; without dim, of the flattened tensor.  Tables of "
            "shifts "
            "and dimensions move along several.",
     .example = "nb.roll(nb.tensor{1, 2, 3}, 1)  --> {3, 1, 2}",
     .derivative = "∂/∂x = 1, moved back",
     .sample = {.args = "f(2,3), 1; f(2,3), -4, 2; f(2,3), 1, 1"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), INT("shift"), OPTIONAL_DIM("dim")},
     .shape = shape_roll,
     .forward = forward_roll,
     .backward = backward_roll},
    {.name = "pad",
     .doc = "Adds elements of one value at the edges, {left, right, top, bottom, ...} from the last dimension; "
            "negative cuts.",
     .example = "nb.pad(nb.tensor{1, 2}, {1, 2})  --> {0, 1, 2, 0, 0}",
     .derivative = "∂/∂x = 1, cut back",
     .sample = {.args = "f(2,3), {1,2}; f(2,3), {1,0,0,2}, 5; f(2,3), {-1,1}"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"),
                INTS("amounts"),
                {.name = "value", .kind = NB_PARAM_NUMBER, .optional = true, .element = true}},
     .shape = shape_pad,
     .forward = forward_pad,
     .backward = backward_pad},
};
const OpFamily ops_join = {"Joining, repeating, padding", ops, COUNT(ops)};
