// SPDX-License-Identifier: MIT
// Elementwise work over strided, broadcast tensors, and the pieces that families share.
#ifndef NABLUA_LOOPS_H
#define NABLUA_LOOPS_H

#include "cpu.h"
#include "nablua/compose.h"
#include "nablua/interrupt.h"
#include "nablua/op.h"
#include "nablua/parallel.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

// Several elements' worth of work is needed before a second thread helps.
enum { NB_GRAIN = 16384 };

// Elements that a loop of its own visits between two looks at the interrupt flag.
enum { NB_POLLED = 1 << 16 };

// Whether such a loop goes on with element i.  What was cut short is not to be used: nb_poll says so afterwards.
static inline bool nb_goes_on(int64_t i) {
  return i % NB_POLLED != 0 || !nb_interrupted();
}

enum { NB_MAX_OPERANDS = 5 };

// How a loop runs over its operands: dimensions of size one are gone and neighbours that are walked alike
// are merged.
typedef struct LoopWalk {
  Loop loop;
  const Value *args;
  int count, ndim;
  int64_t shape[NB_MAX_DIMS];
  int64_t stride[NB_MAX_DIMS][NB_MAX_OPERANDS];  // bytes
  char *base[NB_MAX_OPERANDS];
} LoopWalk;

// The walk of a call whose row is elementwise and needs no cast, and its operands, the output first; else
// false with a walk of no operands.
bool nb_walk_of(const Call *c, LoopWalk *w, Tensor *t[NB_MAX_OPERANDS]);

// Runs it from its bases on.
void nb_walk_run(LoopWalk *w);

// Runs `loop` over all elements of t[0] (the output) with t[1..count-1] broadcast to its shape.
// All are in the dtype that the loop expects, and broadcast: the caller has checked it.
void nb_loop(Loop loop, const Value *args, Tensor *const *t, int count);

// Shape rules.
bool nb_broadcast_shape(const Layout *a, const Layout *b, Layout *out, Error *err);
bool nb_shape_unary(Call *c, Error *err);        // like the input, which keeps its dtype
bool nb_shape_unary_float(Call *c, Error *err);  // like the input; whole numbers become f32
bool nb_shape_elementwise(Call *c, Error *err);  // all tensor arguments broadcast, dtypes promoted
bool nb_shape_elementwise_float(Call *c, Error *err);
bool nb_shape_compare(Call *c, Error *err);  // broadcast; the result is bool

// Whether tensor argument i, where it is given, has this shape; a sentence where not.  What a backward gets of its
// forward is asked in this way, for the row can be called by itself.
bool nb_arg_fits(const Call *c, int i, const Layout *want, Error *err);

// What a row that says `narrow` or `stays_mask` makes of masks and of u8: what 0 and 1 become 0 and 1 by stays a mask,
// what else is done to masks is counted in i64, and u8 stays u8.  What was wider in releases before is said once.
DType nb_kept_dtype(const Op *op, DType dtype);

// The forward of elementwise rows: casts the inputs to c->compute and runs op->loops[c->compute].
bool nb_forward_elementwise(Call *c, Error *err);

// Dimension arguments: 1-based, negative from the end, to 0-based.  False with a sentence.
bool nb_dim(int64_t dim, int ndim, int *out, Error *err);

// None (count < 0) gives all; dimension 1 of a scalar is none.  mask[d] tells whether dimension d is meant; returns how
// many, -1 on error.
int nb_dims(const Value *dims, int ndim, bool mask[NB_MAX_DIMS], Error *err);

// A shape argument as a layout; false with a sentence when it is none.
bool nb_sizes(const Value *sizes, DType dtype, Layout *out, Error *err);

// Writes elements of `from` into `to` (same shape, any dtypes, any strides).
void nb_copy(Tensor *to, const Tensor *from);

// Sets all bytes of a fresh tensor to zero.
void nb_zero(Tensor *t);

// Whether some element may be 0, so that a backward rule needs its masks.  False only where a look at the values told
// and nobody hears what the rule applies: a plan would repeat it with others.
bool nb_may_hold_zero(const Tensor *t);

