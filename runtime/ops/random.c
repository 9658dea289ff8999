// SPDX-License-Identifier: MIT
// Operators: random numbers, drawn by counter so that the thread count does not change them.
#include "nablua/random.h"

#include <math.h>
#include <string.h>

#include "doubles.h"
#include "loops.h"
#include "special.h"

// Draws fill a fresh contiguous tensor; item i uses word i of the stream, or for short whole numbers half i.
typedef struct Draw {
  RandomState state;
  Tensor *out;
  int64_t low;
  uint64_t range;
  const Tensor *probabilities;
} Draw;

// 24 and 53 bits in [0, 1): all multiples of 2^-24 and 2^-53 are equally likely.
NB_INLINE float unit_f32(uint64_t word) {
  return (float)(int32_t)((uint32_t)word >> 8) * 0x1p-24f;
}

// The low half counts most.  Its bits and those of the other stand at the ends of 2^20 and 1/2; all sums are exact.
NB_INLINE double unit_f64(uint64_t word) {
  double upper = double_of(bits_of(0x1p20) | (uint32_t)word), lower = double_of(bits_of(0.5) | word >> 43);
  return (upper - 0x1p20) + (lower - 0.5);
}

static void put(const Draw *d, int64_t i, double value) {
  if (d->out->layout.dtype == NB_F32)
    ((float *)nb_tensor_data(d->out))[i] = (float)value;
  else
    nb_tensor_set(d->out, i, value);
}

// Words of the stream, from word `first` on.
enum { BLOCKS = 32, WORDS = 2 * BLOCKS };
typedef struct Supply {
  int64_t first;
  uint64_t word[WORDS];
} Supply;

// The end of the words from i on that the next blocks hold.
static int64_t supply(Supply *s, RandomState state, int64_t i, int64_t end) {
  int64_t block = i / 2, blocks = (end + 1) / 2 - block;
  if (blocks > BLOCKS) blocks = BLOCKS;
  s->first = 2 * block;
  nb_random_blocks(state, (uint64_t)block, blocks, s->word);
  return s->first + 2 * blocks < end ? s->first + 2 * blocks : end;
}

NB_RANGE(draw_uniform) {
  const Draw *d = ctx;
  Supply s;
  float *single = d->out->layout.dtype == NB_F32 ? nb_tensor_data(d->out) : NULL;
  double *doubles = d->out->layout.dtype == NB_F64 ? nb_tensor_data(d->out) : NULL;
  for (int64_t i = begin; i < end;) {
    int64_t stop = supply(&s, d->state, i, end), n = stop - i;
    const uint64_t *word = s.word + (i - s.first);
    if (single)
      for (int64_t k = 0; k < n; k++) single[i + k] = unit_f32(word[k]);
    else
      for (int64_t k = 0; k < n; k++) doubles[i + k] = unit_f64(word[k]);
    i = stop;
  }
}

// Box and Muller (1958): two normal numbers of two uniform ones, u and v: √(−2 log(1 − u)) times cos 2πv and sin 2πv.
// Taylor's series after the reductions, in additions, products and roots alone, which all machines round alike.

// Vectors that go side by side: one alone would wait for its own results most of the time.
typedef double Four __attribute__((vector_size(32)));
typedef uint64_t FourWords __attribute__((vector_size(32)));
enum { CHAINS = 4, PAIRS = 4 * CHAINS };
#define EACH UNROLL for (int c = 0; c < CHAINS; c++)

// The parts of uniform numbers as in unit_f64.
#define UPPER(w, end) ((Four)(((w)&UINT32_MAX) | bits_of(end)))
#define LOWER(w, end) ((Four)((w) >> 43 | bits_of(end)))

// y = −2 log x: log(2^e·m) = e·log 2 + 2 artanh s with s = (m − 1)/(m + 1), √½ ≤ m < √2; x is a normal number above 0.
NB_INLINE void squares(Four *y, const Four *x) {
  const uint64_t root = 0x3FE6A09E667F3BCDu, fraction = 0xFFFFFFFFFFFFFu;
  FourWords t[CHAINS];
  Four e[CHAINS], s[CHAINS], z[CHAINS];
  EACH t[c] = (FourWords)x[c] - root + ((uint64_t)1023 << 52);
  EACH e[c] = (Four)(t[c] >> 52 | 0x4330000000000000u) - (0x1p52 + 1023);
  EACH z[c] = (Four)((t[c] & fraction) + root);
  EACH s[c] = (z[c] - 1) / (z[c] + 1);
  EACH z[c] = s[c] * s[c];
  EACH y[c] = z[c] * (1.0 / 21) + 1.0 / 19;
  UNROLL for (int odd = 17; odd > 1; odd -= 2) EACH y[c] = y[c] * z[c] + 1.0 / odd;
  EACH y[c] = e[c] * (-2 * 0.693147180559945309) - 4 * (s[c] + s[c] * (y[c] * z[c]));
}

