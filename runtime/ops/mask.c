// SPDX-License-Identifier: MIT
// Operators: choosing and replacing elements by masks; how many there are depends on values.
#include <string.h>

#include "loops.h"
#include "put.h"

static bool count_true(const Tensor *mask, int64_t *count, Error *err) {
  const uint8_t *m = nb_tensor_data(mask);
  int64_t n = nb_layout_numel(&mask->layout);
  *count = 0;
  for (int64_t begin = 0; begin < n && !nb_interrupted(); begin += NB_POLLED) {
    int64_t stop = n - begin < NB_POLLED ? n : begin + NB_POLLED, part = 0;
    for (int64_t i = begin; i < stop; i++) part += m[i] != 0;
    *count += part;
  }
  return nb_poll(err);
}

// ---- masked_fill ----

#define FILL_MASKED(name, T)                                                                            \
  NB_LOOP(name) {                                                                                       \
    const int64_t w = (int64_t)sizeof(T);                                                               \
    if (s[0] == w && s[1] == 1 && s[2] == 0) { /* masks may be random: without a branch */              \
      const T value = *(const T *)p[2];                                                                 \
      T *o = (T *)p[0];                                                                                 \
      const uint8_t *m = (const uint8_t *)p[1];                                                         \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                                        \
        T fill = (T)(0 - (T)(m[i] != 0));                                                               \
        o[i] = (T)((fill & value) | (~fill & o[i]));                                                    \
      }                                                                                                 \
      return;                                                                                           \
    }                                                                                                   \
    for (int64_t i = 0; i < n; i++)                                                                     \
      if (*(const uint8_t *)(p[1] + i * s[1])) *(T *)(p[0] + i * s[0]) = *(const T *)(p[2] + i * s[2]); \
  }
FILL_MASKED(fill_masked_1, uint8_t)
FILL_MASKED(fill_masked_4, uint32_t)
FILL_MASKED(fill_masked_8, uint64_t)

static bool shape_masked_fill(Call *c, Error *err) {
  const Layout *x = &c->args[0].tensor->layout, *value = &c->args[2].tensor->layout;
  c->layout[0].dtype = x->dtype;
  if (!nb_broadcast_shape(x, &c->args[1].tensor->layout, &c->layout[0], err)) return false;
  return nb_broadcast_shape(&c->layout[0], value, &c->layout[0], err);
}

static bool forward_masked_fill(Call *c, Error *err) {
  Scope s;
  Tensor *out = c->out[0];
  size_t size = nb_dtype_size(out->layout.dtype);
  if (!nb_check_whole(c->args[2].tensor, out->layout.dtype, err)) return false;
  nb_scope_open(&s, err);
  Tensor *value = nb_to(&s, c->args[2].tensor, out->layout.dtype);
  if (value) {
    if (out != c->args[0].tensor) nb_copy(out, c->args[0].tensor);
    nb_loop(size == 1   ? fill_masked_1
            : size == 4 ? fill_masked_4
                        : fill_masked_8,
            NULL, (Tensor *[]){out, c->args[1].tensor, value}, 3);
  }
  nb_scope_close(&s);
  return value;
}

static Tensor *fill_zero(Scope *s, Tensor *g, Tensor *mask) {
  Tensor *zero = g && mask ? nb_number(s, 0, g->layout.dtype) : NULL;
  return zero ? nb_op(s, "masked_fill", (Value[]){{.tensor = g}, {.tensor = mask}, {.tensor = zero}}) : NULL;
}

static bool backward_masked_fill(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *mask = nb_in(b, 1);
  if (nb_wants(b, 0) && !nb_give(b, 0, fill_zero(s, g, mask))) return false;
  return !nb_wants(b, 2) || nb_give(b, 2, fill_zero(s, g, nb_unary(s, "logical_not", mask)));
}

// ---- rows at a mask: the mask covers the first dimensions of x ----

