// SPDX-License-Identifier: MIT
// Operators: the same elements in another shape; most results are views of the input's memory.
#include <string.h>

#include "loops.h"

static bool too_many(int64_t ndim, Error *err) {
  return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions, not %lld", NB_MAX_DIMS, (long long)ndim);
}

// ---- dtype and memory ----

static bool shape_to(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  c->view = c->layout[0].dtype == c->args[1].dtype;
  c->layout[0].dtype = c->args[1].dtype;
  return true;
}

static bool shape_clone(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  return true;
}

static bool shape_contiguous(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  c->view = nb_layout_contiguous(&c->layout[0]);
  return true;
}

static bool forward_copy(Call *c, Error *err) {
  (void)err;
  nb_copy(c->out[0], c->args[0].tensor);
  return true;
}

// The copy has x's order of elements; only its shape is another.
static bool forward_reshape(Call *c, Error *err) {
  (void)err;
  Tensor out = *c->out[0];
  out.layout = c->args[0].tensor->layout;
  nb_layout_pack(&out.layout);
  nb_copy(&out, c->args[0].tensor);
  return true;
}

static bool backward_same(Backward *b) {
  return nb_give(b, 0, b->grad[0]);
}

// ---- reshape ----

// The sizes asked for, with one −1 worked out.
static bool sizes_asked(const Layout *x, const Value *sizes, Layout *out, Error *err) {
  char text[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  int64_t n = nb_layout_numel(x), known = 1;
  int open = -1, count = sizes->ints.count < 0 ? 0 : sizes->ints.count;
  if (count > NB_MAX_DIMS) return too_many(count, err);
  *out = *x;
  out->ndim = count;
  for (int d = 0; d < count; d++) {
    int64_t size = out->shape[d] = sizes->ints.items[d];
    if (size == -1 && open >= 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "only one size can be -1 (dimensions %d and %d are)", open + 1, d + 1);
    if (size < -1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "size %lld in dimension %d is negative", (long long)size, d + 1);
    if (size == -1)
      open = d;
    else if (__builtin_mul_overflow(known, size, &known))
      return nb_fail(err, NB_ERROR_ARGUMENT, "the sizes are too large");
  }
  if (open >= 0) {
    if (known == 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "-1 has no definite value beside a size of 0; give all sizes");
    out->shape[open] = n / known;
    known *= n / known;
  }
  if (known == n) return true;
  if (open >= 0) out->shape[open] = -1;
  return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s has %lld elements, which do not fill shape %s",
                 nb_shape_text(x, text), (long long)n, nb_shape_text(out, want));
}

// Strides with which `out`, of as many elements, looks at x's memory in row-major order; false when there are none.
static bool view_strides(const Layout *x, Layout *out) {
  int64_t size[NB_MAX_DIMS], stride[NB_MAX_DIMS], last = 1, offset = x->offset;
  int n = 0, i = 0, o = 0;
  if (nb_layout_numel(x) == 0) {
    nb_layout_pack(out);
    out->offset = offset;
    return true;
  }
  for (int d = 0; d < x->ndim; d++) {
    if (x->shape[d] == 1) continue;
    size[n] = x->shape[d];
    stride[n++] = x->strides[d];
  }
  // Groups of neighbours that hold the same number of elements on both sides.
  while (i < n && o < out->ndim) {
    int i_end = i + 1, o_end = o + 1;
    int64_t in = size[i], want = out->shape[o];
    while (in != want) {
      if (in < want)
        in *= size[i_end++];
      else
        want *= out->shape[o_end++];
    }
    for (int d = i; d < i_end - 1; d++)
      if (stride[d] != stride[d + 1] * size[d + 1]) return false;
    last = stride[i_end - 1];
    for (int d = o_end - 1; d >= o; d--) {
      out->strides[d] = last;
      last *= out->shape[d];
    }
    last = stride[i_end - 1];
    i = i_end;
    o = o_end;
  }
  for (; o < out->ndim; o++) out->strides[o] = last;
  return true;
}

static bool shape_reshape(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  if (!sizes_asked(x, &c->args[1], &c->layout[0], err)) return false;
  c->view = view_strides(x, &c->layout[0]);
  return true;
}

