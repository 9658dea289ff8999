// SPDX-License-Identifier: MIT
// Convolution by columns and matrix products, for what convolve_direct.c does not serve.
#include <string.h>

#include "convolve_private.h"
#include "gemm.h"
#include "loops.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

// A block of images has about so many bytes of columns for each thread: they stay in its cache until
// the product reads them.
enum { BLOCK_BYTES = 1 << 20 };

// The numbers of a weight up to which windows do better than columns, and the filters below which its gradient does.
enum { MOST_DIRECT = 40960, FEW_FILTERS = 32 };

typedef struct Unfolding {
  const Conv *v;
  const char *from;
  char *to;
  const char *bias;
  int64_t images, lines, pixels;  // channels·rows·columns; out_height·out_width
  size_t element;
} Unfolding;

static Unfolding unfolding_of(const Conv *v, int64_t images, const void *from, void *to, const void *bias) {
  Unfolding j = {.v = v, .from = from, .to = to, .bias = bias, .images = images};
  j.lines = v->channels * v->rows * v->columns;
  j.pixels = v->out_height * v->out_width;
  j.element = nb_dtype_size(v->dtype);
  return j;
}

// The outputs first..last−1 of dimension e that read inside the input for kernel position k.
static void inside(const Conv *v, int e, int64_t k, int64_t *first, int64_t *last) {
  int64_t size = e == 0 ? v->height : v->width, out = e == 0 ? v->out_height : v->out_width;
  int64_t shift = v->padding[e] - k * v->dilation[e];
  *first = ceil_div(shift, v->stride[e]);
  *last = ceil_div(size + shift, v->stride[e]);
  if (*first < 0) *first = 0;
  if (*first > out) *first = out;
  if (*last > out) *last = out;
  if (*last < *first) *last = *first;
}

// ---- columns ----

#define COPY_LINE(T)                                                                              \
  do {                                                                                            \
    T *to = (T *)j->to + (line * j->images + b) * j->pixels;                                      \
    const T *plane = (const T *)j->from + (b * v->channels + c) * v->height * v->width;           \
    memset(to, 0, (size_t)(p0 * v->out_width) * sizeof(T));                                       \
    for (int64_t p = p0; p < p1; p++) {                                                           \
      T *row = to + p * v->out_width;                                                             \
      const T *from = plane + (p * v->stride[0] + down) * v->width + right;                       \
      for (int64_t q = 0; q < q0; q++) row[q] = 0;                                                \
      if (v->stride[1] == 1)                                                                      \
        for (int64_t q = q0; q < q1; q++) row[q] = from[q];                                       \
      else if (v->stride[1] == 2)                                                                 \
        for (int64_t q = q0; q < q1; q++) row[q] = from[2 * q];                                   \
      else                                                                                        \
        for (int64_t q = q0; q < q1; q++) row[q] = from[q * v->stride[1]];                        \
      for (int64_t q = q1; q < v->out_width; q++) row[q] = 0;                                     \
    }                                                                                             \
    memset(to + p1 * v->out_width, 0, (size_t)((v->out_height - p1) * v->out_width) * sizeof(T)); \
  } while (0)

// Items are image × line: a thread's images are also its part of the product that follows.
NB_RANGE(columns_body) {
  const Unfolding *j = ctx;
  const Conv *v = j->v;
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / j->lines, line = i % j->lines, s = line % v->columns, r = line / v->columns % v->rows;
    int64_t c = line / v->columns / v->rows, p0, p1, q0, q1;
    int64_t down = r * v->dilation[0] - v->padding[0], right = s * v->dilation[1] - v->padding[1];
    inside(v, 0, r, &p0, &p1);
    inside(v, 1, s, &q0, &q1);
    if (j->element == 4)
      COPY_LINE(uint32_t);
    else
      COPY_LINE(uint64_t);
  }
}

void conv_columns(const Conv *v, int64_t images, const void *x, void *columns) {
  Unfolding j = unfolding_of(v, images, x, columns, NULL);
  nb_parallel_for(images * j.lines, NB_GRAIN / (j.pixels + 16) + 1, columns_body, &j);
}

