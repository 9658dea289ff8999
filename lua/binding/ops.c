// SPDX-License-Identifier: MIT
// The one binder: makes a Lua function of each operator row and reads arguments as the row says.
//
// Required arguments are positional; what is optional may follow by position or stand by name in one
// trailing table.  All of a call's arguments are read before anything is allocated in the library.
#include <math.h>
#include <string.h>

#include "binding.h"
#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "open.h"
#include "options.h"

enum { MAX_INTS = 64 };

// One call being read.
typedef struct Reader {
  lua_State *L;
  const Op *op;
  const char *suffix;              // "_" for the in-place form, in messages
  int next, last;                  // positional arguments that are left
  int options;                     // stack index of the table of options, 0 without
  bool has_numbers, has_booleans;  // among the OPERANDs
  Value args[NB_MAX_PARAMS];
  bool given[NB_MAX_PARAMS];
  bool is_number[NB_MAX_PARAMS];  // an OPERAND given as a Lua number, not yet a tensor
  bool is_whole[NB_MAX_PARAMS];
  bool is_boolean[NB_MAX_PARAMS];
  double numbers[NB_MAX_PARAMS];
  int64_t ints[MAX_INTS];
  int int_count;
} Reader;

static int bad(Reader *r, const Param *p, const char *expected, int index) {
  return nb_raisef(r->L, "%s%s: %s must be %s, got %s", r->op->name, r->suffix, p->name, expected,
                   nb_kind_of(r->L, index));
}

static int64_t read_int(Reader *r, const Param *p, int index) {
  int is_int;
  lua_Integer value = lua_tointegerx(r->L, index, &is_int);
  if (is_int && lua_type(r->L, index) == LUA_TNUMBER) return value;
  Tensor *t = nb_test_tensor(r->L, index);
  if (t && nb_layout_numel(&t->layout) == 1) {
    nb_tell_value_read("it uses a tensor's value as a number");
    double v = nb_tensor_get(t, 0);
    if (v == rint(v) && fabs(v) < 9e15) return (int64_t)v;
  }
  if (lua_type(r->L, index) == LUA_TNUMBER)
    return nb_raisef(r->L, "%s%s: %s must be a whole number, got %g", r->op->name, r->suffix, p->name,
                     lua_tonumber(r->L, index));
  return bad(r, p, "a whole number", index);
}

static void add_int(Reader *r, const Param *p, int index) {
  if (r->int_count == MAX_INTS) nb_raisef(r->L, "%s%s: too many numbers for %s", r->op->name, r->suffix, p->name);
  r->ints[r->int_count++] = read_int(r, p, index);
}

// A list in a table, or one number; `many` also takes the numbers that follow.
static void read_ints(Reader *r, int i, int index, bool many) {
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
    while (many && p->count == 0 && r->next <= r->last && !lua_istable(r->L, r->next)) add_int(r, p, r->next++);
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

static void read_tensors(Reader *r, int i, int index) {
  lua_State *L = r->L;
  const Param *p = &r->op->params[i];
  if (!lua_istable(L, index)) bad(r, p, "a table of tensors", index);
  lua_Integer n = (lua_Integer)lua_rawlen(L, index);
  if (n > 1000000) nb_raisef(L, "%s%s: %s has too many tensors (%lld)", r->op->name, r->suffix, p->name, (long long)n);
  Tensor **items = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *items, 0);
  for (lua_Integer k = 1; k <= n; k++) {
    lua_rawgeti(L, index, k);
    items[k - 1] = nb_test_tensor(L, -1);
    if (!items[k - 1])
      nb_raisef(L, "%s%s: %s[%lld] must be a tensor, got %s", r->op->name, r->suffix, p->name, (long long)k,
                nb_kind_of(L, -1));
    lua_pop(L, 1);  // the table keeps it alive
  }
  r->args[i].tensors.items = items;
  r->args[i].tensors.count = (int)n;
}