static bool shape_view(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  if (!shape_reshape(c, err)) return false;
  return c->view ||
         nb_fail(
             err, NB_ERROR_ARGUMENT,
             "the memory of shape %s is not laid out so that shape %s can look at it; use :reshape, which copies then",
             nb_shape_text(&c->args[0].tensor->layout, text), nb_shape_text(&c->layout[0], want));
}

// A row that reshapes without being told sizes.
static bool reshaped(Call *c, const int64_t *sizes, int ndim) {
  const Layout *x = &c->args[0].tensor->layout;
  c->layout[0] = *x;
  c->layout[0].ndim = ndim;
  memcpy(c->layout[0].shape, sizes, (size_t)ndim * sizeof *sizes);
  c->view = view_strides(x, &c->layout[0]);
  return true;
}

static bool shape_flatten(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  int64_t sizes[NB_MAX_DIMS], from = c->args[1].integer, to = c->args[2].integer;
  int first = 0, last = x->ndim - 1, ndim = 0;
  if (x->ndim == 0) return reshaped(c, (int64_t[]){1}, 1);
  if (from && !nb_dim(from, x->ndim, &first, err)) return false;
  if (to && !nb_dim(to, x->ndim, &last, err)) return false;
  if (last < first)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the last dimension to flatten, %d, comes before the first, %d", last + 1,
                   first + 1);
  for (int d = 0; d < x->ndim; d++) {
    if (d > first && d <= last)
      sizes[ndim - 1] *= x->shape[d];
    else
      sizes[ndim++] = x->shape[d];
  }
  return reshaped(c, sizes, ndim);
}

static bool shape_squeeze(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  bool mask[NB_MAX_DIMS];
  if (nb_dims(&c->args[1], x->ndim, mask, err) < 0) return false;
  *out = *x;
  out->ndim = 0;
  for (int d = 0; d < x->ndim; d++) {
    if (x->shape[d] == 1 && mask[d]) continue;
    out->shape[out->ndim] = x->shape[d];
    out->strides[out->ndim++] = x->strides[d];
  }
  return true;
}

static bool shape_unsqueeze(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int at;
  if (x->ndim == NB_MAX_DIMS) return too_many(x->ndim + 1, err);
  if (!nb_dim(c->args[1].integer, x->ndim + 1, &at, err)) return false;
  *out = *x;
  for (int d = x->ndim; d > at; d--) {
    out->shape[d] = x->shape[d - 1];
    out->strides[d] = x->strides[d - 1];
  }
  out->ndim++;
  out->shape[at] = 1;
  out->strides[at] = at < x->ndim ? x->shape[at] * x->strides[at] : 1;
  return true;
}

static bool backward_reshape(Backward *b) {
  return nb_give(b, 0, nb_reshape_like(b->scope, b->grad[0], &nb_in(b, 0)->layout));
}

// ---- transpose, permute, expand ----

// The dimension that a scalar may be said to have.
static bool is_only(int64_t dim) {
  return dim == 1 || dim == -1;
}

static bool shape_transpose(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int d, e;
  if (x->ndim == 0 && is_only(c->args[1].integer) && is_only(c->args[2].integer)) {
    *out = *x;
    return true;
  }
  if (!nb_dim(c->args[1].integer, x->ndim, &d, err) || !nb_dim(c->args[2].integer, x->ndim, &e, err)) return false;
  *out = *x;
  out->shape[d] = x->shape[e];
  out->shape[e] = x->shape[d];
  out->strides[d] = x->strides[e];
  out->strides[e] = x->strides[d];
  return true;
}

static bool backward_transpose(Backward *b) {
  return nb_give(b, 0, nb_op(b->scope, "transpose", (Value[]){{.tensor = b->grad[0]}, *nb_arg(b, 1), *nb_arg(b, 2)}));
}

static bool shape_permute(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  bool mask[NB_MAX_DIMS];
  int count = c->args[1].ints.count;
  if (count != x->ndim)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs each of the %d dimensions of shape %s once, got %d", x->ndim,
                   nb_shape_text(x, text), count < 0 ? 0 : count);
  if (nb_dims(&c->args[1], x->ndim, mask, err) < 0) return false;
  c->layout[0] = *x;
  for (int i = 0; i < count; i++) {
    int d = 0;
    if (!nb_dim(c->args[1].ints.items[i], x->ndim, &d, err)) return false;
    c->layout[0].shape[i] = x->shape[d];
    c->layout[0].strides[i] = x->strides[d];
  }
  return true;
}

