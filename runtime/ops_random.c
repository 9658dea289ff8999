// SPDX-License-Identifier: MIT
// Operators: random numbers, drawn by counter so that the thread count does not change them.
#include <math.h>
#include <string.h>

#include "loops.h"
#include "nablua/random.h"

// Draws fill a fresh contiguous tensor; item i uses the numbers of block i / per_block.
typedef struct Draw {
  RandomState state;
  Tensor *out;
  int64_t low;
  uint64_t range;
  const Tensor *probabilities;
} Draw;

// 24 and 53 bits in [0, 1): all multiples of 2^-24 and 2^-53 are equally likely.
static float unit_f32(uint32_t bits) {
  return (float)(bits >> 8) * 0x1p-24f;
}

NB_INLINE double unit_f64(uint32_t high, uint32_t low) {
  double upper = (double)(int32_t)(high ^ 0x80000000u) + 0x1p31;  // of a signed number: there are vectors for that
  return upper * 0x1p-32 + (double)(int32_t)(low >> 11) * 0x1p-53;
}

static void put(const Draw *d, int64_t i, double value) {
  if (d->out->layout.dtype == NB_F32)
    ((float *)nb_tensor_data(d->out))[i] = (float)value;
  else
    nb_tensor_set(d->out, i, value);
}

// Blocks of random numbers of which elements i .. use two each.
typedef struct Supply {
  int64_t first;  // block
  uint32_t r[32][4];
} Supply;

// The end of the elements from i on that the next blocks serve.
static int64_t supply(Supply *s, RandomState state, int64_t i, int64_t end) {
  int64_t blocks = (int64_t)(sizeof s->r / sizeof *s->r);
  s->first = i / 2;
  if ((end + 1) / 2 - s->first < blocks) blocks = (end + 1) / 2 - s->first;
  nb_random_blocks(state, (uint64_t)s->first, blocks, s->r);
  return (s->first + blocks) * 2 < end ? (s->first + blocks) * 2 : end;
}

static const uint32_t *supplied(const Supply *s, int64_t i) {
  return s->r[i / 2 - s->first] + i % 2 * 2;
}

static void draw_uniform(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s;
  float *single = d->out->layout.dtype == NB_F32 ? nb_tensor_data(d->out) : NULL;
  for (int64_t i = begin; i < end;)
    for (int64_t stop = supply(&s, d->state, i, end); i < stop; i++) {
      const uint32_t *r = supplied(&s, i);
      if (single)
        single[i] = unit_f32(r[0]);
      else
        put(d, i, unit_f64(r[0], r[1]));
    }
}

// Box and Muller (1958): two normal numbers of two uniform ones, u and v: √(−2 log(1 − u)) times cos 2πv and sin 2πv.
// Taylor's series after the reductions, in additions, products and roots alone, which all machines round alike.
NB_INLINE uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

NB_INLINE double double_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// log(2^e·m) = e·log 2 + 2 artanh s with s = (m − 1)/(m + 1), √½ ≤ m < √2; x is a normal number above 0.
NB_INLINE double log_of(double x) {
  const uint64_t root = 0x3FE6A09E667F3BCDu, fraction = 0xFFFFFFFFFFFFFu;
  uint64_t t = bits_of(x) - root + ((uint64_t)1023 << 52);
  double e = double_of(t >> 52 | 0x4330000000000000u) - (0x1p52 + 1023), m = double_of((t & fraction) + root);
  double s = (m - 1) / (m + 1), z = s * s, y = 1.0 / 21;
  y = y * z + 1.0 / 19;
  y = y * z + 1.0 / 17;
  y = y * z + 1.0 / 15;
  y = y * z + 1.0 / 13;
  y = y * z + 1.0 / 11;
  y = y * z + 1.0 / 9;
  y = y * z + 1.0 / 7;
  y = y * z + 1.0 / 5;
  y = y * z + 1.0 / 3;
  return e * 0.693147180559945309 + 2 * (s + s * (y * z));
}