// The pragma says what the iterator guarantees: an output element overlaps only its own inputs.
#if defined(__clang__)
#define NB_IVDEP  // clang's pragma warns wherever it does not vectorise; it checks for overlap instead
#else
#define NB_IVDEP _Pragma("GCC ivdep") _Pragma("GCC unroll 4")
#endif

// NB_TWICE(name, (parameters), (arguments), enough) { body } defines a function that is compiled twice: for every
// machine and for those with vectors of 32 bytes, which run that form if there is `enough` to do.  Both round alike,
// without fused multiply-adds.
#define NB_INLINE static inline __attribute__((always_inline))
#ifdef CPU_WIDE_TARGET
#define NB_TWICE(name, params, args, enough)       \
  NB_INLINE void name##_body params;               \
  CPU_WIDE_TARGET static void name##_wide params { \
    name##_body args;                              \
  }                                                \
  static void name params {                        \
    if (cpu_level() == CPU_PORTABLE || !(enough))  \
      name##_body args;                            \
    else                                           \
      name##_wide args;                            \
  }                                                \
  NB_INLINE void name##_body params
#else
#define NB_TWICE(name, params, args, enough) static void name params
#endif

// NB_THRICE: likewise, and for machines with vectors of 64 bytes.
#ifdef CPU_WIDE_TARGET
#define NB_THRICE(name, params, args, enough)               \
  NB_INLINE void name##_body params;                        \
  CPU_AVX512_TARGET static void name##_widest params {      \
    name##_body args;                                       \
  }                                                         \
  CPU_WIDE_TARGET static void name##_wide params {          \
    name##_body args;                                       \
  }                                                         \
  static void name params {                                 \
    CpuLevel level = (enough) ? cpu_level() : CPU_PORTABLE; \
    if (level == CPU_PORTABLE)                              \
      name##_body args;                                     \
    else if (level == CPU_AVX2)                             \
      name##_wide args;                                     \
    else                                                    \
      name##_widest args;                                   \
  }                                                         \
  NB_INLINE void name##_body params
#else
#define NB_THRICE NB_TWICE
#endif

// A Loop of n elements at p with strides s and arguments args; a body for nb_parallel_for.
enum { NB_SHORT = 16 };
#define NB_LOOP(name)                                                                                      \
  NB_TWICE(name, (int64_t n, char *const *p, const int64_t *s, __attribute__((unused)) const Value *args), \
           (n, p, s, args), n >= NB_SHORT)
#define NB_RANGE(name) NB_TWICE(name, (int64_t begin, int64_t end, void *ctx), (begin, end, ctx), true)
#define NB_WIDE_RANGE(name) NB_THRICE(name, (int64_t begin, int64_t end, void *ctx), (begin, end, ctx), true)

// Loops for an expression of `x` (and `y`).  `prelude` declares what of `args` it needs.
#define NB_UNARY_WITH(name, In, Out, prelude, expr)                    \
  NB_LOOP(name) {                                                      \
    prelude;                                                           \
    if (s[0] == (int64_t)sizeof(Out) && s[1] == (int64_t)sizeof(In)) { \
      Out *o = (Out *)p[0];                                            \
      const In *a = (const In *)p[1];                                  \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                       \
        In x = a[i];                                                   \
        o[i] = (Out)(expr);                                            \
      }                                                                \
      return;                                                          \
    }                                                                  \
    for (int64_t i = 0; i < n; i++) {                                  \
      In x = *(const In *)(p[1] + i * s[1]);                           \
      *(Out *)(p[0] + i * s[0]) = (Out)(expr);                         \
    }                                                                  \
  }
#define NB_UNARY(name, In, Out, expr) NB_UNARY_WITH(name, In, Out, , expr)

