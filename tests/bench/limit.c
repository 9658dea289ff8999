// SPDX-License-Identifier: MIT
// Works a to f as hand-written C steps: what this machine can do with one buffer for everything, no
// tape and no dispatch.  Driven by works.py: reads "work threads seconds", answers microseconds a step.
//
// Built with -O3 -march=native -ffast-math, which gives it libmvec's exp and tanh; matrix products and convolutions are
// the library's own.  The elementwise parts stay on one thread: they are small beside the products, apart from works e
// and f, which split by themselves.
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "convolve.h"
#include "gemm.h"
#include "nablua/parallel.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *fresh(int64_t count) {
  float *data = aligned_alloc(64, ((size_t)count * sizeof(float) + 63) / 64 * 64);
  if (!data) exit(1);
  for (int64_t i = 0; i < count; i++) data[i] = ((float)((uint64_t)i * 2654435761u % 1000) / 1000 - 0.5f) * 0.1f;
  return data;
}

// C = A·B with rows m, columns n, inner k; `ta`, `tb`: the operand lies transposed.
static void product(int64_t m, int64_t n, int64_t k, const float *a, bool ta, const float *b, bool tb, float *c) {
  Error err;
  GemmMatrix x = {a, ta ? m : k, ta}, y = {b, tb ? k : n, tb};
  if (!nb_gemm(NB_F32, m, n, k, x, y, c, n, &err)) exit(1);
}

// ---- a ----

static void step_a(void) {
  static float w1[4][2] = {{.1f, -.2f}, {.3f, .1f}, {-.2f, .2f}, {.4f, -.1f}}, b1[4], w2[4] = {.1f, -.2f, .3f, .2f}, b2;
  static const float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, y[4] = {0, 1, 1, 0};
  float gw1[4][2] = {{0}}, gb1[4] = {0}, gw2[4] = {0}, gb2 = 0;
  for (int n = 0; n < 4; n++) {
    float h[4], z = b2;
    for (int j = 0; j < 4; j++) {
      h[j] = 1 / (1 + expf(-(w1[j][0] * x[n][0] + w1[j][1] * x[n][1] + b1[j])));
      z += w2[j] * h[j];
    }
    float o = 1 / (1 + expf(-z)), d = 0.5f * (o - y[n]) * o * (1 - o);
    gb2 += d;
    for (int j = 0; j < 4; j++) {
      float e = d * w2[j] * h[j] * (1 - h[j]);
      gw2[j] += d * h[j];
      gb1[j] += e;
      gw1[j][0] += e * x[n][0];
      gw1[j][1] += e * x[n][1];
    }
  }
  for (int j = 0; j < 4; j++) {
    w2[j] -= 0.5f * gw2[j], b1[j] -= 0.5f * gb1[j];
    w1[j][0] -= 0.5f * gw1[j][0], w1[j][1] -= 0.5f * gw1[j][1];
  }
  b2 -= 0.5f * gb2;
}

// ---- layers ----

static void bias_act(float *y, const float *b, int64_t rows, int64_t n, bool relu) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < n; j++) {
      float v = y[i * n + j] + b[j];
      y[i * n + j] = relu && v < 0 ? 0 : v;
    }
}

// δ of the logits: (softmax − one-hot)/rows.
static void cross_entropy(float *z, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; i++) {
    float *r = z + i * n, most = r[0], sum = 0;
    for (int64_t j = 1; j < n; j++) most = r[j] > most ? r[j] : most;
    for (int64_t j = 0; j < n; j++) sum += r[j] = expf(r[j] - most);
    for (int64_t j = 0; j < n; j++) r[j] = r[j] / sum / (float)rows;
    r[i % n] -= 1 / (float)rows;
  }
}

static void sums(const float *d, int64_t rows, int64_t n, float *out) {
  memset(out, 0, (size_t)n * sizeof *out);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < n; j++) out[j] += d[i * n + j];
}

typedef struct Parameter {
  float *w, *g, *m, *v;
  int64_t n;
} Parameter;

static Parameter parameter(int64_t n) {
  Parameter p = {fresh(n), fresh(n), fresh(n), fresh(n), n};
  for (int64_t i = 0; i < n; i++) p.m[i] = p.v[i] = 0;
  return p;
}

