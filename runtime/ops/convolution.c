// SPDX-License-Identifier: MIT
// Operators: convolution of signals and images, closed under differentiation.
//
// conv2d, conv_transpose2d and conv2d_weight are the three partial maps of one trilinear form, so the
// backward of each is written in the other two.  A missing first dimension means a single image.
#include <string.h>

#include "convolve.h"
#include "flops.h"
#include "loops.h"

// Options as given, or two of the fallback; of one number for signals the height's is the neutral one.
static void pair(const Value *v, int64_t fallback, int64_t neutral, bool signal, int64_t out[2]) {
  bool given = v->ints.count > 0;
  out[0] = signal ? neutral : given ? v->ints.items[0] : fallback;
  out[1] = given ? v->ints.items[signal ? 0 : 1] : fallback;
}

static bool options(Conv *v, const Value *stride, const Value *padding, const Value *dilation, const Value *groups,
                    bool signal, Error *err) {
  pair(stride, 1, 1, signal, v->stride);
  pair(padding, 0, 0, signal, v->padding);
  pair(dilation, 1, 1, signal, v->dilation);
  v->groups = groups->integer;
  const int64_t limit = 1 << 24;  // keeps the products below from overflowing
  for (int e = 0; e < 2; e++) {
    if (v->stride[e] < 1 || v->stride[e] >= limit)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the stride must be 1 or more and below 2^24, got %lld",
                     (long long)v->stride[e]);
    if (v->padding[e] < 0 || v->padding[e] >= limit)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the padding must be 0 or more and below 2^24, got %lld",
                     (long long)v->padding[e]);
    if (v->dilation[e] < 1 || v->dilation[e] >= limit)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the dilation must be 1 or more and below 2^24, got %lld",
                     (long long)v->dilation[e]);
  }
  return (v->groups >= 1 && v->groups < limit) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the groups must be 1 or more and below 2^24, got %lld", (long long)v->groups);
}

// Empty tensors can have any other sizes; these keep the arithmetic with strides and dilations exact.
static bool check_sizes(const Layout *l, const char *what, Error *err) {
  char text[NB_SHAPE_TEXT];
  for (int d = 0; d < l->ndim; d++)
    if (l->shape[d] >= (int64_t)1 << 36)
      return nb_fail(err, NB_ERROR_ARGUMENT, "%s has a size too large to convolve: its shape is %s", what,
                     nb_shape_text(l, text));
  return true;
}

static bool check_kernel(const Value *kernel, Error *err) {
  for (int e = 0; e < 2; e++) {
    int64_t size = kernel->ints.items[e];
    if (size < 1 || size >= 1 << 24)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the kernel must be 1 or more and below 2^24, got %lld", (long long)size);
  }
  return true;
}

// images × channels × height × width, whatever is left out.  `shown` says what the user passes.
static bool as_images(const Layout *x, const char *what, const char *shown, bool signal, Layout *out, Error *err) {
  char text[NB_SHAPE_TEXT];
  int own = signal ? 2 : 3;
  if (x->ndim != own && x->ndim != own + 1)
    return nb_fail(err, NB_ERROR_ARGUMENT, "%s must be %s, got shape %s", what, shown, nb_shape_text(x, text));
  *out = (Layout){.dtype = x->dtype, .ndim = 4, .shape = {1, 0, 1, 1}};
  int d = x->ndim - own;
  if (d) out->shape[0] = x->shape[0];
  out->shape[1] = x->shape[d];
  if (!signal) out->shape[2] = x->shape[d + 1];
  out->shape[3] = x->shape[x->ndim - 1];
  return check_sizes(x, what, err);
}

#define SIGNAL "batch×channels×length or channels×length"
#define IMAGE "batch×channels×height×width or channels×height×width"

// filters × channels/groups × rows × columns
static bool as_kernel(const Layout *w, const char *first, const char *second, bool signal, Layout *out, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (w->ndim != (signal ? 3 : 4))
    return nb_fail(err, NB_ERROR_ARGUMENT, "the weight must be %s×%s×%s, got shape %s", first, second,
                   signal ? "length" : "height×width", nb_shape_text(w, text));
  *out = *w;
  if (signal) {
    out->ndim = 4;
    out->shape[3] = w->shape[2];
    out->shape[2] = 1;
  }
  return check_sizes(w, "the weight", err);
}