// y = z·(t₁ − z·(t₂ − z·(t₃ …))), the last term first.
NB_INLINE void series(Four *y, const Four *z, const double *terms, int count) {
  EACH y[c] = z[c] * terms[0];
  UNROLL for (int k = 1; k < count; k++) EACH y[c] = z[c] * (terms[k] - y[c]);
}

// In whole groups: numbers behind the n-th are made in vain.
NB_TWICE(normal_numbers, (int64_t n, const uint64_t *word, double *to), (n, word, to), true) {
  static const double odd_terms[] = {1 / 1307674368000.0, 1 / 6227020800.0, 1 / 39916800.0, 1 / 362880.0,
                                     1 / 5040.0,          1 / 120.0,        1 / 6.0};
  static const double even_terms[] = {1 / 20922789888000.0, 1 / 87178291200.0, 1 / 479001600.0, 1 / 3628800.0,
                                      1 / 40320.0,          1 / 720.0,         1 / 24.0,        1 / 2.0};
  for (int64_t i = 0; i < n; i += 2 * PAIRS) {
    Four u[CHAINS], v[CHAINS], square[CHAINS], x[CHAINS], z[CHAINS], sine[CHAINS], cosine[CHAINS];
    FourWords turn[CHAINS], change[CHAINS];
    EACH {
      FourWords a, b;
      memcpy(&a, word + i + 8 * c, sizeof a);
      memcpy(&b, word + i + 8 * c + 4, sizeof b);
      FourWords first = __builtin_shufflevector(a, b, 0, 4, 2, 6), second = __builtin_shufflevector(a, b, 1, 5, 3, 7);
      u[c] = (0x1p20 + 1.5 - UPPER(first, 0x1p20)) - LOWER(first, 0.5);    // 1 − u
      v[c] = (UPPER(second, 0x1p22) - (0x1p22 + 2)) + LOWER(second, 2.0);  // 4 v
    }
    squares(square, u);
    EACH x[c] = v[c] + DOUBLES_ROUNDER;
    EACH turn[c] = (FourWords)x[c];
    EACH x[c] = (v[c] - (x[c] - DOUBLES_ROUNDER)) * 1.57079632679489662;
    EACH z[c] = x[c] * x[c];
    series(sine, z, odd_terms, COUNT(odd_terms));
    EACH sine[c] = x[c] - x[c] * sine[c];
    series(cosine, z, even_terms, COUNT(even_terms));
    EACH cosine[c] = 1 - cosine[c];
    EACH {
      UNROLL for (int k = 0; k < 4; k++) square[c][k] = sqrt(square[c][k]);
    }
    EACH change[c] = (0 - (turn[c] & 1)) & ((FourWords)sine[c] ^ (FourWords)cosine[c]);
    EACH cosine[c] = square[c] * (Four)((FourWords)cosine[c] ^ change[c] ^ ((turn[c] + 1) << 62 & (uint64_t)1 << 63));
    EACH sine[c] = square[c] * (Four)((FourWords)sine[c] ^ change[c] ^ (turn[c] << 62 & (uint64_t)1 << 63));
    EACH {
      Four a = __builtin_shufflevector(cosine[c], sine[c], 0, 4, 2, 6);
      Four b = __builtin_shufflevector(cosine[c], sine[c], 1, 5, 3, 7);
      memcpy(to + i + 8 * c, &a, sizeof a);
      memcpy(to + i + 8 * c + 4, &b, sizeof b);
    }
  }
}

static void draw_normal(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s = {0};
  double number[WORDS];
  float *single = d->out->layout.dtype == NB_F32 ? nb_tensor_data(d->out) : NULL;
  for (int64_t i = begin; i < end;) {
    int64_t stop = supply(&s, d->state, i, end), n = stop - i;
    normal_numbers(stop - s.first, s.word, number);
    const double *from = number + (i - s.first);
    if (single)
      for (int64_t k = 0; k < n; k++) single[i + k] = (float)from[k];
    else
      memcpy((double *)nb_tensor_data(d->out) + i, from, (size_t)n * sizeof *from);
    i = stop;
  }
}

// Whole numbers below `range` without bias (Lemire 2019): the high half of the range times random bits, taken again
// where the low half is among the 2^64 mod range that are too many, from a stream of the element's own.
__extension__ typedef unsigned __int128 Product;

static uint64_t drawn_again(RandomState s, int64_t i, uint64_t range) {
  uint64_t excess = (0 - range) % range, word[2];
  for (uint64_t again = 1;; again++) {
    nb_random_block((RandomState){s.seed ^ (again * 0x9E3779B97F4A7C15u), s.counter}, (uint64_t)i / 2, word);
    Product p = (Product)word[i % 2] * range;
    if ((uint64_t)p >= excess) return (uint64_t)(p >> 64);
  }
}

