// SPDX-License-Identifier: MIT
// Tensors in Lua: fields, metamethods, and the methods that are not operators.
#include <string.h>

#include "binding.h"
#include "code.h"
#include "convert.h"
#include "cycles.h"
#include "flags.h"
#include "index.h"
#include "nablua/events.h"
#include "nablua/tape.h"
#include "nearest.h"
#include "open.h"
#include "printing.h"

// ---- methods ----

static int item(lua_State *L) {
  char text[NB_SHAPE_TEXT];
  DType dtype;
  const char *bare = nb_bare_scalar(L, 1, &dtype);
  if (bare) {
    nb_push_number(L, dtype, bare);
    return 1;
  }
  Tensor *t = nb_check_tensor(L, 1);
  if (nb_layout_numel(&t->layout) != 1)
    return nb_raisef(L, "item: needs a tensor of one element, got shape %s; index it, or use :totable()",
                     nb_shape_text(&t->layout, text));
  nb_push_element(L, t, 0);
  return 1;
}

// t:at(i, j, ...): the Lua value of one element.
static int at(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  const Layout *l = &t->layout;
  int given = lua_gettop(L) - 1;
  int64_t offset = 0;
  if (given != l->ndim)
    return nb_raisef(L, "at: a tensor of %d dimension%s needs %d ind%s, got %d", l->ndim, l->ndim == 1 ? "" : "s",
                     l->ndim, l->ndim == 1 ? "ex" : "ices", given);
  for (int d = 0; d < l->ndim; d++) {
    int whole;
    lua_Integer i = lua_tointegerx(L, d + 2, &whole);
    if (!whole) return nb_raisef(L, "at: index %d must be a whole number, got %s", d + 1, nb_kind_of(L, d + 2));
    int64_t k = i < 0 ? i + l->shape[d] : i - 1;
    if (i == 0 || k < 0 || k >= l->shape[d])
      return nb_raisef(
          L, "at: index %lld is out of range in dimension %d of size %lld (1..%lld, or negative from the end)",
          (long long)i, d + 1, (long long)l->shape[d], (long long)l->shape[d]);
    offset += k * l->strides[d];
  }
  nb_push_element(L, t, offset);
  return 1;
}

static int totable(lua_State *L) {
  nb_tell_value_read("it reads a tensor into a table");
  nb_push_table(L, nb_check_tensor(L, 1));
  return 1;
}

static int size(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) {
    lua_createtable(L, t->layout.ndim, 0);
    for (int d = 0; d < t->layout.ndim; d++) {
      lua_pushinteger(L, t->layout.shape[d]);
      lua_rawseti(L, -2, d + 1);
    }
    return 1;
  }
  int whole;
  lua_Integer dim = lua_tointegerx(L, 2, &whole);
  lua_Integer d = dim < 0 ? dim + t->layout.ndim : dim - 1;
  if (!whole || dim == 0 || d < 0 || d >= t->layout.ndim)
    return nb_raisef(L, "size: there is no dimension %s in a tensor of %d", luaL_tolstring(L, 2, NULL), t->layout.ndim);
  lua_pushinteger(L, t->layout.shape[d]);
  return 1;
}

static int dim(lua_State *L) {
  lua_pushinteger(L, nb_check_tensor(L, 1)->layout.ndim);
  return 1;
}

static int numel(lua_State *L) {
  lua_pushinteger(L, nb_layout_numel(&nb_check_tensor(L, 1)->layout));
  return 1;
}

// native.same_shape(a, b): whether both are tensors, and of one shape
static int same_shape(lua_State *L) {
  const Tensor *a = nb_test_tensor(L, 1), *b = nb_test_tensor(L, 2);
  lua_pushboolean(L, a && b && nb_layout_has(&a->layout, b->layout.shape, b->layout.ndim));
  return 1;
}

// native.ends_in(x, size): whether x is a tensor whose last dimension has that size
static int ends_in(lua_State *L) {
  const Tensor *t = nb_test_tensor(L, 1);
  const Layout *l = t ? &t->layout : NULL;
  lua_pushboolean(L, l && l->ndim > 0 && l->shape[l->ndim - 1] == lua_tointeger(L, 2));
  return 1;
}

static int element_size(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)nb_dtype_size(nb_check_tensor(L, 1)->layout.dtype));
  return 1;
}

static int storage_offset(lua_State *L) {
  lua_pushinteger(L, nb_check_tensor(L, 1)->layout.offset);
  return 1;
}