// The layout of the rows that the mask chooses, `count` of them.
static bool rows_layout(const Layout *x, const Layout *mask, int64_t count, Layout *out, Error *err) {
  char tx[NB_SHAPE_TEXT], tm[NB_SHAPE_TEXT];
  bool fits = mask->ndim <= x->ndim;
  for (int d = 0; fits && d < mask->ndim; d++) fits = mask->shape[d] == x->shape[d];
  if (!fits)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the mask has shape %s, but x begins with other sizes: its shape is %s",
                   nb_shape_text(mask, tm), nb_shape_text(x, tx));
  *out = (Layout){.dtype = x->dtype, .ndim = 1 + x->ndim - mask->ndim, .shape = {count}};
  for (int d = 1; d < out->ndim; d++) out->shape[d] = x->shape[mask->ndim + d - 1];
  return out->ndim <= NB_MAX_DIMS || nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions", NB_MAX_DIMS);
}

static int64_t row_bytes(const Layout *rows) {
  int64_t bytes = (int64_t)nb_dtype_size(rows->dtype);
  for (int d = 1; d < rows->ndim; d++) bytes *= rows->shape[d];
  return bytes;
}

// Copies the rows of contiguous x where the contiguous mask is true.
static bool choose(Call *c, const Tensor *x, const Tensor *mask, Error *err) {
  int64_t count;
  if (!count_true(mask, &count, err) || !rows_layout(&x->layout, &mask->layout, count, &c->layout[0], err))
    return false;
  if (!(c->out[0] = nb_tensor_new(&c->layout[0], err))) return false;
  const uint8_t *m = nb_tensor_data(mask);
  const char *from = nb_tensor_data(x);
  char *to = nb_tensor_data(c->out[0]);
  int64_t n = nb_layout_numel(&mask->layout);
  size_t bytes = (size_t)row_bytes(&c->layout[0]);
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
    if (!m[i]) continue;
    memcpy(to, from + (size_t)i * bytes, bytes);
    to += bytes;
  }
  return true;
}

static bool shape_masked_rows(Call *c, Error *err) {
  return rows_layout(&c->args[0].tensor->layout, &c->args[1].tensor->layout, 0, &c->layout[0], err);
}

static bool forward_masked_rows(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, c->args[0].tensor), *mask = nb_contiguous(&s, c->args[1].tensor);
  bool ok = x && mask && choose(c, x, mask, err);
  nb_scope_close(&s);
  return ok;
}

static Tensor *put_into_zeros(Scope *s, const Layout *x, Tensor *mask, Tensor *g) {
  Layout l = *x;
  if (!mask || !g) return NULL;
  l.dtype = g->layout.dtype;
  return nb_into_zeros(s, "masked_put", &l, (Value[NB_MAX_PARAMS]){{0}, {.tensor = mask}, {.tensor = g}});
}

static bool backward_masked_rows(Backward *b) {
  return nb_give(b, 0, put_into_zeros(b->scope, &nb_in(b, 0)->layout, nb_in(b, 1), b->grad[0]));
}

static bool shape_masked_select(Call *c, Error *err) {
  c->layout[0].dtype = c->args[0].tensor->layout.dtype;
  return nb_broadcast_shape(&c->args[0].tensor->layout, &c->args[1].tensor->layout, &c->layout[0], err);
}

static bool forward_masked_select(Call *c, Error *err) {
  Scope s;
  Layout both = c->layout[0];
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_expand_like(&s, c->args[0].tensor, &both));
  Tensor *mask = nb_contiguous(&s, nb_expand_like(&s, c->args[1].tensor, &both));
  bool ok = x && mask && choose(c, x, mask, err);
  nb_scope_close(&s);
  return ok;
}

static bool backward_masked_select(Backward *b) {
  Layout both = {.dtype = b->grad[0]->layout.dtype};
  if (!nb_broadcast_shape(&nb_in(b, 0)->layout, &nb_in(b, 1)->layout, &both, b->scope->err)) return false;
  return nb_give(b, 0, put_into_zeros(b->scope, &both, nb_expand_like(b->scope, nb_in(b, 1), &both), b->grad[0]));
}

