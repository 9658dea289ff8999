// SPDX-License-Identifier: MIT
// Operators: tensors made from sizes and numbers.
#include <math.h>

#include "loops.h"
#include "put.h"

typedef struct Fill {
  Tensor *t;
  double value;
  int64_t whole;  // for i64
} Fill;

#define FILL(T, value) \
  for (int64_t i = begin; i < end; i++) ((T *)data)[i] = (T)(value)

static void fill_range(int64_t begin, int64_t end, void *ctx) {
  const Fill *f = ctx;
  void *data = nb_tensor_data(f->t);
  switch (f->t->layout.dtype) {
    case NB_F32:
      FILL(float, f->value);
      break;
    case NB_F64:
      FILL(double, f->value);
      break;
    case NB_I64:
      FILL(int64_t, f->whole);
      break;
    default:
      for (int64_t i = begin; i < end; i++) nb_tensor_set(f->t, i, f->value);
  }
}

static void fill(Tensor *t, double value, int64_t whole) {
  if (value == 0 && !signbit(value) && whole == 0)
    nb_zero(t);
  else
    nb_parallel_for(nb_layout_numel(&t->layout), NB_GRAIN, fill_range, &(Fill){t, value, whole});
}

// The numbers of arange.
typedef struct Range {
  Value first, last, step;
} Range;

static bool shape_sizes(Call *c, Error *err) {
  return nb_sizes(&c->args[0], c->args[1].dtype, &c->layout[0], err);
}

static bool shape_full(Call *c, Error *err) {
  DType dtype = c->args[2].dtype;
  return nb_sizes(&c->args[0], dtype == NB_DTYPES ? NB_F32 : dtype, &c->layout[0], err);
}

static bool shape_like(Call *c, Error *err) {
  c->layout[0] = c->args[0].tensor->layout;
  return nb_layout_check(&c->layout[0], err);
}

static bool zeros_forward(Call *c, Error *err) {
  (void)err;
  nb_zero(c->out[0]);
  return true;
}

static bool ones_forward(Call *c, Error *err) {
  (void)err;
  fill(c->out[0], 1, 1);
  return true;
}

static bool full_forward(Call *c, Error *err) {
  Tensor *out = c->out[0];
  if (!nb_check_number(&c->args[1], out->layout.dtype, err)) return false;
  fill(out, c->args[1].number, out->layout.dtype == NB_I64 ? nb_whole(&c->args[1]) : 0);
  return true;
}

// Uninitialised memory could show another's data: empty is zeros by another name.
static bool empty_forward(Call *c, Error *err) {
  return zeros_forward(c, err);
}

// One argument counts from 1.
static Range range_of(const Value *args) {
  bool alone = isnan(args[1].number);
  return (Range){alone ? (Value){.number = 1, .whole = 1} : args[0], args[alone ? 0 : 1], args[2]};
}

static bool is_whole(const Value *v) {
  return nb_number_fits(v, NB_I64);
}

// Whether all numbers are whole and lie beyond those that f32 holds: multiples of 2^zeros up to 2^24·2^zeros.
static bool exceeds_f32(const Range *r) {
  uint64_t first = (uint64_t)nb_whole(&r->first), step = (uint64_t)nb_whole(&r->step);
  int zeros = first | step ? __builtin_ctzll(first | step) : 0;
  return fmax(fabs(r->first.number), fabs(r->last.number)) > ldexp(0x1p24, zeros);
}

// How many, with an allowance for the rounding of step.
static double rounded_count(double first, double last, double step) {
  return floor((last - first) / step * (1 + 1e-15) + 1e-9) + 1;
}

// How many whole numbers, exactly.
static double whole_count(const Range *r) {
  int64_t first = nb_whole(&r->first), last = nb_whole(&r->last), step = nb_whole(&r->step);
  if (step > 0 ? first > last : first < last) return 0;
  uint64_t way = step > 0 ? (uint64_t)last - (uint64_t)first : (uint64_t)first - (uint64_t)last;
  return (double)(way / (step > 0 ? (uint64_t)step : 0 - (uint64_t)step)) + 1;
}