// Fills the sizes from x's and w's shapes (of four dimensions) and works out the outputs.
static bool sizes(Conv *v, const Layout *x, const Layout *w, bool signal, Error *err) {
  v->images = x->shape[0];
  v->channels = x->shape[1];
  v->height = x->shape[2];
  v->width = x->shape[3];
  v->filters = w->shape[0];
  v->rows = w->shape[2];
  v->columns = w->shape[3];
  if (v->channels % v->groups || v->filters % v->groups)
    return nb_fail(err, NB_ERROR_ARGUMENT, "%lld groups do not divide %lld channels and %lld filters",
                   (long long)v->groups, (long long)v->channels, (long long)v->filters);
  int64_t out[2];
  for (int e = 0; e < 2; e++) {
    int64_t have = x->shape[2 + e] + 2 * v->padding[e], kernel = w->shape[2 + e],
            reach = v->dilation[e] * (kernel - 1) + 1;
    if (kernel < 1) return nb_fail(err, NB_ERROR_ARGUMENT, "the kernel is empty");
    if (reach > have)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the kernel of %s %lld%s does not fit into the input of %s %lld%s",
                     e || signal ? signal ? "length" : "width" : "height", (long long)reach,
                     v->dilation[e] > 1 ? " (with its dilation)" : "",
                     e || signal ? signal ? "length" : "width" : "height", (long long)have,
                     v->padding[e] ? " (with its padding)" : "");
    out[e] = (have - reach) / v->stride[e] + 1;
  }
  v->out_height = out[0];
  v->out_width = out[1];
  int64_t line = 1;
  return !(__builtin_mul_overflow(v->channels, v->rows, &line) || __builtin_mul_overflow(line, v->columns, &line) ||
           __builtin_mul_overflow(line, v->out_height, &line) || __builtin_mul_overflow(line, v->out_width, &line)) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "the kernel's columns are larger than any memory; check the sizes");
}

static bool check_bias(const Tensor *bias, int64_t size, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (!bias || (bias->layout.ndim == 1 && bias->layout.shape[0] == size)) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT,
                 "the bias must have one number for each of the %lld output channels, got shape %s", (long long)size,
                 nb_shape_text(&bias->layout, text));
}

static DType dtype_of(const Tensor *a, const Tensor *b, const Tensor *c) {
  DType dtype = nb_dtype_promote(nb_dtype_promote(a->layout.dtype, b->layout.dtype), NB_F32);
  return c ? nb_dtype_promote(dtype, c->layout.dtype) : dtype;
}

// The shape of a result that has a batch if `like` has one.
static void result(const Conv *v, const Layout *like, bool signal, int64_t channels, int64_t height, int64_t width,
                   Layout *out) {
  *out = (Layout){.dtype = v->dtype};
  if (like->ndim == (signal ? 3 : 4)) out->shape[out->ndim++] = v->images;
  out->shape[out->ndim++] = channels;
  if (!signal) out->shape[out->ndim++] = height;
  out->shape[out->ndim++] = width;
}

// The arguments of a forward, contiguous and of one dtype; NULL where there is none.
static bool operands(Scope *s, const Value *args, int count, DType dtype, const void *data[]) {
  for (int i = 0; i < count; i++) {
    data[i] = NULL;
    if (!args[i].tensor) continue;
    Tensor *t = nb_contiguous(s, nb_to(s, args[i].tensor, dtype));
    if (!t) return false;
    data[i] = nb_tensor_data(t);
  }
  return true;
}

// ---- conv1d, conv2d: x, w, bias, stride, padding, dilation, groups ----

static bool conv_sizes(const Value *a, bool signal, Conv *v, Error *err) {
  char tx[NB_SHAPE_TEXT], tw[NB_SHAPE_TEXT];
  Layout x, w;
  if (!options(v, &a[3], &a[4], &a[5], &a[6], signal, err)) return false;
  if (!as_images(&a[0].tensor->layout, "the input", signal ? SIGNAL : IMAGE, signal, &x, err)) return false;
  if (!as_kernel(&a[1].tensor->layout, "filters", "channels", signal, &w, err)) return false;
  if (x.shape[1] != w.shape[1] * v->groups)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "the input, of shape %s, has %lld channel%s, but the weight, of shape %s, is for %lld",
                   nb_shape_text(&a[0].tensor->layout, tx), (long long)x.shape[1], x.shape[1] == 1 ? "" : "s",
                   nb_shape_text(&a[1].tensor->layout, tw), (long long)(w.shape[1] * v->groups));
  v->dtype = dtype_of(a[0].tensor, a[1].tensor, a[2].tensor);
  return sizes(v, &x, &w, signal, err) && check_bias(a[2].tensor, v->filters, err);
}