// ---- masked_put ----

static bool shape_masked_put(Call *c, Error *err) {
  Layout rows;
  c->layout[0] = c->args[0].tensor->layout;
  return rows_layout(&c->layout[0], &c->args[1].tensor->layout, 0, &rows, err);
}

static bool forward_masked_put(Call *c, Error *err) {
  char tv[NB_SHAPE_TEXT], tr[NB_SHAPE_TEXT];
  Scope s;
  Layout rows;
  int64_t count;
  bool ok = false;
  Tensor *out = c->out[0], value = *c->args[2].tensor;
  nb_scope_open(&s, err);
  Tensor *mask = nb_contiguous(&s, c->args[1].tensor);
  if (!mask || !count_true(mask, &count, err) || !rows_layout(&out->layout, &mask->layout, count, &rows, err))
    goto done;
  if (!nb_fits(&value.layout, &rows)) {
    nb_fail(err, NB_ERROR_ARGUMENT, "the mask chooses %lld: shape %s does not broadcast into shape %s",
            (long long)rows.shape[0], nb_shape_text(&value.layout, tv), nb_shape_text(&rows, tr));
    goto done;
  }
  if (!nb_check_whole(&value, out->layout.dtype, err)) goto done;
  nb_strip(&value.layout, rows.ndim);
  Tensor *full = nb_scope_own(&s, nb_tensor_new(&rows, err));
  Tensor *to = nb_layout_contiguous(&out->layout) ? out : nb_scope_own(&s, nb_tensor_new(&out->layout, err));
  if (!full || !to) goto done;
  nb_copy(full, &value);
  if (to != c->args[0].tensor) nb_copy(to, c->args[0].tensor);
  const uint8_t *m = nb_tensor_data(mask);
  const char *from = nb_tensor_data(full);
  char *data = nb_tensor_data(to);
  int64_t n = nb_layout_numel(&mask->layout);
  size_t bytes = (size_t)row_bytes(&rows);
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
    if (!m[i]) continue;
    memcpy(data + (size_t)i * bytes, from, bytes);
    from += bytes;
  }
  if (to != out) nb_copy(out, to);
  ok = true;
done:
  nb_scope_close(&s);
  return ok;
}

static bool backward_masked_put(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0], *mask = nb_in(b, 1);
  if (nb_wants(b, 0)) {
    Tensor *zero = nb_number(s, 0, g->layout.dtype);
    if (!zero || !nb_give(b, 0, nb_op(s, "masked_put", (Value[]){{.tensor = g}, {.tensor = mask}, {.tensor = zero}})))
      return false;
  }
  if (!nb_wants(b, 2)) return true;
  Tensor *rows = nb_op(s, "masked_rows", (Value[]){{.tensor = g}, {.tensor = mask}});
  return nb_give(b, 2, nb_lead(s, rows, nb_in(b, 2)->layout.ndim));
}

// ---- nonzero ----

static bool shape_nonzero(Call *c, Error *err) {
  (void)err;
  c->layout[0] = (Layout){.dtype = NB_I64, .ndim = 2, .shape = {0, c->args[0].tensor->layout.ndim}};
  return true;
}

static bool forward_nonzero(Call *c, Error *err) {
  Scope s;
  const Layout *x = &c->args[0].tensor->layout;
  nb_scope_open(&s, err);
  Tensor *mask = nb_contiguous(&s, c->args[0].tensor);
  if (mask && count_true(mask, &c->layout[0].shape[0], err)) c->out[0] = nb_tensor_new(&c->layout[0], err);
  if (mask && c->out[0]) {
    const uint8_t *m = nb_tensor_data(mask);
    int64_t *to = nb_tensor_data(c->out[0]), at[NB_MAX_DIMS], n = nb_layout_numel(x);
    for (int d = 0; d < x->ndim; d++) at[d] = 1;
    for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
      for (int d = 0; m[i] && d < x->ndim; d++) *to++ = at[d];
      for (int d = x->ndim - 1; d >= 0 && ++at[d] > x->shape[d]; d--) at[d] = 1;
    }
  }
  nb_scope_close(&s);
  return c->out[0];
}

