// SPDX-License-Identifier: MIT
// Convolutions of stride 1 without columns: a window of the padded image is laid out once, and each line of columns is
// a run of that window, read where it lies.
//
//        width                          With rows `pitch` apart, pixel (p, q) of the output is at p·pitch + q, and
//   ┌───────────────┬─────┐             what it meets under kernel position (r, s) lies (r·dilation·pitch + s·dilation)
//   │ outputs       │ no  │ height      further on, whatever p and q: one offset for each channel and kernel position.
//   │               │     │             The products also yield numbers for the right margin, which are dropped (their
//   ├───────────────┘     │             gradients are zeros).
//   │ no                  │ reach
//   └─────────────────────┘
//           pitch
#include <string.h>

#include "convolve_private.h"
#include "gemm.h"
#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

// What a window and its outputs take together is at most about so many bytes, to stay in a cache; its width within
// limits.
enum { WINDOW_BYTES = 1 << 17, LEAST_WIDE = 16, MOST_WIDE = 512 };

// How outputs are cut into windows of equal shape.
typedef struct Windows {
  const Conv *v;
  size_t element;
  int64_t channels, filters, lines;  // of a group
  int64_t reach[2];                  // pixels that a kernel covers beyond its first
  int64_t height, width, pitch;      // outputs of a window; from a row to the next
  int64_t down, across;              // windows of an image
  int64_t plane, run;  // numbers of a window's channel; from its first output to its last, in whole vectors
  int64_t *at;         // the offset of each line
} Windows;

static bool windows_open(const Conv *v, Windows *w, Error *err) {
  *w = (Windows){.v = v, .element = nb_dtype_size(v->dtype)};
  w->channels = v->channels / v->groups;
  w->filters = v->filters / v->groups;
  w->lines = w->channels * v->rows * v->columns;
  w->reach[0] = (v->rows - 1) * v->dilation[0];
  w->reach[1] = (v->columns - 1) * v->dilation[1];
  int64_t pixel = (w->channels + w->filters) * (int64_t)w->element, wide = WINDOW_BYTES / pixel;
  w->across = ceil_div(v->out_width, wide < LEAST_WIDE ? LEAST_WIDE : wide > MOST_WIDE ? MOST_WIDE : wide);
  w->width = ceil_div(v->out_width, w->across);
  w->pitch = w->width + w->reach[1];
  int64_t most = WINDOW_BYTES / (pixel * w->pitch) - w->reach[0];
  if (most < 1) most = 1;
  w->down = ceil_div(v->out_height, most);
  w->height = ceil_div(v->out_height, w->down);
  int64_t lanes = nb_gemm_lanes(v->dtype);
  w->run = ceil_div((w->height - 1) * w->pitch + w->width, lanes) * lanes;
  w->plane = (w->height + w->reach[0]) * w->pitch;
  if (!(w->at = nb_alloc((size_t)w->lines * sizeof *w->at, err))) return false;
  for (int64_t i = 0; i < w->lines; i++) {
    int64_t s = i % v->columns, r = i / v->columns % v->rows, c = i / v->columns / v->rows;
    w->at[i] = c * w->plane + r * v->dilation[0] * w->pitch + s * v->dilation[1];
  }
  return true;
}

static void windows_close(Windows *w) {
  if (w->at) nb_free(w->at, (size_t)w->lines * sizeof *w->at);
}

// Numbers for `channels` of a window, and for the vectors that reach beyond the last.
static int64_t window_numbers(const Windows *w, int64_t channels) {
  return channels * w->plane + nb_gemm_lanes(w->v->dtype);
}

// Row (p, q) to (p, q + n) of an image of height × width, zeros outside.
static void copy_row(char *to, const char *image, int64_t height, int64_t width, int64_t p, int64_t q, int64_t n,
                     size_t element) {
  int64_t first = q < 0 ? -q : 0, last = width - q < n ? width - q : n;
  if (p < 0 || p >= height || last <= first) {
    memset(to, 0, (size_t)n * element);
    return;
  }
  if (first > 0) memset(to, 0, (size_t)first * element);
  memcpy(to + (size_t)first * element, image + (size_t)(p * width + q + first) * element,
         (size_t)(last - first) * element);
  if (last < n) memset(to + (size_t)last * element, 0, (size_t)(n - last) * element);
}