// How many numbers there are, and their dtype where it is not given.
static double count_range(Range r, DType *dtype) {
  double last = r.last.number;
  if (!is_whole(&r.last)) r.last.number = r.step.number > 0 ? floor(last) : ceil(last);
  bool whole = is_whole(&r.first) && is_whole(&r.last) && is_whole(&r.step);
  if (*dtype == NB_DTYPES) *dtype = whole && exceeds_f32(&r) ? NB_I64 : NB_F32;
  return whole ? whole_count(&r) : rounded_count(r.first.number, last, r.step.number);
}

// The same of numbers so small that f32 holds all whole ones and doubles count exactly.
static double count_small_range(double first, double last, double step, DType *dtype) {
  bool whole = (double)(int32_t)first == first && (double)(int32_t)step == step;
  if (whole && (double)(int32_t)last != last) last = step > 0 ? floor(last) : ceil(last);
  if (*dtype == NB_DTYPES) *dtype = NB_F32;
  return rounded_count(first, last, step);
}

// first, first + step, ... up to last, which is included as in Lua's `for`.
static bool shape_arange(Call *c, Error *err) {
  double first = c->args[0].number, last = c->args[1].number, step = c->args[2].number;
  DType dtype = c->args[3].dtype;
  if (isnan(last)) {
    last = first;
    first = 1;
  }
  if (!isfinite(first) || !isfinite(last) || !isfinite(step) || step == 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "first, last and step must be finite and step not 0, got %g, %g, %g", first,
                   last, step);
  bool small = fabs(first) <= 0x1p24 && fabs(last) <= 0x1p24 && fabs(step) <= 0x1p24;
  double count = small ? count_small_range(first, last, step, &dtype) : count_range(range_of(c->args), &dtype);
  if (count > 1e15) return nb_fail(err, NB_ERROR_MEMORY, "arange: %g numbers are more than any memory holds", count);
  c->layout[0] = (Layout){.dtype = dtype, .ndim = 1, .shape = {count > 0 ? (int64_t)count : 0}};
  return nb_layout_check(&c->layout[0], err);
}

// Whether the dtype holds what lies between two numbers, without fractions where it has none.
static bool holds_between(const Tensor *t, double first, double last, Error *err) {
  DType dtype = t->layout.dtype;
  if (nb_dtype_is_float(dtype) || nb_layout_numel(&t->layout) == 0) return true;
  return nb_check_number(&(Value){.number = trunc(first)}, dtype, err) &&
         nb_check_number(&(Value){.number = trunc(last)}, dtype, err);
}

// Writes whole numbers with all their bits; false where they are not such.
static bool fill_whole_range(Tensor *out, int64_t n, Range r) {
  if (!is_whole(&r.first) || !is_whole(&r.step) || fabs(r.last.number) > 0x1p63) return false;
  int64_t *to = nb_tensor_data(out);
  uint64_t value = (uint64_t)nb_whole(&r.first), by = (uint64_t)nb_whole(&r.step);
  for (int64_t i = 0; i < n && nb_goes_on(i); i++, value += by) to[i] = (int64_t)value;
  return true;
}

static bool arange_forward(Call *c, Error *err) {
  Tensor *out = c->out[0];
  int64_t n = out->layout.shape[0];
  double first = isnan(c->args[1].number) ? 1 : c->args[0].number, step = c->args[2].number;
  if (out->layout.dtype == NB_I64 && fill_whole_range(out, n, range_of(c->args))) return true;
  if (!holds_between(out, first, first + (double)(n - 1) * step, err)) return false;
  for (int64_t i = 0; i < n && nb_goes_on(i); i++) nb_tensor_set(out, i, first + (double)i * step);
  return true;
}

static bool shape_linspace(Call *c, Error *err) {
  int64_t n = c->args[2].integer;
  if (n < 0) return nb_fail(err, NB_ERROR_ARGUMENT, "count must not be negative, got %lld", (long long)n);
  c->layout[0] = (Layout){.dtype = c->args[3].dtype, .ndim = 1, .shape = {n}};
  return nb_layout_check(&c->layout[0], err);
}

