// SPDX-License-Identifier: MIT
// One-pass optimizer steps.
//
// The formulas are those of lua/optim.lua, operation by operation, so that both give the same numbers; both take what
// is below the least normal number for 0.
#include "nablua/optimize.h"

#include <math.h>

#include "cpu.h"
#include "loops.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "subnormal.h"

typedef struct Step {
  const OptimizerRule *rule;
  char *p, *first, *second;
  const char *g;
  bool begins;         // the first step, when the momentum is the gradient
  double step, scale;  // Adam: lr/(1 − β1^t), 1/√(1 − β2^t)
} Step;

#define SGD(T)                                                                             \
  do {                                                                                     \
    T *w = (T *)s->p, *v = (T *)s->first;                                                  \
    const T *g = (const T *)s->g;                                                          \
    const T lr = (T)o->lr, decay = (T)o->weight_decay, momentum = (T)o->momentum;          \
    const T share = (T)(1 - o->dampening);                                                 \
    if (!v) {                                                                              \
      if (o->weight_decay == 0) {                                                          \
        NB_IVDEP for (int64_t i = begin; i < end; i++) w[i] -= g[i] * lr;                  \
      } else {                                                                             \
        NB_IVDEP for (int64_t i = begin; i < end; i++) w[i] -= (g[i] + w[i] * decay) * lr; \
      }                                                                                    \
    } else {                                                                               \
      const T keep = s->begins ? 0 : momentum, take = s->begins ? 1 : share;               \
      NB_IVDEP for (int64_t i = begin; i < end; i++) {                                     \
        T d = o->weight_decay == 0 ? g[i] : g[i] + w[i] * decay;                           \
        v[i] = v[i] * keep + d * take;                                                     \
        w[i] -= (o->nesterov ? d + v[i] * momentum : v[i]) * lr;                           \
      }                                                                                    \
    }                                                                                      \
  } while (0)

#define ADAM(T, SQRT)                                                                           \
  do {                                                                                          \
    T *w = (T *)s->p, *m = (T *)s->first, *v = (T *)s->second;                                  \
    const T *g = (const T *)s->g;                                                               \
    const T b1 = (T)o->beta1, c1 = (T)(1 - o->beta1), b2 = (T)o->beta2, c2 = (T)(1 - o->beta2); \
    const T step = (T)s->step, scale = (T)s->scale, eps = (T)o->eps;                            \
    const T decay = o->decoupled ? 0 : (T)o->weight_decay;                                      \
    const T shrink = o->decoupled ? (T)(1 - o->lr * o->weight_decay) : 1;                       \
    NB_IVDEP for (int64_t i = begin; i < end; i++) {                                            \
      T d = decay == 0 ? g[i] : g[i] + w[i] * decay;                                            \
      m[i] = m[i] * b1 + d * c1;                                                                \
      v[i] = v[i] * b2 + d * d * c2;                                                            \
      w[i] = w[i] * shrink - m[i] / (SQRT(v[i]) * scale + eps) * step;                          \
    }                                                                                           \
  } while (0)

#define RMSPROP(T, SQRT)                                                              \
  do {                                                                                \
    T *w = (T *)s->p, *m = (T *)s->first, *v = (T *)s->second;                        \
    const T *g = (const T *)s->g;                                                     \
    const T b2 = (T)o->beta2, c2 = (T)(1 - o->beta2), eps = (T)o->eps, lr = (T)o->lr; \
    const T decay = (T)o->weight_decay, momentum = (T)o->momentum;                    \
    NB_IVDEP for (int64_t i = begin; i < end; i++) {                                  \
      T d = decay == 0 ? g[i] : g[i] + w[i] * decay;                                  \
      v[i] = v[i] * b2 + d * d * c2;                                                  \
      T move = d / (SQRT(v[i]) + eps);                                                \
      if (m) move = m[i] = m[i] * momentum + move;                                    \
      w[i] -= move * lr;                                                              \
    }                                                                                 \
  } while (0)