// t:stride([dim]): a step of one in each dimension, in elements of the memory.
static int stride(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  const Layout *l = &t->layout;
  if (lua_isnoneornil(L, 2)) {
    lua_createtable(L, l->ndim, 0);
    for (int d = 0; d < l->ndim; d++) {
      lua_pushinteger(L, l->strides[d]);
      lua_rawseti(L, -2, d + 1);
    }
    return 1;
  }
  int whole;
  lua_Integer dim = lua_tointegerx(L, 2, &whole), d = dim < 0 ? dim + l->ndim : dim - 1;
  if (!whole || dim == 0 || d < 0 || d >= l->ndim)
    return nb_raisef(L, "stride: there is no dimension %s in a tensor of %d", luaL_tolstring(L, 2, NULL), l->ndim);
  lua_pushinteger(L, l->strides[d]);
  return 1;
}

static int is_contiguous(lua_State *L) {
  lua_pushboolean(L, nb_layout_contiguous(&nb_check_tensor(L, 1)->layout));
  return 1;
}

static int detach(lua_State *L) {
  Error err;
  Tensor *t = nb_check_tensor(L, 1);
  Tensor **slot = nb_new_tensor(L);
  *slot = nb_tensor_alias(t, &t->layout, &err);
  return *slot ? 1 : nb_raise(L, &err);
}

static int retain_grad(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  if (!nb_tensor_tracked(t))
    return nb_raisef(L, "retain_grad: this tensor depends on none that requires grad, so it will have no gradient");
  nb_tensor_retain_grad(t);
  lua_settop(L, 1);
  return 1;
}

// ---- fields ----

// Whether somebody hears of what the user's code asks a tensor; the library asks for reasons that it knows.
static bool is_asked_by_user(lua_State *L) {
  lua_Debug ar;
  if (!nb_is_heard(NB_INNER) || !lua_getstack(L, 1, &ar)) return false;
  lua_getinfo(L, "f", &ar);
  bool library = nb_is_library_function(L, -1);
  lua_pop(L, 1);
  return !library;
}

static int get_grad(lua_State *L, Tensor *t) {
  if (t->node && !t->retains_grad)
    return nb_raisef(
        L,
        "grad: this tensor is an intermediate result and kept no gradient; call :retain_grad() on it before "
        "backward");
  if (is_asked_by_user(L)) nb_tell_looked(t, true);
  if (t->grad)
    nb_push_tensor(L, nb_tensor_retain(t->grad));
  else
    lua_pushnil(L);
  return 1;
}

static int get_transposed(lua_State *L, Tensor *t) {
  char text[NB_SHAPE_TEXT];
  Error err;
  Tensor *out;
  if (t->layout.ndim != 2)
    return nb_raisef(L, "T: needs a matrix, got shape %s; use :transpose(d, e) or :permute(...)",
                     nb_shape_text(&t->layout, text));
  Tensor **slot = nb_new_tensor(L);
  nb_enter(L);
  if (!nb_apply(nb_op_find("transpose"), (Value[NB_MAX_PARAMS]){{.tensor = t}, {.integer = 1}, {.integer = 2}}, &out,
                &err))
    return nb_raise(L, &err);
  *slot = out;
  return 1;
}

static const char *const fields[] = {"shape", "dtype", "grad", "requires_grad", "name", "T", "is_leaf", NULL};

static int unknown_field(lua_State *L, const char *name) {
  const char *near = nb_nearest(name, fields);
  if (!near) {  // among the methods: the nearest of all names
    const char *names[1024];
    int n = 0;
    nb_push_methods(L);
    if (luaL_callmeta(L, -1, "__pairs")) lua_pop(L, 1);  // loads what is loaded late
    lua_pushnil(L);
    while (lua_next(L, -2)) {
      if (lua_type(L, -2) == LUA_TSTRING && n < 1023) names[n++] = lua_tostring(L, -2);
      lua_pop(L, 1);
    }
    names[n] = NULL;
    near = nb_nearest(name, names);
  }
  return nb_raisef(L, "a tensor has no field or method \"%s\"%s%s%s", name, near ? "; did you mean \"" : "",
                   near ? near : "", near ? "\"?" : "");
}