static bool backward_permute(Backward *b) {
  const Value *dims = nb_arg(b, 1);
  int64_t inverse[NB_MAX_DIMS];
  for (int i = 0; i < dims->ints.count; i++) {
    int d = 0;
    if (!nb_dim(dims->ints.items[i], dims->ints.count, &d, b->scope->err)) return false;
    inverse[d] = i + 1;
  }
  return nb_give(b, 0,
                 nb_op(b->scope, "permute", (Value[]){{.tensor = b->grad[0]}, {.ints = {inverse, dims->ints.count}}}));
}

static bool shape_expand(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int ndim = c->args[1].ints.count < 0 ? 0 : c->args[1].ints.count, extra = ndim - x->ndim;
  if (ndim > NB_MAX_DIMS) return too_many(ndim, err);
  if (extra < 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s has %d dimensions, which is more than the sizes given (%d)",
                   nb_shape_text(x, text), x->ndim, ndim);
  *out = *x;
  out->ndim = ndim;
  for (int d = 0; d < ndim; d++) {
    int64_t size = c->args[1].ints.items[d], have = d < extra ? 1 : x->shape[d - extra];
    if (size == -1 && d < extra)
      return nb_fail(err, NB_ERROR_ARGUMENT, "-1 keeps a size, but dimension %d is new: shape %s has only %d", d + 1,
                     nb_shape_text(x, text), x->ndim);
    if (size < -1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "size %lld in dimension %d is negative", (long long)size, d + 1);
    if (size != -1 && have != 1 && have != size)
      return nb_fail(err, NB_ERROR_ARGUMENT,
                     "only a size of 1 can be repeated: dimension %d of shape %s has %lld, not 1 or %lld",
                     d - extra + 1, nb_shape_text(x, text), (long long)have, (long long)size);
    out->shape[d] = size == -1 ? have : size;
    out->strides[d] = have == 1 && out->shape[d] != 1 ? 0 : d < extra ? 0 : x->strides[d - extra];
  }
  return nb_layout_check(out, err);
}

// ---- diagonals and triangles ----

// The diagonal `k` above the main one of a rows×columns matrix: its length and where it starts.
static int64_t diagonal(int64_t rows, int64_t columns, int64_t k, int64_t *row, int64_t *column) {
  if (k < -rows) k = -rows;
  if (k > columns) k = columns;
  *row = k < 0 ? -k : 0;
  *column = k > 0 ? k : 0;
  int64_t down = rows - *row, right = columns - *column, n = down < right ? down : right;
  return n < 0 ? 0 : n;
}

static bool shape_diag(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  Layout *out = &c->layout[0];
  int64_t k = c->args[1].integer, row, column, size;
  *out = *x;
  if (k < -((int64_t)1 << 40) || k > (int64_t)1 << 40)
    return nb_fail(err, NB_ERROR_ARGUMENT, "there is no diagonal %lld", (long long)k);
  if (x->ndim == 2) {
    c->view = true;
    out->ndim = 1;
    out->shape[0] = diagonal(x->shape[0], x->shape[1], k, &row, &column);
    out->strides[0] = x->strides[0] + x->strides[1];
    if (out->shape[0] > 0) out->offset += row * x->strides[0] + column * x->strides[1];
    return true;
  }
  if (x->ndim != 1)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs a vector or a matrix, got shape %s", nb_shape_text(x, text));
  size = x->shape[0] + (k < 0 ? -k : k);
  out->ndim = 2;
  out->shape[0] = out->shape[1] = size;
  return nb_layout_check(out, err);
}

// A matrix of zeros with the vector x on its diagonal.
static bool put_diagonal(Call *c, int64_t k) {
  Tensor *out = c->out[0], part = *out;
  const Layout *l = &out->layout;
  int64_t row, column, n = diagonal(l->shape[0], l->shape[1], k, &row, &column);
  nb_zero(out);
  part.layout.ndim = 1;
  part.layout.shape[0] = n;
  part.layout.strides[0] = l->strides[0] + l->strides[1];
  if (n == 0) return true;
  part.layout.offset += row * l->strides[0] + column * l->strides[1];
  nb_copy(&part, c->args[0].tensor);
  return true;
}

