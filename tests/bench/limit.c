// SPDX-License-Identifier: MIT
// Works a to f as hand-written C steps: what this machine can do with one buffer for everything, no
// tape and no dispatch.  Driven by works.py: reads "work threads seconds", answers microseconds a step.
//
// Built with -O3 -march=native -ffast-math, which gives it libmvec's exp and tanh; matrix products are
// the library's own.  The elementwise parts stay on one thread: they are small beside the products,
// apart from work e, which splits by itself.
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

// A 5×5 convolution of padded images, one image at a time by its columns; relu, 2×2 pooling with its winners.
typedef struct Stage {
  int64_t in, out, size, pad, to, half;  // channels, filters, input side, padding, output side, pooled side
  Parameter w, b;
  float *columns, *y, *pooled, *dy, *dcolumns, *gw;
  int32_t *winner;
} Stage;

static void stage_new(Stage *s, int64_t batch) {
  s->to = s->size + 2 * s->pad - 4, s->half = s->to / 2;
  s->w = parameter(s->out * s->in * 25), s->b = parameter(s->out);
  s->columns = fresh(batch * s->in * 25 * s->to * s->to), s->dcolumns = fresh(s->in * 25 * s->to * s->to);
  s->y = fresh(s->out * s->to * s->to), s->dy = fresh(s->out * s->to * s->to);
  s->pooled = fresh(batch * s->out * s->half * s->half), s->gw = fresh(s->w.n);
  s->winner = (int32_t *)fresh(batch * s->out * s->half * s->half);
}

static void columns_of(const Stage *s, const float *x, float *to) {
  for (int64_t c = 0; c < s->in; c++)
    for (int64_t k = 0; k < 25; k++, to += s->to * s->to)
      for (int64_t i = 0; i < s->to; i++)
        for (int64_t j = 0; j < s->to; j++) {
          int64_t p = i + k / 5 - s->pad, q = j + k % 5 - s->pad;
          bool in = p >= 0 && p < s->size && q >= 0 && q < s->size;
          to[i * s->to + j] = in ? x[(c * s->size + p) * s->size + q] : 0;
        }
}

static void stage_forward(Stage *s, const float *x, int64_t batch) {
  int64_t pixels = s->to * s->to, lines = s->in * 25;
  for (int64_t n = 0; n < batch; n++) {
    float *columns = s->columns + n * lines * pixels, *out = s->pooled + n * s->out * s->half * s->half;
    int32_t *winner = s->winner + n * s->out * s->half * s->half;
    columns_of(s, x + n * s->in * s->size * s->size, columns);
    product(s->out, pixels, lines, s->w.w, false, columns, false, s->y);
    for (int64_t f = 0; f < s->out; f++)
      for (int64_t i = 0; i < s->half; i++)
        for (int64_t j = 0; j < s->half; j++) {
          int64_t at = f * pixels + 2 * i * s->to + 2 * j, best = at;
          const int64_t others[3] = {at + 1, at + s->to, at + s->to + 1};
          for (int k = 0; k < 3; k++) best = s->y[others[k]] > s->y[best] ? others[k] : best;
          float v = s->y[best] + s->b.w[f];
          *out++ = v > 0 ? v : 0;
          *winner++ = v > 0 ? (int32_t)best : -1;
        }
  }
}

// `d`: the gradient of the pooled output; `dx` where somebody wants it.
static void stage_backward(Stage *s, const float *d, float *dx, int64_t batch) {
  int64_t pixels = s->to * s->to, lines = s->in * 25, each = s->out * s->half * s->half;
  memset(s->w.g, 0, (size_t)s->w.n * 4);
  memset(s->b.g, 0, (size_t)s->b.n * 4);
  if (dx) memset(dx, 0, (size_t)(batch * s->in * s->size * s->size) * 4);
  for (int64_t n = 0; n < batch; n++) {
    memset(s->dy, 0, (size_t)(s->out * pixels) * 4);
    for (int64_t i = 0; i < each; i++)
      if (s->winner[n * each + i] >= 0) {
        s->dy[s->winner[n * each + i]] = d[n * each + i];
        s->b.g[i / (s->half * s->half)] += d[n * each + i];
      }
    product(s->out, lines, pixels, s->dy, false, s->columns + n * lines * pixels, true, s->gw);
    for (int64_t i = 0; i < s->w.n; i++) s->w.g[i] += s->gw[i];
    if (!dx) continue;
    product(lines, pixels, s->out, s->w.w, true, s->dy, false, s->dcolumns);
    const float *from = s->dcolumns;
    for (int64_t c = 0; c < s->in; c++)
      for (int64_t k = 0; k < 25; k++)
        for (int64_t i = 0; i < s->to; i++)
          for (int64_t j = 0; j < s->to; j++, from++) {
            int64_t p = i + k / 5 - s->pad, q = j + k % 5 - s->pad;
            if (p >= 0 && p < s->size && q >= 0 && q < s->size)
              dx[((n * s->in + c) * s->size + p) * s->size + q] += *from;
          }
  }
  update(&s->w, false, 1);
  update(&s->b, false, 1);
}