#define ADD_PLANE(T)                                                                                     \
  do {                                                                                                   \
    T *plane = (T *)j->to + i * size;                                                                    \
    T start = j->bias ? ((const T *)j->bias)[c] : 0;                                                     \
    for (int64_t k = 0; k < size; k++) plane[k] = start;                                                 \
    for (int64_t k = 0; k < v->rows * v->columns; k++) {                                                 \
      int64_t r = k / v->columns, s = k % v->columns, p0, p1, q0, q1;                                    \
      int64_t down = r * v->dilation[0] - v->padding[0], right = s * v->dilation[1] - v->padding[1];     \
      const T *line = (const T *)j->from + ((c * v->rows * v->columns + k) * j->images + b) * j->pixels; \
      inside(v, 0, r, &p0, &p1);                                                                         \
      inside(v, 1, s, &q0, &q1);                                                                         \
      for (int64_t p = p0; p < p1; p++) {                                                                \
        const T *row = line + p * v->out_width;                                                          \
        T *to = plane + (p * v->stride[0] + down) * v->width + right;                                    \
        if (v->stride[1] == 1) {                                                                         \
          NB_IVDEP for (int64_t q = q0; q < q1; q++) to[q] += row[q];                                    \
        } else if (v->stride[1] == 2) {                                                                  \
          NB_IVDEP for (int64_t q = q0; q < q1; q++) to[2 * q] += row[q];                                \
        } else {                                                                                         \
          for (int64_t q = q0; q < q1; q++) to[q * v->stride[1]] += row[q];                              \
        }                                                                                                \
      }                                                                                                  \
    }                                                                                                    \
  } while (0)

NB_RANGE(pixels_body) {
  const Unfolding *j = ctx;
  const Conv *v = j->v;
  int64_t size = v->height * v->width;
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / v->channels, c = i % v->channels;
    if (j->element == 4)
      ADD_PLANE(float);
    else
      ADD_PLANE(double);
  }
}

void conv_pixels(const Conv *v, int64_t images, const void *columns, const void *bias, void *x) {
  Unfolding j = unfolding_of(v, images, columns, x, bias);
  nb_parallel_for(images * v->channels, NB_GRAIN / (v->rows * v->columns * j.pixels + 16) + 1, pixels_body, &j);
}

// ---- outputs by filter and by image ----

// images × filters × pixels to filters × images × pixels.
static void by_filter_body(int64_t begin, int64_t end, void *ctx) {
  const Unfolding *j = ctx;
  size_t bytes = (size_t)j->pixels * j->element;
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / j->v->filters, k = i % j->v->filters;
    memcpy(j->to + (size_t)(k * j->images + b) * bytes, j->from + (size_t)i * bytes, bytes);
  }
}

#define BIASED_COPY(T)                                                               \
  do {                                                                               \
    const T *from = (const T *)j->from + (k * j->images + b) * j->pixels;            \
    T *to = (T *)j->to + i * j->pixels, add = j->bias ? ((const T *)j->bias)[k] : 0; \
    NB_IVDEP for (int64_t p = 0; p < j->pixels; p++) to[p] = from[p] + add;          \
  } while (0)

// filters × images × pixels to images × filters × pixels, with the bias added.
static void by_image_body(int64_t begin, int64_t end, void *ctx) {
  const Unfolding *j = ctx;
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / j->v->filters, k = i % j->v->filters;
    if (j->element == 4)
      BIASED_COPY(float);
    else
      BIASED_COPY(double);
  }
}

static void sort(const Conv *v, int64_t images, const void *from, const void *bias, void *to,
                 void (*body)(int64_t, int64_t, void *)) {
  Unfolding j = unfolding_of(v, images, from, to, bias);
  nb_parallel_for(images * v->filters, NB_GRAIN / (j.pixels + 16) + 1, body, &j);
}

// ---- the three products ----

// True when an image is its own columns, and large enough for a product by itself.
static bool is_matrix(const Conv *v) {
  bool plain =
      v->rows == 1 && v->columns == 1 && v->stride[0] == 1 && v->stride[1] == 1 && !v->padding[0] && !v->padding[1];
  return plain && (v->images == 1 || v->out_height * v->out_width >= 256);
}

