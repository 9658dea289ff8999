// SPDX-License-Identifier: MIT
// Tensors and their storage: layouts, reference counts, single elements.
#include "nablua/tensor.h"

#include <stdio.h>
#include <string.h>

#include "nablua/events.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "tape_private.h"

static const struct {
  const char *name;
  size_t size;
} dtypes[NB_DTYPES] = {
    [NB_BOOL] = {"bool", 1}, [NB_U8] = {"u8", 1}, [NB_I64] = {"i64", 8}, [NB_F32] = {"f32", 4}, [NB_F64] = {"f64", 8}};

size_t nb_dtype_size(DType dtype) {
  return dtypes[dtype].size;
}

const char *nb_dtype_name(DType dtype) {
  return dtypes[dtype].name;
}

bool nb_dtype_parse(const char *name, DType *dtype) {
  for (int i = 0; i < NB_DTYPES; i++) {
    if (strcmp(dtypes[i].name, name) == 0) {
      *dtype = (DType)i;
      return true;
    }
  }
  return false;
}

bool nb_dtype_is_float(DType dtype) {
  return dtype == NB_F32 || dtype == NB_F64;
}

DType nb_dtype_promote(DType a, DType b) {
  return a > b ? a : b;
}

bool nb_layout_has(const Layout *l, const int64_t *shape, int ndim) {
  if (l->ndim != ndim) return false;
  for (int d = 0; d < ndim; d++)
    if (l->shape[d] != shape[d]) return false;
  return true;
}

int64_t nb_layout_numel(const Layout *l) {
  int64_t n = 1;
  for (int d = 0; d < l->ndim; d++) n *= l->shape[d];
  return n;
}

bool nb_layout_contiguous(const Layout *l) {
  int64_t stride = 1;
  for (int d = l->ndim - 1; d >= 0; d--) {
    if (l->shape[d] == 0) return true;
    if (l->shape[d] != 1 && l->strides[d] != stride) return false;
    stride *= l->shape[d];
  }
  return true;
}

bool nb_layout_is_single(const Layout *l) {
  for (int d = 0; d < l->ndim; d++)
    if (l->shape[d] != 1 && l->strides[d] != 0) return false;
  return true;
}

void nb_layout_pack(Layout *l) {
  int64_t stride = 1;
  l->offset = 0;
  for (int d = l->ndim - 1; d >= 0; d--) {
    l->strides[d] = stride;
    if (l->shape[d] > 1) stride *= l->shape[d];
  }
}

bool nb_layout_check(const Layout *l, Error *err) {
  char text[NB_SHAPE_TEXT];
  int64_t bytes = (int64_t)nb_dtype_size(l->dtype);
  bool fits = true, empty = false;
  for (int d = 0; d < l->ndim; d++) {
    if (l->shape[d] < 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "a size cannot be negative: dimension %d of %s", d + 1,
                     nb_shape_text(l, text));
    if (l->shape[d] == 0)
      empty = true;  // the strides must fit all the same
    else if (__builtin_mul_overflow(bytes, l->shape[d], &bytes))
      fits = false;
  }
  if (!fits || (!empty && bytes > ((int64_t)1 << 44)))
    return nb_fail(err, NB_ERROR_MEMORY, "a tensor of %s %s is larger than any memory; check the sizes",
                   nb_shape_text(l, text), nb_dtype_name(l->dtype));
  return true;
}

const char *nb_shape_text(const Layout *l, char buffer[NB_SHAPE_TEXT]) {
  size_t used = 0;
  if (l->ndim == 0) return strcpy(buffer, "scalar");
  for (int d = 0; d < l->ndim && used < NB_SHAPE_TEXT; d++)
    used += (size_t)snprintf(buffer + used, NB_SHAPE_TEXT - used, d ? "×%lld" : "%lld", (long long)l->shape[d]);
  return buffer;
}

static Tensor *init_header(Tensor *t, const Layout *l) {
  t->refs = 1;
  t->requires_grad = t->retains_grad = t->is_view = t->is_blind = false;
  t->output = 0;
  t->history = 0;
  t->layout = *l;
  t->storage = NULL;
  t->node = NULL;
  t->hooks = NULL;
  t->grad = NULL;
  t->name = NULL;
  return t;
}

static Tensor *header_new(const Layout *l, Error *err) {
  Tensor *t = nb_alloc(sizeof *t, err);
  return t ? init_header(t, l) : NULL;
}

// A storage lies in one block with the tensor that it was made for, and with its bytes when they are few; the block
// lives as long as the storage, which that tensor holds:
//
//   [ Tensor | Storage | bytes ]
enum { HEADER = 256, STORAGE = 64, MOST_WITHIN = 192 };
_Static_assert(sizeof(Tensor) <= HEADER, "a storage must be aligned");
_Static_assert(sizeof(Storage) <= STORAGE, "the bytes behind a storage must be aligned");

static Tensor *home_of(Storage *s) {
  return (Tensor *)(void *)((char *)s - HEADER);
}

static size_t block_bytes(size_t bytes) {
  return HEADER + STORAGE + (bytes <= MOST_WITHIN ? bytes : 0);
}

void nb_storage_drop_data(Storage *s) {
  if (!s->within) nb_free(s->data, s->bytes);
  s->data = NULL;
}

static void storage_release(Storage *s) {
  if (--s->refs > 0) return;
  nb_storage_drop_data(s);
  nb_free(home_of(s), block_bytes(s->bytes));
}