static const Op ops[] = {
    {.name = "masked_fill",
     .doc = "x with value where mask is true; all three broadcast, the result keeps x's dtype.",
     .example = "nb.masked_fill(nb.tensor{1, 2, 3}, nb.tensor{0, 1, 0}, 9)  --> {1, 9, 3}",
     .derivative = "∂/∂x = 1[not mask], ∂/∂value = 1[mask]",
     .sample = {.args = "f(2,3), m(2,3), 2; f(2,3), m(3), f(2,1); f(3), m(2,3), 0.5"},
     .role = NB_ROLE_PART,
     .symbol = "fill",
     .params = {TENSOR("x"), MASK("mask"), OPERAND("value")},
     .inplace = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_masked_fill,
     .forward = forward_masked_fill,
     .backward = backward_masked_fill},
    {.name = "masked_select",
     .doc = "The elements of x where mask is true, as a vector; x and mask broadcast.",
     .example = "nb.masked_select(nb.tensor{1, 2, 3}, nb.tensor{1, 0, 1})  --> {1, 3}",
     .derivative = "∂/∂x = 1[mask]",
     .sample = {.args = "f(2,3), m(2,3); f(2,3), m(3); f(3), m(2,3)"},
     .role = NB_ROLE_PART,
     .symbol = "pick",
     .params = {TENSOR("x"), MASK("mask")},
     .dynamic = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_masked_select,
     .forward = forward_masked_select,
     .backward = backward_masked_select},
    {.name = "masked_rows",
     .doc = "The parts of x where a mask of its first dimensions is true: what t[mask] computes.",
     .example = "nb.tensor{{1, 2}, {3, 4}}[nb.tensor({0, 1}, {dtype=\"bool\"})]  --> {{3, 4}}",
     .derivative = "∂/∂x = 1[mask]",
     .sample = {.args = "f(2,3), m(2,3); f(3,4), m(3); f(2,3,2), m(2,3)"},
     .role = NB_ROLE_PART,
     .symbol = "pick",
     .params = {TENSOR("x"), MASK("mask")},
     .dynamic = true,
     .internal = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_masked_rows,
     .forward = forward_masked_rows,
     .backward = backward_masked_rows},
    {.name = "masked_put",
     .doc = "x with its parts where a mask of its first dimensions is true replaced by value: what t[mask] = value "
            "records.",
     .example = "local t = nb.tensor{1, 5, 9}; t[t:gt(4)] = 4; return t  --> {1, 4, 4}",
     .derivative = "∂/∂x = 1[not mask], ∂/∂value = δ where mask",
     .sample = {.args = "f(2,3), m(2,3), 2; f(3,4), m(3), f(4); f(2,3,2), m(2,3), f(1,1,2)"},
     .role = NB_ROLE_PART,
     .symbol = "put",
     .params = {TENSOR("x"), MASK("mask"), OPERAND("value")},
     .internal = true,
     .inplace = true,
     .saves = NB_SAVE_IN(1),
     .shape = shape_masked_put,
     .forward = forward_masked_put,
     .backward = backward_masked_put},
    {.name = "nonzero",
     .doc = "The coordinates of all elements that are not zero (or true), one row for each.",
     .example = "nb.nonzero(nb.tensor{{0, 7}, {5, 0}})  --> {{1, 2}, {2, 1}}",
     .no_grad = "coordinates are whole numbers",
     .role = NB_ROLE_TEST,
     .params = {MASK("x")},
     .dynamic = true,
     .shape = shape_nonzero,
     .forward = forward_nonzero},
};
const OpFamily ops_mask = {"Masks", ops, COUNT(ops)};
