// SPDX-License-Identifier: MIT
// Operators: running totals along a dimension.
#include "loops.h"

static bool shape_cumsum(Call *c, Error *err) {
  int d = 0;
  c->layout[0] = c->args[0].tensor->layout;
  c->compute = c->layout[0].dtype = nb_dtype_promote(c->layout[0].dtype, NB_I64);
  return nb_dim(c->args[1].integer, c->layout[0].ndim, &d, err);
}

#define TOTALS(T, Sum)                                                                                 \
  do {                                                                                                 \
    T *to = (T *)v + at;                                                                               \
    Sum total = 0;                                                                                     \
    for (int64_t k = 0; k < n && nb_goes_on(k); k++) to[k * inner] = (T)(total += (Sum)to[k * inner]); \
  } while (0)

static bool cumsum_forward(Call *c, Error *err) {
  Scope s;
  int d = 0;
  nb_scope_open(&s, err);
  Tensor *x = nb_to(&s, c->args[0].tensor, c->compute), *out = c->out[0];
  if (x && nb_dim(c->args[1].integer, out->layout.ndim, &d, err)) {
    nb_copy(out, x);
    int64_t n = out->layout.shape[d], inner = out->layout.strides[d],
            slices = n ? nb_layout_numel(&out->layout) / n : 0;
    for (int64_t r = 0; r < slices; r++) {
      int64_t at = r / inner * n * inner + r % inner;
      void *v = nb_tensor_data(out);
      if (c->compute == NB_I64)
        TOTALS(int64_t, uint64_t);
      else if (c->compute == NB_F32)
        TOTALS(float, double);
      else
        TOTALS(double, double);
    }
  } else {
    x = NULL;
  }
  nb_scope_close(&s);
  return x;
}

static bool cumsum_backward(Backward *b) {
  Scope *s = b->scope;
  int64_t d[1] = {nb_arg(b, 1)->integer};
  Value dims = {.ints = {d, 1}};
  Tensor *g = nb_op(s, "flip", (Value[NB_MAX_PARAMS]){{.tensor = b->grad[0]}, dims});
  if (g) g = nb_op(s, "cumsum", (Value[NB_MAX_PARAMS]){{.tensor = g}, {.integer = d[0]}});
  return g && nb_give(b, 0, nb_op(s, "flip", (Value[NB_MAX_PARAMS]){{.tensor = g}, dims}));
}

static const Op ops[] = {
    {.name = "cumsum",
     .doc = "The running sum along dimension dim.",
     .example = "nb.cumsum(nb.tensor{1, 2, 3}, 1)  --> {1, 3, 6}",
     .derivative = "the sum of δ from here on",
     .sample = {.args = "f(2,3,4), 2; f(4), 1"},
     .params = {TENSOR("x"), DIM("dim")},
     .shape = shape_cumsum,
     .forward = cumsum_forward,
     .backward = cumsum_backward},
};
const OpFamily ops_scan = {"Running totals", ops, COUNT(ops)};
