// SPDX-License-Identifier: MIT
// The cells of recurrent.c and their way through the steps, a template for element types: included with BITS 32 and 64.
//
// A cell works on one sequence at one step: n numbers of state.
#if BITS == 32
#define REAL float
#define TYPED(name) f32_##name
#define SIGMOID vector_sigmoid
#define TANH vector_tanh
#else
#define REAL double
#define TYPED(name) f64_##name
#define SIGMOID sigmoid_f64
#define TANH tanh_f64
#endif
#define TWICE(name, params, args) TWICE_OF(TYPED(name), params, args)
#define TWICE_OF(name, params, args) NB_TWICE(name, params, args, n >= NB_SHORT)
#define EACH NB_IVDEP for (int64_t j = 0; j < n; j++)

// ---- forward ----

// k: the shares of inputs and state in i f g o, which become their values; then tanh(c).
TWICE(lstm, (int64_t n, REAL *k, const REAL *bias, const REAL *c_before, REAL *c, REAL *h),
      (n, k, bias, c_before, c, h)) {
  NB_IVDEP for (int64_t j = 0; j < 4 * n; j++) k[j] += bias[j];
  SIGMOID(2 * n, k, k);
  TANH(n, k + 2 * n, k + 2 * n);
  SIGMOID(n, k + 3 * n, k + 3 * n);
  EACH c[j] = k[n + j] * c_before[j] + k[j] * k[2 * n + j];
  TANH(n, k + 4 * n, c);
  EACH h[j] = k[3 * n + j] * k[4 * n + j];
}

// k: both shares in r and z, the inputs' in n, the state's.
TWICE(gru, (int64_t n, REAL *k, const REAL *bias, const REAL *h_before, REAL *h), (n, k, bias, h_before, h)) {
  NB_IVDEP for (int64_t j = 0; j < 4 * n; j++) k[j] += bias[j];
  SIGMOID(2 * n, k, k);
  EACH k[2 * n + j] += k[j] * k[3 * n + j];
  TANH(n, k + 2 * n, k + 2 * n);
  EACH h[j] = k[2 * n + j] + k[n + j] * (h_before[j] - k[2 * n + j]);
}

TWICE(plain, (int64_t n, RecurrentCell cell, const REAL *bias, REAL *h), (n, cell, bias, h)) {
  EACH h[j] += bias[j];
  if (cell == CELL_TANH)
    TANH(n, h, h);
  else
    EACH h[j] = h[j] < 0 ? 0 : h[j];
}

static void TYPED(forward)(const Recurrence *r, const Work *w, int64_t begin, int64_t end) {
  int64_t n = r->size, keep = recurrent_blocks[r->cell].kept * n;
  for (int64_t s = 0; s < r->steps && !nb_interrupted(); s++) {
    int64_t t = r->reverse ? r->steps - 1 - s : s, from = (t + r->reverse) * r->batch,
            to = (t + !r->reverse) * r->batch;
    const REAL *before = (const REAL *)r->states + (from + begin) * n;
    REAL *h = (REAL *)r->states + (to + begin) * n, *k = keep ? (REAL *)r->kept + (t * r->batch + begin) * keep : h;
    nb_gemm_packed(end - begin, (GemmMatrix){before, n, false}, &w->weight, k, keep ? keep : n, true);
    if (r->cell == CELL_GRU)
      nb_gemm_packed(end - begin, (GemmMatrix){before, n, false}, &w->second, k + 3 * n, keep, false);
    for (int64_t b = begin; b < end; b++, before += n, h += n, k += keep) {
      if (r->cell == CELL_LSTM)
        TYPED(lstm)(n, k, w->bias, (const REAL *)r->cells + (from + b) * n, (REAL *)r->cells + (to + b) * n, h);
      else if (r->cell == CELL_GRU)
        TYPED(gru)(n, k, w->bias, before, h);
      else
        TYPED(plain)(n, r->cell, w->bias, h);
    }
  }
}

// The biases of all that `kept` holds (of h where it holds nothing).
static void TYPED(add_biases)(const Recurrence *r, void *bias) {
  const REAL *in = r->bias_ih, *state = r->bias_hh;
  int64_t n = r->size, apart = r->cell == CELL_GRU ? 2 * n : recurrent_blocks[r->cell].gates * n;
  REAL *to = bias;
  for (int64_t j = 0; j < recurrent_blocks[r->cell].gates * n; j++) {
    if (in) to[j] += in[j];
    if (state) to[j < apart ? j : n + j] += state[j];
  }
}

// ---- backward ----

// What arrives at one step.  dh and dc: from the steps behind; they become what goes on, dh without the weights' share.
typedef struct TYPED(Arriving) {
  const REAL *dh_out, *dc_out, *dk;  // from the outputs
  REAL *dh, *dc;
} TYPED(Arriving);

