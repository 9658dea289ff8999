// SPDX-License-Identifier: MIT
// XOR in C, without Lua: a net of nine weights on libnablua.
//
//   cc xor.c $(pkg-config --cflags --libs nablua) -o xor && ./xor
#include <stdio.h>
#include <string.h>

#include "nablua/compose.h"
#include "nablua/library.h"
#include "nablua/op.h"
#include "nablua/optimize.h"
#include "nablua/random.h"
#include "nablua/tape.h"

enum { WEIGHTS = 4, STEPS = 500 };

// A matrix f32, or with 0 rows a vector; the caller writes its values.
static Tensor *make(Scope *s, int64_t rows, int64_t columns) {
  Layout l = {.dtype = NB_F32, .ndim = rows ? 2 : 1, .shape = {rows ? rows : columns, columns}};
  nb_layout_pack(&l);
  return nb_scope_own(s, nb_tensor_new(&l, s->err));
}

static Tensor *given(Scope *s, int64_t rows, int64_t columns, const float *values) {
  Tensor *t = make(s, rows, columns);
  if (t) memcpy(nb_tensor_data(t), values, sizeof *values * (size_t)nb_layout_numel(&t->layout));
  return t;
}

// A parameter with values in −1..1.
static Tensor *weight(Scope *s, int64_t rows, int64_t columns) {
  Tensor *t = make(s, rows, columns);
  if (!t) return NULL;
  int64_t n = nb_layout_numel(&t->layout);
  RandomState state = nb_random_take((uint64_t)n);
  for (int64_t i = 0; i < n; i++) {
    uint64_t word[2];
    nb_random_block(state, (uint64_t)i, word);
    nb_tensor_set(t, i, (double)(word[0] >> 11) * 0x1p-52 - 1);
  }
  t->requires_grad = true;
  return t;
}

static Tensor *linear(Scope *s, Tensor *x, Tensor *w, Tensor *b) {
  return x && w && b ? nb_op(s, "linear", (Value[]){{.tensor = x}, {.tensor = w}, {.tensor = b}}) : NULL;
}

// The net's logits: linear(tanh(linear(x))).
static Tensor *forward(Scope *s, Tensor *x, OptimizerSlot *w) {
  Tensor *a = nb_unary(s, "tanh", linear(s, x, w[0].weight, w[1].weight));
  return linear(s, a, w[2].weight, w[3].weight);
}

// One step: forward, the loss J, ∂J/∂W for every weight, the weights against it.
static bool step(Tensor *x, Tensor *y, OptimizerSlot *w, double *loss, Error *err) {
  static const OptimizerRule rule = {.kind = NB_SGD, .lr = 0.1, .momentum = 0.9};
  Scope s;
  nb_scope_open(&s, err);
  for (int i = 0; i < WEIGHTS; i++) nb_tensor_release(&w[i].weight->grad);
  Tensor *z = forward(&s, x, w);
  Tensor *J = z ? nb_sum_all(&s, nb_op(&s, "bce_with_logits", (Value[]){{.tensor = z}, {.tensor = y}})) : NULL;
  bool ok = J && nb_backward(J, NULL, (BackwardOptions){0}, err) && nb_optimizer_step(&rule, w, WEIGHTS, err);
  if (ok) *loss = nb_tensor_get(J, 0);
  nb_scope_close(&s);
  return ok;
}

static bool train(Scope *s, Tensor *x, Tensor *y) {
  static const int64_t sizes[WEIGHTS][2] = {{4, 2}, {0, 4}, {1, 4}, {0, 1}};
  OptimizerSlot w[WEIGHTS] = {0};
  double loss = 0;
  for (int i = 0; i < WEIGHTS; i++) {
    int64_t rows = sizes[i][0], columns = sizes[i][1];
    w[i].weight = weight(s, rows, columns);
    w[i].first = given(s, rows, columns, (float[8]){0});
    w[i].step = nb_scope_own(s, nb_tensor_scalar(0, NB_F64, s->err));
    if (!w[i].weight || !w[i].first || !w[i].step) return false;
  }
  for (int i = 1; i <= STEPS; i++)
    if (!step(x, y, w, &loss, s->err)) return false;
  printf("after %d steps J = %.5f\n", STEPS, loss);
  Tensor *p = nb_unary(s, "sigmoid", forward(s, x, w));
  for (int i = 0; p && i < 4; i++)
    printf("%g xor %g = %.3f\n", nb_tensor_get(x, (int64_t)2 * i), nb_tensor_get(x, (int64_t)2 * i + 1),
           nb_tensor_get(p, i));
  return p != NULL;
}

int main(void) {
  Error err = {0};
  Scope s;
  if (!nb_open(&err)) {
    fprintf(stderr, "%s\n", err.message);
    return 1;
  }
  RandomState seed = {0};
  nb_random_set(seed);
  nb_scope_open(&s, &err);
  Tensor *x = given(&s, 4, 2, (float[]){0, 0, 0, 1, 1, 0, 1, 1});
  Tensor *y = given(&s, 4, 1, (float[]){0, 1, 1, 0});
  bool ok = x && y && train(&s, x, y);
  nb_scope_close(&s);
  if (!ok) fprintf(stderr, "%s\n", err.message);
  return ok ? 0 : 1;
}
