// SPDX-License-Identifier: MIT
// Operators: the discrete Fourier transform of complex numbers, pairs in the last dimension.
//
// Lengths that are powers of two: J. Cooley, J. Tukey, "An algorithm for the machine calculation of complex Fourier
// series" (1965); others as a convolution of such a length: L. Bluestein, "A linear filtering approach to the
// computation of discrete Fourier transform" (1970).  All in doubles.
#include <math.h>
#include <string.h>

#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

typedef struct Complex {
  double re, im;
} Complex;

static inline Complex times(Complex a, Complex b) {
  return (Complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// Whole turns k/n as e^(−2πi·k/n).
static Complex root(int64_t k, int64_t n) {
  double angle = -6.28318530717958647693 * (double)k / (double)n;
  return (Complex){cos(angle), sin(angle)};
}

typedef struct Transform {
  int64_t n, m;          // the length, and the power of two that is worked in
  int64_t lanes, parts;  // each part has a buffer
  Complex *roots;        // m/2 of them
  Complex *chirp;        // e^(−πi·k²/n); NULL where n = m
  Complex *filter;       // the transform of what the chirped numbers are convolved with
  Complex *buffers;
  const void *from;
  void *to;
  bool inverse, single;
} Transform;

// In place, m numbers.
static void by_halves(const Transform *t, Complex *a) {
  int64_t m = t->m;
  for (int64_t i = 1, j = 0; i < m; i++) {
    int64_t bit = m >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    Complex swap = a[i];
    a[i] = a[j];
    a[j] = swap;
  }
  for (int64_t half = 1; half < m; half *= 2) {
    int64_t step = m / (2 * half);
    for (int64_t begin = 0; begin < m; begin += 2 * half)
      for (int64_t k = 0; k < half; k++) {
        Complex low = a[begin + k], high = times(a[begin + half + k], t->roots[k * step]);
        a[begin + k] = (Complex){low.re + high.re, low.im + high.im};
        a[begin + half + k] = (Complex){low.re - high.re, low.im - high.im};
      }
  }
}

// The inverse is that of the conjugates, conjugated.
static Complex load(const Transform *t, int64_t i) {
  double re, im;
  if (t->single)
    re = (double)((const float *)t->from)[2 * i], im = (double)((const float *)t->from)[2 * i + 1];
  else
    re = ((const double *)t->from)[2 * i], im = ((const double *)t->from)[2 * i + 1];
  return (Complex){re, t->inverse ? -im : im};
}

static void store(const Transform *t, int64_t i, Complex z) {
  if (t->inverse) z.im = -z.im;
  if (t->single)
    ((float *)t->to)[2 * i] = (float)z.re, ((float *)t->to)[2 * i + 1] = (float)z.im;
  else
    ((double *)t->to)[2 * i] = z.re, ((double *)t->to)[2 * i + 1] = z.im;
}

static void transform_lane(const Transform *t, int64_t lane, Complex *a) {
  int64_t n = t->n, m = t->m, first = lane * n;
  if (!t->chirp) {
    for (int64_t k = 0; k < n; k++) a[k] = load(t, first + k);
    by_halves(t, a);
    for (int64_t k = 0; k < n; k++) store(t, first + k, a[k]);
    return;
  }
  for (int64_t k = 0; k < n; k++) a[k] = times(load(t, first + k), t->chirp[k]);
  memset(a + n, 0, (size_t)(m - n) * sizeof *a);
  by_halves(t, a);
  for (int64_t k = 0; k < m; k++) {  // conjugated, so that the way back is the same way
    a[k] = times(a[k], t->filter[k]);
    a[k].im = -a[k].im;
  }
  by_halves(t, a);
  for (int64_t k = 0; k < n; k++)
    store(t, first + k, times((Complex){a[k].re / (double)m, -a[k].im / (double)m}, t->chirp[k]));
}

static void transform_part(int64_t begin, int64_t end, void *ctx) {
  const Transform *t = ctx;
  for (int64_t part = begin; part < end; part++)
    for (int64_t lane = t->lanes * part / t->parts; lane < t->lanes * (part + 1) / t->parts; lane++) {
      if (nb_interrupted()) return;
      transform_lane(t, lane, t->buffers + part * t->m);
    }
}

static bool shape_dft(Call *c, Error *err) {
  char text[NB_SHAPE_TEXT];
  const Layout *x = &c->args[0].tensor->layout;
  c->layout[0] = *x;
  c->compute = c->layout[0].dtype = nb_dtype_promote(x->dtype, NB_F32);
  if (x->ndim < 2 || x->shape[x->ndim - 1] != 2)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "needs complex numbers, pairs of a real and an imaginary part in the last dimension, got shape %s",
                   nb_shape_text(x, text));
  return x->shape[x->ndim - 2] < (int64_t)1 << 40 ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shape %s is too long to transform", nb_shape_text(x, text));
}

static void prepare(Transform *t) {
  int64_t n = t->n, m = t->m;
  for (int64_t k = 0; k < m / 2; k++) t->roots[k] = root(k, m);
  if (!t->chirp) return;
  memset(t->filter, 0, (size_t)m * sizeof *t->filter);
  for (int64_t k = 0, square = 0; k < n; square = (square + 2 * k + 1) % (2 * n), k++) {  // k² mod 2n
    Complex z = t->chirp[k] = root(square, 2 * n);
    t->filter[k] = t->filter[k ? m - k : 0] = (Complex){z.re, -z.im};
  }
  by_halves(t, t->filter);
}

static bool dft_forward(Call *c, Error *err) {
  Scope s;
  Tensor *out = c->out[0];
  int64_t pairs = nb_layout_numel(&out->layout) / 2;
  if (pairs == 0) return true;
  Transform t = {.n = out->layout.shape[out->layout.ndim - 2], .m = 1, .inverse = c->args[1].flag};
  while (t.m < t.n) t.m *= 2;
  bool chirped = t.m != t.n;
  if (chirped)
    while (t.m < 2 * t.n - 1) t.m *= 2;
  t.lanes = pairs / t.n;
  t.single = c->compute == NB_F32;
  t.parts = pairs < NB_GRAIN ? 1 : t.lanes < nb_threads() ? t.lanes : nb_threads();
  size_t count = (size_t)(t.m / 2 + (chirped ? t.n + t.m : 0) + t.parts * t.m), bytes = count * sizeof(Complex);
  nb_scope_open(&s, err);
  Tensor *x = nb_contiguous(&s, nb_to(&s, c->args[0].tensor, c->compute));
  Complex *all = x ? nb_alloc(bytes, err) : NULL;
  if (all) {
    t.roots = all;
    t.chirp = chirped ? all + t.m / 2 : NULL;
    t.filter = chirped ? t.chirp + t.n : NULL;
    t.buffers = all + count - t.parts * t.m;
    t.from = nb_tensor_data(x);
    t.to = nb_tensor_data(out);
    prepare(&t);
    nb_parallel_for(t.parts, 1, transform_part, &t);
    nb_free(all, bytes);
  }
  nb_scope_close(&s);
  return all;
}

static bool dft_backward(Backward *b) {
  return nb_give(b, 0,
                 nb_op(b->scope, "dft", (Value[NB_MAX_PARAMS]){{.tensor = b->grad[0]}, {.flag = !nb_arg(b, 1)->flag}}));
}

static const Op ops[] = {
    {.name = "dft",
     .doc =
         "yⱼ = Σ xₖ·e^(−2πi·jk/n) over the last dimension but one of complex numbers, pairs in the last; inverse has "
         "the other sign and divides by nothing.",
     .example = "nb.fft(nb.tensor{{1, 0}, {3, 0}})  --> {{4, 0}, {-2, 0}}",
     .derivative = "∂/∂x = the transform of δ with the other sign",
     .sample = {.args = "f(4,2); f(2,3,2), true; f(6,2); f(1,2)"},
     .internal = true,
     .symbol = "Fourier",
     .params = {TENSOR("x"), {.name = "inverse", .kind = NB_PARAM_FLAG, .optional = true}},
     .shape = shape_dft,
     .forward = dft_forward,
     .backward = dft_backward},
};
const OpFamily ops_fourier = {"Fourier transforms", ops, COUNT(ops)};