// The same of a window as wide as its image, with `left` zeros before each row and others behind it, which stay from
// one window to the next.
static void copy_rows(const Windows *w, const char *image, int64_t p, int64_t left, char *to) {
  const Conv *v = w->v;
  size_t bytes = (size_t)v->width * w->element, pitch = (size_t)w->pitch * w->element;
  to += (size_t)left * w->element;
  for (int64_t i = 0; i < w->height + w->reach[0]; i++, p++, to += pitch) {
    if (p < 0 || p >= v->height)
      memset(to, 0, bytes);
    else
      memcpy(to, image + (size_t)p * bytes, bytes);
  }
}

// One channel of the window with number `index` in its image, into what is zero or holds another of its kind.
static void copy_window(const Windows *w, const char *image, int64_t index, char *to) {
  const Conv *v = w->v;
  int64_t p = index / w->across * w->height - v->padding[0], q = index % w->across * w->width - v->padding[1];
  if (w->across == 1 && v->padding[1] >= 0) {
    copy_rows(w, image, p, v->padding[1], to);
    return;
  }
  for (int64_t i = 0; i < w->height + w->reach[0]; i++)
    copy_row(to + (size_t)(i * w->pitch) * w->element, image, v->height, v->width, p + i, q, w->pitch, w->element);
}

// The parts of some work, each with a buffer of its own.
typedef struct Work {
  const Windows *w;
  const char *x, *y, *weight, *bias;  // weight: packed, group by group
  char *out, *buffers;
  size_t weight_bytes, window_bytes, buffer_bytes;
  int64_t items, parts;
  int64_t pieces;  // weights: windows of a block, and its first
  int64_t first;
} Work;

// ---- forward ----

#define ADD_BIAS(T)                                                              \
  do {                                                                           \
    const T *sum = (const T *)from, add = ((const T *)work->bias)[f];            \
    NB_IVDEP for (int64_t j = 0; j < n; j++)((T *)(void *)to)[j] = sum[j] + add; \
  } while (0)

NB_TWICE(put_outputs, (const Work *work, int64_t image, int64_t group, int64_t index, const char *sums),
         (work, image, group, index, sums), true) {
  const Windows *w = work->w;
  const Conv *v = w->v;
  int64_t p = index / w->across * w->height, q = index % w->across * w->width;
  int64_t rows = v->out_height - p < w->height ? v->out_height - p : w->height;
  int64_t n = v->out_width - q < w->width ? v->out_width - q : w->width;
  for (int64_t k = 0; k < w->filters; k++) {
    int64_t f = group * w->filters + k;
    for (int64_t i = 0; i < rows; i++) {
      const char *from = sums + (size_t)(k * w->run + i * w->pitch) * w->element;
      char *to =
          work->out + (size_t)(((image * v->filters + f) * v->out_height + p + i) * v->out_width + q) * w->element;
      if (!work->bias)
        memcpy(to, from, (size_t)n * w->element);
      else if (v->dtype == NB_F32)
        ADD_BIAS(float);
      else
        ADD_BIAS(double);
    }
  }
}

static void forward_part(int64_t begin, int64_t end, void *ctx) {
  const Work *work = ctx;
  const Windows *w = work->w;
  const Conv *v = w->v;
  for (int64_t part = begin; part < end; part++) {
    char *window = work->buffers + (size_t)part * work->buffer_bytes, *sums = window + work->window_bytes;
    memset(window, 0, work->window_bytes);
    for (int64_t item = work->items * part / work->parts; item < work->items * (part + 1) / work->parts; item++) {
      if (nb_interrupted()) return;
      int64_t index = item % (w->down * w->across), g = item / (w->down * w->across) % v->groups;
      int64_t image = item / (w->down * w->across) / v->groups;
      for (int64_t c = 0; c < w->channels; c++) {
        int64_t plane = image * v->channels + g * w->channels + c;
        copy_window(w, work->x + (size_t)(plane * v->height * v->width) * w->element, index,
                    window + (size_t)(c * w->plane) * w->element);
      }
      nb_gemm_at(v->dtype, w->filters, w->run, w->lines, work->weight + (size_t)g * work->weight_bytes, window, w->at,
                 sums, w->run);
      put_outputs(work, image, g, index, sums);
    }
  }
}