static void update(Parameter *p, bool adam, int64_t t) {
  if (!adam) {
    for (int64_t i = 0; i < p->n; i++) p->w[i] -= 0.01f * p->g[i];
    return;
  }
  float a = 1e-3f / (1 - powf(0.9f, (float)t)), b = 1 / (1 - powf(0.999f, (float)t));
  for (int64_t i = 0; i < p->n; i++) {
    p->m[i] = 0.9f * p->m[i] + 0.1f * p->g[i];
    p->v[i] = 0.999f * p->v[i] + 0.001f * p->g[i] * p->g[i];
    p->w[i] -= a * p->m[i] / (sqrtf(p->v[i] * b) + 1e-8f);
  }
}

// ---- b, c ----

typedef struct Mlp {
  int layers;
  int64_t batch, size[8], t;
  Parameter w[8], b[8];
  float *a[8], *d[8];
} Mlp;

static void mlp_new(Mlp *m, int layers, int64_t batch, const int64_t *size, float *input) {
  m->layers = layers, m->batch = batch;
  for (int i = 0; i <= layers; i++) {
    m->size[i] = size[i];
    m->a[i] = i == 0 && input ? input : fresh(batch * size[i]);
    m->d[i] = fresh(batch * size[i]);
    if (i) m->w[i] = parameter(size[i] * size[i - 1]), m->b[i] = parameter(size[i]);
  }
}

static void mlp_step(Mlp *m, bool adam, bool input_grad) {
  int top = m->layers;
  for (int i = 1; i <= top; i++) {
    product(m->batch, m->size[i], m->size[i - 1], m->a[i - 1], false, m->w[i].w, true, m->a[i]);
    bias_act(m->a[i], m->b[i].w, m->batch, m->size[i], i < top);
  }
  memcpy(m->d[top], m->a[top], (size_t)(m->batch * m->size[top]) * sizeof(float));
  cross_entropy(m->d[top], m->batch, m->size[top]);
  m->t++;
  for (int i = top; i >= 1; i--) {
    product(m->size[i], m->size[i - 1], m->batch, m->d[i], true, m->a[i - 1], false, m->w[i].g);
    sums(m->d[i], m->batch, m->size[i], m->b[i].g);
    if (i > 1 || input_grad) {
      product(m->batch, m->size[i - 1], m->size[i], m->d[i], false, m->w[i].w, false, m->d[i - 1]);
      if (i > 1)
        for (int64_t k = 0; k < m->batch * m->size[i - 1]; k++)
          m->d[i - 1][k] = m->a[i - 1][k] > 0 ? m->d[i - 1][k] : 0;
    }
    update(&m->w[i], adam, m->t);
    update(&m->b[i], adam, m->t);
  }
}

static void step_mlp(Mlp *m, int layers, int64_t batch, const int64_t *size, bool adam) {
  if (!m->layers) mlp_new(m, layers, batch, size, NULL);
  mlp_step(m, adam, false);
}

static void step_b_sgd(void) {
  static Mlp m;
  step_mlp(&m, 3, 64, (int64_t[]){784, 256, 128, 10}, false);
}
static void step_b_adam(void) {
  static Mlp m;
  step_mlp(&m, 3, 64, (int64_t[]){784, 256, 128, 10}, true);
}
static void step_c(void) {
  static Mlp m;
  step_mlp(&m, 3, 512, (int64_t[]){784, 1024, 1024, 10}, false);
}

// ---- d ----

// A 5×5 convolution, the library's own as the products are; relu, 2×2 pooling with its winners.
typedef struct Stage {
  Conv v;
  int64_t half;  // pooled side
  Parameter w, b;
  float *y, *dy, *pooled;
  int32_t *winner;
} Stage;

static void stage_new(Stage *s, int64_t batch, int64_t in, int64_t out, int64_t size, int64_t padding) {
  int64_t to = size + 2 * padding - 4;
  s->half = to / 2;
  s->v = (Conv){NB_F32, batch, in, size, size, out, 5, 5, 1, to, to, {1, 1}, {padding, padding}, {1, 1}};
  s->w = parameter(out * in * 25), s->b = parameter(out);
  s->y = fresh(batch * out * to * to), s->dy = fresh(batch * out * to * to);
  s->pooled = fresh(batch * out * s->half * s->half);
  s->winner = (int32_t *)fresh(batch * out * s->half * s->half);
}