static bool shape_conv(Call *c, bool signal, Error *err) {
  Conv v;
  if (!conv_sizes(c->args, signal, &v, err)) return false;
  result(&v, &c->args[0].tensor->layout, signal, v.filters, v.out_height, v.out_width, &c->layout[0]);
  return true;
}

static bool forward_conv(Call *c, bool signal, Error *err) {
  Scope s;
  Conv v;
  const void *data[3];
  nb_scope_open(&s, err);
  bool ok = conv_sizes(c->args, signal, &v, err) && operands(&s, c->args, 3, v.dtype, data) &&
            conv_forward(&v, data[0], data[1], data[2], nb_tensor_data(c->out[0]), err);
  nb_scope_close(&s);
  return ok;
}

static bool shape_conv1d(Call *c, Error *err) {
  return shape_conv(c, true, err);
}

static bool shape_conv2d(Call *c, Error *err) {
  return shape_conv(c, false, err);
}

static bool forward_conv1d(Call *c, Error *err) {
  return forward_conv(c, true, err);
}

static bool forward_conv2d(Call *c, Error *err) {
  return forward_conv(c, false, err);
}

// What the last position of the kernel leaves over of the input.
static void left_over(const Conv *v, int64_t out[2]) {
  out[0] = v->height - ((v->out_height - 1) * v->stride[0] - 2 * v->padding[0] + v->dilation[0] * (v->rows - 1) + 1);
  out[1] = v->width - ((v->out_width - 1) * v->stride[1] - 2 * v->padding[1] + v->dilation[1] * (v->columns - 1) + 1);
}

static Tensor *plain_conv(Scope *s, const Conv *v, Tensor *x, Tensor *w) {
  int64_t o[6];
  memcpy(o, v->stride, sizeof v->stride);
  memcpy(o + 2, v->padding, sizeof v->padding);
  memcpy(o + 4, v->dilation, sizeof v->dilation);
  if (!x || !w) return NULL;
  return nb_op(s, "conv2d",
               (Value[]){{.tensor = x},
                         {.tensor = w},
                         {.tensor = NULL},
                         {.ints = {o, 2}},
                         {.ints = {o + 2, 2}},
                         {.ints = {o + 4, 2}},
                         {.integer = v->groups}});
}

static Tensor *to_input(Scope *s, const Conv *v, Tensor *y, Tensor *w) {
  int64_t o[8];
  memcpy(o, v->stride, sizeof v->stride);
  memcpy(o + 2, v->padding, sizeof v->padding);
  memcpy(o + 6, v->dilation, sizeof v->dilation);
  left_over(v, o + 4);
  if (!y || !w) return NULL;
  return nb_op(s, "conv_transpose2d",
               (Value[]){{.tensor = y},
                         {.tensor = w},
                         {.tensor = NULL},
                         {.ints = {o, 2}},
                         {.ints = {o + 2, 2}},
                         {.ints = {o + 4, 2}},
                         {.ints = {o + 6, 2}},
                         {.integer = v->groups}});
}

static Tensor *to_weight(Scope *s, const Conv *v, Tensor *x, Tensor *y) {
  int64_t o[8] = {v->rows, v->columns};
  memcpy(o + 2, v->stride, sizeof v->stride);
  memcpy(o + 4, v->padding, sizeof v->padding);
  memcpy(o + 6, v->dilation, sizeof v->dilation);
  if (!x || !y) return NULL;
  return nb_op(s, "conv2d_weight",
               (Value[]){{.tensor = x},
                         {.tensor = y},
                         {.ints = {o, 2}},
                         {.ints = {o + 2, 2}},
                         {.ints = {o + 4, 2}},
                         {.ints = {o + 6, 2}},
                         {.integer = v->groups}});
}

// The bias is added to every pixel of its channel.
static Tensor *to_bias(Scope *s, Tensor *g, int own) {
  int dims[NB_MAX_DIMS], count = 0;
  for (int d = 0; d < g->layout.ndim; d++)
    if (d != g->layout.ndim - own) dims[count++] = d;
  return nb_sum_dims(s, g, dims, count, false);
}