// True when windows do better than columns, see convolve_direct.c: the kernel moves by single pixels, there is
// something to do, and the weight is small enough to be read again for every window.
static bool is_direct(const Conv *v) {
  int64_t kernel = v->rows * v->columns, weight = v->filters * (v->channels / v->groups) * kernel;
  bool empty = !v->images || !weight || !v->height || !v->width || !v->out_height || !v->out_width;
  return v->stride[0] == 1 && v->stride[1] == 1 && kernel > 1 && !empty && weight <= MOST_DIRECT;
}

// Buffers for one block of images at a time.  `direct`: the images themselves are the columns.
typedef struct Blocks {
  int64_t images, lines, pixels;
  bool direct;
  size_t element, column_bytes, filter_bytes;
  void *columns, *by_filter;
} Blocks;

static bool blocks_open(const Conv *v, bool may_direct, Blocks *k, Error *err) {
  Unfolding j = unfolding_of(v, 1, NULL, NULL, NULL);
  *k = (Blocks){.lines = j.lines, .pixels = j.pixels, .element = j.element};
  int64_t each = j.lines * j.pixels * (int64_t)j.element;
  k->direct = may_direct && is_matrix(v);
  k->images = k->direct || each <= 0 ? 1 : nb_threads() * (int64_t)BLOCK_BYTES / each;
  if (k->images < 1) k->images = 1;
  if (k->images > v->images) k->images = v->images;
  if (!k->direct) {
    k->column_bytes = (size_t)(k->images * each);
    if (!(k->columns = nb_alloc(k->column_bytes, err))) return false;
  }
  if (k->images > 1) {
    k->filter_bytes = (size_t)(k->images * v->filters * k->pixels) * k->element;
    if (!(k->by_filter = nb_alloc(k->filter_bytes, err))) return false;
  }
  return true;
}

static void blocks_close(Blocks *k) {
  if (k->columns) nb_free(k->columns, k->column_bytes);
  if (k->by_filter) nb_free(k->by_filter, k->filter_bytes);
}

static void zero_output(const Conv *v, const void *bias, void *y) {
  char *to = y;
  size_t size = nb_dtype_size(v->dtype);
  int64_t pixels = v->out_height * v->out_width;
  for (int64_t i = 0; i < v->images * v->filters; i++)
    for (int64_t p = 0; p < pixels; p++, to += size) {
      if (bias)
        memcpy(to, (const char *)bias + (size_t)(i % v->filters) * size, size);
      else
        memset(to, 0, size);
    }
}