static void stage_forward(Stage *s, const float *x) {
  Error err;
  int64_t to = s->v.out_width;
  float *out = s->pooled;
  int32_t *winner = s->winner;
  if (!conv_forward(&s->v, x, s->w.w, s->b.w, s->y, &err)) exit(1);
  for (int64_t plane = 0; plane < s->v.images * s->v.filters; plane++)
    for (int64_t i = 0; i < s->half; i++)
      for (int64_t j = 0; j < s->half; j++) {
        int64_t at = plane * to * to + 2 * i * to + 2 * j, best = at;
        const int64_t others[3] = {at + 1, at + to, at + to + 1};
        for (int k = 0; k < 3; k++) best = s->y[others[k]] > s->y[best] ? others[k] : best;
        *out++ = s->y[best] > 0 ? s->y[best] : 0;
        *winner++ = s->y[best] > 0 ? (int32_t)best : -1;
      }
}

// `d`: the gradient of the pooled output; `dx` where somebody wants it.
static void stage_backward(Stage *s, const float *x, const float *d, float *dx) {
  Error err;
  int64_t each = s->half * s->half, all = s->v.images * s->v.filters * each;
  memset(s->dy, 0, (size_t)(s->v.images * s->v.filters * s->v.out_height * s->v.out_width) * 4);
  memset(s->b.g, 0, (size_t)s->b.n * 4);
  for (int64_t i = 0; i < all; i++)
    if (s->winner[i] >= 0) {
      s->dy[s->winner[i]] = d[i];
      s->b.g[i / each % s->v.filters] += d[i];
    }
  if (!conv_weight(&s->v, x, s->dy, s->w.g, &err)) exit(1);
  if (dx && !conv_input(&s->v, s->dy, s->w.w, NULL, dx, &err)) exit(1);
  update(&s->w, false, 1);
  update(&s->b, false, 1);
}

static void step_d(void) {
  static Stage one, two;
  static Mlp m;
  static float *x, *dx;
  if (!x) {
    x = fresh(64 * 784), dx = fresh(64 * 6 * 196);
    stage_new(&one, 64, 1, 6, 28, 2);
    stage_new(&two, 64, 6, 16, 14, 0);
    mlp_new(&m, 3, 64, (int64_t[]){400, 120, 84, 10}, two.pooled);
  }
  stage_forward(&one, x);
  stage_forward(&two, one.pooled);
  mlp_step(&m, false, true);
  stage_backward(&two, one.pooled, m.d[0], dx);
  stage_backward(&one, x, dx, NULL);
}

// ---- e ----

typedef struct Chain {
  const float *x;
  float *g;
  float sum[64];
} Chain;

static void chain(int64_t begin, int64_t end, void *ctx) {
  Chain *c = ctx;
  float sum = 0;
  for (int64_t i = begin; i < end; i++) {
    float x = c->x[i], t = tanhf(1.5f * x + 0.5f), s = 1 / (1 + expf(-x));
    sum += t * s;
    c->g[i] = 1.5f * (1 - t * t) * s + t * s * (1 - s);
  }
  c->sum[begin * 64 / 1000000] = sum;
}

static void step_e(void) {
  static Chain c;
  if (!c.g) c.x = fresh(1000000), c.g = fresh(1000000);
  nb_parallel_for(1000000, 16384, chain, &c);
}

// The same operator by operator, as eager steps do it: what one stores the next one loads.
static Chain ops;
static float *row[8];
#define PASS(name, expr)                                                                                         \
  static void name(int64_t begin, int64_t end, void *ctx) {                                                      \
    (void)ctx;                                                                                                   \
    const float *x = ops.x;                                                                                      \
    float *a = row[0], *b = row[1], *t = row[2], *s = row[3], *y = row[4], *u = row[5], *v = row[6], *g = ops.g; \
    _Pragma("GCC ivdep") for (int64_t i = begin; i < end; i++) expr;                                             \
    (void)x, (void)a, (void)b, (void)t, (void)s, (void)y, (void)u, (void)v, (void)g;                             \
  }