// With a = o·tanh(c): δ of z_i, z_f, z_g, z_o.
TWICE(lstm_back, (int64_t n, const REAL *k, const REAL *c_before, TYPED(Arriving) a, REAL *dz),
      (n, k, c_before, a, dz)) {
  EACH {
    REAL i = k[j], f = k[n + j], g = k[2 * n + j], o = k[3 * n + j], tc = k[4 * n + j], e = a.dh[j] + a.dh_out[j];
    REAL dc = a.dc[j] + a.dc_out[j] + (e * o + a.dk[4 * n + j]) * (1 - tc * tc);
    dz[j] = (dc * g + a.dk[j]) * (i * (1 - i));
    dz[n + j] = (dc * c_before[j] + a.dk[n + j]) * (f * (1 - f));
    dz[2 * n + j] = (dc * i + a.dk[2 * n + j]) * (1 - g * g);
    dz[3 * n + j] = (e * tc + a.dk[3 * n + j]) * (o * (1 - o));
    a.dc[j] = dc * f;
  }
}

TWICE(gru_back, (int64_t n, const REAL *k, const REAL *h_before, TYPED(Arriving) a, REAL *dx, REAL *dz),
      (n, k, h_before, a, dx, dz)) {
  EACH {
    REAL r = k[j], z = k[n + j], c = k[2 * n + j], hn = k[3 * n + j], e = a.dh[j] + a.dh_out[j];
    REAL dn = (e * (1 - z) + a.dk[2 * n + j]) * (1 - c * c);
    REAL dr = (dn * hn + a.dk[j]) * (r * (1 - r));
    REAL du = (e * (h_before[j] - c) + a.dk[n + j]) * (z * (1 - z));
    dx[j] = dz[j] = dr;
    dx[n + j] = dz[n + j] = du;
    dx[2 * n + j] = dn;
    dz[2 * n + j] = dn * r + a.dk[3 * n + j];
    a.dh[j] = e * z;
  }
}

TWICE(plain_back, (int64_t n, RecurrentCell cell, const REAL *h, TYPED(Arriving) a, REAL *dz), (n, cell, h, a, dz)) {
  if (cell == CELL_TANH)
    EACH dz[j] = (a.dh[j] + a.dh_out[j]) * (1 - h[j] * h[j]);
  else
    EACH dz[j] = h[j] > 0 ? a.dh[j] + a.dh_out[j] : 0;
}

static void TYPED(backward)(const Recurrence *r, const Work *w, int64_t begin, int64_t end) {
  int64_t n = r->size, keep = recurrent_blocks[r->cell].kept * n, wide = recurrent_blocks[r->cell].gates * n;
  const REAL *zeros = w->bias, *states = r->states, *cells = r->cells, *kept = r->kept;
  const REAL *d_states = r->d_states, *d_cells = r->d_cells, *d_kept = r->d_kept;
  REAL *dh = r->d_start, *dc = dh + r->batch * n;
  bool gru = r->cell == CELL_GRU;
  for (int64_t s = r->steps - 1; s >= 0 && !nb_interrupted(); s--) {
    int64_t t = r->reverse ? r->steps - 1 - s : s, from = (t + r->reverse) * r->batch,
            to = (t + !r->reverse) * r->batch;
    REAL *dx = (REAL *)r->d_inputs + t * r->batch * wide, *dz = gru ? (REAL *)r->d_recurrent + t * r->batch * wide : dx;
    for (int64_t b = begin; b < end; b++) {
      const REAL *k = kept + (t * r->batch + b) * keep;
      TYPED(Arriving)
      a = {d_states ? d_states + (to + b) * n : zeros, d_cells ? d_cells + (to + b) * n : zeros,
           d_kept ? d_kept + (t * r->batch + b) * keep : zeros, dh + b * n, dc + b * n};
      if (r->cell == CELL_LSTM)
        TYPED(lstm_back)(n, k, cells + (from + b) * n, a, dz + b * wide);
      else if (gru)
        TYPED(gru_back)(n, k, states + (from + b) * n, a, dx + b * wide, dz + b * wide);
      else
        TYPED(plain_back)(n, r->cell, states + (to + b) * n, a, dz + b * wide);
    }
    nb_gemm_packed(end - begin, (GemmMatrix){dz + begin * wide, wide, false}, &w->weight, dh + begin * n, n, gru);
  }
  int64_t start = (r->reverse ? r->steps : 0) * r->batch;
  NB_IVDEP for (int64_t j = begin * n; j < end * n; j++) dh[j] += d_states ? d_states[start * n + j] : 0;
  if (r->cell == CELL_LSTM)
    NB_IVDEP for (int64_t j = begin * n; j < end * n; j++) dc[j] += d_cells ? d_cells[start * n + j] : 0;
}

#undef REAL
#undef TYPED
#undef SIGMOID
#undef TANH
#undef TWICE
#undef TWICE_OF
#undef EACH
#undef BITS
