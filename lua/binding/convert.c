// SPDX-License-Identifier: MIT
// Between Lua tables and tensors.
#include "convert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

enum { POLLED = 1 << 16 };  // elements between two looks at the interrupt flag

// A nested table being measured: its shape, and where we are in it, for messages.
typedef struct Nest {
  int64_t shape[NB_MAX_DIMS], at[NB_MAX_DIMS];
  int ndim;
  bool booleans, numbers;
  bool fractions;  // numbers that are no Lua integers, nor equal to one
} Nest;

static int ragged(lua_State *L, const Nest *n, int depth, const char *expected, const char *got) {
  char path[256] = "";
  size_t used = 0;
  for (int d = 0; d < depth && used < sizeof path - 24; d++)
    used += (size_t)snprintf(path + used, sizeof path - used, "[%lld]", (long long)n->at[d]);
  return nb_raisef(L, "tensor: the table is ragged: entry %s should be %s, got %s", path, expected, got);
}

static void measure_leaf(lua_State *L, Nest *n, int depth) {
  char expected[64];
  int type = lua_type(L, -1);
  if (type == LUA_TBOOLEAN) n->booleans = true;
  if (type == LUA_TNUMBER) n->numbers = true;
  int whole = 1;
  if (type == LUA_TNUMBER) lua_tointegerx(L, -1, &whole);
  if (!whole) n->fractions = true;
  if (depth < n->ndim) {
    snprintf(expected, sizeof expected, "a table of %lld", (long long)n->shape[depth]);
    ragged(L, n, depth, expected, nb_kind_of(L, -1));
  }
  if (type != LUA_TBOOLEAN && type != LUA_TNUMBER) ragged(L, n, depth, "a number or a boolean", nb_kind_of(L, -1));
}

// Checks the value on top, which lies `depth` tables deep.
static void measure(lua_State *L, Nest *n, int depth) {
  char expected[64], got[64];
  luaL_checkstack(L, 4, "tensor: the table is nested too deeply");
  Tensor *t = nb_test_tensor(L, -1);
  if (!lua_istable(L, -1) && !(t && t->layout.ndim == 0)) {
    measure_leaf(L, n, depth);
    return;
  }
  if (t) {  // a 0-d tensor counts as its number
    if (nb_grad_enabled() && nb_tensor_tracked(t))
      nb_raisef(L,
                "tensor: a table holds plain numbers, through which no gradient flows, but entry %lld is a tensor that "
                "requires grad; join tensors with nb.stack, or pass :item()",
                (long long)(depth ? n->at[depth - 1] : 1));
    n->numbers = true;
    if (nb_dtype_is_float(t->layout.dtype)) n->fractions = true;
    if (depth < n->ndim) ragged(L, n, depth, "a table", "a scalar tensor");
    return;
  }
  int64_t length = (int64_t)lua_rawlen(L, -1);
  if (depth == n->ndim) {
    if (n->numbers || n->booleans) ragged(L, n, depth, "a number", "a table");
    if (n->ndim == NB_MAX_DIMS) nb_raisef(L, "tensor: tables are nested more than %d deep", NB_MAX_DIMS);
    n->shape[n->ndim++] = length;
  } else if (n->shape[depth] != length) {
    snprintf(expected, sizeof expected, "a table of %lld", (long long)n->shape[depth]);
    snprintf(got, sizeof got, "one of %lld", (long long)length);
    ragged(L, n, depth, expected, got);
  }
  for (int64_t i = 1; i <= length; i++) {
    n->at[depth] = i;
    lua_rawgeti(L, -1, i);
    measure(L, n, depth + 1);
    lua_pop(L, 1);
  }
}

// Between measuring and filling memory is asked for, which may run finalizers, and these may change the table.
static void changed(lua_State *L) {
  nb_raisef(L, "tensor: the table was changed while it was read; does a finalizer (__gc) write to it?");
}

// Writes the number on top, with all bits of a whole one.
static void put_number(lua_State *L, Tensor *t, int64_t offset) {
  DType dtype = t->layout.dtype;
  Tensor *scalar = nb_test_tensor(L, -1);
  if (scalar ? scalar->layout.ndim != 0 : lua_type(L, -1) != LUA_TNUMBER && !lua_isboolean(L, -1)) changed(L);
  if (dtype == NB_I64 && (scalar ? !nb_dtype_is_float(scalar->layout.dtype) : lua_isinteger(L, -1))) {
    nb_tensor_set_whole(t, offset, scalar ? nb_tensor_get_whole(scalar, 0) : lua_tointeger(L, -1));
    return;
  }
  double value = scalar ? nb_tensor_get(scalar, 0) : lua_isboolean(L, -1) ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
  if (dtype == NB_U8 || dtype == NB_I64) {
    bool byte = dtype == NB_U8;
    if (!(value >= (byte ? 0 : -0x1p63) && value < (byte ? 256 : 0x1p63)) || value != rint(value))
      nb_raisef(L, "tensor: the value %.10g does not fit into a tensor of %s, which holds whole numbers%s", value,
                nb_dtype_name(dtype), byte ? " 0..255" : "");
  }
  nb_tensor_set(t, offset, value);
}