PASS(op_scale, a[i] = 1.5f * x[i])
PASS(op_shift, b[i] = a[i] + 0.5f)
PASS(op_tanh, t[i] = tanhf(b[i]))
PASS(op_sigmoid, s[i] = 1 / (1 + expf(-x[i])))
PASS(op_product, y[i] = t[i] * s[i])
PASS(op_sigmoid_slope, u[i] = t[i] * s[i] * (1 - s[i]))
PASS(op_tanh_slope, v[i] = s[i] * (1 - t[i] * t[i]))
PASS(op_scale_slope, v[i] = 1.5f * v[i])
PASS(op_add, g[i] = u[i] + v[i])

static void op_sum(int64_t begin, int64_t end, void *ctx) {
  double sum = 0;
  (void)ctx;
  for (int64_t i = begin; i < end; i++) sum += (double)row[4][i];
  ops.sum[begin * 64 / 1000000] = (float)sum;
}

static void step_e_ops(void) {
  static void (*const passes[])(int64_t, int64_t, void *) = {op_scale,       op_shift, op_tanh,          op_sigmoid,
                                                             op_product,     op_sum,   op_sigmoid_slope, op_tanh_slope,
                                                             op_scale_slope, op_add};
  if (!ops.g) {
    ops.x = fresh(1000000), ops.g = fresh(1000000);
    for (int i = 0; i < 8; i++) row[i] = fresh(1000000);
  }
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) nb_parallel_for(1000000, 16384, passes[i], NULL);
}

// ---- f ----

enum { T = 64, N = 32, H = 128 };

typedef struct Lstm {
  Parameter wx, wh, b, wo, bo;
  float *x, *z, *h, *c, *tc, *dz, *dh, *dc, *logits;
  GemmPacked forward, backward;  // wh as both passes need it
  int64_t t;
} Lstm;

// Rows of the batch do not meet before the end: a thread walks the sequence with its own.
static void lstm_forward(int64_t begin, int64_t end, void *ctx) {
  Lstm *l = ctx;
  int64_t rows = end - begin;
  for (int s = 0; s < T; s++) {
    float *z = l->z + (s * N + begin) * 4 * H, *c0 = l->c + (s * N + begin) * H, *c1 = c0 + N * H;
    float *h0 = l->h + (s * N + begin) * H, *h1 = h0 + N * H, *tc = l->tc + (s * N + begin) * H;
    nb_gemm_packed(rows, (GemmMatrix){h0, H, false}, &l->forward, z, 4 * H, true);
    for (int64_t n = 0; n < rows; n++) {
      float *g = z + n * 4 * H;
      const float *b = l->b.w;
      _Pragma("GCC ivdep") for (int j = 0; j < H; j++) {
        float i = 1 / (1 + expf(-(g[j] + b[j]))), f = 1 / (1 + expf(-(g[H + j] + b[H + j])));
        float a = tanhf(g[2 * H + j] + b[2 * H + j]), o = 1 / (1 + expf(-(g[3 * H + j] + b[3 * H + j])));
        float cell = f * c0[n * H + j] + i * a, th = tanhf(cell);
        c1[n * H + j] = cell, tc[n * H + j] = th, h1[n * H + j] = o * th;
        g[j] = i, g[H + j] = f, g[2 * H + j] = a, g[3 * H + j] = o;
      }
    }
  }
}

static void lstm_backward(int64_t begin, int64_t end, void *ctx) {
  Lstm *l = ctx;
  int64_t rows = end - begin;
  float *dh = l->dh + begin * H, *dc = l->dc + begin * H;
  for (int s = T - 1; s >= 0; s--) {
    const float *z = l->z + (s * N + begin) * 4 * H, *c0 = l->c + (s * N + begin) * H;
    const float *tc = l->tc + (s * N + begin) * H;
    float *dz = l->dz + (s * N + begin) * 4 * H;
    for (int64_t n = 0; n < rows; n++) {
      const float *g = z + n * 4 * H;
      float *d = dz + n * 4 * H;
      _Pragma("GCC ivdep") for (int j = 0; j < H; j++) {
        float i = g[j], f = g[H + j], a = g[2 * H + j], o = g[3 * H + j], e = dh[n * H + j], th = tc[n * H + j];
        float dcell = dc[n * H + j] + e * o * (1 - th * th);
        d[j] = dcell * a * i * (1 - i), d[H + j] = dcell * c0[n * H + j] * f * (1 - f);
        d[2 * H + j] = dcell * i * (1 - a * a), d[3 * H + j] = e * th * o * (1 - o);
        dc[n * H + j] = dcell * f;
      }
    }
    if (s) nb_gemm_packed(rows, (GemmMatrix){dz, 4 * H, false}, &l->backward, dh, H, false);
  }
}

