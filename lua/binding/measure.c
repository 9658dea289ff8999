// SPDX-License-Identifier: MIT
// What inspect measures of a tensor in one pass over it: spread, size, units that are saturated or off.
#include <math.h>
#include <string.h>

#include "binding.h"
#include "open.h"

enum { CHUNK = 256, LANES = 8 };

// Elements i.. of a contiguous float tensor, up to CHUNK of them, as doubles; the rest of the chunk is 0.
static int64_t read_chunk(const Tensor *t, int64_t i, double x[CHUNK]) {
  int64_t n = nb_layout_numel(&t->layout) - i;
  if (n > CHUNK) n = CHUNK;
  if (t->layout.dtype == NB_F32) {
    const float *data = (const float *)nb_tensor_data(t) + i;
    for (int64_t k = 0; k < n; k++) x[k] = (double)data[k];
  } else {
    memcpy(x, (const double *)nb_tensor_data(t) + i, (size_t)n * sizeof *x);
  }
  for (int64_t k = n; k < CHUNK; k++) x[k] = 0;
  return n;
}

// In lanes, so that additions do not wait for each other.
static double sum_of(const double x[CHUNK]) {
  double lane[LANES] = {0}, sum = 0;
  for (int k = 0; k < CHUNK; k += LANES)
    for (int j = 0; j < LANES; j++) lane[j] += x[k + j];
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

static double squares_of(const double x[CHUNK]) {
  double lane[LANES] = {0}, sum = 0;
  for (int k = 0; k < CHUNK; k += LANES)
    for (int j = 0; j < LANES; j++) lane[j] += x[k + j] * x[k + j];
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

static const Tensor *check_plain(lua_State *L, int index) {
  const Tensor *t = nb_check_tensor(L, index);
  if (!t->storage || !nb_dtype_is_float(t->layout.dtype) || !nb_layout_contiguous(&t->layout))
    nb_raisef(L, "argument %d must be a contiguous f32 or f64 tensor", index);
  return t;
}

// native.spread(t): mean, standard deviation (of all, not of a sample), greatest absolute value, how many are not
// finite.  Sums are of differences to the first element, so that a mean far from 0 does not cancel them.
static int spread(lua_State *L) {
  const Tensor *t = check_plain(L, 1);
  int64_t n = nb_layout_numel(&t->layout), bad = 0;
  double x[CHUNK], origin = 0, sum = 0, squares = 0, most = 0;
  for (int64_t i = 0; i < n; i += CHUNK) {
    int64_t count = read_chunk(t, i, x);
    if (i == 0 && isfinite(x[0])) origin = x[0];
    for (int64_t k = 0; k < count; k++) {
      bad += !isfinite(x[k]);
      most = fabs(x[k]) > most || isnan(x[k]) ? fabs(x[k]) : most;
      x[k] -= origin;
    }
    sum += sum_of(x);
    squares += squares_of(x);
  }
  double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
  lua_pushnumber(L, origin + mean);
  lua_pushnumber(L, isnan(variance) || variance > 0 ? sqrt(variance) : 0);
  lua_pushnumber(L, most);
  lua_pushinteger(L, bad);
  return 4;
}

// native.outside(t, low, high): the share of elements below low or above high.
static int outside(lua_State *L) {
  const Tensor *t = check_plain(L, 1);
  double low = luaL_checknumber(L, 2), high = luaL_checknumber(L, 3), x[CHUNK];
  int64_t n = nb_layout_numel(&t->layout), found = 0;
  for (int64_t i = 0; i < n; i += CHUNK) {
    int64_t count = read_chunk(t, i, x);
    for (int64_t k = 0; k < count; k++) found += (x[k] < low) | (x[k] > high);
  }
  lua_pushnumber(L, n > 0 ? (double)found / (double)n : 0);
  return 1;
}

// native.off_units(t): a list of the units that are 0 for all samples, and the number of units.  Units are the channels
// (dimension 2), or all elements of a vector.
static int off_units(lua_State *L) {
  const Tensor *t = check_plain(L, 1);
  const Layout *l = &t->layout;
  int64_t n = nb_layout_numel(l), units = l->ndim < 2 ? n : l->shape[1], inner = 1;
  for (int d = 2; d < l->ndim; d++) inner *= l->shape[d];
  bool *alive = lua_newuserdatauv(L, units > 0 ? (size_t)units : 1, 0);
  memset(alive, 0, units > 0 ? (size_t)units : 1);
  double x[CHUNK];
  for (int64_t i = 0; i < n; i += CHUNK) {
    int64_t count = read_chunk(t, i, x);
    for (int64_t k = 0; k < count; k++)
      if (x[k] != 0) alive[(i + k) / inner % units] = true;
  }
  lua_newtable(L);
  for (int64_t u = 0, found = 0; u < units; u++) {
    if (alive[u]) continue;
    lua_pushinteger(L, u + 1);
    lua_rawseti(L, -2, (int)++found);
  }
  lua_pushinteger(L, units);
  return 2;
}

// native.rms(t [, other, factor]): the root of the mean square of t, or of t + factor·other, of the same shape.
static int rms(lua_State *L) {
  const Tensor *t = check_plain(L, 1), *other = lua_isnoneornil(L, 2) ? NULL : check_plain(L, 2);
  int64_t n = nb_layout_numel(&t->layout);
  double factor = luaL_optnumber(L, 3, 1), squares = 0, x[CHUNK], y[CHUNK];
  if (other && nb_layout_numel(&other->layout) != n) return nb_raisef(L, "rms: the tensors differ in size");
  for (int64_t i = 0; i < n; i += CHUNK) {
    read_chunk(t, i, x);
    if (other) {
      read_chunk(other, i, y);
      for (int k = 0; k < CHUNK; k++) x[k] += factor * y[k];
    }
    squares += squares_of(x);
  }
  lua_pushnumber(L, n > 0 ? sqrt(squares / (double)n) : 0);
  return 1;
}

// native.kept_bytes(t): those of the memory that t keeps alive, all of it where t is a view.
static int kept_bytes(lua_State *L) {
  const Tensor *t = nb_check_tensor(L, 1);
  lua_pushinteger(L, t->storage ? (lua_Integer)t->storage->bytes : 0);
  return 1;
}

void nb_open_measure(lua_State *L) {
  static const luaL_Reg functions[] = {{"spread", spread}, {"outside", outside},       {"off_units", off_units},
                                       {"rms", rms},       {"kept_bytes", kept_bytes}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
