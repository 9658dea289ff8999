// SPDX-License-Identifier: MIT
// What lua/optim.lua has done in C: steps of all parameters in one pass, and clearing their gradients.
#include "optimizer.h"

#include <math.h>
#include <string.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua/optimize.h"
#include "open.h"

static const char slots_key;

// A group's parameters and what is remembered of them, found once; kept by the userdata's uservalue, a list, so that
// Lua's collector sees them.  The group's list of parameters is its key in the
// optimizer's memory, so whoever replaces that memory, or what is in it, drops these too.
typedef struct Slots {
  const void *tag;  // &slots_key
  int count;        // of the slots
  bool first, second;
  OptimizerSlot slot[];  // and as many again: those that have a gradient this time, borrowed
} Slots;

static int collect(lua_State *L) {
  Slots *s = nb_collected_by(L, 1, collect);
  if (s) s->count = 0;
  return 0;
}

OptimizerRule nb_rule_at(lua_State *L, int at) {
  static const char *const kinds[] = {"sgd", "adam", "rmsprop", NULL};
  return (OptimizerRule){.kind = (OptimizerKind)luaL_checkoption(L, at, NULL, kinds),
                         .lr = luaL_checknumber(L, at + 3),
                         .weight_decay = luaL_checknumber(L, at + 4),
                         .momentum = luaL_checknumber(L, at + 5),
                         .dampening = luaL_checknumber(L, at + 6),
                         .nesterov = lua_toboolean(L, at + 7),
                         .beta1 = luaL_optnumber(L, at + 8, 0),
                         .beta2 = luaL_optnumber(L, at + 9, 0),
                         .eps = luaL_optnumber(L, at + 10, 0),
                         .decoupled = lua_toboolean(L, at + 11)};
}

// The tensor named at stack index `name` in the table of what is remembered of a parameter, made of zeros like
// `like` when there is none, and added to the list at `kept`; NULL without a name.
static Tensor *remembered(lua_State *L, int memory, int name, const Layout *like, int kept) {
  Error err;
  if (!lua_toboolean(L, name)) return NULL;
  lua_pushvalue(L, name);
  lua_rawget(L, memory);
  Tensor *t = nb_test_tensor(L, -1);
  if (!t) {
    Tensor **slot = nb_new_tensor(L);
    if (!(*slot = t = nb_tensor_new(like, &err))) nb_raise(L, &err);
    memset(nb_tensor_data(t), 0, t->storage->bytes);
    lua_pushvalue(L, name);
    lua_pushvalue(L, -2);
    lua_rawset(L, memory);
    lua_replace(L, -2);
  }
  lua_rawseti(L, kept, (lua_Integer)lua_rawlen(L, kept) + 1);
  return t;
}

// Pushes the slots of the parameters at stack index 1, in the memory at 2 from now on; the names of what is remembered
// are at 4 and 5.  Of parameters without a gradient nothing is remembered yet.
static Slots *find_slots(lua_State *L, int n) {
  Slots *s = lua_newuserdatauv(L, sizeof *s + 2 * (size_t)n * sizeof *s->slot, 1);
  *s = (Slots){.tag = &slots_key, .first = lua_toboolean(L, 4), .second = lua_toboolean(L, 5)};
  memset(s->slot, 0, 2 * (size_t)n * sizeof *s->slot);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &slots_key);
  lua_setmetatable(L, -2);
  s->count = n;
  lua_createtable(L, n * NB_SLOT_TENSORS, 0);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, -3, 1);
  int kept = lua_gettop(L);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    Tensor *w = nb_test_tensor(L, -1);
    if (w && w->grad) {
      lua_pushvalue(L, -1);
      if (lua_rawget(L, 2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 3);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 2);
      }
      int memory = lua_gettop(L);
      lua_pushliteral(L, "step");
      s->slot[i].step = remembered(L, memory, lua_gettop(L), &(Layout){.dtype = NB_F64}, kept);
      s->slot[i].first = remembered(L, memory, 4, &w->layout, kept);
      s->slot[i].second = remembered(L, memory, 5, &w->layout, kept);
      lua_pop(L, 2);
    }
    s->slot[i].weight = w;
    lua_rawseti(L, kept, (lua_Integer)lua_rawlen(L, kept) + 1);
  }
  lua_pop(L, 1);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -2);
  lua_rawset(L, 2);
  return s;
}

