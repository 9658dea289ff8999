// SPDX-License-Identifier: MIT
// What plots need to be fast: ranges, reduced lines, counts, dots of lines and points, pixels in 256 colours.
//
// Coordinates are one-dimensional contiguous f64 tensors.  A window x0, x1, y0, y1 lies over a picture of `height` rows
// and `width` columns, row 1 at the top; what falls outside is cut off before it is drawn, so that no value, however
// large, costs more than the picture's size.
#include <math.h>
#include <string.h>

#include "binding.h"
#include "nablua/files.h"
#include "nablua/interrupt.h"
#include "open.h"

enum { POLL_EVERY = 1 << 16 };

static const Tensor *contiguous(lua_State *L, int index, DType dtype, int ndim) {
  const Tensor *t = nb_check_tensor(L, index);
  if (t->layout.dtype != dtype || (ndim > 0 && t->layout.ndim != ndim) || !nb_layout_contiguous(&t->layout))
    luaL_argerror(L, index, "needs a contiguous tensor of the right dtype and dimensions");
  return t;
}

static const double *numbers(lua_State *L, int index, int64_t *count) {
  const Tensor *t = contiguous(L, index, NB_F64, 0);
  *count = nb_layout_numel(&t->layout);
  return nb_tensor_data(t);
}

static void poll(lua_State *L, int64_t i) {
  Error err;
  if (i % POLL_EVERY == 0 && !nb_poll(&err)) nb_raise(L, &err);
}

// The x and y coordinates at index 2 and 3 of a drawing function.
static const double *points(lua_State *L, const double **y, int64_t *count) {
  int64_t n;
  const double *x = numbers(L, 2, count);
  *y = numbers(L, 3, &n);
  if (n != *count) luaL_error(L, "there are %d x and %d y", (int)*count, (int)n);
  return x;
}

// Pushes a fresh tensor of `n` numbers.
static double *push_numbers(lua_State *L, int64_t n) {
  Error err;
  Layout l = {.dtype = NB_F64, .ndim = 1, .shape = {n}};
  nb_layout_pack(&l);
  Tensor **slot = nb_new_tensor(L);
  *slot = nb_tensor_new(&l, &err);
  if (!*slot) nb_raise(L, &err);
  nb_feed_collector(*slot);
  return nb_tensor_data(*slot);
}

// ---- data ----

// native.bytes(t): the elements as they lie in memory.
static int bytes(lua_State *L) {
  const Tensor *t = nb_check_tensor(L, 1);
  if (!nb_layout_contiguous(&t->layout)) return luaL_argerror(L, 1, "needs a contiguous tensor");
  lua_pushlstring(L, nb_tensor_data(t), (size_t)nb_layout_numel(&t->layout) * nb_dtype_size(t->layout.dtype));
  return 1;
}

// native.range(x, [y]): the least and largest finite number of x, and how many are finite; with y, as long as x, only
// those beside which y is finite too.  Without any: nil, nil, 0.
static int range(lua_State *L) {
  int64_t n, others, finite = 0;
  const double *x = numbers(L, 1, &n), *y = NULL;
  if (!lua_isnoneornil(L, 2)) {
    y = numbers(L, 2, &others);
    luaL_argcheck(L, others == n, 2, "needs as many y as x");
  }
  double low = INFINITY, high = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    poll(L, i);
    if (!isfinite(x[i]) || (y && !isfinite(y[i]))) continue;
    finite++;
    low = fmin(low, x[i]);
    high = fmax(high, x[i]);
  }
  if (finite) {
    lua_pushnumber(L, low);
    lua_pushnumber(L, high);
  } else {
    lua_pushnil(L);
    lua_pushnil(L);
  }
  lua_pushinteger(L, finite);
  return 3;
}

