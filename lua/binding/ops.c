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
  Value numbers[NB_MAX_PARAMS];
  int64_t ints[MAX_INTS];
  int int_count;
} Reader;

static int bad(Reader *r, const Param *p, const char *expected, int index) {
  return nb_raisef(r->L, "%s%s: %s must be %s, got %s", r->op->name, r->suffix, p->name, expected,
                   nb_kind_of(r->L, index));
}

// A number with all the bits that it has in Lua.
static Value number_at(lua_State *L, int index) {
  return (Value){.number = lua_tonumber(L, index), .whole = lua_tointegerx(L, index, NULL)};  // 0 where it is not whole
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

static int64_t read_int(Reader *r, const Param *p, int index) {
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
  r->ints[r->int_count++] = read_int(r, p, index);
}

// How many arguments the parameters after the ith need by position.
static int needed_after(const Op *op, int i) {
  int count = 0;
  while (++i < NB_MAX_PARAMS && op->params[i].name) count += !op->params[i].optional;
  return count;
}

// A list in a table, or one number; `many` also takes the numbers that follow, but for those that later parameters
// need.
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
    int last = r->last - needed_after(r->op, i);
    while (many && p->count == 0 && r->next <= last && !lua_istable(r->L, r->next)) add_int(r, p, r->next++);
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
  Tensor **items = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *items, 1);
  lua_createtable(L, (int)n, 0);  // the tensors, whatever a finalizer or an observer does to the list
  for (lua_Integer k = 1; k <= n; k++) {
    lua_rawgeti(L, index, k);
    items[k - 1] = nb_test_tensor(L, -1);
    if (!items[k - 1])
      nb_raisef(L, "%s%s: %s[%lld] must be a tensor, got %s", r->op->name, r->suffix, p->name, (long long)k,
                nb_kind_of(L, -1));
    lua_rawseti(L, -2, k);
  }
  lua_setiuservalue(L, -2, 1);
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
    r->is_number[i] = false;
    return;
  }
  bool is_boolean = lua_type(r->L, index) == LUA_TBOOLEAN;
  if (p->kind != NB_PARAM_OPERAND && !(p->kind == NB_PARAM_MASK && is_boolean)) bad(r, p, "a tensor", index);
  if (is_boolean) {
    r->numbers[i] = truth_at(r->L, index);
    r->is_whole[i] = r->is_boolean[i] = r->has_booleans = true;
  } else if (lua_type(r->L, index) == LUA_TNUMBER) {
    r->numbers[i] = number_at(r->L, index);
    r->is_whole[i] = lua_isinteger(r->L, index);
  } else {
    bad(r, p, "a tensor or a number", index);
  }
  r->is_number[i] = r->has_numbers = true;
}