static int get_field(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return nb_index_get(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  const char *name = lua_tostring(L, 2);
  Tensor *t = nb_check_tensor(L, 1);
  if (strcmp(name, "shape") == 0) {
    lua_settop(L, 1);
    return size(L);
  }
  if (strcmp(name, "dtype") == 0)
    lua_pushstring(L, nb_dtype_name(t->layout.dtype));
  else if (strcmp(name, "grad") == 0)
    return get_grad(L, t);
  else if (strcmp(name, "requires_grad") == 0) {
    if (is_asked_by_user(L)) nb_tell_looked(t, false);
    lua_pushboolean(L, nb_tensor_tracked(t));
  } else if (strcmp(name, "is_leaf") == 0)
    lua_pushboolean(L, !t->node);
  else if (strcmp(name, "name") == 0) {
    if (is_asked_by_user(L)) nb_tell_unrepeatable("it reads the name of a tensor, which may change");
    lua_pushstring(L, t->name);
  } else if (strcmp(name, "T") == 0)
    return get_transposed(L, t);
  else {  // perhaps a method that is loaded late, which is what the methods' metatable knows
    lua_pushvalue(L, 2);
    if (lua_gettable(L, lua_upvalueindex(1)) == LUA_TNIL) return unknown_field(L, name);
  }
  return 1;
}

static int set_grad(lua_State *L, Tensor *t) {
  char a[NB_SHAPE_TEXT], b[NB_SHAPE_TEXT];
  Tensor *g = NULL;
  if (!lua_isnil(L, 3)) {
    if (!(g = nb_test_tensor(L, 3))) return nb_raisef(L, "grad must be a tensor or nil, got %s", nb_kind_of(L, 3));
    bool same = g->layout.ndim == t->layout.ndim && g->layout.dtype == t->layout.dtype;
    for (int d = 0; same && d < t->layout.ndim; d++) same = g->layout.shape[d] == t->layout.shape[d];
    if (!same)
      return nb_raisef(L, "grad must have the tensor's shape and dtype, %s %s, got %s %s", nb_shape_text(&t->layout, a),
                       nb_dtype_name(t->layout.dtype), nb_shape_text(&g->layout, b), nb_dtype_name(g->layout.dtype));
    if (g == t) return nb_raisef(L, "a tensor cannot be its own gradient; assign a :clone()");
    nb_tensor_retain(g);
  }
  const Tensor *before = t->grad;
  nb_tensor_release(&t->grad);
  t->grad = g;
  if (g && (nb_tensor_tracked(g) || g->grad)) nb_suspect(t);
  nb_tell_deposited(t, before, true);
  nb_cycles_pace(L);
  return 0;
}

static int set_requires_grad(lua_State *L, Tensor *t) {
  if (!lua_isboolean(L, 3)) return nb_raisef(L, "requires_grad must be true or false, got %s", nb_kind_of(L, 3));
  if (t->node)
    return nb_raisef(L, "requires_grad can be set on leaves only; use :detach() for a tensor without history");
  if (lua_toboolean(L, 3) && !nb_dtype_is_float(t->layout.dtype))
    return nb_raisef(L, "only f32 and f64 tensors can require grad, not %s; convert with :to(\"f32\")",
                     nb_dtype_name(t->layout.dtype));
  t->requires_grad = lua_toboolean(L, 3);
  nb_note_flags();
  return 0;
}

static int set_field(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING) return nb_index_set(L);
  const char *name = lua_tostring(L, 2);
  if (strcmp(name, "grad") == 0) return set_grad(L, t);
  if (strcmp(name, "requires_grad") == 0) return set_requires_grad(L, t);
  if (strcmp(name, "name") == 0) {
    Error err;
    if (!lua_isnil(L, 3) && lua_type(L, 3) != LUA_TSTRING)
      return nb_raisef(L, "name must be a string, got %s", nb_kind_of(L, 3));
    return nb_tensor_set_name(t, lua_tostring(L, 3), &err) ? 0 : nb_raise(L, &err);
  }
  for (int i = 0; fields[i]; i++)
    if (strcmp(name, fields[i]) == 0) return nb_raisef(L, "the field %s of a tensor cannot be assigned", name);
  return unknown_field(L, name);
}

// ---- metamethods ----

static int tostring(lua_State *L) {
  nb_tell_value_read("it prints a tensor");
  Tensor *t = nb_test_tensor(L, 1);
  if (!t)
    lua_pushliteral(L, "tensor (released)");
  else
    nb_push_text(L, t, 100);
  return 1;
}

static int length(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  if (t->layout.ndim == 0) return nb_raisef(L, "a scalar has no length");
  lua_pushinteger(L, t->layout.shape[0]);
  return 1;
}