// Whether the slots are those of the parameters at stack index 1 and hold what the rule remembers of all with a
// gradient.
static bool still_serve(lua_State *L, const Slots *s, int n) {
  if (s->count != n || s->first != lua_toboolean(L, 4) || s->second != lua_toboolean(L, 5)) return false;
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    const Tensor *w = nb_test_tensor(L, -1);
    lua_pop(L, 1);
    if (!w || w != s->slot[i].weight || (w->grad && !s->slot[i].step)) return false;
  }
  return true;
}

// native.optimize(params, memory, kind, first, second, lr, weight_decay, momentum, dampening, nesterov, beta1, beta2,
// eps, decoupled): steps all parameters that have a gradient; false, and nothing done, when one is not fit for it or
// the kind is false.
static int optimize(lua_State *L) {
  Error err;
  lua_settop(L, 14);
  if (lua_type(L, 3) == LUA_TBOOLEAN) {  // no form that C knows
    lua_pushboolean(L, 0);
    return 1;
  }
  OptimizerRule rule = nb_rule_at(L, 3);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  if (n > 1000000) return nb_raisef(L, "step: there are too many parameters (%lld)", (long long)n);
  nb_enter(L);
  lua_pushvalue(L, 1);
  lua_rawget(L, 2);
  Slots *s = lua_rawlen(L, -1) >= sizeof *s ? lua_touserdata(L, -1) : NULL;
  if (!s || s->tag != &slots_key || !still_serve(L, s, (int)n)) s = NULL;
  for (int i = 0; i < n; i++) {
    const Tensor *w = s ? s->slot[i].weight : NULL;
    if (!s) {
      lua_rawgeti(L, 1, i + 1);
      w = nb_test_tensor(L, -1);
      lua_pop(L, 1);
    }
    if (!w || !w->grad || nb_optimizer_serves(w)) continue;
    lua_pushboolean(L, 0);
    return 1;
  }
  if (!s) s = find_slots(L, (int)n);
  OptimizerSlot *active = s->slot + n;
  int count = 0;
  for (int i = 0; i < n; i++)
    if (s->slot[i].weight && s->slot[i].weight->grad) active[count++] = s->slot[i];
  if (!nb_optimizer_step(&rule, active, count, &err)) return nb_raise(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

// The gradients of the list of tensors on the top become nil.
static void clear_each(lua_State *L) {
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
    lua_rawgeti(L, -1, i);
    Tensor *t = nb_test_tensor(L, -1);
    lua_pop(L, 1);
    if (!t) continue;
    const Tensor *before = t->grad;
    nb_tensor_release(&t->grad);
    nb_tell_deposited(t, before, true);
  }
}

// native.clear_grads(params): the gradients of a list of tensors become nil.
static int clear_grads(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  nb_enter(L);
  clear_each(L);
  return 0;
}

// What clear_groups gives; upvalue 1 are the options.
static int clear_those(lua_State *L) {
  if (!lua_istable(L, 1)) return nb_raisef(L, "zero_grad: must be called as opt:zero_grad(), got %s", nb_kind_of(L, 1));
  nb_enter(L);
  lua_settop(L, 1);
  lua_getfield(L, 1, "groups");
  for (lua_Integer k = 1, n = lua_istable(L, 2) ? (lua_Integer)lua_rawlen(L, 2) : 0; k <= n; k++) {
    lua_rawgeti(L, 2, k);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TTABLE) lua_pop(L, 1);  // a group that was put there by hand
    lua_getfield(L, -1, "params");
    if (lua_istable(L, -1)) clear_each(L);
    lua_settop(L, 2);
  }
  return 0;
}

// native.clear_groups(options): a function of an optimizer after which the parameters of its groups have no gradient;
// the options are asked past what a group does when somebody reads it.
static int clear_groups(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushcclosure(L, clear_those, 1);
  return 1;
}

// native.measure(true): steps add up the squares of the gradients that they read.  native.measure(): the square root of
// the sum, and of how many gradients that is; they do not any more.
static int measure(lua_State *L) {
  static double squares;
  static int count;
  if (lua_toboolean(L, 1)) {
    squares = count = 0;
    nb_optimizer_measure(&squares, &count);
    return 0;
  }
  nb_optimizer_measure(NULL, NULL);
  lua_pushnumber(L, sqrt(squares));
  lua_pushinteger(L, count);
  return 2;
}

void nb_open_optimizer(lua_State *L) {
  static const luaL_Reg functions[] = {{"optimize", optimize},
                                       {"clear_grads", clear_grads},
                                       {"clear_groups", clear_groups},
                                       {"measure", measure},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &slots_key);
}