// Where the number is the value of elements, true and false are two, which settle_booleans looks at.
static void read_number(Reader *r, int i, int index) {
  const Param *p = &r->op->params[i];
  Value *v = &r->args[i];
  Tensor *t = single_number(r, p, index);
  if (t) {
    v->number = nb_tensor_get(t, 0);
    v->whole = nb_dtype_is_float(t->layout.dtype) ? 0 : nb_tensor_get_whole(t, 0);
  } else if (p->element && lua_type(r->L, index) == LUA_TBOOLEAN) {
    *v = truth_at(r->L, index);
    r->is_boolean[i] = r->has_booleans = true;
  } else if (lua_type(r->L, index) == LUA_TNUMBER) {
    *v = number_at(r->L, index);
  } else {
    bad(r, p, "a number", index);
  }
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
    case NB_PARAM_NUMBER:
      read_number(r, i, index);
      break;
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
  if (p->kind != NB_PARAM_OPERAND || !p->optional) return;
  r->numbers[i] = (Value){.number = p->fallback};
  r->is_number[i] = r->is_whole[i] = r->has_numbers = true;
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

// An empty table is an empty list where a list belongs, and else a table of no options.
static bool is_list(const Op *op, int position) {
  const Param *p = position <= NB_MAX_PARAMS ? &op->params[position - 1] : NULL;
  if (position == 1) return true;
  return p && p->name && !p->named &&
         (p->kind == NB_PARAM_TENSORS || p->kind == NB_PARAM_INTS || p->kind == NB_PARAM_DIMS);
}

static void read_each(Reader *r) {
  lua_State *L = r->L;
  r->next = 1;
  r->last = lua_gettop(L);
  memset(r->given, 0, sizeof r->given);
  memset(r->is_number, 0, sizeof r->is_number);
  memset(r->is_boolean, 0, sizeof r->is_boolean);
  if (r->last >= 1 && is_options(L, r->last)) {
    lua_pushnil(L);
    bool empty = !lua_next(L, r->last);
    if (!empty) lua_pop(L, 2);
    if (!empty || !is_list(r->op, r->last)) r->options = r->last--;
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

// True and false stand beside tensors of bool and make such; beside others they are a slip, not 1 and 0.
static void settle_booleans(Reader *r) {
  DType dtype = NB_BOOL;
  if (!r->has_booleans) return;
  operand_dtype(r, &dtype);
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    if (r->op->params[i].kind != NB_PARAM_DTYPE) continue;
    if (r->args[i].dtype == NB_DTYPES) r->args[i].dtype = NB_BOOL;
    dtype = r->args[i].dtype;
  }
  for (int i = 0; dtype != NB_BOOL && i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    const Param *p = &r->op->params[i];
    if (!r->is_boolean[i] || p->kind == NB_PARAM_MASK) continue;
    const Value *v = p->kind == NB_PARAM_NUMBER ? &r->args[i] : &r->numbers[i];
    nb_raisef(r->L, "%s%s: %s must be %sa number beside a tensor of %s, got %s", r->op->name, r->suffix, p->name,
              p->kind == NB_PARAM_NUMBER ? "" : "a tensor or ", nb_dtype_name(dtype),
              v->number != 0 ? "true" : "false");
  }
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
    if (!p[i].optional || p[i].kind == NB_PARAM_OPERAND) return false;
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
  settle_booleans(r);
}

// Whether a number beyond u8 may stand beside a tensor of that: it is compared, or not computed with in u8.
static bool may_widen(const Op *op) {
  return op->compares || (op->loops[NB_F32] && !op->loops[NB_U8]);
}

// The dtype of the ith operand, a number beside tensors of `beside`; false when it does not fit.
static bool number_dtype(const Reader *r, int i, DType beside, DType *dtype, Error *err) {
  int64_t whole = r->numbers[i].whole;
  *dtype = beside;
  if (r->is_boolean[i]) *dtype = NB_BOOL;
  if (r->is_boolean[i] || nb_dtype_is_float(beside)) return true;
  if (!r->given[i]) {  // a limit at infinity, which any dtype but bool has the like of
    if (beside == NB_BOOL) *dtype = NB_U8;
    return true;
  }
  if (!r->is_whole[i]) *dtype = NB_F32;
  if (!r->is_whole[i] || (beside == NB_U8 && whole >= 0 && whole <= 255)) return true;
  *dtype = NB_I64;
  return beside != NB_U8 || may_widen(r->op) ||
         nb_fail(
             err, NB_ERROR_ARGUMENT,
             "%s%s: the value %lld does not fit into a tensor of u8, which holds whole numbers 0..255; convert that "
             "with :to(\"i64\")",
             r->op->name, r->suffix, (long long)whole);
}

// Makes 0-d tensors of the numbers among the operands.  No Lua error from here to the release.
static bool make_operands(Reader *r, Error *err) {
  DType beside = NB_F32, dtype;
  if (!r->has_numbers) return true;
  operand_dtype(r, &beside);
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    if (!r->is_number[i]) continue;
    const Value *v = &r->numbers[i];
    if (!number_dtype(r, i, beside, &dtype, err)) return false;
    bool exact = dtype == NB_I64 && r->given[i];
    r->args[i].tensor = exact ? nb_tensor_whole(v->whole, dtype, err) : nb_tensor_scalar(v->number, dtype, err);
    if (!r->args[i].tensor) return false;
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