// native.bin(x, low, high, bins): how many lie in each of equal bins; the last one holds `high` too.
static int bin(lua_State *L) {
  int64_t n;
  const double *x = numbers(L, 1, &n);
  double low = luaL_checknumber(L, 2), high = luaL_checknumber(L, 3);
  lua_Integer bins = luaL_checkinteger(L, 4);
  luaL_argcheck(L, bins >= 1 && bins <= 1 << 20, 4, "needs 1 to 2^20 bins");
  double *count = push_numbers(L, bins), scale = (double)bins / (high - low);
  memset(count, 0, (size_t)bins * sizeof *count);
  for (int64_t i = 0; i < n; i++) {
    poll(L, i);
    if (!(x[i] >= low && x[i] <= high)) continue;
    int64_t k = (int64_t)((x[i] - low) * scale);
    count[k < bins ? k : bins - 1]++;
  }
  return 1;
}

// native.reduce(x, y, x0, x1, columns): of every run of points in one column the first, lowest, highest and last,
// which draw the same picture (M4, Jugel et al. 2014).  A run ends where a value is not finite.
static int reduce(lua_State *L) {
  int64_t n, ny, out = 0;
  const double *x = numbers(L, 1, &n), *y = numbers(L, 2, &ny);
  double x0 = luaL_checknumber(L, 3), scale = luaL_checknumber(L, 5) / (luaL_checknumber(L, 4) - x0);
  luaL_argcheck(L, n == ny, 2, "needs as many y as x");
  double *rx = push_numbers(L, n), *ry = push_numbers(L, n);
  for (int64_t i = 0; i < n;) {
    int64_t first = i, low = i, high = i, pick[4];
    if (!isfinite(x[i]) || !isfinite(y[i])) {
      if (out && !isnan(ry[out - 1])) rx[out] = x[i], ry[out++] = NAN;
      poll(L, ++i);
      continue;
    }
    double column = floor((x[i] - x0) * scale);
    for (; i < n && isfinite(x[i]) && isfinite(y[i]) && floor((x[i] - x0) * scale) == column; i++) {
      poll(L, i);
      if (y[i] < y[low]) low = i;
      if (y[i] > y[high]) high = i;
    }
    pick[0] = first;
    pick[1] = low < high ? low : high;
    pick[2] = low < high ? high : low;
    pick[3] = i - 1;
    for (int k = 0; k < 4; k++) {
      if (k && pick[k] == pick[k - 1]) continue;
      rx[out] = x[pick[k]];
      ry[out++] = y[pick[k]];
    }
  }
  lua_pushinteger(L, out);
  return 3;
}

// ---- pictures ----

typedef struct Window {
  int64_t width, height;
  double x0, y1, sx, sy;
} Window;

// The picture at index 1 and the window at indices 4 to 7.
static Window window(lua_State *L, const Tensor *picture) {
  double x0 = luaL_checknumber(L, 4), x1 = luaL_checknumber(L, 5);
  double y0 = luaL_checknumber(L, 6), y1 = luaL_checknumber(L, 7);
  Window w = {picture->layout.shape[1], picture->layout.shape[0], x0, y1, 0, 0};
  w.sx = (double)w.width / (x1 - x0);
  w.sy = (double)w.height / (y1 - y0);
  return w;
}

// Liang and Barsky 1984: the part of the segment inside [0, width] × [0, height]; false when there is none.
static bool clip(const Window *w, double *ax, double *ay, double *bx, double *by) {
  double dx = *bx - *ax, dy = *by - *ay, from = 0, to = 1;
  const double p[] = {-dx, dx, -dy, dy}, q[] = {*ax, (double)w->width - *ax, *ay, (double)w->height - *ay};
  if (!isfinite(dx) || !isfinite(dy)) return false;
  for (int k = 0; k < 4; k++) {
    if (p[k] == 0) {
      if (q[k] < 0) return false;
    } else if (p[k] < 0) {
      from = fmax(from, q[k] / p[k]);
    } else {
      to = fmin(to, q[k] / p[k]);
    }
  }
  if (from > to) return false;
  *bx = *ax + to * dx;
  *by = *ay + to * dy;
  *ax += from * dx;
  *ay += from * dy;
  return true;
}

static int64_t cell(double at, int64_t size) {
  int64_t i = (int64_t)at;
  return i < 0 ? 0 : i < size ? i : size - 1;
}