// Writes whole numbers between two with all their bits; false where the ends are not whole, or where doubles hold both
// ends and there are fractions between.
static bool fill_whole_line(Tensor *out, int64_t n, const Value *first, const Value *last) {
  if (n < 2 || !is_whole(first) || !is_whole(last)) return false;
  uint64_t from = (uint64_t)nb_whole(first), to = (uint64_t)nb_whole(last), parts = (uint64_t)n - 1;
  bool falls = nb_whole(first) > nb_whole(last);
  uint64_t way = falls ? from - to : to - from, step = way / parts, rest = way % parts;
  if (rest != 0 && fmax(fabs(first->number), fabs(last->number)) < 0x1p53) return false;
  int64_t *data = nb_tensor_data(out);
  for (uint64_t i = 0; i <= parts && nb_goes_on((int64_t)i); i++) {
    uint64_t gone = step * i + (uint64_t)((double)rest * (double)i / (double)parts);
    data[i] = (int64_t)(falls ? from - gone : from + gone);
  }
  return true;
}

// From both ends, so that the last number is exact and the middle symmetric.
static bool linspace_forward(Call *c, Error *err) {
  double first = c->args[0].number, last = c->args[1].number;
  int64_t n = c->args[2].integer;
  double step = n > 1 ? (last - first) / (double)(n - 1) : 0;
  if (c->out[0]->layout.dtype == NB_I64 && fill_whole_line(c->out[0], n, &c->args[0], &c->args[1])) return true;
  if (!holds_between(c->out[0], first, n > 1 ? last : first, err)) return false;
  for (int64_t i = 0; i < n && nb_goes_on(i); i++)
    nb_tensor_set(c->out[0], i, i < (n + 1) / 2 ? first + step * (double)i : last - step * (double)(n - 1 - i));
  return true;
}

static bool shape_eye(Call *c, Error *err) {
  int64_t n = c->args[0].integer, m = c->args[1].integer == NB_LEFT_OUT ? n : c->args[1].integer;
  if (n < 0 || m < 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "%s must not be negative, got %lld", n < 0 ? "n" : "m",
                   (long long)(n < 0 ? n : m));
  c->layout[0] = (Layout){.dtype = c->args[2].dtype, .ndim = 2, .shape = {n, m}};
  return nb_layout_check(&c->layout[0], err);
}

static bool eye_forward(Call *c, Error *err) {
  const Layout *l = &c->out[0]->layout;
  (void)err;
  nb_zero(c->out[0]);
  for (int64_t i = 0; i < l->shape[0] && i < l->shape[1]; i++) nb_tensor_set(c->out[0], i * l->shape[1] + i, 1);
  return true;
}

static bool shape_one_hot(Call *c, Error *err) {
  const Layout *l = &c->args[0].tensor->layout;
  int64_t classes = c->args[1].integer;
  if (l->ndim == NB_MAX_DIMS) return nb_fail(err, NB_ERROR_ARGUMENT, "more than %d dimensions", NB_MAX_DIMS);
  if (classes < 1) return nb_fail(err, NB_ERROR_ARGUMENT, "classes must be at least 1, got %lld", (long long)classes);
  c->layout[0] = *l;
  c->layout[0].dtype = c->args[2].dtype;
  c->layout[0].shape[c->layout[0].ndim++] = classes;
  return nb_layout_check(&c->layout[0], err);
}

static bool one_hot_forward(Call *c, Error *err) {
  Scope s;
  nb_scope_open(&s, err);
  Tensor *index = nb_contiguous(&s, c->args[0].tensor);
  int64_t classes = c->args[1].integer, n = index ? nb_layout_numel(&index->layout) : 0;
  const int64_t *k = index ? nb_tensor_data(index) : NULL;
  bool ok = index;
  nb_zero(c->out[0]);
  for (int64_t i = 0; ok && i < n && nb_goes_on(i); i++) {
    if (k[i] < 1 || k[i] > classes)
      ok = nb_fail(err, NB_ERROR_ARGUMENT, "element %lld is %lld, expected 1..%lld%s", (long long)i + 1,
                   (long long)k[i], (long long)classes, k[i] == 0 ? " (classes count from 1)" : "");
    else
      nb_tensor_set(c->out[0], i * classes + k[i] - 1, 1);
  }
  nb_scope_close(&s);
  return ok;
}

#define NO_GRAD .no_grad = "it depends on sizes alone"

