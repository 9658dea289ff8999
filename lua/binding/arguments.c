// SPDX-License-Identifier: MIT
// The table of kinds of parameters, as Lua has them.
#include "arguments.h"

#include <math.h>
#include <string.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua/tape.h"

int nb_in_lua(lua_State *L, const char *module, const char *function) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
  lua_getfield(L, -1, function);
  lua_insert(L, 1);
  lua_pop(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

// ---- reading ----

static int bad(Reader *r, const Param *p, const char *expected, int index) {
  return nb_raisef(r->L, "%s%s: %s must be %s, got %s", r->op->name, r->suffix, p->name, expected,
                   nb_kind_of(r->L, index));
}

// A number with all the bits that it has in Lua.
static inline Value number_at(lua_State *L, int index, bool *is_integer) {
  if ((*is_integer = lua_isinteger(L, index))) {
    int64_t whole = lua_tointeger(L, index);
    return (Value){.number = (double)whole, .whole = whole};
  }
  double number = lua_tonumber(L, index);
  int64_t whole = number >= -0x1p63 && number < 0x1p63 ? (int64_t)number : 0;
  return (Value){.number = number, .whole = (double)whole == number ? whole : 0};
}

static Value truth_at(lua_State *L, int index) {
  return (Value){.number = lua_toboolean(L, index), .whole = lua_toboolean(L, index)};
}

// A tensor of one number that stands where a plain one does: as that no gradient reaches it.
static Tensor *single_number(Reader *r, const Param *p, int index) {
  Tensor *t = nb_test_tensor(r->L, index);
  if (!t || nb_layout_numel(&t->layout) != 1) return NULL;
  if (nb_grad_enabled() && nb_tensor_tracked(t))
    nb_raisef(r->L,
              "%s%s: %s is a plain number, through which no gradient flows, but this tensor requires grad; pass "
              ":item(), or compose the formula of operators on tensors",
              r->op->name, r->suffix, p->name);
  nb_tell_value_read("it uses a tensor's value as a number");
  return t;
}

static int64_t whole_at(Reader *r, const Param *p, int index) {
  int is_int;
  lua_Integer value = lua_tointegerx(r->L, index, &is_int);
  if (is_int && lua_type(r->L, index) == LUA_TNUMBER) return value;
  Tensor *t = single_number(r, p, index);
  if (t) {
    double v = nb_tensor_get(t, 0);
    if (t->layout.dtype == NB_I64 || (v == rint(v) && fabs(v) < 9e15)) return nb_tensor_get_whole(t, 0);
  }
  if (lua_type(r->L, index) == LUA_TNUMBER)
    return nb_raisef(r->L, "%s%s: %s must be a whole number, got %g", r->op->name, r->suffix, p->name,
                     lua_tonumber(r->L, index));
  return bad(r, p, "a whole number", index);
}

static void add_int(Reader *r, const Param *p, int index) {
  if (r->int_count == MAX_INTS) nb_raisef(r->L, "%s%s: too many numbers for %s", r->op->name, r->suffix, p->name);
  r->ints[r->int_count++] = whole_at(r, p, index);
}

// How many arguments the parameters after the ith need by position.
static int needed_after(const Op *op, int i) {
  int count = 0;
  while (++i < NB_MAX_PARAMS && op->params[i].name) count += !op->params[i].optional;
  return count;
}

// A list in a table, or one number; `many` also takes the numbers that follow, but for those that later parameters
// need.
static void read_list(Reader *r, int i, int index, bool many) {
  const Param *p = &r->op->params[i];
  int start = r->int_count;
  if (lua_istable(r->L, index)) {
    lua_Integer n = (lua_Integer)lua_rawlen(r->L, index);
    for (lua_Integer k = 1; k <= n; k++) {
      lua_rawgeti(r->L, index, k);
      add_int(r, p, lua_gettop(r->L));
      lua_pop(r->L, 1);
    }
  } else {
    add_int(r, p, index);
    if (many && p->count == 0 && r->next <= r->last) {
      int last = r->last - needed_after(r->op, i);
      while (r->next <= last && !lua_istable(r->L, r->next)) add_int(r, p, r->next++);
    }
    if (p->count > 1 && r->int_count - start == 1) {
      for (int k = 1; k < p->count; k++) {
        if (r->int_count == MAX_INTS) nb_raisef(r->L, "%s%s: too many numbers for %s", r->op->name, r->suffix, p->name);
        r->ints[r->int_count++] = r->ints[start];
      }
    }
  }
  int count = r->int_count - start;
  if (p->count && count != p->count)
    nb_raisef(r->L, "%s%s: %s must be one number or %d, got %d", r->op->name, r->suffix, p->name, p->count, count);
  r->args[i].ints.items = r->ints + start;
  r->args[i].ints.count = count;
}

static int not_a_tensor(Reader *r, const Param *p, lua_Integer k) {
  return nb_raisef(r->L, "%s%s: %s[%lld] must be a tensor, got %s", r->op->name, r->suffix, p->name, (long long)k,
                   nb_kind_of(r->L, -1));
}

// Of a short list that is an argument by position: the tensors stay on the stack, whatever a finalizer or an observer
// does to the list.
static void read_few_tensors(Reader *r, int i, int index, int count) {
  lua_State *L = r->L;
  luaL_checkstack(L, count + LUA_MINSTACK, "too many tensors");
  for (int k = 0; k < count; k++) {
    lua_rawgeti(L, index, k + 1);
    r->few[k] = nb_test_tensor(L, -1);
    if (!r->few[k]) not_a_tensor(r, &r->op->params[i], k + 1);
  }
  r->args[i].tensors.items = r->few;
  r->args[i].tensors.count = count;
}

static void read_tensors(Reader *r, int i, int index, bool positional) {
  lua_State *L = r->L;
  const Param *p = &r->op->params[i];
  if (!lua_istable(L, index)) bad(r, p, "a table of tensors", index);
  lua_Integer n = (lua_Integer)lua_rawlen(L, index);
  if (n > 1000000) nb_raisef(L, "%s%s: %s has too many tensors (%lld)", r->op->name, r->suffix, p->name, (long long)n);
  if (positional && n <= MAX_FEW) {
    read_few_tensors(r, i, index, (int)n);
    return;
  }
  Tensor **items = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *items, 1);
  lua_createtable(L, (int)n, 0);  // the tensors again
  for (lua_Integer k = 1; k <= n; k++) {
    lua_rawgeti(L, index, k);
    items[k - 1] = nb_test_tensor(L, -1);
    if (!items[k - 1]) not_a_tensor(r, p, k);
    lua_rawseti(L, -2, k);
  }
  lua_setiuservalue(L, -2, 1);
  r->args[i].tensors.items = items;
  r->args[i].tensors.count = (int)n;
}