bool conv_direct_forward(const Conv *v, const void *x, const void *weight, const void *bias, void *y, Error *err) {
  Windows w;
  Work work = {.w = &w, .x = x, .bias = bias, .out = y};
  char *packed = NULL;
  bool ok = false;
  if (!windows_open(v, &w, err)) goto done;
  work.weight_bytes = nb_gemm_x_bytes(v->dtype, w.filters, w.lines);
  if (!(packed = nb_alloc((size_t)v->groups * work.weight_bytes, err))) goto done;
  for (int64_t g = 0; g < v->groups; g++)
    nb_gemm_pack_x(v->dtype, w.filters, w.lines, (const char *)weight + (size_t)(g * w.filters * w.lines) * w.element,
                   packed + (size_t)g * work.weight_bytes);
  work.weight = packed;
  work.items = v->images * v->groups * w.down * w.across;
  double flops = 2.0 * (double)work.items * (double)(w.filters * w.run) * (double)w.lines;
  work.parts = flops < 1e5 ? 1 : nb_threads() < work.items ? nb_threads() : work.items;
  work.window_bytes = (size_t)window_numbers(&w, w.channels) * w.element;
  work.buffer_bytes = work.window_bytes + (size_t)(w.filters * w.run) * w.element;
  if (!(work.buffers = nb_alloc((size_t)work.parts * work.buffer_bytes, err))) goto done;
  nb_parallel_for(work.parts, 1, forward_part, &work);
  ok = nb_poll(err);
done:
  if (work.buffers) nb_free(work.buffers, (size_t)work.parts * work.buffer_bytes);
  if (packed) nb_free(packed, (size_t)v->groups * work.weight_bytes);
  windows_close(&w);
  return ok;
}

// ---- input ----

// The gradient of the input is the convolution of the output's with the kernel turned round, channels and filters
// exchanged.
bool conv_direct_input(const Conv *v, const void *y, const void *weight, const void *bias, void *x, Error *err) {
  Conv turned = *v;
  turned.channels = v->filters, turned.filters = v->channels;
  turned.height = v->out_height, turned.width = v->out_width;
  turned.out_height = v->height, turned.out_width = v->width;
  turned.padding[0] = (v->rows - 1) * v->dilation[0] - v->padding[0];
  turned.padding[1] = (v->columns - 1) * v->dilation[1] - v->padding[1];
  int64_t filters = v->filters / v->groups, channels = v->channels / v->groups, size = v->rows * v->columns;
  size_t element = nb_dtype_size(v->dtype), bytes = (size_t)(v->filters * channels * size) * element;
  char *w = nb_alloc(bytes, err);
  if (!w) return false;
  const char *from = weight;
  for (int64_t f = 0; f < v->filters; f++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t k = size - 1; k >= 0; k--, from += element) {
        int64_t line = f / filters * channels + c;
        memcpy(w + (size_t)((line * filters + f % filters) * size + k) * element, from, element);
      }
  bool ok = conv_direct_forward(&turned, y, w, bias, x, err);
  nb_free(w, bytes);
  return ok;
}

// ---- weight ----