Tensor *nb_tensor_new(const Layout *l, Error *err) {
  if (!nb_layout_check(l, err)) return NULL;
  size_t bytes = (size_t)nb_layout_numel(l) * nb_dtype_size(l->dtype);
  Tensor *t = nb_alloc(block_bytes(bytes), err);
  if (!t) return NULL;
  init_header(t, l);
  nb_layout_pack(&t->layout);
  Storage *s = t->storage = (Storage *)(void *)((char *)t + HEADER);
  *s = (Storage){.refs = 1, .within = bytes <= MOST_WITHIN, .bytes = bytes, .owner = t};
  s->data = s->within ? (char *)s + STORAGE : nb_alloc(bytes, err);
  if (s->data) return t;
  nb_free(t, block_bytes(bytes));
  return NULL;
}

Tensor *nb_tensor_alias(const Tensor *t, const Layout *l, Error *err) {
  Tensor *view = header_new(l, err);
  if (!view) return NULL;
  view->storage = t->storage;
  if (view->storage) view->storage->refs++;
  view->history = t->history;
  return view;
}

Tensor *nb_tensor_shape_only(const Layout *l, Error *err) {
  return header_new(l, err);
}

Tensor *nb_tensor_scalar(double value, DType dtype, Error *err) {
  Layout l = {.dtype = dtype};
  Tensor *t = nb_tensor_new(&l, err);
  if (t) nb_tensor_set(t, 0, value);
  return t;
}

Tensor *nb_tensor_whole(int64_t value, DType dtype, Error *err) {
  Layout l = {.dtype = dtype};
  Tensor *t = nb_tensor_new(&l, err);
  if (t) nb_tensor_set_whole(t, 0, value);
  return t;
}

Tensor *nb_tensor_retain(Tensor *t) {
  if (t) t->refs++;
  return t;
}

// All but its gradient, which is returned: a gradient may have one in turn, thousands of times.
static Tensor *destroy(Tensor *t) {
  Tensor *grad = t->grad;
  if (t->node) nb_node_forget(t);
  nb_node_release(&t->node);
  nb_hooks_release(&t->hooks);
  if (t->name) nb_free(t->name, strlen(t->name) + 1);
  Storage *s = t->storage;
  if (s && s->owner == t) s->owner = NULL;
  if (!s || home_of(s) != t) nb_free(t, sizeof *t);
  if (s) storage_release(s);
  return grad;
}

void nb_tensor_release(Tensor **slot) {
  Tensor *t = *slot;
  *slot = NULL;
  while (t && --t->refs == 0) t = destroy(t);
}

bool nb_tensor_set_name(Tensor *t, const char *name, Error *err) {
  char *copy = NULL;
  if (name) {
    size_t size = strlen(name) + 1;
    if (!(copy = nb_alloc(size, err))) return false;
    memcpy(copy, name, size);
  }
  if (t->name) nb_free(t->name, strlen(t->name) + 1);
  t->name = copy;
  return true;
}

bool nb_storage_write(Storage *s, Site site, Error *err) {
  if (nb_is_heard(NB_WRITE) && !nb_tell_overwriting(s, err)) return false;
  nb_storage_change(s, site);
  return true;
}

void *nb_tensor_data(const Tensor *t) {
  return t->storage->data + (size_t)t->layout.offset * nb_dtype_size(t->layout.dtype);
}

double nb_tensor_get(const Tensor *t, int64_t offset) {
  const void *data = nb_tensor_data(t);
  switch (t->layout.dtype) {
    case NB_BOOL:
      return ((const uint8_t *)data)[offset] != 0;
    case NB_U8:
      return ((const uint8_t *)data)[offset];
    case NB_I64:
      return (double)((const int64_t *)data)[offset];
    case NB_F32:
      return (double)((const float *)data)[offset];
    case NB_F64:
      return ((const double *)data)[offset];
    case NB_DTYPES:
      break;
  }
  return 0;
}

// The nearest int64 to `value`; NaN gives 0.
static int64_t to_i64(double value) {
  if (value >= 9223372036854775807.0) return INT64_MAX;
  if (value <= -9223372036854775808.0) return INT64_MIN;
  return value == value ? (int64_t)value : 0;
}

void nb_tensor_set(const Tensor *t, int64_t offset, double value) {
  void *data = nb_tensor_data(t);
  switch (t->layout.dtype) {
    case NB_BOOL:
      ((uint8_t *)data)[offset] = value != 0;
      break;
    case NB_U8:
      ((uint8_t *)data)[offset] = (uint8_t)to_i64(value);
      break;
    case NB_I64:
      ((int64_t *)data)[offset] = to_i64(value);
      break;
    case NB_F32:
      ((float *)data)[offset] = (float)value;
      break;
    case NB_F64:
      ((double *)data)[offset] = value;
      break;
    case NB_DTYPES:
      break;
  }
}

int64_t nb_tensor_get_whole(const Tensor *t, int64_t offset) {
  if (t->layout.dtype == NB_I64) return ((const int64_t *)nb_tensor_data(t))[offset];
  return to_i64(nb_tensor_get(t, offset));
}

void nb_tensor_set_whole(const Tensor *t, int64_t offset, int64_t value) {
  if (t->layout.dtype == NB_I64)
    ((int64_t *)nb_tensor_data(t))[offset] = value;
  else
    nb_tensor_set(t, offset, (double)value);
}

bool nb_tensor_tracked(const Tensor *t) {
  return t->requires_grad || t->node;
}

bool nb_tensor_same(const Tensor *a, const Tensor *b) {
  const Layout *p = &a->layout, *q = &b->layout;
  if (a->storage != b->storage || p->dtype != q->dtype || p->ndim != q->ndim || p->offset != q->offset) return false;
  for (int d = 0; d < p->ndim; d++)
    if (p->shape[d] != q->shape[d] || (p->shape[d] > 1 && p->strides[d] != q->strides[d])) return false;
  return true;
}