static bool backward_conv2d(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  Conv v;
  if (!conv_sizes(nb_arg(b, 0), false, &v, s->err)) return false;
  if (nb_wants(b, 0)) {
    const Layout *x = &nb_in(b, 0)->layout;
    if (!nb_give(b, 0, nb_layout_numel(x) ? to_input(s, &v, g, nb_in(b, 1)) : nb_full(s, x, 0))) return false;
  }
  if (nb_wants(b, 1) && !nb_give(b, 1, to_weight(s, &v, nb_in(b, 0), g))) return false;
  return !nb_in(b, 2) || !nb_wants(b, 2) || nb_give(b, 2, to_bias(s, g, 3));
}

// batch×channels×length as an image of height 1.
static Tensor *as_flat_image(Scope *s, Tensor *t) {
  if (!t) return NULL;
  Layout l = t->layout;
  int64_t length = l.shape[l.ndim - 1];
  l.shape[l.ndim - 1] = 1;
  l.shape[l.ndim++] = length;
  return nb_reshape_like(s, t, &l);
}

static bool backward_conv1d(Backward *b) {
  Scope *s = b->scope;
  Conv v;
  if (!conv_sizes(nb_arg(b, 0), true, &v, s->err)) return false;
  Tensor *g = as_flat_image(s, b->grad[0]);
  if (!g) return false;
  if (nb_wants(b, 0)) {
    const Layout *x = &nb_in(b, 0)->layout;
    Tensor *gx = nb_layout_numel(x) ? to_input(s, &v, g, as_flat_image(s, nb_in(b, 1))) : nb_full(s, x, 0);
    if (!gx || !nb_give(b, 0, nb_reshape_like(s, gx, x))) return false;
  }
  if (nb_wants(b, 1)) {
    Tensor *gw = to_weight(s, &v, as_flat_image(s, nb_in(b, 0)), g);
    if (!gw || !nb_give(b, 1, nb_reshape_like(s, gw, &nb_in(b, 1)->layout))) return false;
  }
  return !nb_in(b, 2) || !nb_wants(b, 2) || nb_give(b, 2, to_bias(s, g, 3));
}

// ---- conv_transpose2d: y, w, bias, stride, padding, output_padding, dilation, groups ----

static bool transpose_sizes(const Value *a, Conv *v, Error *err) {
  char ty[NB_SHAPE_TEXT], tw[NB_SHAPE_TEXT];
  Layout y = {0}, w = {0}, x;
  int64_t extra[2];
  if (!options(v, &a[3], &a[4], &a[6], &a[7], false, err)) return false;
  pair(&a[5], 0, 0, false, extra);
  if (!as_images(&a[0].tensor->layout, "the input", IMAGE, false, &y, err)) return false;
  if (!as_kernel(&a[1].tensor->layout, "channels", "filters", false, &w, err)) return false;
  if (y.shape[1] != w.shape[0])
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "the input, of shape %s, has %lld channel%s, but the weight, of shape %s, is for %lld",
                   nb_shape_text(&a[0].tensor->layout, ty), (long long)y.shape[1], y.shape[1] == 1 ? "" : "s",
                   nb_shape_text(&a[1].tensor->layout, tw), (long long)w.shape[0]);
  x = (Layout){.ndim = 4, .shape = {y.shape[0], w.shape[1] * v->groups, 0, 0}};
  for (int e = 0; e < 2; e++) {
    if (extra[e] < 0 || (extra[e] >= v->stride[e] && extra[e] >= v->dilation[e]))
      return nb_fail(
          err, NB_ERROR_ARGUMENT,
          "output_padding must be 0 or more and less than the stride of %lld or the dilation of %lld, got %lld",
          (long long)v->stride[e], (long long)v->dilation[e], (long long)extra[e]);
    int64_t size = y.shape[2 + e];
    if (size < 1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "the input has no pixels: its shape is %s",
                     nb_shape_text(&a[0].tensor->layout, ty));
    x.shape[2 + e] =
        (size - 1) * v->stride[e] - 2 * v->padding[e] + v->dilation[e] * (w.shape[2 + e] - 1) + 1 + extra[e];
    if (x.shape[2 + e] < 1)
      return nb_fail(err, NB_ERROR_ARGUMENT, "a padding of %lld leaves nothing of the output",
                     (long long)v->padding[e]);
  }
  v->dtype = dtype_of(a[0].tensor, a[1].tensor, a[2].tensor);
  return sizes(v, &x, &w, false, err) && check_bias(a[2].tensor, v->channels, err);
}

