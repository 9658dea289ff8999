// SPDX-License-Identifier: MIT
// Plans as userdata, for lua/compile.lua, and optimizer steps.
#include <string.h>

#include "binding.h"
#include "nablua/observe.h"
#include "nablua/optimize.h"
#include "nablua/plan.h"

static const char plan_key;
enum { MOST = 16 };

static Plan **check_plan(lua_State *L, int index) {
  Plan **slot = lua_touserdata(L, index);
  bool is = slot && lua_getmetatable(L, index);
  if (is) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &plan_key);
    is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  if (!is || !*slot) nb_raisef(L, "compile: needs a plan");
  return slot;
}

static int collect(lua_State *L) {
  nb_plan_free(lua_touserdata(L, 1));
  return 0;
}

// The tensors among the arguments from `first` on.
static int tensors(lua_State *L, int first, Tensor **list) {
  int count = 0;
  for (int i = first; i <= lua_gettop(L); i++) {
    Tensor *t = nb_test_tensor(L, i);
    if (!t) continue;
    if (count == MOST) return nb_raisef(L, "compile: more than %d tensors", MOST);
    list[count++] = t;
  }
  return count;
}

// native.plan_begin(stand-in, ...): starts to record; the plan.
static int begin(lua_State *L) {
  Error err;
  Tensor *t[MOST];
  int count = tensors(L, 1, t);
  Plan **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &plan_key);
  lua_setmetatable(L, -2);
  if (!(*slot = nb_plan_begin(t, count, &err))) return nb_raise(L, &err);
  return 1;
}

// Nil, or false and the sentence.
static int outcome(lua_State *L, bool ok, const Error *err) {
  if (ok) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, 0);
  lua_pushstring(L, err->message);
  return 2;
}

// native.plan_end(plan, result, ...): true, or false and why the plan is refused.
static int end(lua_State *L) {
  Error err;
  Tensor *t[MOST];
  Plan *p = *check_plan(L, 1);
  int count = tensors(L, 2, t);
  return outcome(L, nb_plan_end(p, t, count, &err), &err);
}

// native.plan_changed(plan, k): whether the kth input was written to while it was recorded.
static int changed(lua_State *L) {
  lua_pushboolean(L, nb_plan_changed(*check_plan(L, 1), (int)luaL_checkinteger(L, 2) - 1));
  return 1;
}

static int same(lua_State *L) {
  Error err;
  return outcome(L, nb_plan_same(*check_plan(L, 1), *check_plan(L, 2), &err), &err);
}

static int finish(lua_State *L) {
  Error err;
  return nb_plan_finish(*check_plan(L, 1), &err) ? 0 : nb_raise(L, &err);
}

static int ready(lua_State *L) {
  lua_pushboolean(L, nb_plan_ready(*check_plan(L, 1)));
  return 1;
}

// native.plan_run(plan, input, ...): the results, as tensors of their own.
static int run(lua_State *L) {
  Error err;
  Tensor *t[MOST];
  Plan *p = *check_plan(L, 1);
  tensors(L, 2, t);
  nb_enter(L);
  if (!nb_plan_run(p, t, &err)) return nb_raise(L, &err);
  int count = nb_plan_results(p);
  luaL_checkstack(L, count + 4, NULL);
  for (int i = 0; i < count; i++) {
    Tensor **slot = nb_new_tensor(L), *result = nb_plan_result(p, i);
    if (!nb_apply(nb_op_find("clone"), (Value[NB_MAX_PARAMS]){{.tensor = result}}, slot, &err))
      return nb_raise(L, &err);
    nb_feed_collector(L, *slot);
  }
  return count;
}

static int refuse(lua_State *L) {
  nb_plan_refuse(luaL_checkstring(L, 1));
  return 0;
}

static int recording(lua_State *L) {
  lua_pushboolean(L, nb_plan_recording());
  return 1;
}

static int stats(lua_State *L) {
  PlanStats s = nb_plan_stats(*check_plan(L, 1));
  lua_pushinteger(L, s.steps);
  lua_pushinteger(L, s.groups);
  lua_pushinteger(L, s.grouped);
  lua_pushinteger(L, (lua_Integer)s.arena);
  lua_pushinteger(L, (lua_Integer)s.apart);
  return 5;
}

static int describe(lua_State *L) {
  char text[240];
  if (!nb_plan_describe(*check_plan(L, 1), (int)luaL_checkinteger(L, 2) - 1, text, sizeof text)) return 0;
  lua_pushstring(L, text);
  return 1;
}

static int observing(lua_State *L) {
  const Observer *o = nb_observe(NULL);
  nb_observe(o);
  lua_pushboolean(L, o != NULL);
  return 1;
}

// ---- optimizers ----

// The tensor named at stack index `name` in the table of what is remembered of a parameter, made of zeros like
// `like` when there is none; NULL without a name.
static Tensor *remembered(lua_State *L, int memory, int name, const Layout *like) {
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
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return t;
}

// The numbers of an update rule from stack index `at` on: kind, the names of what is remembered, then lr, weight_decay,
// momentum, dampening, nesterov, beta1, beta2, eps, decoupled.
static OptimizerRule rule_at(lua_State *L, int at) {
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

// native.optimize(params, memory, kind, first, second, lr, weight_decay, momentum, dampening, nesterov, beta1, beta2,
// eps, decoupled): steps all parameters that have a gradient; false, and nothing done, when one is not fit for it.
static int optimize(lua_State *L) {
  Error err;
  lua_settop(L, 14);
  OptimizerRule rule = rule_at(L, 3);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  OptimizerSlot *slots = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *slots, 0);
  int count = 0;
  nb_enter(L);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    Tensor *w = nb_test_tensor(L, -1);
    if (w && w->grad && !nb_optimizer_serves(w)) {
      lua_pushboolean(L, 0);
      return 1;
    }
    lua_pop(L, 1);
  }
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
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
      Tensor *step = remembered(L, memory, lua_gettop(L), &(Layout){.dtype = NB_F64});
      slots[count++] =
          (OptimizerSlot){w, remembered(L, memory, 4, &w->layout), remembered(L, memory, 5, &w->layout), step};
      lua_pop(L, 2);
    }
    lua_pop(L, 1);
  }
  if (!nb_optimizer_step(&rule, slots, count, &err)) return nb_raise(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

// native.plan_rule(plan, k, kind, ...): the numbers of the plan's kth optimizer step.
static int plan_rule(lua_State *L) {
  Plan *p = *check_plan(L, 1);
  int k = (int)luaL_checkinteger(L, 2);
  lua_settop(L, 14);
  OptimizerRule rule = rule_at(L, 3);
  nb_plan_set_rule(p, k - 1, &rule);
  return 0;
}

void nb_open_compile(lua_State *L) {
  static const luaL_Reg functions[] = {{"plan_begin", begin},     {"plan_end", end},           {"plan_same", same},
                                       {"plan_changed", changed}, {"plan_finish", finish},     {"plan_ready", ready},
                                       {"plan_run", run},         {"plan_refuse", refuse},     {"recording", recording},
                                       {"plan_stats", stats},     {"plan_describe", describe}, {"observing", observing},
                                       {"optimize", optimize},    {"plan_rule", plan_rule},    {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &plan_key);
}
