// SPDX-License-Identifier: MIT
// Plans as userdata, for lua/compile.lua.
#include <string.h>

#include "binding.h"
#include "doings.h"
#include "flags.h"
#include "guard.h"
#include "inspect.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "nablua/optimize.h"
#include "nablua/plan.h"
#include "nablua/tape.h"
#include "open.h"
#include "optimizer.h"
#include "traces.h"

static const char plan_key, armed_key;
enum { MOST = 16, FEW = 4 };  // tensors; so few results have room on any stack

// A plan as Lua holds it.  One that is kept knows when it may be replayed: its uservalues are the guard over what the
// function finds outside, a function that renews the numbers of its optimizers, and the lists among their options, each
// followed by a copy.
enum { GUARD = 1, RENEW, LISTS };
typedef struct PlanBox {
  Plan *plan;  // NULL once it has given way
  const Guard *guard;
  lua_Integer hooks, flags, settings;  // the counts below, when it was last looked at
  lua_Integer replays, used;           // how often; when last, by `clock`
  bool grad, listed;                   // gradients were recorded; there are LISTS
  struct PlanBox *before, *after;      // among those that are kept
} PlanBox;

static struct {
  PlanBox *first;
  const PlanBox *running;  // is being replayed, or failed while it was
  size_t bytes;
  lua_Integer clock;
} kept;

static bool held;             // no plan is replayed without asking Lua
static lua_Integer replayed;  // how often plans were, in all

// Counts of what is not looked at, but written to in ways of its own.
static lua_Integer hooks;     // hooks of modules come and go
static lua_Integer settings;  // options of an optimizer change

static int collect(lua_State *L);

static Plan **check_plan(lua_State *L, int index) {
  PlanBox *box = nb_collected_by(L, index, collect);
  if (!box || !box->plan) nb_raisef(L, "compile: needs a plan");
  return &box->plan;
}

// ---- giving way ----

static void forget(PlanBox *box) {
  if (kept.running == box) kept.running = NULL;
  if (!box->plan) return;
  if (box == kept.first || box->before) {
    *(box->before ? &box->before->after : &kept.first) = box->after;
    if (box->after) box->after->before = box->before;
    box->before = box->after = NULL;
    kept.bytes -= nb_plan_bytes(box->plan);
  }
  nb_plan_free(&box->plan);
}

// Frees the plan that was not used for the longest time; false when there is none to free.
static bool give_way(void) {
  PlanBox *oldest = NULL;
  for (PlanBox *b = kept.first; b; b = b->after)
    if (b != kept.running && (!oldest || b->used < oldest->used)) oldest = b;
  if (!oldest) return false;
  nb_trace_plan("dropped: its %zu bytes are needed", nb_plan_bytes(oldest->plan));
  forget(oldest);
  return true;
}

// All plans together may have a quarter of the memory; the newest stays, however large.
static void keep(PlanBox *box) {
  box->before = NULL;
  box->after = kept.first;
  if (kept.first) kept.first->before = box;
  kept.first = box;
  kept.bytes += nb_plan_bytes(box->plan);
  box->used = ++kept.clock;
  while (kept.bytes > nb_memory_stats().limit / 4 && kept.first->after && give_way()) {
  }
}

