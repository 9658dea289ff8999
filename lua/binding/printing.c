// SPDX-License-Identifier: MIT
// A tensor as text: rows in aligned columns, four significant digits, elided when large.
//
//   1      2.5  -0.001
//   4      5        6
//   f32 2×3
#include "printing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"

enum { CELL = 32, MANY = 1000, EDGE = 3 };

// How the numbers of one tensor are written: the same for all, so that columns read well.
typedef struct Format {
  bool scientific;
  int decimals;
  int width;
} Format;

typedef struct Text {
  lua_State *L;
  luaL_Buffer *b;
  const Tensor *t;
  Format f;
  int columns;
  bool elide;
  int64_t block[NB_MAX_DIMS];  // where the rows under way are, by the dimensions before the last two
} Text;

static void cell(const Tensor *t, int64_t offset, const Format *f, char out[CELL]) {
  double v = nb_tensor_get(t, offset);
  if (t->layout.dtype == NB_BOOL)
    snprintf(out, CELL, "%s", v != 0 ? "true" : "false");
  else if (t->layout.dtype == NB_I64)
    snprintf(out, CELL, "%lld", (long long)((const int64_t *)nb_tensor_data(t))[offset]);
  else if (t->layout.dtype == NB_U8)
    snprintf(out, CELL, "%d", (int)v);
  else if (isnan(v))
    snprintf(out, CELL, "nan");
  else if (isinf(v))
    snprintf(out, CELL, v < 0 ? "-inf" : "inf");
  else if (f->scientific)
    snprintf(out, CELL, "%.3e", v);
  else
    snprintf(out, CELL, "%.*f", f->decimals, v);
}

// Calls `see` for the offset of every element that will be shown.
static void each_shown(const Text *x, int depth, int64_t offset, void (*see)(const Text *, int64_t, void *),
                       void *ctx) {
  const Layout *l = &x->t->layout;
  if (depth == l->ndim) {
    see(x, offset, ctx);
    return;
  }
  int64_t n = l->shape[depth];
  bool skip = x->elide && n > 2 * EDGE;
  for (int64_t i = 0; i < n; i++) {
    if (skip && i == EDGE) i = n - EDGE;
    each_shown(x, depth + 1, offset + i * l->strides[depth], see, ctx);
  }
}

typedef struct Range {
  double smallest, largest;  // absolute values of the finite numbers; smallest without 0
  int decimals;              // that all shown numbers need for four significant digits
} Range;

static void see_range(const Text *x, int64_t offset, void *ctx) {
  Range *r = ctx;
  double v = fabs(nb_tensor_get(x->t, offset));
  char text[CELL];
  if (!isfinite(v) || v == 0) return;
  if (v > r->largest) r->largest = v;
  if (v < r->smallest) r->smallest = v;
  snprintf(text, sizeof text, "%.4g", v);
  const char *dot = strchr(text, '.');
  int used = dot ? (int)strspn(dot + 1, "0123456789") : 0;
  if (strchr(text, 'e')) used = v < 1 ? 9 : 0;
  if (used > r->decimals) r->decimals = used;
}

static void see_width(const Text *x, int64_t offset, void *ctx) {
  char text[CELL];
  int *width = ctx;
  cell(x->t, offset, &x->f, text);
  int n = (int)strlen(text);
  if (n > *width) *width = n;
}

static void choose_format(Text *x) {
  Range r = {HUGE_VAL, 0, 0};
  int width = 1;
  if (nb_dtype_is_float(x->t->layout.dtype)) {
    each_shown(x, 0, 0, see_range, &r);
    int top = r.largest > 0 ? (int)floor(log10(r.largest)) : 0;  // digits before the point, less one
    int most = top < 0 ? 3 - top : top < 4 ? 4 : 7 - top;        // decimals worth showing beside the largest
    if (most < 0) most = 0;
    x->f.decimals = r.decimals < most ? r.decimals : most;
    x->f.scientific = r.largest > 0 && (top >= 7 || top < -4 || (r.smallest < 1e-4 && r.largest / r.smallest > 1e6));
  }
  each_shown(x, 0, 0, see_width, &width);
  x->f.width = width;
}