NB_TWICE(normal_numbers, (int n, uint32_t (*r)[4], double *to), (n, r, to), n >= 4) {
  const double rounder = 0x1.8p52;
  for (int i = 0; i < n; i++) {
    double radius = sqrt(-2 * log_of(1 - unit_f64(r[i][0], r[i][1]))), quarters = 4 * unit_f64(r[i][2], r[i][3]);
    double near = quarters + rounder, x = (quarters - (near - rounder)) * 1.57079632679489662, z = x * x;
    double sine = z * (1 / 6227020800.0 - z * (1 / 1307674368000.0));
    sine =
        x - x * (z * (1 / 6.0 - z * (1 / 120.0 - z * (1 / 5040.0 - z * (1 / 362880.0 - z * (1 / 39916800.0 - sine))))));
    double cosine = z * (1 / 87178291200.0 - z * (1 / 20922789888000.0));
    cosine = 1 - z * (1 / 2.0 -
                      z * (1 / 24.0 -
                           z * (1 / 720.0 - z * (1 / 40320.0 - z * (1 / 3628800.0 - z * (1 / 479001600.0 - cosine))))));
    uint64_t turn = bits_of(near), odd = 0 - (turn & 1), change = odd & (bits_of(sine) ^ bits_of(cosine));
    to[2 * i] = radius * double_of(bits_of(cosine) ^ change ^ ((turn + 1) << 62 & (uint64_t)1 << 63));
    to[2 * i + 1] = radius * double_of(bits_of(sine) ^ change ^ (turn << 62 & (uint64_t)1 << 63));
  }
}

static void draw_normal(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s;
  double numbers[2 * COUNT(s.r)];
  float *single = d->out->layout.dtype == NB_F32 ? nb_tensor_data(d->out) : NULL;
  for (int64_t i = begin; i < end;) {
    int64_t stop = supply(&s, d->state, i, end), first = 2 * s.first;
    normal_numbers((int)((stop + 1) / 2 - s.first), s.r, numbers);
    for (; i < stop; i++) {
      if (single)
        single[i] = (float)numbers[i - first];
      else
        put(d, i, numbers[i - first]);
    }
  }
}

// Unbiased whole numbers: draws beyond the largest multiple of the range are taken again, from a
// stream of the element's own (Lemire 2019 discusses the ways).
static int64_t bounded(const Draw *d, int64_t i) {
  uint64_t limit = d->range ? UINT64_MAX - UINT64_MAX % d->range : UINT64_MAX, bits;
  RandomState s = d->state;
  uint32_t r[4];
  nb_random_block(s, (uint64_t)(i / 2), r);
  int k = (int)(i % 2) * 2;
  bits = ((uint64_t)r[k] << 32) | r[k + 1];
  for (uint64_t again = 1; d->range && bits >= limit; again++) {
    RandomState other = {s.seed ^ (again * 0x9E3779B97F4A7C15u), s.counter};
    nb_random_block(other, (uint64_t)i, r);
    bits = ((uint64_t)r[0] << 32) | r[1];
  }
  return (int64_t)((uint64_t)d->low + (d->range ? bits % d->range : bits));
}

static void draw_whole(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  for (int64_t i = begin; i < end; i++) {
    int64_t v = bounded(d, i);
    if (d->out->layout.dtype == NB_I64)
      ((int64_t *)nb_tensor_data(d->out))[i] = v;
    else
      put(d, i, (double)v);
  }
}

static bool fill(Draw *d, void (*draw)(int64_t, int64_t, void *)) {
  int64_t n = nb_layout_numel(&d->out->layout);
  d->state = nb_random_take((uint64_t)(n + 1) / 2);
  nb_parallel_for(n, NB_GRAIN / 4, draw, d);
  return true;
}

static bool rand_forward(Call *c, Error *err) {
  (void)err;
  return fill(&(Draw){.out = c->out[0]}, draw_uniform);
}

static bool randn_forward(Call *c, Error *err) {
  (void)err;
  return fill(&(Draw){.out = c->out[0]}, draw_normal);
}

static bool float_only(DType dtype, Error *err) {
  return nb_dtype_is_float(dtype) || nb_fail(err, NB_ERROR_ARGUMENT, "draws f32 or f64, not %s", nb_dtype_name(dtype));
}

static bool shape_sizes(Call *c, Error *err) {
  return nb_sizes(&c->args[0], c->args[1].dtype, &c->layout[0], err) && float_only(c->args[1].dtype, err);
}

static bool shape_like(Call *c, Error *err) {
  c->layout[0] = c->args[0].tensor->layout;
  c->layout[0].dtype = nb_dtype_promote(c->layout[0].dtype, NB_F32);
  return nb_layout_check(&c->layout[0], err);
}

static bool shape_randint(Call *c, Error *err) {
  if (c->args[0].integer > c->args[1].integer)
    return nb_fail(err, NB_ERROR_ARGUMENT, "low must not exceed high, got %lld and %lld", (long long)c->args[0].integer,
                   (long long)c->args[1].integer);
  return nb_sizes(&c->args[2], c->args[3].dtype, &c->layout[0], err);
}

