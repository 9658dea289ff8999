// SPDX-License-Identifier: MIT
// t[key] and t[key] = value: keys are read into steps, steps become operators.
//
//   t[3]   t[{3, {1, 5}}]   t[{nb.ALL, {1, -1, 2}}]   t[{nb.NEW}]   t[mask]   t[indices]
#include "index.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "binding.h"
#include "convert.h"
#include "cycles.h"
#include "nablua/compose.h"
#include "nablua/tape.h"

enum { MAX_STEPS = 2 * NB_MAX_DIMS };

typedef enum StepKind { STEP_SELECT, STEP_SLICE, STEP_ALL, STEP_NEW, STEP_INDEX, STEP_MASK } StepKind;

typedef struct Step {
  StepKind kind;
  int64_t first, last, step;
  Tensor *tensor;  // borrowed from the Lua stack
} Step;

typedef struct Key {
  Step steps[MAX_STEPS];
  int count;
  int tensors;   // steps that are index tensors or masks
  bool several;  // more than one of them, or a mask beside others: functions/indexing.lua's
} Key;

static const char all_key, new_key;

void *nb_index_all(void) {
  return (void *)(uintptr_t)&all_key;
}

void *nb_index_new(void) {
  return (void *)(uintptr_t)&new_key;
}

static int64_t whole(lua_State *L, int index, const char *what) {
  int ok;
  lua_Integer i = lua_tointegerx(L, index, &ok);
  if (ok && lua_type(L, index) == LUA_TNUMBER) return i;
  if (lua_type(L, index) == LUA_TNUMBER)
    return nb_raisef(L, "%s must be a whole number, got %g", what, lua_tonumber(L, index));
  return nb_raisef(L, "%s must be a whole number, got %s", what, nb_kind_of(L, index));
}

static Step read_slice(lua_State *L, int index) {
  int64_t v[3] = {0, 0, 1};
  lua_Integer n = (lua_Integer)lua_rawlen(L, index);
  if (n != 2 && n != 3) nb_raisef(L, "a slice is {first, last} or {first, last, step}, got %d numbers", (int)n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, index, i + 1);
    v[i] = whole(L, -1, "a slice's entry");
    lua_pop(L, 1);
  }
  return (Step){.kind = STEP_SLICE, .first = v[0], .last = v[1], .step = v[2]};
}

static Step read_step(lua_State *L, int index) {
  Tensor *t = nb_test_tensor(L, index);
  if (t) return (Step){.kind = t->layout.dtype == NB_BOOL ? STEP_MASK : STEP_INDEX, .tensor = t};
  switch (lua_type(L, index)) {
    case LUA_TNUMBER:
      return (Step){.kind = STEP_SELECT, .first = whole(L, index, "an index")};
    case LUA_TTABLE:
      return read_slice(L, index);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, index) == nb_index_all()) return (Step){.kind = STEP_ALL};
      if (lua_touserdata(L, index) == nb_index_new()) return (Step){.kind = STEP_NEW};
      break;
    default:
      break;
  }
  nb_raisef(L, "an index must be a number, a slice {first, last}, a tensor, nb.ALL or nb.NEW, got %s",
            nb_kind_of(L, index));
  return (Step){0};
}

static void read_key(lua_State *L, int index, Key *key) {
  char shape[NB_SHAPE_TEXT];
  Tensor *t = nb_check_tensor(L, 1);
  int dims = 0;
  key->count = key->tensors = 0;
  key->several = false;
  if (!lua_istable(L, index)) {
    key->steps[key->count++] = read_step(L, index);
  } else {
    lua_Integer n = (lua_Integer)lua_rawlen(L, index);
    luaL_checkstack(L, MAX_STEPS + 10, NULL);
    if (n > MAX_STEPS) nb_raisef(L, "an index of %d entries is more than a tensor can have", (int)n);
    for (int i = 1; i <= n; i++) {
      lua_rawgeti(L, index, i);
      key->steps[key->count] = read_step(L, lua_gettop(L));
      if (!key->steps[key->count++].tensor) lua_pop(L, 1);  // it stays: a finalizer may change the table
    }
  }
  for (int i = 0; i < key->count; i++) {
    const Step *s = &key->steps[i];
    if (s->kind == STEP_INDEX || s->kind == STEP_MASK) key->tensors++;
    key->several |= s->kind == STEP_MASK && key->count > 1;
    dims += s->kind == STEP_MASK ? s->tensor->layout.ndim : s->kind != STEP_NEW;
  }
  key->several |= key->tensors > 1;
  if (dims > t->layout.ndim)
    nb_raisef(L, "%d indices for a tensor of shape %s, which has %d dimension%s", dims,
              nb_shape_text(&t->layout, shape), t->layout.ndim, t->layout.ndim == 1 ? "" : "s");
}