static int read_choice(Reader *r, const Param *p, int index) {
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

static DType read_dtype(Reader *r, const Param *p, int index) {
  DType dtype;
  if (lua_type(r->L, index) != LUA_TSTRING) bad(r, p, "a dtype such as \"f32\"", index);
  if (!nb_dtype_parse(lua_tostring(r->L, index), &dtype))
    nb_raisef(r->L, "%s%s: there is no dtype \"%s\"; there are f32, f64, i64, u8 and bool", r->op->name, r->suffix,
              lua_tostring(r->L, index));
  return dtype;
}

static void read_tensor(Reader *r, int i, int index) {
  const Param *p = &r->op->params[i];
  Tensor *t = nb_test_tensor(r->L, index);
  if (t) {
    r->args[i].tensor = t;
    return;
  }
  if (p->kind != NB_PARAM_OPERAND) bad(r, p, "a tensor", index);
  if (lua_type(r->L, index) == LUA_TBOOLEAN) {
    r->numbers[i] = lua_toboolean(r->L, index);
    r->is_whole[i] = r->is_boolean[i] = r->has_booleans = true;
  } else if (lua_type(r->L, index) == LUA_TNUMBER) {
    r->numbers[i] = lua_tonumber(r->L, index);
    r->is_whole[i] = lua_isinteger(r->L, index);
  } else {
    bad(r, p, "a tensor or a number", index);
  }
  r->is_number[i] = r->has_numbers = true;
}

static void read_value(Reader *r, int i, int index, bool positional) {
  const Param *p = &r->op->params[i];
  lua_State *L = r->L;
  r->given[i] = true;
  switch (p->kind) {
    case NB_PARAM_TENSOR:
    case NB_PARAM_OPERAND:
    case NB_PARAM_INDEX:
    case NB_PARAM_MASK:
      read_tensor(r, i, index);
      break;
    case NB_PARAM_TENSORS:
      read_tensors(r, i, index);
      break;
    case NB_PARAM_INT:
    case NB_PARAM_DIM:
      r->args[i].integer = read_int(r, p, index);
      // To the library 0 means that it was left out.
      if (p->kind == NB_PARAM_DIM && r->args[i].integer == 0)
        nb_raisef(L, "%s%s: there is no dimension 0; they count from 1, and from -1 at the end", r->op->name,
                  r->suffix);
      break;
    case NB_PARAM_INTS:
    case NB_PARAM_DIMS:
      read_ints(r, i, index, positional && p->kind == NB_PARAM_INTS);
      break;
    case NB_PARAM_NUMBER: {
      Tensor *t = nb_test_tensor(L, index);
      if (t && nb_layout_numel(&t->layout) == 1) {
        nb_tell_value_read("it uses a tensor's value as a number");
        r->args[i].number = nb_tensor_get(t, 0);
      } else if (lua_type(L, index) == LUA_TNUMBER)
        r->args[i].number = lua_tonumber(L, index);
      else
        bad(r, p, "a number", index);
      break;
    }
    case NB_PARAM_FLAG:
      if (!lua_isboolean(L, index)) bad(r, p, "true or false", index);
      r->args[i].flag = lua_toboolean(L, index);
      break;
    case NB_PARAM_DTYPE:
      r->args[i].dtype = read_dtype(r, p, index);
      break;
    case NB_PARAM_CHOICE:
      r->args[i].choice = read_choice(r, p, index);
      break;
    case NB_PARAM_KINDS:
    case NB_PARAM_OBJECT:  // of rows that do not come this way
      break;
  }
}

static void set_default(Reader *r, int i) {
  const Param *p = &r->op->params[i];
  nb_arg_kinds[p->kind].set_default(p, &r->args[i]);
}

// Options are a plain table whose keys are names; a list is an argument.
static bool is_options(lua_State *L, int index) {
  if (!lua_istable(L, index) || lua_rawlen(L, index) > 0) return false;
  if (luaL_getmetafield(L, index, "__index") != LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  lua_pushnil(L);
  if (!lua_next(L, index)) return true;
  bool named = lua_type(L, -2) == LUA_TSTRING;
  lua_pop(L, 2);
  return named;
}

static bool serves_creation(const Op *op, const char *name) {
  return op->creates && (strcmp(name, "requires_grad") == 0 || strcmp(name, "name") == 0);
}

static int unknown_option(Reader *r, const char *name) {
  const char *names[NB_MAX_PARAMS + 3];
  int n = 0;
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++)
    if (r->op->params[i].optional) names[n++] = r->op->params[i].name;
  if (r->op->creates) {
    names[n++] = "requires_grad";
    names[n++] = "name";
  }
  names[n] = NULL;
  lua_pushfstring(r->L, "%s%s", r->op->name, r->suffix);
  return nb_no_option(r->L, lua_tostring(r->L, -1), name, names);
}

static void read_options(Reader *r) {
  lua_State *L = r->L;
  lua_pushnil(L);
  while (lua_next(L, r->options)) {
    if (lua_type(L, -2) != LUA_TSTRING) nb_raisef(L, "%s%s: options must have names", r->op->name, r->suffix);
    const char *name = lua_tostring(L, -2);
    int i = 0;
    while (i < NB_MAX_PARAMS && r->op->params[i].name && strcmp(r->op->params[i].name, name) != 0) i++;
    bool found = i < NB_MAX_PARAMS && r->op->params[i].name && r->op->params[i].optional;
    if (!found && !serves_creation(r->op, name)) unknown_option(r, name);
    if (found) {
      if (r->given[i]) nb_raisef(L, "%s%s: %s is given twice", r->op->name, r->suffix, name);
      int value = lua_gettop(L);
      read_value(r, i, value, false);
      if (lua_gettop(L) > value) {  // a list's block must stay on the stack, below the key
        lua_insert(L, r->options + 1);
        lua_pop(L, 1);
      } else {
        lua_pop(L, 1);
      }
    } else {
      lua_pop(L, 1);
    }
  }
}

static void read_each(Reader *r) {
  lua_State *L = r->L;
  r->next = 1;
  r->last = lua_gettop(L);
  memset(r->given, 0, sizeof r->given);
  memset(r->is_number, 0, sizeof r->is_number);
  memset(r->is_boolean, 0, sizeof r->is_boolean);
  if (r->last >= 1 && is_options(L, r->last)) {
    bool wanted = true;  // an empty table may also be an empty list
    lua_pushnil(L);
    if (lua_next(L, r->last))
      lua_pop(L, 2);
    else
      wanted = r->last > 1 && (r->last > NB_MAX_PARAMS || r->op->params[r->last - 1].kind != NB_PARAM_TENSORS);
    if (wanted) r->options = r->last--;
  }
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    const Param *p = &r->op->params[i];
    set_default(r, i);
    if (p->named || r->next > r->last) continue;
    if (p->optional && lua_isnil(L, r->next)) {
      r->next++;
    } else {
      int index = r->next++;
      read_value(r, i, index, true);
    }
  }
  if (r->next <= r->last)
    nb_raisef(L, "%s%s: too many arguments: %s as argument %d%s", r->op->name, r->suffix, nb_kind_of(L, r->next),
              r->next, lua_istable(L, r->next) ? " (the table of options comes last)" : "");
  if (r->options) read_options(r);
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    const Param *p = &r->op->params[i];
    if (r->given[i] || p->optional) continue;
    if (p->kind == NB_PARAM_INTS && p->count == 0) {  // zeros() is a scalar
      r->args[i].ints.count = 0;
      continue;
    }
    nb_raisef(L, "%s%s: %s is missing", r->op->name, r->suffix, p->name);
  }
}