static bool randint_forward(Call *c, Error *err) {
  (void)err;
  int64_t low = c->args[0].integer, high = c->args[1].integer;
  return fill(&(Draw){.out = c->out[0], .low = low, .range = (uint64_t)high - (uint64_t)low + 1}, draw_whole);
}

static bool shape_randperm(Call *c, Error *err) {
  c->layout[0] = (Layout){.dtype = NB_I64, .ndim = 1, .shape = {c->args[0].integer}};
  if (c->args[0].integer < 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "n must not be negative, got %lld", (long long)c->args[0].integer);
  return true;
}

// Fisher and Yates (Durstenfeld 1964).
static bool randperm_forward(Call *c, Error *err) {
  int64_t n = c->args[0].integer, *p = nb_tensor_data(c->out[0]);
  (void)err;
  Draw d = {.state = nb_random_take((uint64_t)(n + 1) / 2), .low = 0};
  for (int64_t i = 0; i < n; i++) p[i] = i + 1;
  for (int64_t i = n - 1; i > 0; i--) {
    d.range = (uint64_t)i + 1;
    int64_t j = bounded(&d, i), t = p[i];
    p[i] = p[j];
    p[j] = t;
  }
  return true;
}

static void draw_bernoulli(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s;
  for (int64_t i = begin; i < end;)
    for (int64_t stop = supply(&s, d->state, i, end); i < stop; i++) {
      const uint32_t *r = supplied(&s, i);
      put(d, i, unit_f64(r[0], r[1]) < nb_tensor_get(d->probabilities, i));
    }
}

static bool bernoulli_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *p = nb_contiguous(&s, c->args[0].tensor);
  int64_t n = nb_layout_numel(&c->out[0]->layout);
  bool ok = p;
  for (int64_t i = 0; ok && i < n; i++) {
    double v = nb_tensor_get(p, i);
    if (!(v >= 0 && v <= 1))
      ok = nb_fail(err, NB_ERROR_ARGUMENT, "a probability lies between 0 and 1, but element %lld is %g",
                   (long long)i + 1, v);
  }
  if (ok) fill(&(Draw){.out = c->out[0], .probabilities = p}, draw_bernoulli);
  nb_scope_close(&s);
  return ok;
}

#define NO_GRAD .no_grad = "it draws numbers and depends on none"

static const Op ops[] = {
    {.name = "rand",
     .doc = "Uniform random numbers in [0, 1) of the given shape.",
     .example = "nb.rand(2, 3):lt(1):all()  --> true",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = rand_forward},
    {.name = "randn",
     .doc = "Normal random numbers (mean 0, standard deviation 1) of the given shape.",
     .example = "nb.randn(2, 3):isfinite():all()  --> true",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = randn_forward},
    {.name = "rand_like",
     .doc = "Uniform random numbers in [0, 1) of x's shape.",
     .example = "nb.rand_like(nb.zeros(2)):numel()  --> 2",
     NO_GRAD,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = rand_forward},
    {.name = "randn_like",
     .doc = "Normal random numbers of x's shape.",
     .example = "nb.randn_like(nb.zeros(2)):numel()  --> 2",
     NO_GRAD,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = randn_forward},
    {.name = "randint",
     .doc = "Random whole numbers from low to high, both included, of the given shape.",
     .example = "nb.randint(7, 7, 3)  --> {7, 7, 7}",
     NO_GRAD,
     .sample = {.args = "1, 6, 2, 3; -5, 5, {4}"},
     .params = {INT("low"), INT("high"), INTS("shape"), NAMED_DTYPE(NB_I64)},
     .creates = true,
     .shape = shape_randint,
     .forward = randint_forward},
    {.name = "randperm",
     .doc = "The numbers 1 to n in random order.",
     .example = "nb.randperm(4):sum()  --> 10",
     NO_GRAD,
     .sample = {.args = "5; 0"},
     .params = {INT("n")},
     .creates = true,
     .shape = shape_randperm,
     .forward = randperm_forward},
    {.name = "bernoulli",
     .doc = "1 with the probability that p holds, else 0, elementwise.",
     .example = "nb.bernoulli(nb.tensor{0, 1})  --> {0, 1}",
     NO_GRAD,
     .sample = {.lo = 0.1, .hi = 0.9},
     .params = {TENSOR("p")},
     .shape = shape_like,
     .forward = bernoulli_forward},
};
const OpFamily ops_random = {"Random numbers", ops, COUNT(ops)};