static bool forward_diag(Call *c, Error *err) {
  (void)err;
  return put_diagonal(c, c->args[1].integer);
}

static bool shape_diag_embed(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  const int64_t *sizes = c->args[1].ints.items;
  int64_t row, column;
  c->layout[0] = (Layout){.dtype = x->dtype, .ndim = 2, .shape = {sizes[0], sizes[1]}};
  if (!nb_layout_check(&c->layout[0], err)) return false;
  if (x->ndim != 1 || x->shape[0] != diagonal(sizes[0], sizes[1], c->args[2].integer, &row, &column))
    return nb_fail(err, NB_ERROR_ARGUMENT, "shape %s does not fill the diagonal", nb_shape_text(x, text));
  return true;
}

static bool forward_diag_embed(Call *c, Error *err) {
  (void)err;
  return put_diagonal(c, c->args[2].integer);
}

static Tensor *diag_of(Scope *s, Tensor *x, Value k) {
  return x ? nb_op(s, "diag", (Value[]){{.tensor = x}, k}) : NULL;
}

static bool backward_diag(Backward *b) {
  Layout *x = &nb_in(b, 0)->layout;
  if (x->ndim == 1) return nb_give(b, 0, diag_of(b->scope, b->grad[0], *nb_arg(b, 1)));
  return nb_give(
      b, 0, nb_op(b->scope, "diag_embed", (Value[]){{.tensor = b->grad[0]}, {.ints = {x->shape, 2}}, *nb_arg(b, 1)}));
}

static bool backward_diag_embed(Backward *b) {
  return nb_give(b, 0, diag_of(b->scope, b->grad[0], *nb_arg(b, 2)));
}

static bool shape_triangle(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  c->layout[0] = c->args[0].tensor->layout;
  return c->layout[0].ndim >= 2 || nb_fail(err, NB_ERROR_ARGUMENT, "needs a matrix or a batch of them, got shape %s",
                                           nb_shape_text(&c->layout[0], text));
}

// Copies x and clears in each row what lies right of the diagonal k (lower), or left of it.
static bool triangle(Call *c, bool lower) {
  Tensor *out = c->out[0];
  const Layout *l = &out->layout;
  int64_t rows = l->shape[l->ndim - 2], columns = l->shape[l->ndim - 1], k = c->args[1].integer;
  size_t size = nb_dtype_size(l->dtype);
  nb_copy(out, c->args[0].tensor);
  char *data = nb_tensor_data(out);
  int64_t n = nb_layout_numel(l);
  if (n == 0) return true;
  if (k > columns) k = columns;
  if (k < -rows) k = -rows;
  for (int64_t i = 0; i < n / columns && nb_goes_on(i); i++) {
    int64_t cut = i % rows + k + (lower ? 1 : 0);  // the first column right of the part
    cut = cut < 0 ? 0 : cut > columns ? columns : cut;
    char *row = data + (size_t)(i * columns) * size;
    if (lower)
      memset(row + (size_t)cut * size, 0, (size_t)(columns - cut) * size);
    else
      memset(row, 0, (size_t)cut * size);
  }
  return true;
}

static bool forward_tril(Call *c, Error *err) {
  (void)err;
  return triangle(c, true);
}

static bool forward_triu(Call *c, Error *err) {
  (void)err;
  return triangle(c, false);
}

// For rows that are linear in x and their own transpose: the same row on the gradient.
static bool backward_again(Backward *b) {
  return nb_give(b, 0, nb_op(b->scope, b->node->op->name, (Value[]){{.tensor = b->grad[0]}, *nb_arg(b, 1)}));
}