static uint64_t bounded(RandomState s, int64_t i, uint64_t word, uint64_t range) {
  Product p = (Product)word * range;
  bool again = (uint64_t)p < range && (uint64_t)p < (0 - range) % range;  // a division for few
  return again ? drawn_again(s, i, range) : (uint64_t)(p >> 64);
}

// Ranges up to here take the 32 bits of half a word; of longer ones too many would be taken again.
static const uint64_t SHORT_RANGE = 1 << 24;

// The first 32 bits of a word are those of its low half.
NB_INLINE uint64_t half(const uint64_t *word, int64_t k) {
  return (uint32_t)(word[k / 2] >> k % 2 * 32);
}

NB_TWICE(short_numbers, (const Draw *d, int64_t first, int64_t n, const uint64_t *word, int64_t *to),
         (d, first, n, word, to), n >= NB_SHORT) {
  const uint64_t low = (uint64_t)d->low, range = (uint32_t)d->range, excess = (0x100000000 - range) % range;
  uint64_t below = 0;  // its first bit tells that a low half was
  for (int64_t k = 0; k < n; k += 2) {
    uint64_t a = half(word, k) * range, b = half(word, k + 1) * range;
    to[k] = (int64_t)(low + (a >> 32));
    to[k + 1] = (int64_t)(low + (b >> 32));
    below |= ((uint32_t)a - excess) | ((uint32_t)b - excess);
  }
  if (below >> 63 == 0) return;
  for (int64_t k = 0; k < n; k++)
    if ((uint32_t)(half(word, k) * range) < excess) to[k] = (int64_t)(low + drawn_again(d->state, first + k, range));
}

static void long_numbers(const Draw *d, int64_t first, int64_t n, const uint64_t *word, int64_t *to) {
  for (int64_t k = 0; k < n; k++) {
    uint64_t number = d->range ? bounded(d->state, first + k, word[k], d->range) : word[k];  // 0 stands for 2^64
    to[k] = (int64_t)((uint64_t)d->low + number);
  }
}