// x with one index tensor in dimension d; an index of several dimensions puts them in its place.
static Tensor *select_many(Scope *s, Tensor *x, int d, Tensor *index) {
  Layout l = x->layout;
  int64_t n = nb_layout_numel(&index->layout);
  Tensor *flat = nb_reshape(s, index, &n, 1);
  if (!flat) return NULL;
  Tensor *rows = nb_op(s, "index_select", (Value[]){{.tensor = x}, {.integer = d + 1}, {.tensor = flat}});
  if (!rows || index->layout.ndim == 1) return rows;
  int extra = index->layout.ndim - 1;
  if (l.ndim + extra > NB_MAX_DIMS) {
    nb_fail(s->err, NB_ERROR_ARGUMENT, "the result would have more than %d dimensions", NB_MAX_DIMS);
    return NULL;
  }
  int64_t shape[NB_MAX_DIMS];
  for (int i = 0; i < d; i++) shape[i] = l.shape[i];
  for (int i = 0; i <= extra; i++) shape[d + i] = index->layout.shape[i];
  for (int i = d + 1; i < l.ndim; i++) shape[i + extra] = l.shape[i];
  return nb_reshape(s, rows, shape, l.ndim + extra);
}

// One end of a slice or one index, from 1-based or negative to 0-based; `below` allows one less than
// the first, which ends an empty slice.
static bool place(int64_t i, int d, int64_t size, int64_t below, int64_t *out, Error *err) {
  int64_t k = i < 0 ? i + size : i - 1;
  if ((i == 0 && below == 0) || k < -below || k >= size)
    return nb_fail(err, NB_ERROR_ARGUMENT, "index %lld is out of range in dimension %d of size %lld%s", (long long)i,
                   d + 1, (long long)size, size ? " (count from 1, or from -1 at the end)" : "");
  *out = k;
  return true;
}

// The steps as a region, see ops/index.c; index tensors take their dimension whole.  Tells the
// dimension of the result that an index tensor stands for.
static bool to_region(const Layout *x, const Key *key, Value *region, int *tensor_dim, Error *err) {
  int d = 0, shown = 0;
  int64_t *e = region->ints.items;
  for (int i = 0; i < key->count; i++, e += 3) {
    const Step *p = &key->steps[i];
    int64_t first = 0, last = 0, size = d < x->ndim ? x->shape[d] : 0;
    if (p->kind == STEP_NEW) {
      e[0] = e[1] = 0;
      e[2] = 1;
      shown++;
      continue;
    }
    e[1] = 1;
    switch (p->kind) {
      case STEP_SELECT:
        if (!place(p->first, d, size, 0, &first, err)) return false;
        e[0] = first;
        e[2] = -1;
        break;
      case STEP_SLICE:
        if (p->step < 1)
          return nb_fail(err, NB_ERROR_ARGUMENT, "a slice's step must be at least 1, got %lld", (long long)p->step);
        if (p->first >= 1 && p->first <= size + 1 && p->last == p->first - 1) {  // empty
          e[0] = e[2] = 0;
          break;
        }
        if (!place(p->first, d, size, 0, &first, err) || !place(p->last, d, size, 1, &last, err)) return false;
        e[0] = first;
        e[1] = p->step;
        e[2] = last < first ? 0 : (last - first) / p->step + 1;
        break;
      default:
        if (p->kind == STEP_INDEX) *tensor_dim = shown;
        e[0] = 0;
        e[2] = size;
    }
    d++;
    if (p->kind != STEP_SELECT) shown++;
  }
  region->ints.count = 3 * key->count;
  return true;
}