// native.draw_line(picture u8, x, y, x0, x1, y0, y1, on, off): sets the dots of the line through the points; `on` dots
// drawn and `off` left out alternate.
static int draw_line(lua_State *L) {
  const Tensor *picture = contiguous(L, 1, NB_U8, 2);
  const double *x, *y;
  int64_t n, step = 0;
  x = points(L, &y, &n);
  Window w = window(L, picture);
  int64_t on = luaL_optinteger(L, 8, 1), off = luaL_optinteger(L, 9, 0);
  uint8_t *dots = nb_tensor_data(picture);
  if (w.width < 1 || w.height < 1 || on < 1 || off < 0) return 0;
  for (int64_t i = 0; i < n; i++) {
    poll(L, i);
    int64_t j = i + 1 < n && isfinite(x[i + 1]) && isfinite(y[i + 1]) ? i + 1 : i;
    double ax = (x[i] - w.x0) * w.sx, ay = (w.y1 - y[i]) * w.sy;
    double bx = (x[j] - w.x0) * w.sx, by = (w.y1 - y[j]) * w.sy;
    // Within one dot, which the segment that leaves it sets, or the last point.
    if (j > i && floor(ax) == floor(bx) && floor(ay) == floor(by)) continue;
    if (!clip(&w, &ax, &ay, &bx, &by)) continue;
    double dx = bx - ax, dy = by - ay;
    int64_t count = (int64_t)fmax(fabs(dx), fabs(dy)) + 1;
    for (int64_t k = 0; k <= count; k++, step++) {
      double at = (double)k / (double)count;
      if (off && step % (on + off) >= on) continue;
      dots[cell(ay + at * dy, w.height) * w.width + cell(ax + at * dx, w.width)] = 1;
    }
    step--;
  }
  return 0;
}

// native.draw_points(picture f64, x, y, x0, x1, y0, y1): counts the points that fall on each dot.
static int draw_points(lua_State *L) {
  const Tensor *picture = contiguous(L, 1, NB_F64, 2);
  const double *x, *y;
  int64_t n;
  x = points(L, &y, &n);
  Window w = window(L, picture);
  double *count = nb_tensor_data(picture);
  if (w.width < 1 || w.height < 1) return 0;
  for (int64_t i = 0; i < n; i++) {
    poll(L, i);
    double px = (x[i] - w.x0) * w.sx, py = (w.y1 - y[i]) * w.sy;
    if (px >= 0 && px <= (double)w.width && py >= 0 && py <= (double)w.height)
      count[cell(py, w.height) * w.width + cell(px, w.width)]++;
  }
  return 0;
}

// native.braille(picture u8): for each cell of 2 columns and 4 rows, row by row, which of its dots are set, as
// Unicode's braille patterns number them; and how many.
static int braille(lua_State *L) {
  static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  const Tensor *picture = contiguous(L, 1, NB_U8, 2);
  const uint8_t *dots = nb_tensor_data(picture);
  int64_t height = picture->layout.shape[0], width = picture->layout.shape[1], columns = width / 2;
  lua_createtable(L, (int)(columns * (height / 4)), 0);
  for (int64_t row = 0; row < height / 4; row++) {
    poll(L, row);
    for (int64_t column = 0; column < columns; column++) {
      int pattern = 0;
      for (int64_t k = 0; k < 8; k++)
        if (dots[(row * 4 + k / 2) * width + column * 2 + k % 2]) pattern |= bit[k / 2][k % 2];
      lua_pushinteger(L, pattern);
      lua_rawseti(L, -2, (lua_Integer)(row * columns + column + 1));
    }
  }
  return 1;
}