static const Op ops[] = {
    {.name = "reshape",
     .doc = "The same elements in row-major order under another shape; one size may be -1. A view where the layout "
            "allows.",
     .example = "nb.tensor{1, 2, 3, 4}:reshape(2, -1)  --> {{1, 2}, {3, 4}}",
     .derivative = "∂/∂x = 1, in x's shape",
     .sample = {.args = "f(2,3,4), {6,4}; f(2,3,4), {-1}; f(1), {}"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), INTS("sizes")},
     .shape = shape_reshape,
     .forward = forward_reshape,
     .backward = backward_reshape},
    {.name = "view",
     .doc = "As reshape, but never copies: an error where the layout does not allow it.",
     .example = "nb.tensor{1, 2, 3, 4}:view(2, 2)  --> {{1, 2}, {3, 4}}",
     .derivative = "∂/∂x = 1, in x's shape",
     .sample = {.args = "f(2,3,4), {6,4}; f(2,3,4), {2,-1,2,2}"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), INTS("sizes")},
     .view = true,
     .shape = shape_view,
     .backward = backward_reshape},
    {.name = "flatten",
     .doc = "Joins the dimensions from start_dim to end_dim into one; without them, all.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:flatten()  --> {1, 2, 3, 4}",
     .derivative = "∂/∂x = 1, in x's shape",
     .sample = {.args = "f(2,3,4); f(2,3,4), 2; f(2,3,4), 1, 2; f(2,3,4), -2, -1"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), OPTIONAL_DIM("start_dim"), OPTIONAL_DIM("end_dim")},
     .shape = shape_flatten,
     .forward = forward_reshape,
     .backward = backward_reshape},
    {.name = "transpose",
     .doc = "Swaps two dimensions; a view.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:transpose(1, 2)  --> {{1, 3}, {2, 4}}",
     .derivative = "∂/∂x = 1, swapped back",
     .sample = {.args = "f(2,3,4), 1, 2; f(2,3,4), -1, 1; f(3), 1, 1"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), DIM("d"), DIM("e")},
     .view = true,
     .shape = shape_transpose,
     .backward = backward_transpose},
    {.name = "permute",
     .doc = "Puts the dimensions in the order given; a view.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:permute(2, 1)  --> {{1, 3}, {2, 4}}",
     .derivative = "∂/∂x = 1, permuted back",
     .sample = {.args = "f(2,3,4), {3,1,2}; f(2,3,4), {-1,2,1}"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), INTS("dims")},
     .view = true,
     .shape = shape_permute,
     .backward = backward_permute},
    {.name = "squeeze",
     .doc =
         "Drops the dimensions of size 1, or those of one or several if their size is 1; a view.  A tensor keeps its "
         "shape, so that there is no squeeze_.",
     .example = "nb.tensor{{1, 2}}:squeeze()  --> {1, 2}",
     .derivative = "∂/∂x = 1, in x's shape",
     .sample = {.args = "f(1,3,1,2); f(1,3,1,2), 1; f(1,3,1,2), -2; f(2,3), 1; f(1,3,1,2), {1, 2, -2}"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), OPTIONAL_DIMS("dim")},
     .view = true,
     .shape = shape_squeeze,
     .backward = backward_reshape},
    {.name = "unsqueeze",
     .doc = "Inserts a dimension of size 1 so that it becomes dimension dim; a view.",
     .example = "nb.tensor{1, 2}:unsqueeze(1)  --> {{1, 2}}",
     .derivative = "∂/∂x = 1, in x's shape",
     .sample = {.args = "f(2,3), 1; f(2,3), 2; f(2,3), -1"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), DIM("dim")},
     .view = true,
     .shape = shape_unsqueeze,
     .backward = backward_reshape},
    {.name = "expand",
     .doc = "Repeats dimensions of size 1 without copying; -1 keeps a size, new dimensions come first. A view.",
     .example = "nb.tensor{{1}, {2}}:expand(2, 3)  --> {{1, 1, 1}, {2, 2, 2}}",
     .derivative = "∂/∂x = the sum over the repeats",
     .sample = {.args = "f(3,1), {2,3,4}; f(3,1), {-1,4}; f(1), {3}"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), INTS("sizes")},
     .view = true,
     .shape = shape_expand,
     .backward = backward_same},
    {.name = "broadcast_to",
     .doc = "Repeats dimensions of size 1 without copying, as expand.",
     .example = "nb.tensor{1, 2}:broadcast_to(2, 2)  --> {{1, 2}, {1, 2}}",
     .derivative = "∂/∂x = the sum over the repeats",
     .sample = {.args = "f(3,1), {2,3,4}"},
     .role = NB_ROLE_STRUCTURE,
     .symbol = "broadcast",
     .params = {TENSOR("x"), INTS("sizes")},
     .view = true,
     .shape = shape_expand,
     .backward = backward_same},
    {.name = "to",
     .doc = "Converts to another dtype; the same memory when x has it already. Fractions are cut off, not rounded.",
     .example = "nb.tensor{1.5, -2.5}:to(\"i64\")  --> {1, -2}",
     .derivative = "∂/∂x = 1",
     .sample = {.args = "f(2,3), \"f64\""},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x"), {.name = "dtype", .kind = NB_PARAM_DTYPE}},
     .shape = shape_to,
     .forward = forward_copy,
     .backward = backward_same},
    {.name = "clone",
     .doc = "A copy in fresh, contiguous memory; gradients flow through.",
     .example = "nb.tensor{1, 2}:clone()  --> {1, 2}",
     .derivative = "∂/∂x = 1",
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x")},
     .shape = shape_clone,
     .forward = forward_copy,
     .backward = backward_same},
    {.name = "contiguous",
     .doc = "x with its elements in row-major order in memory; a copy only where they are not.",
     .example = "nb.tensor{{1, 2}, {3, 4}}.T:contiguous()  --> {{1, 3}, {2, 4}}",
     .derivative = "∂/∂x = 1",
     .sample = {.args = "f(2,3)"},
     .role = NB_ROLE_STRUCTURE,
     .params = {TENSOR("x")},
     .shape = shape_contiguous,
     .forward = forward_copy,
     .backward = backward_same},
    {.name = "diag",
     .doc =
         "The diagonal of a matrix, as a view, or a matrix with a vector on its diagonal; k counts diagonals upwards.",
     .example = "nb.diag(nb.tensor{{1, 2}, {3, 4}})  --> {1, 4}",
     .derivative = "∂/∂x = 1 on the diagonal",
     .sample = {.args = "f(3); f(3), 1; f(2), -2; f(3,4); f(3,4), 2; f(3,4), -1"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), {.name = "k", .kind = NB_PARAM_INT, .optional = true}},
     .shape = shape_diag,
     .forward = forward_diag,
     .backward = backward_diag},
    {.name = "diag_embed",
     .doc = "A matrix of the given sizes, zero but for the vector x on diagonal k.",
     .example = "nb.tensor{1, 2}:diag()  --> {{1, 0}, {0, 2}}",
     .derivative = "∂/∂x = the diagonal of δ",
     .sample = {.args = "f(3), {3,4}, 0; f(2), {3,4}, 2"},
     .role = NB_ROLE_PART,
     .symbol = "diag",
     .params = {TENSOR("x"), {.name = "sizes", .kind = NB_PARAM_INTS, .count = 2}, INT("k")},
     .internal = true,
     .shape = shape_diag_embed,
     .forward = forward_diag_embed,
     .backward = backward_diag_embed},
    {.name = "tril",
     .doc = "The lower triangle of matrices, zero elsewhere; k counts diagonals upwards.",
     .example = "nb.tril(nb.tensor{{1, 2}, {3, 4}})  --> {{1, 0}, {3, 4}}",
     .derivative = "∂/∂x = 1 in the triangle",
     .sample = {.args = "f(3,4); f(2,3,3), 1; f(4,3), -1"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), {.name = "k", .kind = NB_PARAM_INT, .optional = true}},
     .shape = shape_triangle,
     .forward = forward_tril,
     .backward = backward_again},
    {.name = "triu",
     .doc = "The upper triangle of matrices, zero elsewhere; k counts diagonals upwards.",
     .example = "nb.triu(nb.tensor{{1, 2}, {3, 4}})  --> {{1, 2}, {0, 4}}",
     .derivative = "∂/∂x = 1 in the triangle",
     .sample = {.args = "f(3,4); f(2,3,3), 1; f(4,3), -1"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), {.name = "k", .kind = NB_PARAM_INT, .optional = true}},
     .shape = shape_triangle,
     .forward = forward_triu,
     .backward = backward_again},
};
const OpFamily ops_shape = {"Shapes", ops, COUNT(ops)};