static void draw_whole(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s;
  int64_t number[2 * WORDS], halves = d->range - 1 < SHORT_RANGE ? 2 : 1;
  DType dtype = d->out->layout.dtype;
  void *out = nb_tensor_data(d->out);
  for (int64_t i = begin; i < end;) {
    int64_t stop = supply(&s, d->state, i / halves, (end + halves - 1) / halves) * halves, first = s.first * halves;
    if (stop > end) stop = end;
    (halves == 2 ? short_numbers : long_numbers)(d, first, stop - first, s.word, number);
    const int64_t *from = number + (i - first);
    int64_t n = stop - i;
    if (dtype == NB_I64)
      memcpy((int64_t *)out + i, from, (size_t)n * sizeof *from);
    else if (dtype == NB_F32)
      for (int64_t k = 0; k < n; k++) ((float *)out)[i + k] = (float)(double)from[k];
    else
      for (int64_t k = 0; k < n; k++) nb_tensor_set(d->out, i + k, (double)from[k]);
    i = stop;
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

// Fisher and Yates (Durstenfeld 1964).  The places of a supply come first: swaps between the tests of what is drawn
// take twice the time.
static bool randperm_forward(Call *c, Error *err) {
  int64_t n = c->args[0].integer, *p = nb_tensor_data(c->out[0]), place[WORDS];
  (void)err;
  RandomState state = nb_random_take((uint64_t)(n + 1) / 2);
  Supply s;
  for (int64_t i = 0; i < n; i++) p[i] = i + 1;
  for (int64_t i = 0; i < n && !nb_interrupted();) {
    int64_t count = supply(&s, state, i, n) - i, left = n - i;
    for (int64_t k = 0; k < count; k++) place[k] = (int64_t)bounded(state, i + k, s.word[k], (uint64_t)(left - k));
    for (int64_t k = 0; k < count; k++) {
      int64_t last = left - k - 1, t = p[last];
      p[last] = p[place[k]];
      p[place[k]] = t;
    }
    i += count;
  }
  return true;
}

static void draw_bernoulli(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  Supply s;
  for (int64_t i = begin; i < end;)
    for (int64_t stop = supply(&s, d->state, i, end); i < stop; i++)
      put(d, i, unit_f64(s.word[i - s.first]) < nb_tensor_get(d->probabilities, i));
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

// ---- poisson ----

// The kth uniform number of element i, of as many as it asks for, above 0.
static double kth_unit(RandomState s, int64_t i, uint64_t k) {
  uint64_t word[2];
  nb_random_block((RandomState){s.seed ^ ((k + 1) * 0x9E3779B97F4A7C15u), s.counter}, (uint64_t)i / 2, word);
  return 1 - unit_f64(word[i % 2]);
}

// Small rates: how many uniform numbers multiply to no less than e^−rate (Knuth).  Others: the transformed rejection
// PTRS of W. Hörmann, "The transformed rejection method for generating Poisson random variables" (1993).
static double poisson_one(RandomState s, int64_t i, double rate) {
  uint64_t k = 0;
  if (rate < 10) {
    double least = exp(-rate), product = kth_unit(s, i, 0);
    while (product > least) product *= kth_unit(s, i, ++k);
    return (double)k;
  }
  const double b = 0.931 + 2.53 * sqrt(rate), a = -0.059 + 0.02483 * b;
  const double inverse = 1.1239 + 1.1328 / (b - 3.4), accept = 0.9277 - 3.6224 / (b - 2), log_rate = log(rate);
  for (;; k += 2) {
    double u = kth_unit(s, i, k) - 0.5, v = kth_unit(s, i, k + 1), edge = 0.5 - fabs(u);
    double n = floor((2 * a / edge + b) * u + rate + 0.43);
    if (edge >= 0.07 && v <= accept) return n;
    if (n < 0 || (edge < 0.013 && v > edge)) continue;
    if (log(v * inverse / (a / (edge * edge) + b)) <= -rate + n * log_rate - special_lgamma(n + 1)) return n;
  }
}

static void draw_poisson(int64_t begin, int64_t end, void *ctx) {
  const Draw *d = ctx;
  for (int64_t i = begin; i < end && nb_goes_on(i); i++)
    put(d, i, poisson_one(d->state, i, nb_tensor_get(d->probabilities, i)));
}

static bool poisson_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *rate = nb_contiguous(&s, c->args[0].tensor);
  int64_t n = nb_layout_numel(&c->out[0]->layout);
  bool ok = rate;
  for (int64_t i = 0; ok && i < n; i++) {
    double v = nb_tensor_get(rate, i);
    if (!(v >= 0 && v <= 0x1p52))
      ok = nb_fail(err, NB_ERROR_ARGUMENT, "a rate lies between 0 and 2^52, but element %lld is %g", (long long)i + 1,
                   v);
  }
  if (ok) fill(&(Draw){.out = c->out[0], .probabilities = rate}, draw_poisson);
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
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = rand_forward},
    {.name = "randn",
     .doc = "Normal random numbers (mean 0, standard deviation 1) of the given shape.",
     .example = "nb.randn(2, 3):isfinite():all()  --> true",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = randn_forward},
    {.name = "rand_like",
     .doc = "Uniform random numbers in [0, 1) of x's shape.",
     .example = "nb.rand_like(nb.zeros(2)):numel()  --> 2",
     NO_GRAD,
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = rand_forward},
    {.name = "randn_like",
     .doc = "Normal random numbers of x's shape.",
     .example = "nb.randn_like(nb.zeros(2)):numel()  --> 2",
     NO_GRAD,
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = randn_forward},
    {.name = "randint",
     .doc = "Random whole numbers from low to high, both included, of the given shape.",
     .example = "nb.randint(7, 7, 3)  --> {7, 7, 7}",
     NO_GRAD,
     .sample = {.args = "1, 6, 2, 3; -5, 5, {4}"},
     .role = NB_ROLE_CREATION,
     .params = {INT("low"), INT("high"), INTS("shape"), NAMED_DTYPE(NB_I64)},
     .creates = true,
     .shape = shape_randint,
     .forward = randint_forward},
    {.name = "randperm",
     .doc = "The numbers 1 to n in random order.",
     .example = "nb.randperm(4):sum()  --> 10",
     NO_GRAD,
     .sample = {.args = "5; 0"},
     .role = NB_ROLE_CREATION,
     .params = {INT("n")},
     .creates = true,
     .shape = shape_randperm,
     .forward = randperm_forward},
    {.name = "bernoulli",
     .doc = "1 with the probability that p holds, else 0, elementwise.",
     .example = "nb.bernoulli(nb.tensor{0, 1})  --> {0, 1}",
     NO_GRAD,
     .sample = {.lo = 0.1, .hi = 0.9},
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("p")},
     .shape = shape_like,
     .forward = bernoulli_forward},
    {.name = "poisson",
     .doc = "Poisson's random numbers, elementwise with the mean that rate holds.",
     .example = "nb.poisson(nb.tensor{0, 0})  --> {0, 0}",
     NO_GRAD,
     .source = "W. Hörmann, The transformed rejection method for generating Poisson random variables, 1993",
     .sample = {.lo = 0.1, .hi = 20},
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("rate")},
     .shape = shape_like,
     .forward = poisson_forward},
};
const OpFamily ops_random = {"Random numbers", ops, COUNT(ops)};
