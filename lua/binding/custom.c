// SPDX-License-Identifier: MIT
// Operators written in Lua: a row made at run time whose forward and backward call Lua functions.
//
//   row ── params: the call's tensors, the call itself (an Object that the node keeps)
//   call ── held record in Lua: { definition, ctx, arguments, places, saved tensors with their versions and origin }
//
// What forward returns gets the node; the tensors that forward itself made and saved have no history, which matters for
// second derivatives alone: those refuse what they could only get wrong.
#include <string.h>

#include "callback.h"
#include "cycles.h"
#include "nablua/compose.h"
#include "nablua/memory.h"
#include "open.h"

enum { NAME = 64, FORWARD = 1, BACKWARD, CONTEXT };  // user values of a definition

// What a definition's userdata points at.  The userdata holds one reference, and each node another: a tape may outlive
// the definition, when an operator of that name is made again.
typedef struct Definition {
  Object object;
  Op op;
  char name[NAME];
} Definition;

typedef struct CustomCall {
  Object object;
  Held record;
  Layout out[NB_MAX_OUTPUTS];
} CustomCall;

// Places in a record.
enum { DEFINITION = 1, CTX, ARGUMENTS, PLACES, SAVED };
enum { ORIGIN_INPUT, ORIGIN_OUTPUT };  // of a saved tensor; outputs count up from here

static const char records_key;  // of a table: ctx → its record, as long as there is the ctx
static Backward *running;       // the innermost backward that is at work

static void destroy_definition(Object *object) {
  nb_free(object, sizeof(Definition));
}

static int collect_definition(lua_State *L) {
  Definition **d = nb_collected_by(L, 1, collect_definition);
  if (!d || !*d) return 0;
  Object *object = &(*d)->object;
  *d = NULL;
  nb_object_release(&object);
  return 0;
}

static Definition *definition_at(lua_State *L, int index) {
  Definition **d = nb_collected_by(L, index, collect_definition);
  if (!d || !*d) nb_raisef(L, "this operator was taken away");
  return *d;
}

static void destroy_call(Object *object) {
  CustomCall *call = (CustomCall *)object;
  nb_let_go(call->record);
  nb_free(call, sizeof *call);
}

static int held_by_call(const Object *object) {
  return object->destroy == destroy_call ? ((const CustomCall *)(const void *)object)->record.ref : 0;
}

// Pushes the record of a call.
static void push_record_of(lua_State *L, const CustomCall *call) {
  nb_push_held(L, call->record);
  if (!lua_istable(L, -1)) nb_raisef(L, "this tape is garbage; a finalizer cannot walk over it");
}

// ---- ctx ----

// Pushes the record of the ctx at index 1.
static void push_record(lua_State *L, const char *where) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &records_key);
  lua_pushvalue(L, 1);
  if (!lua_istable(L, 1) || lua_rawget(L, -2) != LUA_TTABLE)
    nb_raisef(L, "%s: is a method of ctx: ctx:%s(...)", where, where);
  lua_remove(L, -2);
}

// ctx:save(...): a list of {tensor, version} for each tensor, false for nil.
static int save(lua_State *L) {
  int n = lua_gettop(L) - 1;
  push_record(L, "save");
  lua_createtable(L, n, 1);
  for (int i = 1; i <= n; i++) {
    if (lua_isnil(L, i + 1)) {
      lua_pushboolean(L, 0);
    } else {
      Tensor *t = nb_test_tensor(L, i + 1);
      if (!t)
        return nb_raisef(L, "save: value %d must be a tensor, got %s; keep others in fields: ctx.size = n", i,
                         nb_kind_of(L, i + 1));
      lua_createtable(L, 3, 0);
      lua_pushvalue(L, i + 1);
      lua_rawseti(L, -2, 1);
      lua_pushinteger(L, t->storage->version);
      lua_rawseti(L, -2, 2);
    }
    lua_rawseti(L, -2, i);
  }
  lua_rawseti(L, -2, SAVED);
  return 0;
}

static bool is_float(const Tensor *t) {
  return nb_dtype_is_float(t->layout.dtype);
}

// Whether the backward at work is that of the call whose record is at the index.
static bool is_running(lua_State *L, int record) {
  if (!running) return false;
  push_record_of(L, (const CustomCall *)nb_arg(running, 1)->object);
  bool is = lua_rawequal(L, -1, record);
  lua_pop(L, 1);
  return is;
}

