// SPDX-License-Identifier: MIT
// Counts of floating point operations that are not one for each element.
#include "flops.h"

#include "recurrent.h"

static double numel(const Layout *l) {
  return (double)nb_layout_numel(l);
}

static double given(const Call *c, int i) {
  return numel(&c->args[i].tensor->layout);
}

// A size of an argument; at = 1 is the last dimension, 2 the one before it.
static double size_at(const Call *c, int i, int at) {
  const Layout *l = &c->args[i].tensor->layout;
  return l->ndim >= at ? (double)l->shape[l->ndim - at] : 1;
}

static double results(const Call *c) {
  return numel(&c->layout[0]);
}

double nb_flops_multiply_add(const Call *c) {
  return 2 * results(c);
}

double nb_flops_arguments(const Call *c) {
  return given(c, 0);
}

// ---- products ----

double nb_flops_matmul(const Call *c) {
  return 2 * results(c) * size_at(c, 0, 1);
}

// One addition for each result where there is a bias.
static double bias(const Call *c) {
  return c->args[2].tensor ? results(c) : 0;
}

double nb_flops_linear(const Call *c) {
  return nb_flops_matmul(c) + bias(c);
}

// How many weights each filter has; or, in a transpose, how many each channel has.
static double filter(const Layout *w) {
  return w->shape[0] > 0 ? numel(w) / (double)w->shape[0] : 0;
}

double nb_flops_convolution(const Call *c) {
  return 2 * results(c) * filter(&c->args[1].tensor->layout) + bias(c);
}

double nb_flops_conv_transpose(const Call *c) {
  return 2 * given(c, 0) * filter(&c->args[1].tensor->layout) + bias(c);
}

double nb_flops_conv_weight(const Call *c) {
  return 2 * given(c, 1) * filter(&c->layout[0]);
}

double nb_flops_pool(const Call *c) {
  const int64_t *kernel = c->args[1].ints.items;
  return results(c) * (double)(kernel[0] * kernel[1]);
}

// ---- attention ----

typedef struct Scores {
  double count;         // of queries times keys, over all batches and heads
  double depth, width;  // features of a key, and of a value
  bool added;           // a mask of numbers is added to them
} Scores;

static bool is_added(const Tensor *mask) {
  return mask && mask->layout.dtype != NB_BOOL;
}

static Scores scores_of(const Call *c) {
  Layout batch = c->layout[0];
  double keys = size_at(c, 1, 2), width = size_at(c, 2, 1);
  // The gradient's first result has the query's shape, whose last dimension is the depth.
  double rows = batch.ndim ? numel(&batch) / (double)batch.shape[batch.ndim - 1] : 0;
  return (Scores){rows * keys, size_at(c, 0, 1), width, is_added(c->args[3].tensor)};
}

static Scores self_scores_of(const Call *c) {
  const Layout *x = &c->args[0].tensor->layout;
  double heads = (double)c->args[1].integer, length = (double)x->shape[1], depth = (double)x->shape[2] / 3 / heads;
  return (Scores){(double)x->shape[0] * heads * length * length, depth, depth, is_added(c->args[2].tensor)};
}

// q·kᵀ and p·v; scaling, the mask, softmax.
static double attend(Scores s) {
  return s.count * (2 * (s.depth + s.width) + 2 + (s.added ? 1 : 0));
}

// The scores again, δq, δk, δp and δv; from p and δp to the scores' δ: e^…, a difference, a product, scaling.
static double attend_back(Scores s) {
  return s.count * (2 * (3 * s.depth + 2 * s.width) + 4 + (s.added ? 1 : 0));
}

double nb_flops_attention(const Call *c) {
  return attend(scores_of(c));
}

double nb_flops_attention_grad(const Call *c) {
  return attend_back(scores_of(c));
}

double nb_flops_self_attention(const Call *c) {
  return attend(self_scores_of(c));
}

double nb_flops_self_attention_grad(const Call *c) {
  return attend_back(self_scores_of(c));
}

// ---- recurrent layers ----

enum { X, W_IH, W_HH, B_IH, B_HH, CELL = 7, G_STATES = 1, G_CELL = 7 };

double nb_flops_recurrent(const Call *c) {
  // For each unit: an LSTM adds for 4 gates, has 4 functions, c = f∘c + i∘g and h = o∘tanh(c); a GRU adds for 2 gates,
  // has 2 functions, n = tanh(i + r∘h) and h = n + z∘(h − n); others add and have one function.
  static const double cell[CELLS] = {[CELL_LSTM] = 13, [CELL_GRU] = 10, [CELL_TANH] = 2, [CELL_RELU] = 2};
  RecurrentCell kind = (RecurrentCell)c->args[CELL].choice;
  double gates = recurrent_blocks[kind].gates, size = size_at(c, W_HH, 1), features = size_at(c, X, 1);
  double biases = (c->args[B_IH].tensor ? 1 : 0) + (c->args[B_HH].tensor ? 1 : 0);
  double units = size_at(c, X, 3) * size_at(c, X, 2) * size;
  return units * (gates * (2 * (features + size) + biases) + cell[kind]);
}

// δ of the state before through the recurrent weight; each gate's function and its product.
double nb_flops_recurrent_grad(const Call *c) {
  double gates = recurrent_blocks[c->args[G_CELL].choice].gates, size = size_at(c, G_STATES, 1);
  double units = numel(&c->layout[0]) / gates;
  return units * gates * (2 * size + 2);
}

// ---- linear algebra ----

static double matrices(const Call *c) {
  double one = size_at(c, 0, 1) * size_at(c, 0, 2);
  return one > 0 ? given(c, 0) / one : 0;
}

static double cube(const Call *c) {
  double n = size_at(c, 0, 1);
  return matrices(c) * n * n * n;
}

double nb_flops_inverse(const Call *c) {
  return 2 * cube(c);
}

double nb_flops_factor(const Call *c) {
  return 2.0 / 3 * cube(c);
}

double nb_flops_cholesky(const Call *c) {
  return cube(c) / 3;
}

double nb_flops_triangular(const Call *c) {
  return results(c) * size_at(c, 0, 1);
}

double nb_flops_solve(const Call *c) {
  return nb_flops_factor(c) + 2 * nb_flops_triangular(c);
}

double nb_flops_qr(const Call *c) {
  double m = size_at(c, 0, 2), n = size_at(c, 0, 1), s = m < n ? m : n;
  return 2 * matrices(c) * (4 * m * n * s - 2 * (m + n) * s * s + 4.0 / 3 * s * s * s);
}

double nb_flops_eigen(const Call *c) {
  return 9 * cube(c);
}

double nb_flops_singular(const Call *c) {
  double m = size_at(c, 0, 2), n = size_at(c, 0, 1);
  return matrices(c) * (4 * m * m * n + 8 * m * n * n) + nb_flops_eigen(c);
}
