// SPDX-License-Identifier: MIT
// Recurrent layers over a whole sequence: weights are packed once, each thread takes its sequences through all steps.
#include "recurrent.h"

#include <math.h>
#include <string.h>

#include "gemm.h"
#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "subnormal.h"
#include "vector.h"

const RecurrentBlocks recurrent_blocks[CELLS] = {
    [CELL_LSTM] = {4, 5, 2}, [CELL_GRU] = {3, 4, 1}, [CELL_TANH] = {1, 0, 1}, [CELL_RELU] = {1, 0, 1}};

// What all threads read.
typedef struct Work {
  const Recurrence *r;
  bool back;
  int64_t parts;
  GemmPacked weight, second;  // second: of the GRU's n gate, whose share of the state is kept apart
  void *bias;                 // of all kept blocks; zeros for the backward
  size_t bias_bytes;
} Work;

static void sigmoid_f64(int64_t n, double *out, const double *x) {
  for (int64_t i = 0; i < n; i++) {
    double e = exp(-fabs(x[i]));
    out[i] = x[i] < 0 ? e / (1 + e) : 1 / (1 + e);
  }
}

static void tanh_f64(int64_t n, double *out, const double *x) {
  for (int64_t i = 0; i < n; i++) out[i] = tanh(x[i]);
}

#define BITS 32
#include "recurrent_cells.h"
#define BITS 64
#include "recurrent_cells.h"

static void body(int64_t begin, int64_t end, void *ctx) {
  const Work *w = ctx;
  const Recurrence *r = w->r;
  for (int64_t part = begin; part < end; part++) {
    int64_t from = r->batch * part / w->parts, to = r->batch * (part + 1) / w->parts;
    if (w->back)
      (r->dtype == NB_F32 ? f32_backward : f64_backward)(r, w, from, to);
    else
      (r->dtype == NB_F32 ? f32_forward : f64_forward)(r, w, from, to);
  }
}

// One part for each thread, where there is work for several.
static void start(Work *w, const Recurrence *r, bool back) {
  double work = (double)(r->steps * r->batch) * (double)(recurrent_blocks[r->cell].gates * r->size * r->size);
  *w = (Work){.r = r, .back = back, .parts = work < 1e5 ? 1 : nb_threads()};
  if (w->parts > r->batch) w->parts = r->batch;
}

// A state that decays, and what goes back through many steps, come below the least normal number: they are 0 then.
static bool run(Work *w, Error *err) {
  uint64_t control = flush_begin();
  nb_parallel_for(w->parts, 1, body, w);
  float_control_set(control);
  return nb_poll(err);
}

static bool make_bias(Work *w, Error *err) {
  const RecurrentBlocks *blocks = &recurrent_blocks[w->r->cell];
  w->bias_bytes = (size_t)((blocks->kept ? blocks->kept : 1) * w->r->size) * nb_dtype_size(w->r->dtype);
  if (!(w->bias = nb_alloc(w->bias_bytes, err))) return false;
  memset(w->bias, 0, w->bias_bytes);
  return true;
}

static void finish(Work *w) {
  nb_gemm_unpack(&w->weight);
  nb_gemm_unpack(&w->second);
  if (w->bias) nb_free(w->bias, w->bias_bytes);
}

bool recurrent_forward(const Recurrence *r, Error *err) {
  Work w;
  start(&w, r, false);
  if (r->batch == 0) return true;
  int64_t n = r->size, rows = (r->batch + w.parts - 1) / w.parts, gates = recurrent_blocks[r->cell].gates;
  int64_t first = r->cell == CELL_GRU ? 2 : gates;
  const char *last = (const char *)r->weight + (size_t)(first * n * n) * nb_dtype_size(r->dtype);
  bool ok = make_bias(&w, err) &&
            nb_gemm_pack(r->dtype, rows, first * n, n, (GemmMatrix){r->weight, n, true}, &w.weight, err) &&
            (first == gates || nb_gemm_pack(r->dtype, rows, n, n, (GemmMatrix){last, n, true}, &w.second, err));
  if (ok) {
    (r->dtype == NB_F32 ? f32_add_biases : f64_add_biases)(r, w.bias);
    ok = run(&w, err);
  }
  finish(&w);
  return ok;
}

bool recurrent_backward(const Recurrence *r, Error *err) {
  Work w;
  const RecurrentBlocks *blocks = &recurrent_blocks[r->cell];
  start(&w, r, true);
  memset(r->d_start, 0, (size_t)(blocks->state * r->batch * r->size) * nb_dtype_size(r->dtype));
  if (r->batch == 0) return true;
  int64_t n = r->size, rows = (r->batch + w.parts - 1) / w.parts;
  bool ok = make_bias(&w, err) &&
            nb_gemm_pack(r->dtype, rows, n, blocks->gates * n, (GemmMatrix){r->weight, n, false}, &w.weight, err) &&
            run(&w, err);
  finish(&w);
  return ok;
}