// A saved output that knows where it came from.
static void push_linked(lua_State *L, const Tensor *t, int output) {
  Error err;
  Tensor *y = nb_tensor_alias(t, &t->layout, &err);
  if (!y) nb_raise(L, &err);
  y->node = nb_node_retain(running->node);
  y->output = output;
  nb_push_tensor(L, y);
}

// ctx:saved(): the tensors in the order of ctx:save.
static int saved(lua_State *L) {
  lua_settop(L, 1);
  push_record(L, "saved");
  if (lua_rawgeti(L, 2, SAVED) != LUA_TTABLE)
    return nb_raisef(L, "saved: forward saved nothing; call ctx:save(...) there");
  int n = (int)lua_rawlen(L, 3);
  luaL_checkstack(L, n + 6, NULL);
  lua_rawgeti(L, 2, DEFINITION);
  const char *name = definition_at(L, 4)->name;
  bool recorded = is_running(L, 2) && nb_grad_enabled();
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, 3, i) == LUA_TBOOLEAN) {
      lua_pop(L, 1);
      lua_pushnil(L);
      continue;
    }
    int entry = lua_gettop(L);
    lua_rawgeti(L, entry, 1);
    lua_rawgeti(L, entry, 2);
    Tensor *t = nb_check_tensor(L, entry + 1);
    if (lua_tointeger(L, -1) != t->storage->version)
      return nb_raisef(L,
                       "%s: the saved tensor %d was changed in place later, at %s:%d; use the form that makes a new "
                       "tensor there, or save a :clone()",
                       name, i, t->storage->written.source ? t->storage->written.source : "?",
                       t->storage->written.line);
    lua_pop(L, 1);
    bool linked = recorded && is_float(t);
    bool known = lua_rawgeti(L, entry, 3) == LUA_TNUMBER;
    int origin = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (linked && !known)
      return nb_raisef(L,
                       "%s: the saved tensor %d was made within forward, so a second derivative cannot go through it; "
                       "save the arguments and compute it again in backward",
                       name, i);
    if (linked && origin >= ORIGIN_OUTPUT) {
      lua_pop(L, 1);
      push_linked(L, t, origin - ORIGIN_OUTPUT);
    }
    lua_remove(L, entry);
  }
  return n;
}

// ---- forward ----