// y with more rows and columns at its ends, up to those that conv2d makes of the result: an output_padding of the
// stride or more is that of pixels of 0.  Or, with sign −1, without them.
static Tensor *with_ends(Scope *s, const Conv *v, Tensor *y, const Layout *own, int sign) {
  int64_t rows = v->out_height - own->shape[own->ndim - 2], columns = v->out_width - own->shape[own->ndim - 1];
  if (!y || (rows == 0 && columns == 0)) return y;
  return nb_op(s, "pad",
               (Value[NB_MAX_PARAMS]){{.tensor = y}, {.ints = {(int64_t[]){0, sign * columns, 0, sign * rows}, 4}}});
}

static bool shape_transpose(Call *c, Error *err) {
  Conv v;
  if (!transpose_sizes(c->args, &v, err)) return false;
  result(&v, &c->args[0].tensor->layout, false, v.channels, v.height, v.width, &c->layout[0]);
  return true;
}

static bool forward_transpose(Call *c, Error *err) {
  Scope s;
  Conv v;
  const void *data[3];
  nb_scope_open(&s, err);
  Value args[3] = {c->args[0], c->args[1], c->args[2]};
  bool ok = transpose_sizes(c->args, &v, err) &&
            (args[0].tensor = with_ends(&s, &v, args[0].tensor, &args[0].tensor->layout, 1)) &&
            operands(&s, args, 3, v.dtype, data) &&
            conv_input(&v, data[0], data[1], data[2], nb_tensor_data(c->out[0]), err);
  nb_scope_close(&s);
  return ok;
}

static bool backward_transpose(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  Conv v;
  if (!transpose_sizes(nb_arg(b, 0), &v, s->err)) return false;
  Tensor *y = nb_in(b, 0);
  if (nb_wants(b, 0) && !nb_give(b, 0, with_ends(s, &v, plain_conv(s, &v, g, nb_in(b, 1)), &y->layout, -1)))
    return false;
  if (nb_wants(b, 1) && !nb_give(b, 1, to_weight(s, &v, g, with_ends(s, &v, y, &y->layout, 1)))) return false;
  return !nb_in(b, 2) || !nb_wants(b, 2) || nb_give(b, 2, to_bias(s, g, 3));
}

// ---- conv2d_weight: x, y, kernel, stride, padding, dilation, groups ----

static bool weight_sizes(const Value *a, Conv *v, Error *err) {
  char tx[NB_SHAPE_TEXT], ty[NB_SHAPE_TEXT];
  Layout x = {0}, y = {0}, w;
  if (!check_kernel(&a[2], err)) return false;
  if (!options(v, &a[3], &a[4], &a[5], &a[6], false, err)) return false;
  if (!as_images(&a[0].tensor->layout, "the input", IMAGE, false, &x, err)) return false;
  if (!as_images(&a[1].tensor->layout, "the output", IMAGE, false, &y, err)) return false;
  w = (Layout){.ndim = 4, .shape = {y.shape[1], x.shape[1] / v->groups, a[2].ints.items[0], a[2].ints.items[1]}};
  v->dtype = dtype_of(a[0].tensor, a[1].tensor, NULL);
  if (!sizes(v, &x, &w, false, err)) return false;
  return (y.shape[0] == v->images && y.shape[2] == v->out_height && y.shape[3] == v->out_width) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shape %s is not what a convolution of shape %s gives",
                 nb_shape_text(&a[1].tensor->layout, ty), nb_shape_text(&a[0].tensor->layout, tx));
}

static bool shape_weight(Call *c, Error *err) {
  Conv v;
  if (!weight_sizes(c->args, &v, err)) return false;
  c->layout[0] = (Layout){.dtype = v.dtype, .ndim = 4, .shape = {v.filters, v.channels / v.groups, v.rows, v.columns}};
  return true;
}

static bool forward_weight(Call *c, Error *err) {
  Scope s;
  Conv v;
  const void *data[2];
  nb_scope_open(&s, err);
  bool ok = weight_sizes(c->args, &v, err) && operands(&s, c->args, 2, v.dtype, data) &&
            conv_weight(&v, data[0], data[1], nb_tensor_data(c->out[0]), err);
  nb_scope_close(&s);
  return ok;
}

static bool backward_weight(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  Conv v;
  if (!weight_sizes(nb_arg(b, 0), &v, s->err)) return false;
  if (nb_wants(b, 0) && !nb_give(b, 0, to_input(s, &v, nb_in(b, 1), g))) return false;
  return !nb_wants(b, 1) || nb_give(b, 1, plain_conv(s, &v, nb_in(b, 0), g));
}