static void step_d(void) {
  static Stage one = {.in = 1, .out = 6, .size = 28, .pad = 2}, two = {.in = 6, .out = 16, .size = 14};
  static Mlp m;
  static float *x, *dx;
  if (!x) {
    x = fresh(64 * 784), dx = fresh(64 * 6 * 196);
    stage_new(&one, 64);
    stage_new(&two, 64);
    mlp_new(&m, 3, 64, (int64_t[]){400, 120, 84, 10}, two.pooled);
  }
  stage_forward(&one, x, 64);
  stage_forward(&two, one.pooled, 64);
  mlp_step(&m, false, true);
  stage_backward(&two, m.d[0], dx, 64);
  stage_backward(&one, dx, NULL, 64);
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

// ---- f ----

enum { T = 64, N = 32, H = 128 };

static void step_f(void) {
  static Parameter wx, wh, b, wo, bo;
  static float *x, *z, *h, *c, *tc, *dz, *dh, *dc, *logits;
  static int64_t t;
  if (!x) {
    wx = parameter(4 * H * H), wh = parameter(4 * H * H), b = parameter(4 * H), wo = parameter(10 * H);
    bo = parameter(10);
    x = fresh(T * N * H), z = fresh(T * N * 4 * H), h = fresh((T + 1) * N * H), c = fresh((T + 1) * N * H);
    tc = fresh(T * N * H), dz = fresh(T * N * 4 * H), dh = fresh(N * H), dc = fresh(N * H), logits = fresh(N * 10);
    memset(h, 0, N * H * 4);
    memset(c, 0, N * H * 4);
  }
  static float zh[N * 4 * H];
  product(T * N, 4 * H, H, x, false, wx.w, true, z);
  for (int s = 0; s < T; s++) {
    float *c0 = c + s * N * H, *c1 = c0 + N * H, *h1 = h + (s + 1) * N * H;
    product(N, 4 * H, H, h + s * N * H, false, wh.w, true, zh);
    for (int n = 0; n < N; n++) {
      float *g = z + (s * N + n) * 4 * H, *q = zh + n * 4 * H;
      for (int j = 0; j < H; j++) {
        float i = 1 / (1 + expf(-(g[j] + q[j] + b.w[j]))), f = 1 / (1 + expf(-(g[H + j] + q[H + j] + b.w[H + j])));
        float a = tanhf(g[2 * H + j] + q[2 * H + j] + b.w[2 * H + j]);
        float o = 1 / (1 + expf(-(g[3 * H + j] + q[3 * H + j] + b.w[3 * H + j])));
        float cell = f * c0[n * H + j] + i * a, th = tanhf(cell);
        c1[n * H + j] = cell, tc[(s * N + n) * H + j] = th, h1[n * H + j] = o * th;
        g[j] = i, g[H + j] = f, g[2 * H + j] = a, g[3 * H + j] = o;
      }
    }
  }
  product(N, 10, H, h + T * N * H, false, wo.w, true, logits);
  bias_act(logits, bo.w, N, 10, false);
  cross_entropy(logits, N, 10);
  product(10, H, N, logits, true, h + T * N * H, false, wo.g);
  sums(logits, N, 10, bo.g);
  product(N, H, 10, logits, false, wo.w, false, dh);
  memset(dc, 0, N * H * 4);
  for (int s = T - 1; s >= 0; s--) {
    for (int n = 0; n < N; n++) {
      const float *g = z + (s * N + n) * 4 * H, *c0 = c + (s * N + n) * H, *th = tc + (s * N + n) * H;
      float *d = dz + (s * N + n) * 4 * H;
      for (int j = 0; j < H; j++) {
        float i = g[j], f = g[H + j], a = g[2 * H + j], o = g[3 * H + j], e = dh[n * H + j];
        float dcell = dc[n * H + j] + e * o * (1 - th[j] * th[j]);
        d[j] = dcell * a * i * (1 - i), d[H + j] = dcell * c0[j] * f * (1 - f);
        d[2 * H + j] = dcell * i * (1 - a * a), d[3 * H + j] = e * th[j] * o * (1 - o);
        dc[n * H + j] = dcell * f;
      }
    }
    if (s) product(N, H, 4 * H, dz + s * N * 4 * H, false, wh.w, false, dh);
  }
  product(4 * H, H, T * N, dz, true, h, false, wh.g);
  product(4 * H, H, T * N, dz, true, x, false, wx.g);
  sums(dz, T * N, 4 * H, b.g);
  t++;
  Parameter *all[] = {&wx, &wh, &b, &wo, &bo};
  for (int i = 0; i < 5; i++) update(all[i], true, t);
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
  } works[] = {{"a", step_a}, {"b_sgd", step_b_sgd}, {"b_adam", step_b_adam}, {"c", step_c}, {"d", step_d},
               {"e", step_e}, {"f", step_f}};
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