// Notes of each saved tensor whether it is an argument or a result.
static void note_origins(lua_State *L, int record, int results, const Call *c) {
  if (lua_rawgeti(L, record, SAVED) == LUA_TTABLE) {
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
      if (lua_rawgeti(L, -1, i) == LUA_TTABLE) {
        lua_rawgeti(L, -1, 1);
        const Tensor *t = nb_test_tensor(L, -1);
        lua_pop(L, 1);
        int origin = -1;
        for (int k = 0; k < c->args[0].tensors.count; k++)
          if (c->args[0].tensors.items[k] == t) origin = ORIGIN_INPUT;
        for (int k = 0; origin < 0 && k < c->op->outputs; k++)
          if (nb_test_tensor(L, results + k) == t) origin = ORIGIN_OUTPUT + k;
        if (origin >= 0) {
          lua_pushinteger(L, origin);
          lua_rawseti(L, -2, 3);
        }
      }
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

static int call_forward(lua_State *L) {
  Error err;
  Call *c = lua_touserdata(L, 1);
  CustomCall *call = (CustomCall *)c->args[1].object;
  push_record_of(L, call);        // 2
  lua_rawgeti(L, 2, DEFINITION);  // 3
  lua_rawgeti(L, 2, ARGUMENTS);   // 4
  lua_Integer n = (lua_rawgeti(L, 4, 0), lua_tointeger(L, -1));
  lua_pop(L, 1);
  luaL_checkstack(L, (int)n + 10, "too many arguments");
  lua_getiuservalue(L, 3, FORWARD);
  lua_rawgeti(L, 2, CTX);
  for (lua_Integer i = 1; i <= n; i++) lua_rawgeti(L, 4, i);
  lua_call(L, (int)n + 1, LUA_MULTRET);
  int results = lua_gettop(L) - 4;
  if (results != c->op->outputs)
    return nb_raisef(L, "%s: forward must return %d tensor%s, got %d value%s", c->op->name, c->op->outputs,
                     c->op->outputs == 1 ? "" : "s", results, results == 1 ? "" : "s");
  for (int i = 0; i < results; i++) {
    if (!nb_test_tensor(L, 5 + i))
      return nb_raisef(L, "%s: forward must return tensors, got %s as value %d", c->op->name, nb_kind_of(L, 5 + i),
                       i + 1);
  }
  note_origins(L, 2, 5, c);
  lua_pushnil(L);
  lua_rawseti(L, 2, ARGUMENTS);
  for (int i = 0; i < results; i++) {
    Tensor *t = nb_test_tensor(L, 5 + i);
    c->out[i] = nb_tensor_alias(t, &t->layout, &err);
    if (!c->out[i]) return nb_raise(L, &err);
    call->out[i] = t->layout;
  }
  return 0;
}

static bool forward(Call *c, Error *err) {
  return nb_call_lua(call_forward, c, err);
}

static bool any_shape(Call *c, Error *err) {
  (void)c;
  (void)err;
  return true;
}

// ---- backward ----

// The gradient of output i, zeros where none came; nil of whole numbers.
static void push_gradient(lua_State *L, Backward *b, const CustomCall *call, int i) {
  if (!nb_dtype_is_float(call->out[i].dtype)) {
    lua_pushnil(L);
    return;
  }
  Tensor *g = b->grad[i] ? b->grad[i] : nb_full(b->scope, &call->out[i], 0);
  if (g &&
      (g->refs > 1 || g->storage->refs > 1 || g->requires_grad)) {  // somebody else's, whatever the rule does to it
    g = nb_unary(b->scope, "clone", g);
    if (b->grad[i]) b->grad[i] = g;
  }
  if (!g) nb_raise(L, b->scope->err);
  nb_push_tensor(L, nb_tensor_retain(g));
}

static void give(lua_State *L, Backward *b, int place, int argument, int index) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  const char *name = b->node->op->name;
  Tensor *g = nb_test_tensor(L, index);
  if (!g)
    nb_raisef(L, "%s: backward must return a tensor or nil for each argument, got %s for argument %d", name,
              nb_kind_of(L, index), argument);
  const Layout *l = &g->layout, *x = &nb_in_list(b, 0, place)->layout;
  bool same = l->ndim == x->ndim;
  for (int d = 0; same && d < l->ndim; d++) same = l->shape[d] == x->shape[d];
  if (!same)
    nb_raisef(L, "%s: backward returned a gradient of shape %s for argument %d, which has shape %s", name,
              nb_shape_text(l, have), argument, nb_shape_text(x, want));
  if (nb_wants_list(b, 0, place) && !nb_give_list(b, 0, place, g)) nb_raise(L, b->scope->err);
}

static int call_backward(lua_State *L) {
  Backward *b = lua_touserdata(L, 1);
  const Op *op = b->node->op;
  const CustomCall *call = (const CustomCall *)nb_arg(b, 1)->object;
  uint32_t versions[NB_MAX_OUTPUTS] = {0};
  push_record_of(L, call);        // 2
  lua_rawgeti(L, 2, DEFINITION);  // 3
  lua_rawgeti(L, 2, PLACES);      // 4
  lua_getiuservalue(L, 3, BACKWARD);
  lua_rawgeti(L, 2, CTX);
  for (int i = 0; i < op->outputs; i++) {
    push_gradient(L, b, call, i);
    if (b->grad[i]) versions[i] = b->grad[i]->storage->version;
  }
  lua_call(L, op->outputs + 1, LUA_MULTRET);
  for (int i = 0; i < op->outputs; i++)
    if (b->grad[i] && b->grad[i]->storage->version != versions[i])
      return nb_raisef(L, "%s: backward changed its gradient in place; make a new tensor there", op->name);
  int results = lua_gettop(L) - 4;
  for (int i = 1; i <= results; i++) {
    if (lua_isnil(L, 4 + i)) continue;
    if (lua_rawgeti(L, 4, i) != LUA_TNUMBER)
      return nb_raisef(L,
                       "%s: backward returned a gradient for argument %d, which is no tensor; return nil in its place",
                       op->name, i);
    int place = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    give(L, b, place, i, 4 + i);
  }
  return 0;
}

static bool backward(Backward *b) {
  Backward *before = running;
  running = b;
  bool ok = nb_call_lua(call_backward, b, b->scope->err);
  running = before;
  return ok;
}

// ---- calls ----

// A tensor within a table would get no gradient, silently.
static void refuse_hidden(lua_State *L, const Definition *d, int index) {
  lua_pushnil(L);
  while (lua_next(L, index)) {
    Tensor *t = nb_test_tensor(L, -1);
    if (t && nb_tensor_tracked(t) && nb_grad_enabled())
      nb_raisef(L, "%s: argument %d is a table with a tensor that requires grad; pass such tensors as arguments",
                d->name, index);
    lua_pop(L, 1);
  }
}

// f(...): upvalue 1 is the definition.
static int call_custom(lua_State *L) {
  Error err;
  int n = lua_gettop(L), count = 0;
  const Definition *d = definition_at(L, lua_upvalueindex(1));
  Tensor *out[NB_MAX_OUTPUTS], **slots[NB_MAX_OUTPUTS];
  luaL_checkstack(L, 20, NULL);
  nb_cycles_pace(L);
  Tensor **items = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *items, 0);
  lua_createtable(L, SAVED, 0);
  int record = lua_gettop(L);
  lua_createtable(L, n, 1);  // arguments
  lua_createtable(L, n, 0);  // places
  for (int i = 1; i <= n; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, record + 1, i);
    if (lua_istable(L, i)) refuse_hidden(L, d, i);
    items[count] = nb_test_tensor(L, i);
    if (!items[count]) continue;
    nb_note_box(L, i);
    lua_pushinteger(L, count++);
    lua_rawseti(L, record + 2, i);
  }
  lua_rawseti(L, record, PLACES);
  lua_pushinteger(L, n);
  lua_rawseti(L, record + 1, 0);
  lua_rawseti(L, record, ARGUMENTS);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_rawseti(L, record, DEFINITION);
  lua_newtable(L);  // ctx
  lua_getiuservalue(L, lua_upvalueindex(1), CONTEXT);
  lua_setmetatable(L, -2);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &records_key);
  lua_pushvalue(L, -2);
  lua_pushvalue(L, record);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  lua_rawseti(L, record, CTX);
  for (int i = 0; i < d->op.outputs; i++) slots[i] = nb_new_tensor(L);
  lua_pushvalue(L, record);
  Held held = nb_hold(L);
  CustomCall *call = nb_alloc(sizeof *call, &err);
  if (!call) {
    nb_let_go(held);
    return nb_raise(L, &err);
  }
  *call = (CustomCall){.object = {1, destroy_call}, .record = held};
  Object *object = &call->object;
  nb_enter(L);
  bool ok = nb_apply(&d->op, (Value[NB_MAX_PARAMS]){{.tensors = {items, count}}, {.object = object}}, out, &err);
  nb_object_release(&object);
  if (!ok) return nb_raise(L, &err);
  for (int i = 0; i < d->op.outputs; i++) *slots[i] = out[i];
  for (int i = 0; i < d->op.outputs; i++) nb_feed_collector(out[i]);
  return d->op.outputs;
}