// ---- unfold and fold: the columns themselves ----

// x or its shape, kernel, stride, padding, dilation
static bool fold_sizes(const Layout *x, const Value *kernel, const Value *options_from, Conv *v, Error *err) {
  Layout images = {0}, w;
  if (!check_kernel(kernel, err)) return false;
  if (!options(v, &options_from[0], &options_from[1], &options_from[2], &(Value){.integer = 1}, false, err))
    return false;
  if (!as_images(x, "the input", IMAGE, false, &images, err)) return false;
  w = (Layout){.ndim = 4, .shape = {1, images.shape[1], kernel->ints.items[0], kernel->ints.items[1]}};
  v->dtype = x->dtype;
  return sizes(v, &images, &w, false, err);
}

static void columns_shape(const Conv *v, bool batch, Layout *out) {
  *out = (Layout){.dtype = v->dtype};
  if (batch) out->shape[out->ndim++] = v->images;
  out->shape[out->ndim++] = v->channels * v->rows * v->columns;
  out->shape[out->ndim++] = v->out_height * v->out_width;
}

static bool shape_unfold(Call *c, Error *err) {
  Conv v;
  Layout x = c->args[0].tensor->layout;
  x.dtype = nb_dtype_promote(x.dtype, NB_F32);
  if (!fold_sizes(&x, &c->args[1], &c->args[2], &v, err)) return false;
  columns_shape(&v, x.ndim == 4, &c->layout[0]);
  return true;
}

static bool forward_unfold(Call *c, Error *err) {
  Scope s;
  Conv v = {0};
  const void *data[1];
  Layout x = c->args[0].tensor->layout;
  x.dtype = c->layout[0].dtype;
  nb_scope_open(&s, err);
  bool ok = fold_sizes(&x, &c->args[1], &c->args[2], &v, err) && operands(&s, c->args, 1, v.dtype, data);
  int64_t image = v.channels * v.height * v.width,
          columns = v.channels * v.rows * v.columns * v.out_height * v.out_width;
  size_t size = nb_dtype_size(x.dtype);
  for (int64_t i = 0; ok && i < v.images; i++)
    conv_columns(&v, 1, (const char *)data[0] + (size_t)(i * image) * size,
                 (char *)nb_tensor_data(c->out[0]) + (size_t)(i * columns) * size);
  nb_scope_close(&s);
  return ok;
}

static bool backward_unfold(Backward *b) {
  const Layout *x = &nb_in(b, 0)->layout;
  int64_t size[2] = {x->shape[x->ndim - 2], x->shape[x->ndim - 1]};
  return nb_give(b, 0,
                 nb_op(b->scope, "fold",
                       (Value[]){{.tensor = b->grad[0]},
                                 {.ints = {size, 2}},
                                 *nb_arg(b, 1),
                                 *nb_arg(b, 2),
                                 *nb_arg(b, 3),
                                 *nb_arg(b, 4)}));
}