static const Op ops[] = {
    {.name = "zeros",
     .doc = "Zeros of the given shape.",
     .example = "nb.zeros(2, 2)  --> {{0, 0}, {0, 0}}",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = zeros_forward},
    {.name = "ones",
     .doc = "Ones of the given shape.",
     .example = "nb.ones(3)  --> {1, 1, 1}",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = ones_forward},
    {.name = "full",
     .doc = "One number in every element of the given shape; f32 unless told, bool for true and false.",
     .example = "nb.full(2, 2, 7)  --> {{7, 7}, {7, 7}}",
     NO_GRAD,
     .sample = {.args = "{2, 3}, 7; 2, 3, 0.5"},
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), ELEMENT("value"), NAMED_DTYPE(NB_DTYPES)},
     .creates = true,
     .shape = shape_full,
     .forward = full_forward},
    {.name = "empty",
     .doc = "A tensor of the given shape to be written later; zeros until then.",
     .example = "nb.empty(2, 3):numel()  --> 6",
     NO_GRAD,
     .sample = {.args = "2, 3; {4}"},
     .role = NB_ROLE_CREATION,
     .params = {INTS("shape"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_sizes,
     .forward = empty_forward},
    {.name = "zeros_like",
     .doc = "Zeros of x's shape and dtype.",
     .example = "nb.zeros_like(nb.ones(2))  --> {0, 0}",
     NO_GRAD,
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = zeros_forward},
    {.name = "ones_like",
     .doc = "Ones of x's shape and dtype.",
     .example = "nb.ones_like(nb.zeros(2))  --> {1, 1}",
     NO_GRAD,
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = ones_forward},
    {.name = "full_like",
     .doc = "One number in every element of x's shape and dtype.",
     .example = "nb.full_like(nb.zeros(2), 7)  --> {7, 7}",
     NO_GRAD,
     .sample = {.args = "f(2,3), 7"},
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x"), ELEMENT("value")},
     .creates = true,
     .shape = shape_like,
     .forward = full_forward},
    {.name = "empty_like",
     .doc = "A tensor of x's shape and dtype to be written later; zeros until then.",
     .example = "nb.empty_like(nb.zeros(2)):numel()  --> 2",
     NO_GRAD,
     .role = NB_ROLE_CREATION,
     .params = {TENSOR("x")},
     .creates = true,
     .shape = shape_like,
     .forward = empty_forward},
    {.name = "arange",
     .doc = "first, first + step, ... up to last, which is included as in Lua's for; one argument counts from 1.  f32 "
            "unless told, but i64 for whole numbers that f32 would round.",
     .example = "nb.arange(0, 1, 0.5)  --> {0, 0.5, 1}",
     NO_GRAD,
     .sample = {.args = "5; 2, 8; 1, 0; 0, 1, 0.25"},
     .role = NB_ROLE_CREATION,
     .params = {NUMBER("first"), OPTIONAL_NUMBER("last", NAN), OPTIONAL_NUMBER("step", 1), NAMED_DTYPE(NB_DTYPES)},
     .creates = true,
     .shape = shape_arange,
     .forward = arange_forward},
    {.name = "linspace",
     .doc = "count numbers from first to last at equal distances, both included.",
     .example = "nb.linspace(0, 1, 3)  --> {0, 0.5, 1}",
     NO_GRAD,
     .sample = {.args = "0, 1, 5; 3, -3, 1"},
     .role = NB_ROLE_CREATION,
     .params = {NUMBER("first"), NUMBER("last"), INT("count"), NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_linspace,
     .forward = linspace_forward},
    {.name = "eye",
     .doc = "The identity matrix of n rows and m columns.",
     .example = "nb.eye(2)  --> {{1, 0}, {0, 1}}",
     NO_GRAD,
     .sample = {.args = "3; 2, 4"},
     .role = NB_ROLE_CREATION,
     .params =
         {INT("n"),
          {.name = "m", .kind = NB_PARAM_INT, .doc = "n when left out", .optional = true, .fallback = NB_LEFT_OUT},
          NAMED_DTYPE(NB_F32)},
     .creates = true,
     .shape = shape_eye,
     .forward = eye_forward},
    {.name = "one_hot",
     .doc = "For each index 1..classes a row of zeros with a 1 in its place.",
     .example = "nb.one_hot(nb.tensor{2, 1}, 3)  --> {{0, 1, 0}, {1, 0, 0}}",
     .no_grad = "an index is not differentiable",
     .sample = {.args = "i(4, 2,3), 4"},
     .role = NB_ROLE_CREATION,
     .params = {INDEX("index"), INT("classes"), NAMED_DTYPE(NB_F32)},
     .shape = shape_one_hot,
     .forward = one_hot_forward},
};
const OpFamily ops_create = {"Making tensors", ops, COUNT(ops)};
