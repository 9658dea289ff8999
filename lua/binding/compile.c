// SPDX-License-Identifier: MIT
// Plans as userdata, for lua/compile.lua.
#include <string.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua/optimize.h"
#include "nablua/plan.h"
#include "open.h"
#include "optimizer.h"

static const char plan_key, armed_key;
enum { MOST = 16, FEW = 4 };  // tensors; so few results have room on any stack

// A plan as Lua holds it.  Armed, it also knows when it may be replayed: its uservalues are the function, the values
// that the function saw outside, a function that renews the numbers of its optimizers, and the lists among their
// options, each followed by a copy.
enum { FUNCTION = 1, SEEN, RENEW, LISTS };
typedef struct Box {
  Plan *plan;
  lua_Integer modes, settings, replays;
  const void **seen;  // their addresses, NULL for numbers and the like: the memory of the uservalue SEEN
  bool listed;
} Box;

static lua_Integer modes;     // rises when a net turns to training or evaluation
static lua_Integer settings;  // rises when an option of an optimizer changes

static Plan **check_plan(lua_State *L, int index) {
  Box *box = lua_touserdata(L, index);
  bool is = box && lua_getmetatable(L, index);
  if (is) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &plan_key);
    is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  if (!is || !box->plan) nb_raisef(L, "compile: needs a plan");
  return &box->plan;
}

static int collect(lua_State *L) {
  Box *box = lua_touserdata(L, 1);
  nb_plan_free(&box->plan);
  return 0;
}

// The tensors among the arguments from `first` on: how many, of which the list has MOST at the most.
static int tensors(lua_State *L, int first, Tensor **list) {
  int count = 0;
  for (int i = first; i <= lua_gettop(L); i++) {
    Tensor *t = nb_test_tensor(L, i);
    if (!t) continue;
    if (count < MOST) list[count] = t;
    count++;
  }
  return count;
}

// native.plan_begin(stand-in, ...): starts to record; the plan, or nil and why there is none.
static int begin(lua_State *L) {
  Error err;
  Tensor *t[MOST];
  int count = tensors(L, 1, t);
  if (count > MOST) {
    lua_pushnil(L);
    lua_pushfstring(L, "it takes %d tensors, and can take %d", count, MOST);
    return 2;
  }
  Box *box = lua_newuserdatauv(L, sizeof *box, LISTS);
  *box = (Box){.plan = NULL};
  lua_rawgetp(L, LUA_REGISTRYINDEX, &plan_key);
  lua_setmetatable(L, -2);
  if (!(box->plan = nb_plan_begin(t, count, &err))) return nb_raise(L, &err);
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
  bool fits = count <= MOST;
  bool ok = nb_plan_end(p, t, fits ? count : 0, &err);
  if (ok && !fits) ok = nb_fail(&err, NB_ERROR_ARGUMENT, "it returns %d tensors, and can return %d", count, MOST);
  return outcome(L, ok, &err);
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

// Replays a plan: its results, as tensors of their own.  The metatables of tensors and of scalars are at the stack
// indices given.
static int replay(lua_State *L, Plan *p, Tensor *const *inputs, int metatable, int of_scalars) {
  Error err;
  nb_enter(L);
  if (!nb_plan_run(p, inputs, &err)) return nb_raise(L, &err);
  int count = nb_plan_results(p);
  if (count > FEW) luaL_checkstack(L, count + FEW, "not enough memory");
  for (int i = 0; i < count; i++) {
    Tensor *result = nb_plan_result(p, i);
    if (result->layout.ndim == 0) {
      nb_push_scalar_of(L, of_scalars, result->layout.dtype, nb_tensor_data(result));
      continue;
    }
    Tensor **slot = nb_new_tensor_of(L, metatable);
    if (nb_layout_contiguous(&result->layout)) {
      if (!(*slot = nb_tensor_new(&result->layout, &err))) return nb_raise(L, &err);
      memcpy(nb_tensor_data(*slot), nb_tensor_data(result), (*slot)->storage->bytes);
    } else if (!nb_apply(nb_op_find("clone"), (Value[NB_MAX_PARAMS]){{.tensor = result}}, slot, &err)) {
      return nb_raise(L, &err);
    }
    nb_feed_collector(*slot);
  }
  return count;
}

// native.plan_run(plan, input, ...)
static int run(lua_State *L) {
  Tensor *t[MOST];
  tensors(L, 2, t);
  nb_push_metatable(L);
  nb_push_scalar_metatable(L);
  return replay(L, *check_plan(L, 1), t, lua_gettop(L) - 1, lua_gettop(L));
}

// ---- calling what is armed ----

// native.plan_arm(compiled, plan, function, seen, renew): from now on calls of `compiled` replay the plan at once where
// its arguments fit and nothing that the function sees has changed.  `seen` are the function's upvalues and their
// number n.  renew() is called when options of an optimizer have changed: it gives the plan its numbers and returns
// the lists among them, each followed by a copy, or nil when the plan does not serve any more.
static int arm(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  check_plan(L, 2);
  Box *box = lua_touserdata(L, 2);
  lua_settop(L, 5);
  lua_getfield(L, 4, "n");
  int n = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  box->seen = lua_newuserdatauv(L, (size_t)n * sizeof *box->seen + 1, 1);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 4, i + 1);
    box->seen[i] = lua_islightuserdata(L, -1) ? NULL : lua_topointer(L, -1);
    lua_pop(L, 1);
  }
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, 6, 1);
  lua_setiuservalue(L, 2, SEEN);
  lua_setiuservalue(L, 2, RENEW);
  lua_pop(L, 1);
  lua_setiuservalue(L, 2, FUNCTION);
  box->modes = modes;
  box->settings = settings - 1;
  lua_rawsetp(L, 1, &armed_key);
  return 0;
}