static void fill(lua_State *L, Tensor *t, int depth, int64_t *offset) {
  if (depth == t->layout.ndim) {
    put_number(L, t, (*offset)++);
    return;
  }
  if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != t->layout.shape[depth]) changed(L);
  for (int64_t i = 1; i <= t->layout.shape[depth]; i++) {
    lua_rawgeti(L, -1, i);
    fill(L, t, depth + 1, offset);
    lua_pop(L, 1);
  }
}

static Tensor *copy_of(lua_State *L, Tensor *t, DType dtype) {
  Error err;
  Layout l = t->layout;
  if (dtype != NB_DTYPES) l.dtype = dtype;
  Tensor **slot = nb_new_tensor(L);
  nb_fill_slot(L, slot, &l);
  Value args[NB_MAX_PARAMS] = {{.tensor = *slot}, {.tensor = t}};
  bool before = nb_grad_enabled();
  nb_set_grad_enabled(false);
  bool ok = nb_apply_inplace(nb_op_find("copy"), args, &err);
  nb_set_grad_enabled(before);
  if (!ok) nb_raise(L, &err);
  return *slot;
}

// Measures the value at `index` and pushes a copy of it.
static void begin(lua_State *L, int index, Nest *n) {
  *n = (Nest){.ndim = 0};
  lua_pushvalue(L, index);
  measure(L, n, 0);
}

// Replaces the value on top by a tensor of its numbers.
static Tensor *finish(lua_State *L, const Nest *n, DType dtype) {
  Layout l = {.dtype = dtype, .ndim = n->ndim};
  memcpy(l.shape, n->shape, sizeof l.shape);
  Tensor **slot = nb_new_tensor(L);
  nb_fill_slot(L, slot, &l);
  lua_insert(L, -2);
  int64_t offset = 0;
  fill(L, *slot, 0, &offset);
  lua_pop(L, 1);
  nb_feed_collector(*slot);
  return *slot;
}

Tensor *nb_push_from_lua(lua_State *L, int index, DType dtype) {
  Nest n;
  Tensor *t = nb_test_tensor(L, index);
  if (t) return copy_of(L, t, dtype);
  if (!lua_istable(L, index) && !lua_isnumber(L, index) && !lua_isboolean(L, index))
    nb_raisef(L, "tensor: needs a number, a boolean or a table of them, got %s", nb_kind_of(L, index));
  begin(L, index, &n);
  if (dtype == NB_DTYPES) dtype = n.booleans && !n.numbers ? NB_BOOL : NB_F32;
  return finish(L, &n, dtype);
}

Tensor *nb_push_value(lua_State *L, int index, DType dtype) {
  Nest n;
  begin(L, index, &n);
  if (!nb_dtype_is_float(dtype)) dtype = n.fractions ? NB_F64 : n.numbers ? NB_I64 : NB_BOOL;
  return finish(L, &n, dtype);
}

void nb_push_number(lua_State *L, DType dtype, const char *at) {
  nb_tell_value_read("it reads a number out of a tensor, on which what it does may depend");
  switch (dtype) {
    case NB_BOOL:
      lua_pushboolean(L, *at != 0);
      break;
    case NB_U8:
      lua_pushinteger(L, *(const uint8_t *)at);
      break;
    case NB_I64:
      lua_pushinteger(L, *(const int64_t *)(const void *)at);
      break;
    case NB_F32:
      lua_pushnumber(L, *(const float *)(const void *)at);
      break;
    default:
      lua_pushnumber(L, *(const double *)(const void *)at);
  }
}

void nb_push_element(lua_State *L, const Tensor *t, int64_t offset) {
  DType dtype = t->layout.dtype;
  nb_push_number(L, dtype, (const char *)nb_tensor_data(t) + offset * (int64_t)nb_dtype_size(dtype));
}

static void poll(lua_State *L) {
  Error err;
  if (!nb_poll(&err)) nb_raise(L, &err);
}

static void push_rows(lua_State *L, const Tensor *t, int depth, int64_t offset) {
  const Layout *l = &t->layout;
  if (depth == l->ndim) {
    nb_push_element(L, t, offset);
    return;
  }
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, (int)(l->shape[depth] < INT32_MAX ? l->shape[depth] : 0), 0);
  for (int64_t i = 0; i < l->shape[depth]; i++) {
    if (i % POLLED == 0) poll(L);
    push_rows(L, t, depth + 1, offset + i * l->strides[depth]);
    lua_rawseti(L, -2, i + 1);
  }
}

void nb_push_table(lua_State *L, const Tensor *t) {
  double bytes = (double)nb_layout_numel(&t->layout) * sizeof(lua_Number) * 2;  // a value and its type
  double limit = (double)nb_memory_stats().limit;
  if (bytes > limit)
    nb_raisef(L, "totable: %.4g numbers are %.4g MB as a table, more than the limit of %.4g MB",
              (double)nb_layout_numel(&t->layout), bytes / 1e6, limit / 1e6);
  push_rows(L, t, 0, 0);
}
