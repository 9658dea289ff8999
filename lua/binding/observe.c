// SPDX-License-Identifier: MIT
// Telling a Lua function what the user applies and what backward rules give: inspection's ear.
#include "arguments.h"
#include "callback.h"
#include "inspect.h"
#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/tape.h"
#include "open.h"
#include "visits.h"

static const char handler_key, observer_key;  // the function, and who asked, in a weak table

// What happened; the union of what a listener of the outer voice is told.
typedef struct Event {
  const char *kind;
  Tensor *target;
  const Applied *call;
  Node *node;
  Tensor *const *grad, *const *given;
} Event;

void nb_push_tensors(lua_State *L, Tensor *const *list, int count) {
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    if (list[i])
      nb_push_tensor(L, nb_tensor_retain(list[i]));
    else
      lua_pushboolean(L, 0);
    lua_rawseti(L, -2, i + 1);
  }
}

static void push_input(lua_State *L, const Param *p, Tensor *t, int place) {
  lua_createtable(L, 0, 3);
  lua_pushstring(L, p->name);
  lua_setfield(L, -2, "param");
  nb_push_tensor(L, nb_tensor_retain(t));
  lua_setfield(L, -2, "value");
  nb_push_id(L, t);
  lua_setfield(L, -2, "id");
  lua_rawseti(L, -2, place);
}

// Tensors by the place that their parameter has among those that hold tensors.
static void push_inputs(lua_State *L, const Applied *a) {
  lua_newtable(L);
  for (TensorWalk w = nb_tensors_of(a->op, a->args); nb_next_tensor(&w);) push_input(L, w.of, *w.slot, w.edge + 1);
}

void nb_push_applied(lua_State *L, const Applied *a) {
  const Op *op = a->op;
  push_inputs(L, a);
  lua_setfield(L, -2, "inputs");
  lua_newtable(L);
  for (int i = 0; i < nb_op_params(op); i++) {
    Tensor **list;
    if (nb_arg_is_plain(&op->params[i], &a->args[i]))
      lua_pushnumber(L, a->args[i].plain);
    else if (nb_arg_tensors(&op->params[i], &a->args[i], &list))
      continue;
    else
      nb_arg_faces[op->params[i].kind].push(L, &op->params[i], &a->args[i]);
    lua_setfield(L, -2, op->params[i].name);
  }
  lua_setfield(L, -2, "args");
  nb_push_tensors(L, a->out, a->count);
  lua_setfield(L, -2, "outputs");
  nb_push_modules(L);
  lua_setfield(L, -2, "modules");
  nb_set_site(L, nb_site_now());
  lua_pushstring(L, op->name);
  lua_setfield(L, -2, "op");
  lua_pushboolean(L, a->in_place);
  lua_setfield(L, -2, "in_place");
  if (!a->out[0]->node) return;
  lua_pushinteger(L, (lua_Integer)a->out[0]->node->order);
  lua_setfield(L, -2, "order");
}

static int deliver(lua_State *L) {
  const Event *e = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key);
  lua_createtable(L, 0, 8);
  lua_pushstring(L, e->kind);
  lua_setfield(L, -2, "kind");
  if (e->target) {
    nb_push_tensor(L, nb_tensor_retain(e->target));
    lua_setfield(L, -2, "target");
  } else if (e->node) {
    lua_pushinteger(L, (lua_Integer)e->node->order);
    lua_setfield(L, -2, "order");
    nb_push_tensors(L, e->grad, NB_MAX_OUTPUTS);
    lua_setfield(L, -2, "grads");
    nb_push_tensors(L, e->given, e->node->edge_count);
    lua_setfield(L, -2, "given");
  } else {
    nb_push_applied(L, e->call);
  }
  lua_call(L, 1, 0);
  return 0;
}

// ---- listening ----

// A coroutine that observes and has yielded, or was dropped where it stood, sees nothing of what others do.
static bool is_awake(lua_State *L) {
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &observer_key);
  bool awake = lua_istable(L, -1) && lua_rawgeti(L, -1, 1) == LUA_TTHREAD && lua_status(lua_tothread(L, -1)) == LUA_OK;
  lua_settop(L, top);
  return awake;
}

static bool tell(Event e, Error *err) {
  lua_State *L = nb_entered();
  return (L && lua_checkstack(L, 4) && !is_awake(L)) || nb_call_lua(deliver, &e, err);
}

static bool on_writing(void *user, Tensor *target, Error *err) {
  (void)user;
  return tell((Event){.kind = "write", .target = target}, err);
}

static bool on_applied(void *user, const Applied *a, Error *err) {
  (void)user;
  return tell((Event){.kind = "apply", .call = a}, err);
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  (void)user;
  return tell((Event){.kind = "backward", .node = n, .grad = grad, .given = given}, err);
}

static bool takes_fused;  // who observes wants operators as they run unobserved, not parts

static Listener ear = {.voice = NB_OUTER, .writing = on_writing, .applied = on_applied, .visited = on_visited};

// native.observe(f, fused): f is called with an event for every operator and backward rule; nil ends it.  With `fused`
// layers do not take themselves apart for who looks.
static int observe(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
  takes_fused = lua_toboolean(L, 2);
  lua_settop(L, 1);
  if (lua_isnil(L, 1)) {
    nb_unlisten(&ear);
  } else {
    nb_tell_unrepeatable("it looks at single operators");
    lua_createtable(L, 1, 0);
    lua_pushthread(L);
    lua_rawseti(L, 2, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &observer_key);
    nb_listen(&ear);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
  return 0;
}

void nb_observe_aside(lua_State *V) {
  bool listens = false;
  for (const Listener *l = nb_voices.list[NB_OUTER]; l; l = l->next) listens = listens || l == &ear;
  if (listens) nb_unlisten(&ear);
  lua_pushboolean(V, takes_fused);
  lua_pushboolean(V, listens);
  lua_rawgetp(V, LUA_REGISTRYINDEX, &observer_key);
  lua_rawgetp(V, LUA_REGISTRYINDEX, &handler_key);
}

void nb_observe_back(lua_State *V) {
  lua_rawsetp(V, LUA_REGISTRYINDEX, &handler_key);
  lua_rawsetp(V, LUA_REGISTRYINDEX, &observer_key);
  if (lua_toboolean(V, -1)) nb_listen(&ear);
  takes_fused = lua_toboolean(V, -2);
  lua_pop(V, 2);
}

bool nb_observed(lua_State *L) {
  if (!nb_is_heard(NB_OUTER)) return false;
  for (const Listener *l = nb_voices.list[NB_OUTER]; l; l = l->next)
    if (l != &ear) return true;
  if (is_awake(L)) return true;
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &observer_key);
  if (lua_rawgeti(L, -1, 1) == LUA_TNIL) nb_unlisten(&ear);  // it was collected
  lua_settop(L, top);
  return false;
}

// native.observed(): whether somebody looks at single operators, for which layers take themselves apart.
static int observed(lua_State *L) {
  lua_pushboolean(L, !takes_fused && nb_observed(L));
  return 1;
}

void nb_open_observe(lua_State *L) {
  static const luaL_Reg functions[] = {{"observe", observe}, {"observed", observed}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
