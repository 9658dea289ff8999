// SPDX-License-Identifier: MIT
// Values on their way into a part of a tensor: do they fit, do they lose something.
#include "put.h"

#include <math.h>
#include <string.h>

#include "loops.h"

bool nb_fits(const Layout *value, const Layout *part) {
  for (int d = 1; d <= value->ndim; d++) {
    int64_t size = value->shape[value->ndim - d];
    if (size != 1 && (d > part->ndim || size != part->shape[part->ndim - d])) return false;
  }
  return true;
}

void nb_strip(Layout *value, int ndim) {
  int extra = value->ndim - ndim;
  if (extra <= 0) return;
  memmove(value->shape, value->shape + extra, (size_t)ndim * sizeof *value->shape);
  memmove(value->strides, value->strides + extra, (size_t)ndim * sizeof *value->strides);
  value->ndim = ndim;
}

Tensor *nb_lead(Scope *s, Tensor *t, int ndim) {
  int64_t sizes[NB_MAX_DIMS];
  if (!t || t->layout.ndim >= ndim) return t;
  for (int d = 0; d < ndim; d++) {
    int e = d - (ndim - t->layout.ndim);
    sizes[d] = e < 0 ? 1 : t->layout.shape[e];
  }
  return nb_reshape(s, t, sizes, ndim);
}

// Whether a tensor of `dtype` can hold it; any number is true or false.
static bool holds(DType dtype, double v) {
  if (nb_dtype_is_float(dtype) || dtype == NB_BOOL) return true;
  bool byte = dtype == NB_U8;
  return v >= (byte ? 0 : -9223372036854775808.0) && v < (byte ? 256 : 9223372036854775808.0) && v == rint(v);
}

static bool does_not_fit(double v, DType dtype, Error *err) {
  return nb_fail(err, NB_ERROR_ARGUMENT,
                 "the value %.10g does not fit into a tensor of %s, which holds whole numbers%s", v,
                 nb_dtype_name(dtype), dtype == NB_U8 ? " 0..255" : "");
}

bool nb_check_whole(const Tensor *value, DType dtype, Error *err) {
  const Layout *l = &value->layout;
  int64_t at[NB_MAX_DIMS] = {0}, n = nb_layout_numel(l);
  if (l->dtype <= NB_U8 || (l->dtype == NB_I64 && dtype != NB_U8)) return true;
  if (nb_dtype_is_float(dtype) || dtype == NB_BOOL) return true;
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) {
    int64_t offset = 0;
    for (int d = 0; d < l->ndim; d++) offset += at[d] * l->strides[d];
    double v = nb_tensor_get(value, offset);
    if (!holds(dtype, v)) return does_not_fit(v, dtype, err);
    for (int d = l->ndim - 1; d >= 0 && ++at[d] == l->shape[d]; d--) at[d] = 0;
  }
  return nb_poll(err);
}

// Where the number is not what the whole one is rounded to, there was none.
static bool is_whole(const Value *v) {
  return (double)v->whole == v->number;
}

int64_t nb_whole(const Value *v) {
  return is_whole(v) ? v->whole : (int64_t)v->number;
}

bool nb_number_fits(const Value *v, DType dtype) {
  return (dtype == NB_I64 && is_whole(v)) || holds(dtype, v->number);
}

bool nb_check_number(const Value *v, DType dtype, Error *err) {
  return nb_number_fits(v, dtype) || does_not_fit(v->number, dtype, err);
}

Tensor *nb_number_of(Scope *s, const Value *v, DType dtype) {
  if (!nb_check_number(v, dtype, s->err)) return NULL;
  return nb_scope_own(
      s, dtype == NB_I64 ? nb_tensor_whole(nb_whole(v), dtype, s->err) : nb_tensor_scalar(v->number, dtype, s->err));
}

Tensor *nb_source(Scope *s, Tensor *src, const Tensor *out) {
  if (!nb_check_whole(src, out->layout.dtype, s->err)) return NULL;
  if (src->storage == out->storage) src = nb_unary(s, "clone", src);
  return nb_to(s, src, out->layout.dtype);
}

Tensor *nb_number(Scope *s, double value, DType dtype) {
  return nb_scope_own(s, nb_tensor_scalar(value, dtype, s->err));
}

NB_INLINE bool all_are_places(int64_t n, int64_t *to, const int64_t *index, int64_t step, int64_t size) {
  uint64_t signs = 0, last = (uint64_t)size - 1;  // unsigned: whatever the numbers are, they only wrap around
  for (int64_t i = 0; i < n; i++) {
    int64_t v = index[i * step];
    uint64_t at = (uint64_t)v + (v < 0 ? (uint64_t)size : UINT64_MAX);
    to[i] = (int64_t)at;
    signs |= at | (last - at);
  }
  return signs >> 63 == 0;
}

NB_TWICE(row_of_places, (int64_t n, int64_t *to, const int64_t *index, int64_t step, int64_t size, bool *ok),
         (n, to, index, step, size, ok), n >= NB_SHORT) {
  *ok = step == 1 ? all_are_places(n, to, index, 1, size) : all_are_places(n, to, index, step, size);
}

bool nb_row_of_places(int64_t n, int64_t *to, const int64_t *index, int64_t step, int64_t size) {
  bool ok;
  row_of_places(n, to, index, step, size, &ok);
  return ok;
}

Tensor *nb_places(Scope *s, Tensor *index, int64_t size, int d) {
  Tensor *out = nb_scope_own(s, nb_tensor_new(&index->layout, s->err));
  Tensor *from = out ? nb_contiguous(s, index) : NULL;
  if (!from) return NULL;
  const int64_t *p = nb_tensor_data(from);
  int64_t n = nb_layout_numel(&out->layout), i = 0, *to = nb_tensor_data(out);
  bool ok = true;
  for (int64_t begin = 0; ok && begin < n; begin += NB_POLLED) {
    if (!nb_poll(s->err)) return NULL;
    ok = nb_row_of_places(n - begin < NB_POLLED ? n - begin : NB_POLLED, to + begin, p + begin, 1, size);
  }
  if (ok) return out;
  while (p[i] != 0 && p[i] <= size && p[i] >= -size) i++;
  nb_fail(s->err, NB_ERROR_ARGUMENT,
          "index %lld (element %lld of the index) is out of range in dimension %d of size %lld (count from 1, or "
          "from -1 at the end)",
          (long long)p[i], (long long)i + 1, d + 1, (long long)size);
  return NULL;
}
