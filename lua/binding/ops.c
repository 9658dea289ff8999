// SPDX-License-Identifier: MIT
// The one binder: makes a Lua function of each operator row and reads arguments as the row says.
//
// Required arguments are positional; what is optional may follow by position or stand by name in one
// trailing table.  All of a call's arguments are read before anything is allocated in the library.
#include <math.h>
#include <string.h>

#include "arguments.h"
#include "binding.h"
#include "cycles.h"
#include "nablua/memory.h"
#include "open.h"
#include "options.h"

static void read_value(Reader *r, int i, int index, bool positional) {
  r->given[i] = true;
  nb_arg_faces[r->op->params[i].kind].read(r, i, index, positional);
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
    bool given = !p->named && r->next <= r->last;
    if (given && p->optional && lua_isnil(L, r->next)) {
      given = false;
      r->next++;
    }
    if (given)
      read_value(r, i, r->next++, true);
    else
      nb_set_default(r, i);
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
    if (r->op->params[i].kind >= NB_PARAM_INDEX || r->is_number[i] || !r->args[i].tensor) continue;
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
  int count = lua_gettop(r->L);
  if (count > NB_MAX_PARAMS) return false;
  for (int i = count; i-- > 0;) {  // from the last, which mostly is what tells other calls
    if (!p[i].name || !nb_arg_is_tensor(&p[i]) || p[i].named) return false;
    if (!(r->args[i].tensor = nb_test_tensor(r->L, i + 1))) return false;
  }
  for (int i = count; i < NB_MAX_PARAMS && p[i].name; i++) {
    if (!p[i].optional || p[i].kind == NB_PARAM_OPERAND) return false;
    nb_set_default(r, i);
  }
  return true;
}

// Fills the Reader with the arguments on the stack.
static void read_args(Reader *r, lua_State *L, bool in_place) {
  r->L = L;
  r->op = lua_touserdata(L, lua_upvalueindex(1));
  r->suffix = in_place ? "_" : "";
  r->options = r->int_count = 0;
  r->has_numbers = r->has_booleans = r->has_tensors = false;
  if (read_tensors_alone(r)) return;
  if (in_place) nb_check_tensor(L, 1);  // a number does not stand for what is changed
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
  if (!r->given[i]) return true;  // a limit at infinity, which any dtype has the like of
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

// Leaves numbers plain where the row takes such beside its first tensor: all of them, or none.
static bool stay_plain(Reader *r) {
  const Param *p = r->op->params;
  if (!p[1].name || !p[1].plain || r->has_tensors || r->has_booleans) return false;
  if (!nb_dtype_is_float(r->args[0].tensor->layout.dtype)) return false;
  for (int i = 1; i < NB_MAX_PARAMS && p[i].name; i++)
    if (p[i].plain) r->args[i] = (Value){.plain = r->numbers[i].number};
  r->has_numbers = false;
  return true;
}

// Makes 0-d tensors of the numbers among the operands.  No Lua error from here to the release.
static bool make_operands(Reader *r, Error *err) {
  DType beside = NB_F32, dtype;
  if (!r->has_numbers || stay_plain(r)) return true;
  operand_dtype(r, &beside);
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++)
    if (r->is_number[i]) r->args[i].tensor = NULL;  // all are released, also where one cannot be made
  for (int i = 0; i < NB_MAX_PARAMS && r->op->params[i].name; i++) {
    if (!r->is_number[i]) continue;
    const Value *v = &r->numbers[i];
    if (!number_dtype(r, i, beside, &dtype, err)) return false;
    bool exact = dtype == NB_I64 && r->given[i];
    double number = dtype == NB_BOOL && !r->given[i] ? v->number > 0 : v->number;
    r->args[i].tensor = exact ? nb_tensor_whole(v->whole, dtype, err) : nb_tensor_scalar(number, dtype, err);
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
  read_args(&r, L, false);
  int count = nb_op_results(r.op, r.args);
  for (int i = 0; i < count; i++) slots[i] = nb_new_tensor_of(L, lua_upvalueindex(2));
  bool ok = make_operands(&r, &err) && nb_apply(r.op, r.args, out, &err);
  release_operands(&r);
  if (!ok && (nb_collect_for(L, &err) || nb_stop_is_put_off(L, &err))) {  // nothing was changed
    ok = make_operands(&r, &err) && nb_apply(r.op, r.args, out, &err);
    release_operands(&r);
  }
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
  read_args(&r, L, true);
  bool ok = make_operands(&r, &err) && nb_apply_inplace(r.op, r.args, &err);
  if (!ok && nb_stop_is_put_off(L, &err)) ok = nb_apply_inplace(r.op, r.args, &err);
  release_operands(&r);
  if (!ok) return nb_raise(L, &err);
  lua_settop(L, 1);
  if (r.args[0].tensor->node) nb_cycles_pace(L);
  return 1;
}

// Rows whose second argument may also be several numbers, in a table or a tensor: a function of their name in
// nablua.functions.several does it then.
static const char *const of_several[] = {"repeat_interleave", "roll", "unique"};

static int apply_or_several(lua_State *L) {
  const Tensor *t = lua_isuserdata(L, 2) ? nb_test_tensor(L, 2) : NULL;
  if (!lua_istable(L, 2) && (!t || nb_layout_numel(&t->layout) == 1)) return apply(L);
  const Op *op = lua_touserdata(L, lua_upvalueindex(1));
  return nb_in_lua(L, "nablua.functions.several", op->name);
}

static bool is_of_several(const Op *op) {
  for (size_t i = 0; i < sizeof of_several / sizeof *of_several; i++)
    if (strcmp(op->name, of_several[i]) == 0) return true;
  return false;
}

void nb_open_ops(lua_State *L) {
  for (const OpFamily *const *f = nb_op_families(); *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      const Op *op = &(*f)->ops[i];
      lua_pushlightuserdata(L, (void *)(uintptr_t)op);
      nb_push_metatable(L);
      lua_pushcclosure(L, is_of_several(op) ? apply_or_several : apply, 2);
      lua_setfield(L, op->internal ? -3 : -2, op->name);
      if (!op->inplace || (op->internal && op->no_grad)) continue;  // those are for plans
      lua_pushfstring(L, "%s_", op->name);
      lua_pushlightuserdata(L, (void *)(uintptr_t)op);
      lua_pushcclosure(L, apply_inplace, 1);
      lua_rawset(L, -3);
    }
  }
}