static int equal(lua_State *L) {
  Tensor *a = nb_test_tensor(L, 1), *b = nb_test_tensor(L, 2);
  lua_pushboolean(L, a && b && nb_tensor_same(a, b));
  return 1;
}

// Pushes the number that the tensor or number at `index` is.
static void push_one_number(lua_State *L, int index, const char *sign, const char *method) {
  Tensor *t = nb_test_tensor(L, index);
  if (!t) {
    if (lua_type(L, index) != LUA_TNUMBER)
      nb_raisef(L, "%s cannot compare a tensor with %s", sign, nb_kind_of(L, index));
    lua_pushvalue(L, index);
    return;
  }
  if (nb_layout_numel(&t->layout) != 1)
    nb_raisef(L, "%s gives one boolean in Lua, so it needs one-element tensors; use a:%s(b) for a mask", sign, method);
  nb_tell_value_read("it compares a tensor's value, on which what it does may depend");
  if (nb_dtype_is_float(t->layout.dtype))
    lua_pushnumber(L, nb_tensor_get(t, 0));
  else
    lua_pushinteger(L, nb_tensor_get_whole(t, 0));
}

static int compare(lua_State *L, int relation, const char *sign, const char *method) {
  push_one_number(L, 1, sign, method);
  push_one_number(L, 2, sign, method);
  lua_pushboolean(L, lua_compare(L, -2, -1, relation));
  return 1;
}

static int less(lua_State *L) {
  return compare(L, LUA_OPLT, "<", "lt");
}

static int less_equal(lua_State *L) {
  return compare(L, LUA_OPLE, "<=", "le");
}

static int concat(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

static int refuse_pairs(lua_State *L) {
  return nb_raisef(L, "pairs: a tensor is no table; walk its rows with for i, row in t:rows() do, or take t:totable()");
}

static const luaL_Reg methods[] = {{"item", item},
                                   {"at", at},
                                   {"totable", totable},
                                   {"size", size},
                                   {"dim", dim},
                                   {"numel", numel},
                                   {"detach", detach},
                                   {"retain_grad", retain_grad},
                                   {"is_contiguous", is_contiguous},
                                   {"element_size", element_size},
                                   {"storage_offset", storage_offset},
                                   {"stride", stride},
                                   {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__tostring", tostring},
                                       {"__len", length},
                                       {"__eq", equal},
                                       {"__lt", less},
                                       {"__le", less_equal},
                                       {"__concat", concat},
                                       {"__newindex", set_field},
                                       {"__pairs", refuse_pairs},
                                       {NULL, NULL}};

static const struct {
  const char *event, *method;
} arithmetic[] = {{"__add", "add"},        {"__sub", "sub"},         {"__mul", "mul"}, {"__div", "div"},
                  {"__mod", "mod"},        {"__idiv", "floordiv"},   {"__pow", "pow"}, {"__band", "logical_and"},
                  {"__bor", "logical_or"}, {"__bxor", "logical_xor"}};

// Unary events pass their operand twice.
static int unary_event(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

void nb_open_methods(lua_State *L) {
  nb_open_metatable(L);
  lua_createtable(L, 0, 512);  // methods
  lua_pushvalue(L, -1);
  nb_set_methods(L);
  nb_open_ops(L);
  luaL_setfuncs(L, methods, 0);
  nb_push_metatable(L);
  luaL_setfuncs(L, metamethods, 0);
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, get_field, 1);
  lua_setfield(L, -2, "__index");
  for (size_t i = 0; i < sizeof arithmetic / sizeof *arithmetic; i++) {
    lua_getfield(L, -2, arithmetic[i].method);
    lua_setfield(L, -2, arithmetic[i].event);
  }
  lua_getfield(L, -2, "neg");
  lua_pushcclosure(L, unary_event, 1);
  lua_setfield(L, -2, "__unm");
  lua_getfield(L, -2, "logical_not");
  lua_pushcclosure(L, unary_event, 1);
  lua_setfield(L, -2, "__bnot");
  lua_pushliteral(L, "tensor");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  nb_open_scalar_metatable(L);
  lua_pop(L, 1);
  lua_setfield(L, -2, "methods");
  lua_pushcfunction(L, same_shape);
  lua_setfield(L, -2, "same_shape");
  lua_pushcfunction(L, ends_in);
  lua_setfield(L, -2, "ends_in");
}