static void add_spaces(luaL_Buffer *b, int n) {
  while (n-- > 0) luaL_addchar(b, ' ');
}

// One row of numbers.  Where it is wider than the terminal its middle is left out.
static void add_row(Text *x, int depth, int64_t offset) {
  const Layout *l = &x->t->layout;
  char text[CELL];
  int64_t n = l->shape[depth], fits = (x->columns - 4) / (x->f.width + 2), head = n, tail = 0;
  if (x->elide && n > 2 * EDGE) head = tail = EDGE;
  if (fits < 3) fits = 3;
  if (head + tail > fits) {
    tail = (fits - 1) / 2;
    head = fits - 1 - tail;
  }
  for (int64_t i = 0; i < n; i++) {
    if (i == head && head + tail < n) {
      luaL_addstring(x->b, "  …");
      i = n - tail;
      if (i >= n) break;
    }
    cell(x->t, offset + i * l->strides[depth], &x->f, text);
    add_spaces(x->b, x->f.width - (int)strlen(text) + (i > 0 ? 2 : 0));
    luaL_addstring(x->b, text);
  }
  luaL_addchar(x->b, '\n');
}

// [1, 2, :, :] above its rows, as one would ask for them: with four dimensions and more it cannot be counted by eye.
static void add_label(Text *x) {
  enum { LABELLED = 4 };
  int ndim = x->t->layout.ndim;
  char number[CELL];
  if (ndim < LABELLED) return;
  luaL_addchar(x->b, '[');
  for (int d = 0; d < ndim - 2; d++) {
    snprintf(number, sizeof number, "%lld, ", (long long)x->block[d] + 1);
    luaL_addstring(x->b, number);
  }
  luaL_addstring(x->b, ":, :]\n");
}

static void add_rows(Text *x, int depth, int64_t offset) {
  const Layout *l = &x->t->layout;
  if (depth == l->ndim - 2) add_label(x);
  if (depth == l->ndim - 1) {
    add_row(x, depth, offset);
    return;
  }
  int64_t n = l->shape[depth];
  bool skip = (x->elide || n > 40) && n > 2 * EDGE;
  for (int64_t i = 0; i < n; i++) {
    if (skip && i == EDGE) {
      luaL_addstring(x->b, "…\n");
      i = n - EDGE;
    }
    if (i > 0 && depth < l->ndim - 2) luaL_addchar(x->b, '\n');
    x->block[depth] = i;
    add_rows(x, depth + 1, offset + i * l->strides[depth]);
  }
}

void nb_push_text(lua_State *L, const Tensor *t, int columns) {
  luaL_Buffer b;
  char number[CELL], shape[NB_SHAPE_TEXT];
  if (t->layout.ndim == 0) {
    double v = nb_tensor_get(t, 0);
    if (!nb_dtype_is_float(t->layout.dtype))
      cell(t, 0, &(Format){0}, number);
    else
      snprintf(number, sizeof number, isfinite(v) ? "%.5g" : isnan(v) ? "nan" : v < 0 ? "-inf" : "inf", v);
    lua_pushstring(L, number);
    return;
  }
  luaL_buffinit(L, &b);
  Text x = {.L = L, .b = &b, .t = t, .columns = columns, .elide = nb_layout_numel(&t->layout) > MANY};
  if (nb_layout_numel(&t->layout) > 0) {
    choose_format(&x);
    add_rows(&x, 0, 0);
  }
  luaL_addstring(&b, nb_dtype_name(t->layout.dtype));
  luaL_addchar(&b, ' ');
  luaL_addstring(&b, nb_shape_text(&t->layout, shape));
  if (nb_layout_numel(&t->layout) == 0) luaL_addstring(&b, " (empty)");
  luaL_pushresult(&b);
}