// Items are window × plane: the channels of x, then those of y, whose margins are zeros.
static void lay_out(int64_t begin, int64_t end, void *ctx) {
  const Work *work = ctx;
  const Windows *w = work->w;
  const Conv *v = w->v;
  int64_t planes = v->channels + v->filters, each = w->down * w->across;
  for (int64_t item = begin; item < end; item++) {
    int64_t piece = item / planes, c = item % planes, image = (work->first + piece) / each;
    int64_t index = (work->first + piece) % each;
    char *window = work->buffers + (size_t)piece * work->buffer_bytes, *sums = window + work->window_bytes;
    if (c < v->channels) {
      copy_window(w, work->x + (size_t)((image * v->channels + c) * v->height * v->width) * w->element, index,
                  window + (size_t)(c * w->plane) * w->element);
      continue;
    }
    c -= v->channels;
    const char *from = work->y + (size_t)((image * v->filters + c) * v->out_height * v->out_width) * w->element;
    char *to = sums + (size_t)(c * w->run) * w->element;
    int64_t p = index / w->across * w->height, q = index % w->across * w->width;
    for (int64_t i = 0; i < w->height; i++)
      copy_row(to + (size_t)(i * w->pitch) * w->element, from, v->out_height, v->out_width, p + i, q, w->width,
               w->element);
  }
}

#define ADD_SUMS(T)                                                                             \
  do {                                                                                          \
    const T *from = (const T *)sums;                                                            \
    T *to = (T *)work->out + f * w->lines + line;                                               \
    for (int64_t s = 0; s < n; s++) to[s] = (work->first ? to[s] : 0) + from[(f - f0) * 4 + s]; \
  } while (0)

enum { FILTERS = 64 };  // sums at a time

// Items are groups × four lines.
static void weight_part(int64_t begin, int64_t end, void *ctx) {
  const Work *work = ctx;
  const Windows *w = work->w;
  const Conv *v = w->v;
  int64_t fours = ceil_div(w->lines, 4), step = (int64_t)(work->buffer_bytes / w->element);
  _Alignas(64) char sums[FILTERS * 4 * sizeof(double)];
  for (int64_t item = begin; item < end; item++) {
    if (nb_interrupted()) return;
    int64_t g = item / fours, line = item % fours * 4, n = w->lines - line < 4 ? w->lines - line : 4, at[4];
    for (int64_t s = 0; s < 4; s++) at[s] = g * w->channels * w->plane + w->at[line + (s < n ? s : 0)];
    for (int64_t f0 = g * w->filters, end_f = f0 + w->filters; f0 < end_f; f0 += FILTERS) {
      int64_t count = end_f - f0 < FILTERS ? end_f - f0 : FILTERS;
      nb_gemm_dots_at(v->dtype, count, work->pieces, w->run,
                      work->buffers + work->window_bytes + (size_t)(f0 * w->run) * w->element, w->run, step,
                      work->buffers, at, step, sums);
      for (int64_t f = f0; f < f0 + count; f++) {
        if (v->dtype == NB_F32)
          ADD_SUMS(float);
        else
          ADD_SUMS(double);
      }
    }
  }
}

bool conv_direct_weight(const Conv *v, const void *x, const void *y, void *weight, Error *err) {
  Windows w;
  Work work = {.w = &w, .x = x, .y = y, .out = weight};
  bool ok = false;
  int64_t most = 0;
  if (!windows_open(v, &w, err)) goto done;
  work.window_bytes = (size_t)window_numbers(&w, v->channels) * w.element;
  work.buffer_bytes = work.window_bytes + (size_t)(v->filters * w.run) * w.element;
  int64_t all = v->images * w.down * w.across, fours = ceil_div(w.lines, 4);
  most = 2 * WINDOW_BYTES / (int64_t)work.buffer_bytes;
  if (most < 1) most = 1;
  if (most > all) most = all;
  if (!(work.buffers = nb_alloc((size_t)most * work.buffer_bytes, err))) goto done;
  memset(work.buffers, 0, (size_t)most * work.buffer_bytes);
  for (; work.first < all; work.first += work.pieces) {
    work.pieces = all - work.first < most ? all - work.first : most;
    nb_parallel_for(work.pieces * (v->channels + v->filters), NB_GRAIN / (w.plane + 16) + 1, lay_out, &work);
    nb_parallel_for(v->groups * fours, NB_GRAIN / (w.filters * w.run * work.pieces / 4 + 16) + 1, weight_part, &work);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  if (work.buffers) nb_free(work.buffers, (size_t)most * work.buffer_bytes);
  windows_close(&w);
  return ok;
}