#define NB_BINARY(name, In, Out, expr)                                             \
  NB_LOOP(name) {                                                                  \
    const int64_t w = (int64_t)sizeof(In);                                         \
    Out *o = (Out *)p[0];                                                          \
    const In *a = (const In *)p[1], *b = (const In *)p[2];                         \
    if (s[0] == (int64_t)sizeof(Out) && s[1] == w && s[2] == w) {                  \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                   \
        In x = a[i], y = b[i];                                                     \
        o[i] = (Out)(expr);                                                        \
      }                                                                            \
    } else if (s[0] == (int64_t)sizeof(Out) && s[1] == w && s[2] == 0) {           \
      In y = *b;                                                                   \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                   \
        In x = a[i];                                                               \
        o[i] = (Out)(expr);                                                        \
      }                                                                            \
    } else if (s[0] == (int64_t)sizeof(Out) && s[1] == 0 && s[2] == w) {           \
      In x = *a;                                                                   \
      NB_IVDEP for (int64_t i = 0; i < n; i++) {                                   \
        In y = b[i];                                                               \
        o[i] = (Out)(expr);                                                        \
      }                                                                            \
    } else {                                                                       \
      for (int64_t i = 0; i < n; i++) {                                            \
        In x = *(const In *)(p[1] + i * s[1]), y = *(const In *)(p[2] + i * s[2]); \
        *(Out *)(p[0] + i * s[0]) = (Out)(expr);                                   \
      }                                                                            \
    }                                                                              \
  }

// The loop of a function that vector.h has: gathers what does not lie in a row.
#define NB_UNARY_VECTOR(name, map)                                                      \
  NB_LOOP(name) {                                                                       \
    enum { ROW = 256 };                                                                 \
    float row[ROW];                                                                     \
    if (s[0] == (int64_t)sizeof(float) && s[1] == (int64_t)sizeof(float)) {             \
      map(n, (float *)p[0], (const float *)p[1]);                                       \
      return;                                                                           \
    }                                                                                   \
    for (int64_t i = 0; i < n; i += ROW) {                                              \
      int64_t m = n - i < ROW ? n - i : ROW;                                            \
      for (int64_t k = 0; k < m; k++) row[k] = *(const float *)(p[1] + (i + k) * s[1]); \
      map(m, row, row);                                                                 \
      for (int64_t k = 0; k < m; k++) *(float *)(p[0] + (i + k) * s[0]) = row[k];       \
    }                                                                                   \
  }

// Loops of expressions of `x` and `v`, the value that a map of vector.h has of x (of binary ones: of the second operand
// `y`).  `prelude` declares what of `args` they need.
enum { NB_ROW = 256 };

static inline const float *nb_row(float *row, const char *p, int64_t stride, int64_t n) {
  if (stride == (int64_t)sizeof *row) return (const float *)p;
  for (int64_t k = 0; k < n; k++) row[k] = *(const float *)(p + k * stride);
  return row;
}

static inline void nb_put_row(const float *row, char *p, int64_t stride, int64_t n) {
  if (p == (const char *)row) return;
  for (int64_t k = 0; k < n; k++) *(float *)(p + k * stride) = row[k];
}

#define NB_UNARY_VIA(name, map, prelude, expr)                                      \
  NB_LOOP(name) {                                                                   \
    float in[NB_ROW], value[NB_ROW], out[NB_ROW];                                   \
    prelude;                                                                        \
    for (int64_t i = 0; i < n; i += NB_ROW) {                                       \
      int64_t m = n - i < NB_ROW ? n - i : NB_ROW;                                  \
      const float *a = nb_row(in, p[1] + i * s[1], s[1], m);                        \
      float *o = s[0] == (int64_t)sizeof(float) ? (float *)(p[0] + i * s[0]) : out; \
      map(m, value, a);                                                             \
      NB_IVDEP for (int64_t k = 0; k < m; k++) {                                    \
        float x = a[k], v = value[k];                                               \
        (void)x;                                                                    \
        o[k] = expr;                                                                \
      }                                                                             \
      nb_put_row(o, p[0] + i * s[0], s[0], m);                                      \
    }                                                                               \
  }