// native.plan_disarm(compiled)
static int disarm(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushnil(L);
  lua_rawsetp(L, 1, &armed_key);
  return 0;
}

// Whether what is on top, the function's ith upvalue, is the value seen.
static bool equals_seen(lua_State *L, int plan, int i) {
  lua_getiuservalue(L, plan, SEEN);
  lua_getiuservalue(L, -1, 1);
  lua_rawgeti(L, -1, i);
  bool same = lua_rawequal(L, -1, -4);
  lua_pop(L, 3);
  return same;
}

// Whether the values outside are those that the function has seen.
static bool sees_the_same(lua_State *L, int plan, const void *const *seen) {
  int f = lua_gettop(L) + 1;
  bool same = true;
  lua_getiuservalue(L, plan, FUNCTION);
  for (int i = 1; same && lua_getupvalue(L, f, i); i++, seen++) {
    same = *seen ? lua_topointer(L, -1) == *seen : equals_seen(L, plan, i);
    if (i % 8 == 0) lua_settop(L, f);
  }
  lua_settop(L, f - 1);
  return same;
}

// Whether the lists are still as their copies are.
static bool lists_the_same(lua_State *L, int plan) {
  int lists = lua_gettop(L) + 1;
  bool same = true;
  lua_getiuservalue(L, plan, LISTS);
  for (lua_Integer k = 1; same && lua_rawgeti(L, lists, k) == LUA_TTABLE; k += 2) {
    lua_rawgeti(L, lists, k + 1);
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    same = (lua_Integer)lua_rawlen(L, -2) == n;
    for (lua_Integer i = 1; same && i <= n; i++) {
      lua_rawgeti(L, lists + 1, i);
      lua_rawgeti(L, lists + 2, i);
      same = lua_rawequal(L, -1, -2);
      lua_pop(L, 2);
    }
    lua_settop(L, lists);
  }
  lua_settop(L, lists - 1);
  return same;
}

// Whether the plan has the numbers of its optimizers as they are now.
static bool renewed(lua_State *L, int plan, Box *box) {
  if (box->settings == settings && (!box->listed || lists_the_same(L, plan))) return true;
  lua_getiuservalue(L, plan, RENEW);
  lua_call(L, 0, 1);
  bool serves = lua_istable(L, -1);
  box->listed = serves && lua_rawlen(L, -1) > 0;
  if (serves) box->settings = settings;
  lua_setiuservalue(L, plan, LISTS);
  return serves;
}