// The dtype a number takes beside the tensors: theirs, but a fraction beside whole numbers is f32.
static bool operand_dtype(const Reader *r, DType *dtype) {
  bool found = false;
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    if (r->op->params[i].kind > NB_PARAM_INDEX || r->is_number[i] || !r->args[i].tensor) continue;
    DType d = r->args[i].tensor->layout.dtype;
    *dtype = found ? nb_dtype_promote(*dtype, d) : d;
    found = true;
  }
  return found;
}

// True and false stand beside tensors of bool; beside others they are a slip, not 1 and 0.
static void refuse_booleans(Reader *r) {
  DType dtype = NB_BOOL;
  if (!r->has_booleans || !operand_dtype(r, &dtype) || dtype == NB_BOOL) return;
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++)
    if (r->is_boolean[i])
      nb_raisef(r->L, "%s%s: %s must be a tensor or a number beside a tensor of %s, got %s", r->op->name, r->suffix,
                r->op->params[i].name, nb_dtype_name(dtype), r->numbers[i] != 0 ? "true" : "false");
}

// Whether all that is given are tensors, for the row's first parameters: the commonest call.  What is left out has its
// default.
static bool read_tensors_alone(Reader *r) {
  const Param *p = r->op->params;
  int count = lua_gettop(r->L), i = 0;
  if (count > NB_MAX_PARAMS) return false;
  for (; i < count; i++) {
    if (!p[i].name || !nb_arg_is_tensor(&p[i]) || p[i].named) return false;
    if (!(r->args[i].tensor = nb_test_tensor(r->L, i + 1))) return false;
  }
  for (; i < NB_MAX_PARAMS && p[i].name; i++) {
    if (!p[i].optional) return false;
    set_default(r, i);
  }
  return true;
}