// columns, sizes, kernel, stride, padding, dilation
static bool unfolded_sizes(const Value *a, DType dtype, Conv *v, Layout *x, Error *err) {
  char text[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  const Layout *g = &a[0].tensor->layout;
  Layout expected;
  if (!check_kernel(&a[2], err)) return false;
  int64_t kernel = a[2].ints.items[0] * a[2].ints.items[1];
  if (g->ndim != 2 && g->ndim != 3)
    return nb_fail(err, NB_ERROR_ARGUMENT, "needs columns as unfold makes them, batch×lines×places, got shape %s",
                   nb_shape_text(g, text));
  *x = (Layout){.dtype = dtype};
  if (g->ndim == 3) x->shape[x->ndim++] = g->shape[0];
  x->shape[x->ndim++] = g->shape[g->ndim - 2] / kernel;
  x->shape[x->ndim++] = a[1].ints.items[0];
  x->shape[x->ndim++] = a[1].ints.items[1];
  if (!nb_layout_check(x, err) || !fold_sizes(x, &a[2], &a[3], v, err)) return false;
  columns_shape(v, g->ndim == 3, &expected);
  bool fits = true;
  for (int d = 0; d < g->ndim; d++) fits = fits && g->shape[d] == expected.shape[d];
  return fits ||
         nb_fail(err, NB_ERROR_ARGUMENT, "columns of shape %s do not make an image of %lld×%lld, which needs %s",
                 nb_shape_text(g, text), (long long)v->height, (long long)v->width, nb_shape_text(&expected, want));
}

static bool shape_fold(Call *c, Error *err) {
  Conv v;
  return unfolded_sizes(c->args, nb_dtype_promote(c->args[0].tensor->layout.dtype, NB_F32), &v, &c->layout[0], err);
}

static bool forward_fold(Call *c, Error *err) {
  Scope s;
  Conv v = {0};
  Layout x;
  const void *data[1];
  nb_scope_open(&s, err);
  bool ok = unfolded_sizes(c->args, c->layout[0].dtype, &v, &x, err) && operands(&s, c->args, 1, v.dtype, data);
  int64_t image = v.channels * v.height * v.width,
          columns = v.channels * v.rows * v.columns * v.out_height * v.out_width;
  size_t size = nb_dtype_size(x.dtype);
  for (int64_t i = 0; ok && i < v.images; i++)
    conv_pixels(&v, 1, (const char *)data[0] + (size_t)(i * columns) * size, NULL,
                (char *)nb_tensor_data(c->out[0]) + (size_t)(i * image) * size);
  nb_scope_close(&s);
  return ok;
}

static bool backward_fold(Backward *b) {
  return nb_give(b, 0,
                 nb_op(b->scope, "unfold",
                       (Value[]){{.tensor = b->grad[0]}, *nb_arg(b, 2), *nb_arg(b, 3), *nb_arg(b, 4), *nb_arg(b, 5)}));
}

#define KERNEL \
  { .name = "kernel", .kind = NB_PARAM_INTS, .count = 2 }
#define GROUPS \
  { .name = "groups", .kind = NB_PARAM_INT, .optional = true, .named = true, .fallback = 1 }
#define BOTH (NB_SAVE_IN(0) | NB_SAVE_IN(1))

static const Op ops[] = {
    {.name = "conv1d",
     .doc = "Slides filters along signals: x is batch×channels×length, w filters×channels/groups×length.",
     .example = "nb.conv1d(nb.tensor{{1, 2, 3, 4}}, nb.tensor{{{1, -1}}})  --> {{-1, -1, -1}}",
     .derivative = "∂/∂x = δ turned round over w, ∂/∂w = x over δ, ∂/∂bias = Σδ",
     .sample =
         {.args =
              "f(2,3,7), f(4,3,3), f(4); f(2,4,8), f(6,2,3), nil, {stride=2, padding=1, groups=2}; f(2,9), f(3,2,3), "
              "f(3), {dilation=2, stride=3, padding=2}"},
     .role = NB_ROLE_PRODUCT,
     .symbol = "conv",
     .flops = nb_flops_convolution,
     .params = {TENSOR("x"), TENSOR("w"), OPTIONAL_TENSOR("bias"), NAMED_INTS("stride", 1, 1),
                NAMED_INTS("padding", 1, 0), NAMED_INTS("dilation", 1, 1), GROUPS},
     .saves = BOTH,
     .shape = shape_conv1d,
     .forward = forward_conv1d,
     .backward = backward_conv1d},
    {.name = "conv2d",
     .doc = "Slides filters over images: x is batch×channels×height×width, w filters×channels/groups×height×width.",
     .example = "nb.conv2d(nb.ones(1, 3, 3), nb.ones(1, 1, 2, 2))  --> {{{4, 4}, {4, 4}}}",
     .derivative = "∂/∂x = δ turned round over w, ∂/∂w = x over δ, ∂/∂bias = Σδ",
     .sample =
         {.args =
              "f(2,3,5,4), f(4,3,3,2), f(4); f(2,4,6,5), f(6,2,3,3), nil, {stride=2, padding=1, groups=2}; f(2,7,9), "
              "f(3,2,3,2), f(3), {dilation={2,3}, stride={3,2}, padding={2,1}}; f(2,3,4,4), f(2,3,1,1)"},
     .role = NB_ROLE_PRODUCT,
     .symbol = "conv",
     .flops = nb_flops_convolution,
     .params = {TENSOR("x"), TENSOR("w"), OPTIONAL_TENSOR("bias"), NAMED_INTS("stride", 2, 1),
                NAMED_INTS("padding", 2, 0), NAMED_INTS("dilation", 2, 1), GROUPS},
     .saves = BOTH,
     .shape = shape_conv2d,
     .forward = forward_conv2d,
     .backward = backward_conv2d},
    {.name = "conv_transpose2d",
     .doc = "The transpose of conv2d, which enlarges: x is batch×channels×height×width, w "
            "channels×filters/groups×height×width.",
     .example = "nb.conv_transpose2d(nb.ones(1, 1, 2), nb.ones(1, 1, 1, 2))  --> {{{1, 2, 1}}}",
     .derivative = "∂/∂x = δ over w, ∂/∂w = δ over x, ∂/∂bias = Σδ",
     .sample =
         {.args = "f(2,3,3,2), f(3,4,3,2), f(4); f(2,4,3,2), f(4,3,3,3), f(6), {stride=2, padding=1, output_padding=1, "
                  "groups=2}; f(2,3,4), f(2,3,3,2), nil, {dilation={2,1}, stride={3,2}, output_padding={2,0}}; "
                  "f(2,2,3), f(2,1,2,2), f(1), {dilation={3,2}, padding={2,1}, output_padding={2,1}}; "
                  "f(2,3,4,4), f(3,2,1,1), f(2)"},
     .role = NB_ROLE_PRODUCT,
     .symbol = "convᵀ",
     .flops = nb_flops_conv_transpose,
     .params = {TENSOR("x"), TENSOR("w"), OPTIONAL_TENSOR("bias"), NAMED_INTS("stride", 2, 1),
                NAMED_INTS("padding", 2, 0), NAMED_INTS("output_padding", 2, 0), NAMED_INTS("dilation", 2, 1), GROUPS},
     .saves = BOTH,
     .shape = shape_transpose,
     .forward = forward_transpose,
     .backward = backward_transpose},
    {.name = "conv2d_weight",
     .doc = "The weight's gradient of a conv2d of x, given the gradient g of its output.",
     .example =
         "local w = nb.ones(1, 1, 2, 2, {requires_grad=true}); nb.conv2d(nb.ones(1, 3, 3), w):sum():backward(); return "
         "w.grad  --> {{{{4, 4}, {4, 4}}}}",
     .derivative = "∂/∂x = g turned round over δ, ∂/∂g = x over δ",
     .sample = {.args = "f(2,3,5,4), f(2,4,3,3), {3,2}; f(2,4,6,5), f(2,6,3,3), 3, {stride=2, padding=1, groups=2}"},
     .role = NB_ROLE_GRADIENT,
     .symbol = "corr",
     .flops = nb_flops_conv_weight,
     .params = {TENSOR("x"), TENSOR("g"), KERNEL, NAMED_INTS("stride", 2, 1), NAMED_INTS("padding", 2, 0),
                NAMED_INTS("dilation", 2, 1), GROUPS},
     .internal = true,
     .saves = BOTH,
     .shape = shape_weight,
     .forward = forward_weight,
     .backward = backward_weight},
    {.name = "unfold",
     .doc = "The pixels under a kernel at each of its places, as columns: batch × channels·rows·columns × places.",
     .example = "nb.unfold(nb.tensor{{{1, 2, 3}}}, {1, 2})  --> {{1, 2}, {2, 3}}",
     .derivative = "∂/∂x = every column of δ added to its pixels",
     .sample = {.args = "f(2,3,4,5), {2,3}; f(2,5,6), 3, {stride=2, padding=1}; f(2,5,6), 2, {dilation={2,3}}"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), KERNEL, NAMED_INTS("stride", 2, 1), NAMED_INTS("padding", 2, 0),
                NAMED_INTS("dilation", 2, 1)},
     .shape = shape_unfold,
     .forward = forward_unfold,
     .backward = backward_unfold},
    {.name = "fold",
     .doc = "The transpose of unfold: adds columns up to images of the given height and width.",
     .example = "nb.fold(nb.tensor{{1, 2}, {2, 3}}, {1, 3}, {1, 2})  --> {{{1, 4, 3}}}",
     .derivative = "∂/∂x = the columns of δ",
     .sample = {.args = "f(2,18,9), {4,5}, {2,3}; f(18,9), {5,6}, 3, {stride=2, padding=1}"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"),
                {.name = "sizes", .kind = NB_PARAM_INTS, .count = 2},
                KERNEL,
                NAMED_INTS("stride", 2, 1),
                NAMED_INTS("padding", 2, 0),
                NAMED_INTS("dilation", 2, 1)},
     .shape = shape_fold,
     .forward = forward_fold,
     .backward = backward_fold},
};
const OpFamily ops_convolution = {"Convolution", ops, COUNT(ops)};