static void step_f(void) {
  static Lstm l;
  Error err;
  if (!l.x) {
    l.wx = parameter(4 * H * H), l.wh = parameter(4 * H * H), l.b = parameter(4 * H), l.wo = parameter(10 * H);
    l.bo = parameter(10);
    l.x = fresh(T * N * H), l.z = fresh(T * N * 4 * H), l.h = fresh((T + 1) * N * H), l.c = fresh((T + 1) * N * H);
    l.tc = fresh(T * N * H), l.dz = fresh(T * N * 4 * H), l.dh = fresh(N * H), l.dc = fresh(N * H);
    l.logits = fresh(N * 10);
    memset(l.h, 0, N * H * 4);
    memset(l.c, 0, N * H * 4);
  }
  GemmMatrix wh = {l.wh.w, H, true}, back = {l.wh.w, H, false};
  if (!nb_gemm_pack(NB_F32, N, 4 * H, H, wh, &l.forward, &err)) exit(1);
  if (!nb_gemm_pack(NB_F32, N, H, 4 * H, back, &l.backward, &err)) exit(1);
  product(T * N, 4 * H, H, l.x, false, l.wx.w, true, l.z);
  nb_parallel_for(N, N / nb_threads(), lstm_forward, &l);
  const float *last = l.h + T * N * H;
  product(N, 10, H, last, false, l.wo.w, true, l.logits);
  bias_act(l.logits, l.bo.w, N, 10, false);
  cross_entropy(l.logits, N, 10);
  product(10, H, N, l.logits, true, last, false, l.wo.g);
  sums(l.logits, N, 10, l.bo.g);
  product(N, H, 10, l.logits, false, l.wo.w, false, l.dh);
  memset(l.dc, 0, N * H * 4);
  nb_parallel_for(N, N / nb_threads(), lstm_backward, &l);
  product(4 * H, H, T * N, l.dz, true, l.h, false, l.wh.g);
  product(4 * H, H, T * N, l.dz, true, l.x, false, l.wx.g);
  sums(l.dz, T * N, 4 * H, l.b.g);
  nb_gemm_unpack(&l.forward);
  nb_gemm_unpack(&l.backward);
  l.t++;
  Parameter *all[] = {&l.wx, &l.wh, &l.b, &l.wo, &l.bo};
  for (int i = 0; i < 5; i++) update(all[i], true, l.t);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double measure(void (*step)(void), double seconds) {
  enum { MOST = 4096 };
  static double per[MOST];
  int count = 0;
  for (int i = 0; i < 3; i++) step();
  double start = now();
  step();
  double once = now() - start, stop;
  int batch = (int)(seconds / 15 / (once > 1e-7 ? once : 1e-7)) + 1;
  for (stop = now() + seconds; (now() < stop || count < 3) && count < MOST; count++) {
    start = now();
    for (int i = 0; i < batch; i++) step();
    per[count] = (now() - start) / batch;
  }
  qsort(per, (size_t)count, sizeof *per, by_value);
  return per[count / 2] * 1e6;
}

int main(void) {
  static const struct {
    const char *name;
    void (*step)(void);
  } works[] = {{"a", step_a},           {"a_100", step_a},     {"b_sgd", step_b_sgd},
               {"b_adam", step_b_adam}, {"c", step_c},         {"d", step_d},
               {"e", step_e},           {"e_ops", step_e_ops}, {"f", step_f}};
  char line[100], name[32];
  int threads;
  double seconds;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "%31s %d %lf", name, &threads, &seconds) != 3) return 2;
    nb_set_threads(threads);
    double result = (double)NAN;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
      if (strcmp(works[i].name, name) == 0) result = measure(works[i].step, seconds);
    printf("%.3f\n", result);
    fflush(stdout);
  }
  return 0;
}