static int collect(lua_State *L) {
  PlanBox *box = nb_collected_by(L, 1, collect);
  if (box) forget(box);
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
  PlanBox *box = lua_newuserdatauv(L, sizeof *box, LISTS);
  *box = (PlanBox){.plan = NULL};
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

// Replays a plan: its results, as tensors of their own.  The metatables of tensors and of scalars are at the stack
// indices given.
static int replay(lua_State *L, PlanBox *box, Tensor *const *inputs, int metatable, int of_scalars) {
  Error err;
  Plan *p = box->plan;
  nb_enter(L);
  box->used = ++kept.clock;
  kept.running = box;
  if (!nb_plan_run(p, inputs, &err)) return nb_raise(L, &err);
  nb_trace_plan("replayed %d steps", nb_plan_stats(p).steps);
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
  kept.running = NULL;
  replayed++;
  return count;
}

// native.plan_run(plan, input, ...)
static int run(lua_State *L) {
  Tensor *t[MOST];
  tensors(L, 2, t);
  nb_push_metatable(L);
  nb_push_scalar_metatable(L);
  check_plan(L, 1);
  return replay(L, lua_touserdata(L, 1), t, lua_gettop(L) - 1, lua_gettop(L));
}

// ---- may it be replayed? ----

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
static bool renewed(lua_State *L, int plan, PlanBox *box) {
  if (box->settings == settings && (!box->listed || lists_the_same(L, plan))) return true;
  lua_getiuservalue(L, plan, RENEW);
  lua_call(L, 0, 1);
  bool serves = lua_istable(L, -1);
  box->listed = serves && lua_rawlen(L, -1) > 0;
  box->settings = serves ? settings : settings - 1;  // else it is asked again the next time
  lua_setiuservalue(L, plan, LISTS);
  return serves;
}

// Whether the tensors that the plan found outside still require grad as they did, and call no hooks.
static bool flags_the_same(PlanBox *box) {
  if (box->flags == nb_flags_noted()) return true;
  if (!nb_plan_leaves_same(box->plan)) return false;
  box->flags = nb_flags_noted();
  return true;
}

// What keeps a plan from being replayed with these tensors now, as a clause; NULL: nothing but what its guard sees.
static const char *obstacle(lua_State *L, PlanBox *box, Tensor *const *t, int count) {
  if (!box->plan || !box->guard) return "it is no plan any more";
  if (box->hooks != hooks) return "hooks of modules came or went";
  if (box->grad != nb_grad_enabled()) return "gradients are switched otherwise";
  if (nb_plan_recording()) return "another is being recorded";
  if (nb_observed(L)) return "somebody watches what is applied";
  if (nb_profiled()) return "a profile counts what is applied";
  if (!nb_plan_fits(box->plan, t, count)) return "its arguments are of other kinds";
  if (!flags_the_same(box)) return "tensors outside require grad or have hooks otherwise";
  if (!nb_plan_ready(box->plan)) return "gradients of leaves are there or not, otherwise";
  return NULL;
}

// Whether a plan, which is at a stack index, does what its function would do with these tensors now.  `closer`: the
// order of a table's fields may have changed.
static bool may_replay(lua_State *L, int index, Tensor *const *t, int count, bool closer) {
  PlanBox *box = lua_touserdata(L, index);
  const char *clause = obstacle(L, box, t, count);
  if (clause) {
    if (closer) nb_trace_plan("not replayed: %s", clause);
    return false;
  }
  if (!nb_guard_holds(box->guard)) {
    if (!closer) return false;
    lua_getiuservalue(L, index, GUARD);
    bool same = nb_guard_holds_all(L, lua_gettop(L));
    if (!same) nb_trace_plan("not replayed: %s is another", lua_tostring(L, -1));
    lua_settop(L, lua_gettop(L) - (same ? 1 : 2));
    if (!same) return false;
  }
  if (renewed(L, index, box)) return true;
  nb_trace_plan("not replayed: its optimizers take other steps");
  return false;
}

// native.plan_serves(plan, input, ...): whether the plan may be replayed.
static int serves(lua_State *L) {
  Tensor *t[MOST];
  int count = tensors(L, 2, t);
  lua_pushboolean(L, may_replay(L, 1, t, count, true));
  return 1;
}

// ---- calling ----

// native.plan_keep(plan, guard, renew): finishes a plan, which may be replayed from now on.  renew() is called when
// options of an optimizer have changed: it gives the plan its numbers and returns the lists among them, each followed
// by a copy, or nil when the plan does not serve any more.
static int keep_plan(lua_State *L) {
  Error err;
  check_plan(L, 1);
  PlanBox *box = lua_touserdata(L, 1);
  lua_settop(L, 3);
  if (!nb_plan_finish(box->plan, &err)) return nb_raise(L, &err);
  box->guard = lua_touserdata(L, 2);
  box->hooks = hooks;
  box->flags = nb_flags_noted() - 1;
  box->settings = settings - 1;
  box->grad = nb_grad_enabled();
  lua_setiuservalue(L, 1, RENEW);
  lua_setiuservalue(L, 1, GUARD);
  keep(box);
  return 0;
}

// native.plan_arm(compiled, plan): from now on calls of `compiled` replay the plan at once where it serves; nil: none.
static int arm(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) check_plan(L, 2);
  lua_rawsetp(L, 1, &armed_key);
  return 0;
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
    PlanBox *box = lua_touserdata(L, count + 2);
    bool fits = box && !held;
    for (int i = 0; fits && i < count; i++) fits = (t[i] = nb_test_tensor(L, i + 2));
    if (fits && may_replay(L, count + 2, t, count, false)) {
      box->replays++;
      return replay(L, box, t, lua_upvalueindex(2), lua_upvalueindex(3));
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

// native.compiled_function(compiled, f): f is what it stands for.
static int compiled_function(lua_State *L) {
  lua_settop(L, 2);
  lua_rawsetp(L, 1, nb_guard_function_key());
  return 0;
}

// native.plan_replays(plan): how often it was replayed by calls of what it is armed for
static int replays(lua_State *L) {
  lua_pushinteger(L, ((const PlanBox *)lua_touserdata(L, 1))->replays);
  return 1;
}

// native.plans_replayed(): how often plans were replayed since the beginning.
static int plans_replayed(lua_State *L) {
  lua_pushinteger(L, replayed);
  return 1;
}

// native.plans_hold(hold): whether each call of a compiled function asks Lua.
static int plans_hold(lua_State *L) {
  held = lua_toboolean(L, 1);
  return 0;
}

// native.plan_used(plan): a number that is higher for plans used later; nil when it has given way.
static int used(lua_State *L) {
  const PlanBox *box = lua_touserdata(L, 1);
  if (!box->plan) return 0;
  lua_pushinteger(L, box->used);
  return 1;
}

static int drop(lua_State *L) {
  forget(lua_touserdata(L, 1));
  return 0;
}

// native.change_hooks(): hooks of modules come or go
static int change_hooks(lua_State *L) {
  (void)L;
  hooks++;
  return 0;
}

// native.guard(f, roots): a guard, or nil and a clause.
static int guard(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 2);
  if (nb_push_guard(L, 1, lua_istable(L, 2) ? 2 : 0)) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

// native.guard_holds(guard): true, or false and the name of what is another.
static int guard_holds(lua_State *L) {
  bool same = nb_guard_holds_all(L, 1);
  lua_pushboolean(L, same);
  if (!same) lua_insert(L, -2);
  return same ? 1 : 2;
}

// native.doings_watch(called): what native.doings_leave is given.
static int doings_watch(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  nb_doings_watch(L, 1);
  return 1;
}

static int doings_leave(lua_State *L) {
  luaL_checktype(L, 1, LUA_TUSERDATA);
  lua_pushboolean(L, nb_doings_leave(L, 1));
  return 1;
}

// native.plan_idle(list): an optimizer has passed over those in a list of tensors that have no gradient; the plan
// serves as long as they have none.
static int idle(lua_State *L) {
  for (lua_Integer i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL; i++, lua_settop(L, 1)) {
    Tensor *t = nb_test_tensor(L, -1);
    if (t && !t->grad) nb_tell_deposited(t, NULL, false);
  }
  return 0;
}

// native.change_options(): options of an optimizer change
static int change_options(lua_State *L) {
  (void)L;
  settings++;
  nb_tell_unrepeatable("it sets options of an optimizer; set them outside");
  return 0;
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
                                       {"plan_run", run},
                                       {"plan_refuse", refuse},
                                       {"recording", recording},
                                       {"plan_stats", stats},
                                       {"plan_describe", describe},
                                       {"plan_rule", plan_rule},
                                       {"plan_keep", keep_plan},
                                       {"plan_serves", serves},
                                       {"plan_used", used},
                                       {"plans_replayed", plans_replayed},
                                       {"plans_hold", plans_hold},
                                       {"plan_drop", drop},
                                       {"plan_arm", arm},
                                       {"plan_idle", idle},
                                       {"guard", guard},
                                       {"guard_holds", guard_holds},
                                       {"doings_watch", doings_watch},
                                       {"doings_leave", doings_leave},
                                       {"compiled_function", compiled_function},
                                       {"change_hooks", change_hooks},
                                       {"plan_replays", replays},
                                       {"compiled_call", compiled_call},
                                       {"change_options", change_options},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  nb_open_guard(L);
  nb_open_doings(L);
  nb_memory_on_need(give_way);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &plan_key);
}