bool conv_forward(const Conv *v, const void *x, const void *w, const void *bias, void *y, Error *err) {
  Blocks k;
  bool ok = false;
  if (is_direct(v)) return conv_direct_forward(v, x, w, bias, y, err);
  if (v->channels == 0) {
    zero_output(v, bias, y);
    return true;
  }
  if (!blocks_open(v, true, &k, err)) goto done;
  int64_t filters = v->filters / v->groups, lines = k.lines / v->groups;
  for (int64_t i = 0; i < v->images; i += k.images) {
    int64_t n = v->images - i < k.images ? v->images - i : k.images, across = n * k.pixels;
    const char *from = (const char *)x + (size_t)(i * v->channels * v->height * v->width) * k.element;
    char *to = (char *)y + (size_t)(i * v->filters * k.pixels) * k.element, *product = n > 1 ? k.by_filter : to;
    if (!k.direct) conv_columns(v, n, from, k.columns);
    const char *columns = k.direct ? from : k.columns;
    for (int64_t g = 0; g < v->groups; g++) {
      GemmMatrix a = {(const char *)w + (size_t)(g * filters * lines) * k.element, lines, false};
      GemmMatrix b = {columns + (size_t)(g * lines * across) * k.element, across, false};
      if (!nb_gemm(v->dtype, filters, across, lines, a, b, product + (size_t)(g * filters * across) * k.element, across,
                   err))
        goto done;
    }
    if (product != to || bias) sort(v, n, product, bias, to, by_image_body);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  blocks_close(&k);
  return ok;
}

bool conv_input(const Conv *v, const void *y, const void *w, const void *bias, void *x, Error *err) {
  Blocks k;
  bool ok = false;
  bool inner = v->padding[0] <= (v->rows - 1) * v->dilation[0] && v->padding[1] <= (v->columns - 1) * v->dilation[1];
  if (is_direct(v) && inner) return conv_direct_input(v, y, w, bias, x, err);
  if (!blocks_open(v, !bias, &k, err)) goto done;
  int64_t filters = v->filters / v->groups, lines = k.lines / v->groups, size = v->height * v->width;
  for (int64_t i = 0; i < v->images; i += k.images) {
    int64_t n = v->images - i < k.images ? v->images - i : k.images, across = n * k.pixels;
    const char *from = (const char *)y + (size_t)(i * v->filters * k.pixels) * k.element;
    char *to = (char *)x + (size_t)(i * v->channels * size) * k.element, *columns = k.direct ? to : k.columns;
    if (n > 1) {
      sort(v, n, from, NULL, k.by_filter, by_filter_body);
      from = k.by_filter;
    }
    for (int64_t g = 0; g < v->groups; g++) {
      GemmMatrix a = {(const char *)w + (size_t)(g * filters * lines) * k.element, lines, true};
      GemmMatrix b = {from + (size_t)(g * filters * across) * k.element, across, false};
      char *c = columns + (size_t)(g * lines * across) * k.element;
      if (filters == 0)
        memset(c, 0, (size_t)(lines * across) * k.element);
      else if (!nb_gemm(v->dtype, lines, across, filters, a, b, c, across, err))
        goto done;
    }
    if (columns != to) conv_pixels(v, n, columns, bias, to);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  blocks_close(&k);
  return ok;
}

#define ADD_TO(T)                                              \
  do {                                                         \
    T *to = sum;                                               \
    const T *from = part;                                      \
    NB_IVDEP for (int64_t i = 0; i < n; i++) to[i] += from[i]; \
  } while (0)

static void add_to(DType dtype, void *sum, const void *part, int64_t n) {
  if (dtype == NB_F32)
    ADD_TO(float);
  else
    ADD_TO(double);
}

bool conv_weight(const Conv *v, const void *x, const void *y, void *w, Error *err) {
  Blocks k;
  bool ok = false;
  void *part = NULL;
  size_t bytes = 0;
  if (is_direct(v) && v->filters / v->groups < FEW_FILTERS) return conv_direct_weight(v, x, y, w, err);
  if (!blocks_open(v, true, &k, err)) goto done;
  int64_t filters = v->filters / v->groups, lines = k.lines / v->groups, size = v->height * v->width;
  bytes = (size_t)(v->filters * lines) * k.element;
  if (v->images == 0 || k.pixels == 0) memset(w, 0, bytes);
  if (v->images > k.images && !(part = nb_alloc(bytes, err))) goto done;
  for (int64_t i = 0; i < v->images; i += k.images) {
    int64_t n = v->images - i < k.images ? v->images - i : k.images, across = n * k.pixels;
    const char *from = (const char *)y + (size_t)(i * v->filters * k.pixels) * k.element;
    const char *image = (const char *)x + (size_t)(i * v->channels * size) * k.element;
    if (n > 1) {
      sort(v, n, from, NULL, k.by_filter, by_filter_body);
      from = k.by_filter;
    }
    if (!k.direct) conv_columns(v, n, image, k.columns);
    const char *columns = k.direct ? image : k.columns;
    for (int64_t g = 0; g < v->groups; g++) {
      GemmMatrix a = {from + (size_t)(g * filters * across) * k.element, across, false};
      GemmMatrix b = {columns + (size_t)(g * lines * across) * k.element, across, true};
      char *to = (char *)(i == 0 ? w : part) + (size_t)(g * filters * lines) * k.element;
      if (!nb_gemm(v->dtype, filters, lines, across, a, b, to, lines, err)) goto done;
    }
    if (i > 0) add_to(v->dtype, w, part, v->filters * lines);
    if (!nb_poll(err)) goto done;
  }
  ok = true;
done:
  if (part) nb_free(part, bytes);
  blocks_close(&k);
  return ok;
}