static int choice_at(Reader *r, const Param *p, int index) {
  const char *text = lua_type(r->L, index) == LUA_TSTRING ? lua_tostring(r->L, index) : NULL;
  const char *at = p->choices;
  for (int k = 0; text && *at; k++) {
    size_t n = strcspn(at, "|");
    if (strlen(text) == n && strncmp(at, text, n) == 0) return k;
    at += n + (at[n] == '|');
  }
  if (!text) return bad(r, p, "a string", index);
  return nb_raisef(r->L, "%s%s: %s must be one of %s, got \"%s\"", r->op->name, r->suffix, p->name, p->choices, text);
}

static DType dtype_at(Reader *r, const Param *p, int index) {
  DType dtype;
  if (lua_type(r->L, index) != LUA_TSTRING) bad(r, p, "a dtype such as \"f32\"", index);
  if (!nb_dtype_parse(lua_tostring(r->L, index), &dtype))
    nb_raisef(r->L, "%s%s: there is no dtype \"%s\"; there are f32, f64, i64, u8 and bool", r->op->name, r->suffix,
              lua_tostring(r->L, index));
  return dtype;
}

static void read_tensor(Reader *r, int i, int index, bool positional) {
  const Param *p = &r->op->params[i];
  int type = lua_type(r->L, index);
  Tensor *t = type == LUA_TUSERDATA ? nb_test_tensor(r->L, index) : NULL;
  (void)positional;
  if (t) {
    r->args[i].tensor = t;
    r->is_number[i] = false;
    r->has_tensors = r->has_tensors || p->plain;
    return;
  }
  bool is_boolean = type == LUA_TBOOLEAN;
  if (p->kind != NB_PARAM_OPERAND && !(p->kind == NB_PARAM_MASK && is_boolean)) bad(r, p, "a tensor", index);
  if (is_boolean) {
    r->numbers[i] = truth_at(r->L, index);
    r->is_whole[i] = r->is_boolean[i] = r->has_booleans = true;
  } else if (type == LUA_TNUMBER) {
    r->numbers[i] = number_at(r->L, index, &r->is_whole[i]);
  } else {
    bad(r, p, "a tensor or a number", index);
  }
  r->is_number[i] = r->has_numbers = true;
}

// Where the number is the value of elements, true and false are two, which settle_booleans looks at.
static void read_number(Reader *r, int i, int index, bool positional) {
  const Param *p = &r->op->params[i];
  Value *v = &r->args[i];
  Tensor *t;
  int type = lua_type(r->L, index);
  (void)positional;
  if (type == LUA_TNUMBER) {
    *v = number_at(r->L, index, &r->is_whole[i]);
  } else if ((t = single_number(r, p, index))) {
    v->number = nb_tensor_get(t, 0);
    v->whole = nb_dtype_is_float(t->layout.dtype) ? 0 : nb_tensor_get_whole(t, 0);
  } else if (p->element && type == LUA_TBOOLEAN) {
    *v = truth_at(r->L, index);
    r->is_boolean[i] = r->has_booleans = true;
  } else {
    bad(r, p, "a number", index);
  }
}

static void read_int(Reader *r, int i, int index, bool positional) {
  (void)positional;
  r->args[i].integer = whole_at(r, &r->op->params[i], index);
}

// To the library 0 means that it was left out.
static void read_dim(Reader *r, int i, int index, bool positional) {
  read_int(r, i, index, positional);
  if (r->args[i].integer == 0)
    nb_raisef(r->L, "%s%s: there is no dimension 0; they count from 1, and from -1 at the end", r->op->name, r->suffix);
}