// Fills the Reader with the arguments on the stack.
static void read_args(Reader *r, lua_State *L, const char *suffix) {
  r->L = L;
  r->op = lua_touserdata(L, lua_upvalueindex(1));
  r->suffix = suffix;
  r->options = r->int_count = 0;
  r->has_numbers = r->has_booleans = false;
  if (read_tensors_alone(r)) return;
  read_each(r);
  refuse_booleans(r);
}

// Makes 0-d tensors of the numbers among the operands.  No Lua error from here to the release.
static bool make_operands(Reader *r, Error *err) {
  DType dtype = NB_F32;
  if (!r->has_numbers) return true;
  operand_dtype(r, &dtype);
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    if (!r->is_number[i]) continue;
    DType d = dtype;
    if (!nb_dtype_is_float(d)) {
      if (!r->is_whole[i])
        d = NB_F32;
      else if (d == NB_BOOL || (d == NB_U8 && (r->numbers[i] < 0 || r->numbers[i] > 255)))
        d = NB_I64;
    }
    if (!(r->args[i].tensor = nb_tensor_scalar(r->numbers[i], d, err))) return false;
  }
  return true;
}

static void release_operands(Reader *r) {
  if (!r->has_numbers) return;
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++)
    if (r->is_number[i]) nb_tensor_release(&r->args[i].tensor);
}

// requires_grad and name of creating operators.
static void apply_creation_options(Reader *r, Tensor *t) {
  lua_State *L = r->L;
  Error err;
  if (lua_getfield(L, r->options, "requires_grad") != LUA_TNIL) {
    if (!lua_isboolean(L, -1))
      nb_raisef(L, "%s: requires_grad must be true or false, got %s", r->op->name, nb_kind_of(L, -1));
    if (lua_toboolean(L, -1) && !nb_dtype_is_float(t->layout.dtype))
      nb_raisef(L, "%s: only f32 and f64 tensors can require grad, not %s", r->op->name,
                nb_dtype_name(t->layout.dtype));
    t->requires_grad = lua_toboolean(L, -1);
  }
  if (lua_getfield(L, r->options, "name") != LUA_TNIL) {
    if (lua_type(L, -1) != LUA_TSTRING)
      nb_raisef(L, "%s: name must be a string, got %s", r->op->name, nb_kind_of(L, -1));
    if (!nb_tensor_set_name(t, lua_tostring(L, -1), &err)) nb_raise(L, &err);
  }
  lua_pop(L, 2);
}

static int apply(lua_State *L) {
  Reader r;
  Error err;
  Tensor *out[NB_MAX_OUTPUTS], **slots[NB_MAX_OUTPUTS];
  nb_enter(L);
  read_args(&r, L, "");
  int count = nb_op_results(r.op, r.args);
  for (int i = 0; i < count; i++) slots[i] = nb_new_tensor_of(L, lua_upvalueindex(2));
  bool ok = make_operands(&r, &err) && nb_apply(r.op, r.args, out, &err);
  release_operands(&r);
  if (!ok) return nb_raise(L, &err);
  for (int i = 0; i < count; i++) *slots[i] = out[i];
  if (r.op->creates && r.options) apply_creation_options(&r, out[0]);
  for (int i = 0; i < count; i++) nb_feed_collector(out[i]);
  return count;
}

static int apply_inplace(lua_State *L) {
  Reader r;
  Error err;
  nb_enter(L);
  nb_check_tensor(L, 1);
  read_args(&r, L, "_");
  bool ok = make_operands(&r, &err) && nb_apply_inplace(r.op, r.args, &err);
  release_operands(&r);
  if (!ok) return nb_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

void nb_open_ops(lua_State *L) {
  for (const OpFamily *const *f = nb_op_families(); *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      const Op *op = &(*f)->ops[i];
      lua_pushlightuserdata(L, (void *)(uintptr_t)op);
      nb_push_metatable(L);
      lua_pushcclosure(L, apply, 2);
      lua_setfield(L, op->internal ? -3 : -2, op->name);
      if (!op->inplace || (op->internal && op->no_grad)) continue;  // those are for plans
      lua_pushfstring(L, "%s_", op->name);
      lua_pushlightuserdata(L, (void *)(uintptr_t)op);
      lua_pushcclosure(L, apply_inplace, 1);
      lua_rawset(L, -3);
    }
  }
}