// native.custom(name, outputs, forward, backward or nil): the operator's function.
static int custom(lua_State *L) {
  Error err;
  const char *name = luaL_checkstring(L, 1);
  lua_Integer outputs = luaL_checkinteger(L, 2);
  lua_settop(L, 4);
  luaL_argcheck(L, outputs >= 1 && outputs <= NB_MAX_OUTPUTS, 2, "too many outputs");
  Definition **slot = lua_newuserdatauv(L, sizeof *slot, CONTEXT);
  *slot = NULL;
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect_definition);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  Definition *d = *slot = nb_alloc(sizeof *d, &err);
  if (!d) return nb_raise(L, &err);
  d->object = (Object){1, destroy_definition};
  strncpy(d->name, name, NAME - 1);
  d->name[NAME - 1] = '\0';
  d->op = (Op){.name = d->name,
               .doc = "an operator written in Lua",
               .derivative = "as its backward says",
               .params = {{.name = "inputs", .kind = NB_PARAM_TENSORS}, {.name = "call", .kind = NB_PARAM_OBJECT}},
               .outputs = (int)outputs,
               .dynamic = true,
               .shape = any_shape,
               .forward = forward,
               .backward = lua_isnil(L, 4) ? NULL : backward,
               .life = &d->object};
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 5, FORWARD);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, 5, BACKWARD);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushcfunction(L, save);
  lua_setfield(L, -2, "save");
  lua_pushcfunction(L, saved);
  lua_setfield(L, -2, "saved");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "ctx");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setiuservalue(L, 5, CONTEXT);
  lua_pushcclosure(L, call_custom, 1);
  return 1;
}

void nb_open_custom(lua_State *L) {
  nb_held_kinds.of_object = held_by_call;
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &records_key);
  lua_pushcfunction(L, custom);
  lua_setfield(L, -2, "custom");
}