static void read_dims(Reader *r, int i, int index, bool positional) {
  (void)positional;
  read_list(r, i, index, false);
}

static void read_flag(Reader *r, int i, int index, bool positional) {
  (void)positional;
  if (!lua_isboolean(r->L, index)) bad(r, &r->op->params[i], "true or false", index);
  r->args[i].flag = lua_toboolean(r->L, index);
}

static void read_dtype(Reader *r, int i, int index, bool positional) {
  (void)positional;
  r->args[i].dtype = dtype_at(r, &r->op->params[i], index);
}

static void read_choice(Reader *r, int i, int index, bool positional) {
  (void)positional;
  r->args[i].choice = choice_at(r, &r->op->params[i], index);
}

static void read_nothing(Reader *r, int i, int index, bool positional) {
  (void)r, (void)i, (void)index, (void)positional;
}

void nb_set_default(Reader *r, int i) {
  const Param *p = &r->op->params[i];
  nb_arg_kinds[p->kind].set_default(p, &r->args[i]);
  if (p->kind != NB_PARAM_OPERAND || !p->optional) return;
  r->numbers[i] = (Value){.number = p->fallback};
  r->is_number[i] = r->is_whole[i] = r->has_numbers = true;
}

// ---- pushing ----

static void push_nothing(lua_State *L, const Param *p, const Value *v) {
  (void)p, (void)v;
  lua_pushnil(L);
}

static void push_int(lua_State *L, const Param *p, const Value *v) {
  (void)p;
  lua_pushinteger(L, v->integer);
}

static void push_ints(lua_State *L, const Param *p, const Value *v) {
  (void)p;
  if (v->ints.count < 0) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, v->ints.count, 0);
  for (int i = 0; i < v->ints.count; i++) {
    lua_pushinteger(L, v->ints.items[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void push_number(lua_State *L, const Param *p, const Value *v) {
  (void)p;
  lua_pushnumber(L, v->number);
}

static void push_flag(lua_State *L, const Param *p, const Value *v) {
  (void)p;
  lua_pushboolean(L, v->flag);
}

static void push_dtype(lua_State *L, const Param *p, const Value *v) {
  (void)p;
  if (v->dtype < NB_DTYPES)
    lua_pushstring(L, nb_dtype_name(v->dtype));
  else
    lua_pushnil(L);
}

static void push_choice(lua_State *L, const Param *p, const Value *v) {
  const char *choice = p->choices;
  for (int i = 0; i < v->choice; i++) choice = strchr(choice, '|') + 1;
  lua_pushlstring(L, choice, strcspn(choice, "|"));
}

// ---- defaults, as help shows them ----

static void default_of_none(lua_State *L, const Param *p) {
  (void)p;
  lua_pushnil(L);
}

static void default_of_value(lua_State *L, const Param *p) {
  Value v;
  nb_arg_kinds[p->kind].set_default(p, &v);
  nb_arg_faces[p->kind].push(L, p, &v);
}

static void default_of_int(lua_State *L, const Param *p) {
  if ((int64_t)p->fallback == NB_LEFT_OUT)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)p->fallback);
}

static void default_of_ints(lua_State *L, const Param *p) {
  if (p->count)
    lua_pushinteger(L, (lua_Integer)p->fallback);
  else
    lua_pushnil(L);
}

// NaN stands for a number that others decide.
static void default_of_number(lua_State *L, const Param *p) {
  if (isnan(p->fallback))
    lua_pushnil(L);
  else
    lua_pushnumber(L, p->fallback);
}

const ArgFace nb_arg_faces[NB_PARAM_KINDS] = {
    [NB_PARAM_TENSOR] = {"tensor", read_tensor, push_nothing, default_of_none},
    [NB_PARAM_OPERAND] = {"tensor or number", read_tensor, push_nothing, default_of_number},
    [NB_PARAM_INDEX] = {"index tensor", read_tensor, push_nothing, default_of_none},
    [NB_PARAM_MASK] = {"mask", read_tensor, push_nothing, default_of_none},
    [NB_PARAM_TENSORS] = {"table of tensors", read_tensors, push_nothing, default_of_none},
    [NB_PARAM_INT] = {"integer", read_int, push_int, default_of_int},
    [NB_PARAM_INTS] = {"integers", read_list, push_ints, default_of_ints},
    [NB_PARAM_DIM] = {"dimension", read_dim, push_int, default_of_none},
    [NB_PARAM_DIMS] = {"dimension or table of dimensions", read_dims, push_ints, default_of_none},
    [NB_PARAM_NUMBER] = {"number", read_number, push_number, default_of_number},
    [NB_PARAM_FLAG] = {"boolean", read_flag, push_flag, default_of_value},
    [NB_PARAM_DTYPE] = {"dtype", read_dtype, push_dtype, default_of_value},
    [NB_PARAM_CHOICE] = {"string", read_choice, push_choice, default_of_value},
    [NB_PARAM_OBJECT] = {"object", read_nothing, push_nothing, default_of_none},
};