#define NB_BINARY_VIA(name, map, prelude, expr)                                     \
  NB_LOOP(name) {                                                                   \
    float first[NB_ROW], second[NB_ROW], value[NB_ROW], out[NB_ROW];                \
    prelude;                                                                        \
    for (int64_t i = 0; i < n; i += NB_ROW) {                                       \
      int64_t m = n - i < NB_ROW ? n - i : NB_ROW;                                  \
      const float *a = nb_row(first, p[1] + i * s[1], s[1], m);                     \
      const float *b = nb_row(second, p[2] + i * s[2], s[2], m);                    \
      float *o = s[0] == (int64_t)sizeof(float) ? (float *)(p[0] + i * s[0]) : out; \
      map(m, value, b);                                                             \
      NB_IVDEP for (int64_t k = 0; k < m; k++) {                                    \
        float x = a[k], y = b[k], v = value[k];                                     \
        (void)y;                                                                    \
        o[k] = expr;                                                                \
      }                                                                             \
      nb_put_row(o, p[0] + i * s[0], s[0], m);                                      \
    }                                                                               \
  }

#define NB_UNARY_FLOATS(name, f32_expr, f64_expr) \
  NB_UNARY(name##_f32, float, float, f32_expr)    \
  NB_UNARY(name##_f64, double, double, f64_expr)
#define NB_BINARY_FLOATS(name, f32_expr, f64_expr) \
  NB_BINARY(name##_f32, float, float, f32_expr)    \
  NB_BINARY(name##_f64, double, double, f64_expr)
#define NB_FLOAT_LOOPS(name) \
  { [NB_F32] = name##_f32, [NB_F64] = name##_f64 }

// Row parameters.
#define TENSOR(n) \
  { .name = (n), .kind = NB_PARAM_TENSOR }
#define OPTIONAL_TENSOR(n) \
  { .name = (n), .kind = NB_PARAM_TENSOR, .optional = true }
#define OPERAND(n) \
  { .name = (n), .kind = NB_PARAM_OPERAND }
#define INDEX(n) \
  { .name = (n), .kind = NB_PARAM_INDEX }
#define MASK(n) \
  { .name = (n), .kind = NB_PARAM_MASK }
#define TENSORS(n) \
  { .name = (n), .kind = NB_PARAM_TENSORS }
#define INT(n) \
  { .name = (n), .kind = NB_PARAM_INT }
#define INTS(n) \
  { .name = (n), .kind = NB_PARAM_INTS }
#define DIM(n) \
  { .name = (n), .kind = NB_PARAM_DIM }
#define OPTIONAL_DIM(n) \
  { .name = (n), .kind = NB_PARAM_DIM, .optional = true }
#define OPTIONAL_DIMS(n) \
  { .name = (n), .kind = NB_PARAM_DIMS, .optional = true }
#define PLAIN_OPERAND(n) \
  { .name = (n), .kind = NB_PARAM_OPERAND, .plain = true }
#define OPTIONAL_PLAIN(n, value) \
  { .name = (n), .kind = NB_PARAM_OPERAND, .plain = true, .optional = true, .fallback = (value) }
#define NUMBER(n) \
  { .name = (n), .kind = NB_PARAM_NUMBER }
#define ELEMENT(n) \
  { .name = (n), .kind = NB_PARAM_NUMBER, .element = true }
#define OPTIONAL_NUMBER(n, value) \
  { .name = (n), .kind = NB_PARAM_NUMBER, .optional = true, .fallback = (value) }
#define NAMED_FLAG(n) \
  { .name = (n), .kind = NB_PARAM_FLAG, .optional = true, .named = true }
#define NAMED_NUMBER(n, value) \
  { .name = (n), .kind = NB_PARAM_NUMBER, .optional = true, .named = true, .fallback = (value) }
#define NAMED_INTS(n, c, value) \
  { .name = (n), .kind = NB_PARAM_INTS, .optional = true, .named = true, .count = (c), .fallback = (value) }
#define NAMED_DTYPE(value) \
  { .name = "dtype", .kind = NB_PARAM_DTYPE, .optional = true, .named = true, .fallback = (value) }

#endif