static Tensor *take(Scope *s, Tensor *x, const Key *key) {
  int64_t entries[3 * MAX_STEPS];
  Value region = {.ints = {entries, 0}};
  int tensor_dim = 0;
  if (key->count == 1 && key->steps[0].kind == STEP_MASK)
    return nb_op(s, "masked_rows", (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = key->steps[0].tensor}});
  if (!to_region(&x->layout, key, &region, &tensor_dim, s->err)) return NULL;
  Tensor *part =
      key->tensors && key->count == 1 ? x : nb_op(s, "region", (Value[NB_MAX_PARAMS]){{.tensor = x}, region});
  for (int i = 0; part && i < key->count; i++)
    if (key->steps[i].kind == STEP_INDEX) return select_many(s, part, tensor_dim, key->steps[i].tensor);
  return part;
}

int nb_index_get(lua_State *L) {
  Error err;
  Key key;
  Scope s;
  nb_enter(L);
  read_key(L, 2, &key);
  if (key.several) {
    lua_settop(L, 2);
    return nb_in_lua(L, "nablua.functions.indexing", "get");
  }
  Tensor *x = nb_check_tensor(L, 1), **slot = nb_new_tensor(L);
  nb_scope_open(&s, &err);
  *slot = nb_tensor_retain(take(&s, x, &key));
  nb_scope_close(&s);
  if (!*slot) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  return 1;
}

// ---- assignment ----

// The value at index 3 as a tensor, borrowed from the stack.
static Tensor *value_tensor(lua_State *L, const Tensor *x) {
  Tensor *value = nb_test_tensor(L, 3);
  if (value) return value;
  if (lua_type(L, 3) != LUA_TNUMBER && !lua_isboolean(L, 3) && !lua_istable(L, 3))
    nb_raisef(L, "a tensor's element must be set to a number, a tensor or a table of numbers, got %s",
              nb_kind_of(L, 3));
  return nb_push_value(L, 3, x->layout.dtype);
}

static bool assign(Tensor *x, const Key *key, Tensor *value, Error *err) {
  int64_t entries[3 * MAX_STEPS];
  Value region = {.ints = {entries, 0}};
  int dim = 0;
  if (key->count == 1 && key->steps[0].kind == STEP_MASK)
    return nb_apply_inplace(nb_op_find("masked_put"),
                            (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = key->steps[0].tensor}, {.tensor = value}},
                            err);
  if (!to_region(&x->layout, key, &region, &dim, err)) return false;
  if (!key->tensors)
    return nb_apply_inplace(nb_op_find("region_put"), (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = value}, region},
                            err);
  Tensor *index = NULL;
  for (int i = 0; i < key->count; i++)
    if (key->steps[i].kind == STEP_INDEX) index = key->steps[i].tensor;
  const Op *put = nb_op_find("index_rows_put");
  Value rows[NB_MAX_PARAMS] = {{.tensor = x}, {.integer = dim + 1}, {.tensor = index}, {.tensor = value}};
  if (key->count == 1) return nb_apply_inplace(put, rows, err);
  // The region with its rows replaced, put back as a whole: so the tape sees one change of x.
  Scope s;
  nb_scope_open(&s, err);
  rows[0].tensor = nb_op(&s, "region", (Value[NB_MAX_PARAMS]){{.tensor = x}, region});
  Tensor *part = rows[0].tensor ? nb_op(&s, "index_rows_put", rows) : NULL;
  bool ok = part && nb_apply_inplace(nb_op_find("region_put"),
                                     (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = part}, region}, err);
  nb_scope_close(&s);
  return ok;
}

int nb_index_set(lua_State *L) {
  Error err;
  Key key;
  nb_enter(L);
  read_key(L, 2, &key);
  if (key.several) {
    lua_settop(L, 3);
    return nb_in_lua(L, "nablua.functions.indexing", "set");
  }
  Tensor *x = nb_check_tensor(L, 1), *value = value_tensor(L, x);
  bool ok = assign(x, &key, value, &err) || (nb_stop_is_put_off(L, &err) && assign(x, &key, value, &err));
  if (!ok) return nb_raise(L, &err);
  if (x->node) nb_cycles_pace(L);
  return 0;
}