// native.resize(rgb u8 H×W×3, height, width, [nearest]): the mean of the pixels that each new one covers, the nearest
// where it covers none; or always the one in the middle, where a mixture of colours would mean nothing.
static int resize(lua_State *L) {
  Error err;
  const Tensor *from = contiguous(L, 1, NB_U8, 3);
  int64_t h = from->layout.shape[0], w = from->layout.shape[1], c = from->layout.shape[2];
  int64_t height = luaL_checkinteger(L, 2), width = luaL_checkinteger(L, 3);
  bool nearest = lua_toboolean(L, 4);
  luaL_argcheck(L, h > 0 && w > 0 && height > 0 && width > 0, 1, "needs pixels");
  Layout l = {.dtype = NB_U8, .ndim = 3, .shape = {height, width, c}};
  nb_layout_pack(&l);
  Tensor **slot = nb_new_tensor(L);
  *slot = nb_tensor_new(&l, &err);
  if (!*slot) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  const uint8_t *source = nb_tensor_data(from);
  uint8_t *target = nb_tensor_data(*slot);
  for (int64_t i = 0; i < height; i++) {
    int64_t top = i * h / height, bottom = (i + 1) * h / height;
    if (nearest) top = (top + bottom) / 2;
    if (nearest || bottom <= top) bottom = top + 1;
    poll(L, 0);
    for (int64_t j = 0; j < width; j++) {
      int64_t left = j * w / width, right = (j + 1) * w / width;
      if (nearest) left = (left + right) / 2;
      if (nearest || right <= left) right = left + 1;
      for (int64_t k = 0; k < c; k++) {
        int64_t sum = 0, count = (bottom - top) * (right - left);
        for (int64_t y = top; y < bottom; y++)
          for (int64_t x = left; x < right; x++) sum += source[(y * w + x) * c + k];
        target[(i * width + j) * c + k] = (uint8_t)((sum + count / 2) / count);
      }
    }
  }
  return 1;
}

// Of xterm's 256 colours the nearest: the cube of 6×6×6 (16 to 231) or the ramp of greys (232 to 255).
static int nearest_color(int r, int g, int b) {
  static const int level[] = {0, 95, 135, 175, 215, 255};
  const int rgb[] = {r, g, b};
  int index[3], cube = 0, grey = (r + g + b) / 3, step = grey < 8 ? 0 : grey > 238 ? 23 : (grey - 3) / 10, ramp = 0;
  for (int k = 0; k < 3; k++) {
    index[k] = rgb[k] < 48 ? 0 : rgb[k] < 115 ? 1 : (rgb[k] - 35) / 40;
    int d = rgb[k] - level[index[k]], e = rgb[k] - (8 + 10 * step);
    cube += d * d;
    ramp += e * e;
  }
  return ramp < cube ? 232 + step : 16 + 36 * index[0] + 6 * index[1] + index[2];
}

// native.xterm(rgb u8 H×W×3): for each pixel, row by row, the nearest of the terminal's 256 colours.
static int xterm(lua_State *L) {
  const Tensor *from = contiguous(L, 1, NB_U8, 3);
  const uint8_t *p = nb_tensor_data(from);
  luaL_argcheck(L, from->layout.shape[2] == 3, 1, "needs three channels");
  int64_t n = from->layout.shape[0] * from->layout.shape[1];
  lua_createtable(L, (int)n, 0);
  for (int64_t i = 0; i < n; i++, p += 3) {
    lua_pushinteger(L, nearest_color(p[0], p[1], p[2]));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

// native.png(rgb u8 H×W×3 or ×4): the bytes of a PNG.
static int png(lua_State *L) {
  const Tensor *from = contiguous(L, 1, NB_U8, 3);
  const int64_t *shape = from->layout.shape;
  Error err;
  size_t size = 0, room;
  luaL_argcheck(L, (shape[2] == 3 || shape[2] == 4) && shape[0] > 0 && shape[1] > 0, 1, "needs three channels or four");
  room = nb_png_room(from);
  void *to = lua_newuserdatauv(L, room, 0);
  if (!nb_png_write(from, to, room, &size, &err)) return nb_raise(L, &err);
  lua_pushlstring(L, to, size);
  return 1;
}

void nb_open_raster(lua_State *L) {
  static const luaL_Reg functions[] = {{"bytes", bytes},
                                       {"range", range},
                                       {"bin", bin},
                                       {"reduce", reduce},
                                       {"draw_line", draw_line},
                                       {"draw_points", draw_points},
                                       {"braille", braille},
                                       {"resize", resize},
                                       {"xterm", xterm},
                                       {"png", png},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