static int pass_on(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  return lua_gettop(L);
}

// The __call of compiled functions; its upvalues are what else to call, compiled, argument, ..., and the metatables of
// tensors and of scalars.
static int call(lua_State *L) {
  Tensor *t[MOST];
  int count = lua_gettop(L) - 1;
  if (count >= 0 && count <= MOST && lua_istable(L, 1)) {
    lua_rawgetp(L, 1, &armed_key);
    Box *box = lua_touserdata(L, count + 2);
    bool fits = box && box->modes == modes && !nb_plan_recording() && !nb_is_heard(NB_OUTER);
    for (int i = 0; fits && i < count; i++) fits = (t[i] = nb_test_tensor(L, i + 2));
    if (fits && nb_plan_fits(box->plan, t, count) && sees_the_same(L, count + 2, box->seen) &&
        nb_plan_ready(box->plan) && renewed(L, count + 2, box)) {
      box->replays++;
      return replay(L, box->plan, t, lua_upvalueindex(2), lua_upvalueindex(3));
    }
    lua_settop(L, count + 1);
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_callk(L, count + 1, LUA_MULTRET, 0, pass_on);
  return pass_on(L, LUA_OK, 0);
}

// native.compiled_call(f): the __call of compiled functions, which calls f where no plan is armed
static int compiled_call(lua_State *L) {
  lua_settop(L, 1);
  nb_push_metatable(L);
  nb_push_scalar_metatable(L);
  lua_pushcclosure(L, call, 3);
  return 1;
}

// native.plan_replays(plan): how often it was replayed by calls of what it is armed for
static int replays(lua_State *L) {
  check_plan(L, 1);
  lua_pushinteger(L, ((const Box *)lua_touserdata(L, 1))->replays);
  return 1;
}

// native.change_modes(), native.modes()
static int change_modes(lua_State *L) {
  (void)L;
  modes++;
  return 0;
}

// native.change_options(): options of an optimizer change
static int change_options(lua_State *L) {
  (void)L;
  settings++;
  nb_tell_unrepeatable("it sets options of an optimizer; set them outside");
  return 0;
}

static int get_modes(lua_State *L) {
  lua_pushinteger(L, modes);
  return 1;
}

// ---- the rest ----

static int refuse(lua_State *L) {
  nb_tell_unrepeatable(luaL_checkstring(L, 1));
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

// native.plan_rule(plan, places, kind, ...): the numbers of the plan's optimizer steps in a list of places, which rise;
// whether they are such steps still.
static int plan_rule(lua_State *L) {
  Plan *p = *check_plan(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 14);
  OptimizerRule rule = nb_rule_at(L, 3);
  int count = (int)lua_rawlen(L, 2), *places = lua_newuserdatauv(L, (size_t)count * sizeof *places + 1, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 2, i + 1);
    places[i] = (int)lua_tointeger(L, -1) - 1;
    lua_pop(L, 1);
  }
  lua_pushboolean(L, nb_plan_set_rule(p, places, count, &rule, lua_toboolean(L, 4), lua_toboolean(L, 5)));
  return 1;
}

void nb_open_compile(lua_State *L) {
  static const luaL_Reg functions[] = {{"plan_begin", begin},
                                       {"plan_end", end},
                                       {"plan_same", same},
                                       {"plan_changed", changed},
                                       {"plan_finish", finish},
                                       {"plan_ready", ready},
                                       {"plan_run", run},
                                       {"plan_refuse", refuse},
                                       {"recording", recording},
                                       {"plan_stats", stats},
                                       {"plan_describe", describe},
                                       {"plan_rule", plan_rule},
                                       {"plan_arm", arm},
                                       {"plan_disarm", disarm},
                                       {"plan_replays", replays},
                                       {"compiled_call", compiled_call},
                                       {"change_modes", change_modes},
                                       {"modes", get_modes},
                                       {"change_options", change_options},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &plan_key);
}
