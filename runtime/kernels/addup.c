// SPDX-License-Identifier: MIT
// Sums of several vectors.
#include "nablua/addup.h"

#include "cpu.h"
#include "loops.h"

typedef struct Terms {
  const void *const *term;
  int terms;
  double factor;
  void *to;
} Terms;

// So many numbers at a time go through all terms while their sums are in registers.
#define ADD_UP(T)                                                                      \
  do {                                                                                 \
    enum { LANES = 32 };                                                               \
    T *to = t->to;                                                                     \
    double sum[LANES];                                                                 \
    int64_t i = begin;                                                                 \
    for (; i + LANES <= end; i += LANES) {                                             \
      for (int k = 0; k < LANES; k++) sum[k] = (double)((const T *)t->term[0])[i + k]; \
      for (int q = 1; q < t->terms; q++) {                                             \
        const T *x = (const T *)t->term[q] + i;                                        \
        for (int k = 0; k < LANES; k++) sum[k] += (double)x[k];                        \
      }                                                                                \
      for (int k = 0; k < LANES; k++) to[i + k] = (T)(sum[k] * t->factor);             \
    }                                                                                  \
    for (; i < end; i++) {                                                             \
      double one = 0;                                                                  \
      for (int q = 0; q < t->terms; q++) one += (double)((const T *)t->term[q])[i];    \
      to[i] = (T)(one * t->factor);                                                    \
    }                                                                                  \
  } while (0)

NB_THRICE(add_up_f32, (const Terms *t, int64_t begin, int64_t end), (t, begin, end), true) {
  ADD_UP(float);
}
NB_THRICE(add_up_f64, (const Terms *t, int64_t begin, int64_t end), (t, begin, end), true) {
  ADD_UP(double);
}

// By one thread, which no interrupt stops in the middle: others wait for the whole.
void nb_add_up(DType dtype, const void *const *term, int terms, double factor, void *to, int64_t count) {
  Terms t = {term, terms, factor, to};
  if (dtype == NB_F64)
    add_up_f64(&t, 0, count);
  else
    add_up_f32(&t, 0, count);
}