#define BODY(name, TARGET)                                               \
  TARGET static void name##_f32(int64_t begin, int64_t end, void *ctx) { \
    const Step *s = ctx;                                                 \
    const OptimizerRule *o = s->rule;                                    \
    if (o->kind == NB_SGD)                                               \
      SGD(float);                                                        \
    else if (o->kind == NB_ADAM)                                         \
      ADAM(float, sqrtf);                                                \
    else                                                                 \
      RMSPROP(float, sqrtf);                                             \
  }                                                                      \
  TARGET static void name##_f64(int64_t begin, int64_t end, void *ctx) { \
    const Step *s = ctx;                                                 \
    const OptimizerRule *o = s->rule;                                    \
    if (o->kind == NB_SGD)                                               \
      SGD(double);                                                       \
    else if (o->kind == NB_ADAM)                                         \
      ADAM(double, sqrt);                                                \
    else                                                                 \
      RMSPROP(double, sqrt);                                             \
  }
BODY(portable, )
#if defined(__x86_64__)
BODY(avx2, CPU_AVX2_TARGET)
#else
#define avx2_f32 portable_f32
#define avx2_f64 portable_f64
#endif

// ---- measuring ----

static double *squares_at;
static int *measured_at;

void nb_optimizer_measure(double *squares, int *count) {
  squares_at = squares;
  measured_at = count;
}

// The sum of squares in the precision of the elements, many sums at a time; in f64 where that is too small for it.
#define SUM_OF_SQUARES(name, T, TARGET)                                                                             \
  TARGET static double name(const T *g, int64_t n) {                                                                \
    enum { LANES = 16 };                                                                                            \
    T sums[LANES] = {0};                                                                                            \
    double sum = 0, exact = 0;                                                                                      \
    int64_t i = 0;                                                                                                  \
    for (; i + LANES <= n; i += LANES) NB_IVDEP for (int64_t k = 0; k < LANES; k++) sums[k] += g[i + k] * g[i + k]; \
    for (; i < n; i++) sum += (double)g[i] * (double)g[i];                                                          \
    for (int k = 0; k < LANES; k++) sum += (double)sums[k];                                                         \
    if (isfinite(sum)) return sum;                                                                                  \
    for (i = 0; i < n; i++) exact += (double)g[i] * (double)g[i];                                                   \
    return exact;                                                                                                   \
  }
SUM_OF_SQUARES(portable_squares_f32, float, )
SUM_OF_SQUARES(portable_squares_f64, double, )
#if defined(__x86_64__)
SUM_OF_SQUARES(avx2_squares_f32, float, CPU_AVX2_TARGET)
SUM_OF_SQUARES(avx2_squares_f64, double, CPU_AVX2_TARGET)
#else
#define avx2_squares_f32 portable_squares_f32
#define avx2_squares_f64 portable_squares_f64
#endif

typedef struct Measure {
  Step *step;
  void (*move)(int64_t, int64_t, void *);
  int64_t n;
  bool vectors, single;  // single: f32
  double *part;          // a sum for each block, so that it is the same for any number of threads
} Measure;

// Blocks begin .. end: what is read for the square is in the caches for the step.
static void measure_and_move(int64_t begin, int64_t end, void *ctx) {
  const Measure *m = ctx;
  for (int64_t b = begin; b < end; b++) {
    int64_t first = b * NB_GRAIN, last = first + NB_GRAIN < m->n ? first + NB_GRAIN : m->n;
    if (m->single) {
      const float *g = (const float *)m->step->g + first;
      m->part[b] = (m->vectors ? avx2_squares_f32 : portable_squares_f32)(g, last - first);
    } else {
      const double *g = (const double *)m->step->g + first;
      m->part[b] = (m->vectors ? avx2_squares_f64 : portable_squares_f64)(g, last - first);
    }
    m->move(first, last, m->step);
  }
}

static int64_t blocks_of(const Tensor *w) {
  return (nb_layout_numel(&w->layout) + NB_GRAIN - 1) / NB_GRAIN;
}

static void measured_step(Measure *m) {
  int64_t blocks = (m->n + NB_GRAIN - 1) / NB_GRAIN;
  nb_parallel_for(blocks, 1, measure_and_move, m);
  for (int64_t b = 0; b < blocks; b++) *squares_at += m->part[b];
  ++*measured_at;
}

// Room for the blocks of the largest weight; NULL, without an error, where nobody measures.
static bool make_parts(const OptimizerSlot *slots, int count, double **part, size_t *bytes, Error *err) {
  int64_t most = 1;
  *part = NULL;
  if (!squares_at) return true;
  for (int i = 0; i < count; i++) most = blocks_of(slots[i].weight) > most ? blocks_of(slots[i].weight) : most;
  *bytes = (size_t)most * sizeof **part;
  return (*part = nb_alloc(*bytes, err)) != NULL;
}

// ---- steps ----

bool nb_optimizer_serves(const Tensor *weight) {
  const Layout *w = &weight->layout, *g = weight->grad ? &weight->grad->layout : NULL;
  return g && nb_dtype_is_float(w->dtype) && g->dtype == w->dtype && nb_layout_contiguous(w) &&
         nb_layout_contiguous(g) && !weight->node && !(nb_grad_enabled() && weight->grad->node);
}

bool nb_optimizer_step(const OptimizerRule *rule, const OptimizerSlot *slots, int count, Error *err) {
  nb_tell_stepped(rule, slots, count);
  bool ok = nb_optimizer_step_at(nb_site_now(), rule, slots, count, err);
  nb_tell_computing(NULL);
  return ok;
}

// Before the first weight moves: a step that cannot be taken leaves all as it was.
__attribute__((noinline, cold)) static bool tell_writes(const OptimizerSlot *slots, int count, Error *err) {
  for (int i = 0; i < count; i++)
    for (int k = 0; k < NB_SLOT_TENSORS; k++)
      if (slots[i].all[k] && !nb_tell_overwriting(slots[i].all[k]->storage, err)) return false;
  return true;
}

bool nb_optimizer_step_at(Site site, const OptimizerRule *rule, const OptimizerSlot *slots, int count, Error *err) {
  bool vectors = cpu_level() > CPU_PORTABLE;
  void (*const f32)(int64_t, int64_t, void *) = vectors ? avx2_f32 : portable_f32;
  void (*const f64)(int64_t, int64_t, void *) = vectors ? avx2_f64 : portable_f64;
  double *part;
  size_t bytes = 0;
  if (!nb_poll(err) || (nb_is_heard(NB_WRITE) && !tell_writes(slots, count, err))) return false;
  if (!make_parts(slots, count, &part, &bytes, err)) return false;
  nb_interrupt_hold();
  for (int i = 0; i < count; i++) {
    Tensor *w = slots[i].weight;
    double *counted = nb_tensor_data(slots[i].step), t = *counted + 1;
    Step s = {.rule = rule, .p = nb_tensor_data(w), .g = nb_tensor_data(w->grad), .begins = t == 1};
    if (slots[i].first) s.first = nb_tensor_data(slots[i].first);
    if (slots[i].second) s.second = nb_tensor_data(slots[i].second);
    *counted = t;
    if (rule->kind == NB_ADAM) {
      s.step = rule->lr / (1 - pow(rule->beta1, t));
      s.scale = 1 / sqrt(1 - pow(rule->beta2, t));
    }
    uint64_t control = flush_begin();
    bool single = w->layout.dtype == NB_F32;
    int64_t n = nb_layout_numel(&w->layout);
    if (part)
      measured_step(&(Measure){&s, single ? f32 : f64, n, vectors, single, part});
    else
      nb_parallel_for(n, NB_GRAIN, single ? f32 : f64, &s);
    float_control_set(control);
    for (int k = 0; k < NB_SLOT_TENSORS; k++)
      if (slots[i].all[k]) nb_storage_change(slots[i].all[k]->storage, site);
  }
  nb_interrupt_let();
  nb_free(part, bytes);
  return true;
}
