// SPDX-License-Identifier: MIT
// The tape as Lua tables, and single backward rules: what explain, step, graphs and diagrams read.
//
// native.tape(t) is a list of the nodes behind t in order of creation; docs of its fields are in
// lua/inspect/tape.lua.  A node's field `node` is a userdata that holds one reference.
#include "inspect.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "binding.h"
#include "nablua/args.h"
#include "nablua/random.h"
#include "nablua/tape.h"
#include "open.h"

static const char *const node_name = "tape node";

static int collect_node(lua_State *L) {
  nb_node_release(luaL_checkudata(L, 1, node_name));
  return 0;
}

void nb_push_node(lua_State *L, Node *n) {
  Node **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, node_name);
  *slot = nb_node_retain(n);
}

static Node *check_node(lua_State *L, int index) {
  Node **slot = luaL_testudata(L, index, node_name);
  if (!slot || !*slot) nb_raisef(L, "argument %d must be a node of a tape, got %s", index, nb_kind_of(L, index));
  return *slot;
}

// ---- reading ----

static void push_shape(lua_State *L, const Layout *l) {
  lua_createtable(L, l->ndim, 0);
  for (int d = 0; d < l->ndim; d++) {
    lua_pushinteger(L, l->shape[d]);
    lua_rawseti(L, -2, d + 1);
  }
}

static void set_shape(lua_State *L, const Layout *l) {
  push_shape(L, l);
  lua_setfield(L, -2, "shape");
  lua_pushstring(L, nb_dtype_name(l->dtype));
  lua_setfield(L, -2, "dtype");
}

void nb_set_site(lua_State *L, Site site) {
  if (!site.source) return;
  lua_pushstring(L, site.source);
  lua_setfield(L, -2, "source");
  lua_pushinteger(L, site.line);
  lua_setfield(L, -2, "line");
}

void nb_push_id(lua_State *L, const void *object) {
  lua_pushinteger(L, (lua_Integer)(intptr_t)object);
}

// Pushes a value that is no tensor; nil where it was left out.
static int compare_order(const void *a, const void *b) {
  const Node *const *x = a, *const *y = b;
  return (*x)->order < (*y)->order ? -1 : (*x)->order > (*y)->order;
}

// The nodes behind `root` in order of creation, in a userdata that is pushed; and above it a table: node → place.
static Node **collect_nodes(lua_State *L, Node *root, lua_Integer *count) {
  size_t n = 0, capacity = 64;
  Node **list = lua_newuserdatauv(L, capacity * sizeof *list, 0);
  int at = lua_gettop(L);
  lua_newtable(L);
  list[n++] = root;
  lua_pushboolean(L, 1);
  lua_rawsetp(L, at + 1, root);
  for (size_t i = 0; i < n; i++) {
    for (int e = 0; e < list[i]->edge_count; e++) {
      Node *next = list[i]->edges[e].node;
      if (!next) continue;
      bool known = lua_rawgetp(L, at + 1, next) != LUA_TNIL;
      lua_pop(L, 1);
      if (known) continue;
      lua_pushboolean(L, 1);
      lua_rawsetp(L, at + 1, next);
      if (n == capacity) {
        Node **bigger = lua_newuserdatauv(L, 2 * capacity * sizeof *list, 0);
        memcpy(bigger, list, n * sizeof *list);
        list = bigger;
        capacity *= 2;
        lua_replace(L, at);
      }
      list[n++] = next;
    }
  }
  qsort(list, n, sizeof *list, compare_order);
  for (size_t i = 0; i < n; i++) {
    lua_pushinteger(L, (lua_Integer)i + 1);
    lua_rawsetp(L, at + 1, list[i]);
  }
  *count = (lua_Integer)n;
  return list;
}

// Tells the node that made an input of the input's shape and value; its record is in `records`.
static void tell_maker(lua_State *L, int records, lua_Integer place, int output, Tensor *t, bool kept) {
  lua_rawgeti(L, records, place);
  lua_getfield(L, -1, "outputs");
  if (lua_rawgeti(L, -1, output + 1) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    set_shape(L, &t->layout);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, output + 1);
  }
  if (kept && lua_getfield(L, -1, "value") == LUA_TNIL) {
    nb_push_tensor(L, nb_tensor_retain(t));
    lua_setfield(L, -3, "value");
  }
  lua_settop(L, records + 2);  // the record under way and its inputs
}

// Appends the input of edge e to the list on top.
static void push_input(lua_State *L, const Node *n, int param, int e, Tensor *t, int records, int places) {
  const Edge *edge = &n->edges[e];
  bool kept = t->storage && t->storage->version == n->versions[e];
  lua_newtable(L);
  set_shape(L, &t->layout);
  lua_pushstring(L, n->op->params[param].name);
  lua_setfield(L, -2, "param");
  if (t->storage && !kept) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "changed");
  }
  if (kept) {
    nb_push_tensor(L, nb_tensor_retain(t));
    lua_setfield(L, -2, "value");
  }
  if (edge->leaf) {
    nb_push_tensor(L, nb_tensor_retain(edge->leaf));
    lua_setfield(L, -2, "leaf");
    nb_push_id(L, edge->leaf);
    lua_setfield(L, -2, "id");
  }
  if (!edge->node) {
    lua_rawseti(L, -2, e + 1);
    return;
  }
  lua_rawgetp(L, places, edge->node);
  lua_Integer place = lua_tointeger(L, -1);
  lua_setfield(L, -2, "node");
  lua_pushinteger(L, edge->output + 1);
  lua_setfield(L, -2, "output");
  lua_rawseti(L, -2, e + 1);
  tell_maker(L, records, place, edge->output, t, kept);
}

static void push_record(lua_State *L, Node *n, int records, int places) {
  lua_createtable(L, 0, 13);
  lua_pushstring(L, n->op->name);
  lua_setfield(L, -2, "op");
  nb_push_node(L, n);
  lua_setfield(L, -2, "node");
  nb_set_site(L, n->site);
  if (!n->freed) {
    lua_pushnumber(L, nb_op_flops(n->op, n->args));
    lua_setfield(L, -2, "flops");
  }
  lua_pushinteger(L, (lua_Integer)n->order);
  lua_setfield(L, -2, "order");
  lua_pushinteger(L, n->edge_count);
  lua_setfield(L, -2, "edges");
  lua_pushinteger(L, (lua_Integer)(intptr_t)n->module);
  lua_setfield(L, -2, "caller");
  if (n->freed) {
    lua_pushfstring(L, "%s:%d", n->freed_at.source ? n->freed_at.source : "?", n->freed_at.line);
    lua_setfield(L, -2, "freed");
  }
  lua_newtable(L);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) {
    Tensor *y = n->saved_out[i];
    if (!y) continue;
    lua_newtable(L);
    set_shape(L, &y->layout);
    if (y->storage->version == n->out_version[i]) {
      nb_push_tensor(L, nb_tensor_retain(y));
      lua_setfield(L, -2, "value");
    }
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "outputs");
  lua_newtable(L);
  for (int i = 0; i < nb_op_params(n->op); i++) {
    const Param *p = &n->op->params[i];
    Tensor **list;
    if (nb_arg_is_plain(p, &n->args[i]) && !n->freed)  // else a tensor may have stood there
      lua_pushnumber(L, n->args[i].plain);
    else if (nb_arg_tensors(p, &n->args[i], &list))
      continue;
    else
      nb_arg_faces[p->kind].push(L, p, &n->args[i]);
    lua_setfield(L, -2, p->name);
  }
  lua_setfield(L, -2, "args");
  lua_pushvalue(L, -1);
  lua_rawseti(L, records, lua_tointeger(L, records - 1));
  lua_newtable(L);
  for (TensorWalk w = nb_tensors_of(n->op, n->args); !n->freed && nb_next_tensor(&w);)
    push_input(L, n, w.param, w.edge, *w.slot, records, places);
  lua_setfield(L, -2, "inputs");
  lua_pop(L, 1);
}

// native.tape(t): the list of nodes; empty for a leaf or a constant.
static int tape(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  lua_settop(L, 1);
  lua_Integer count = 0;
  if (!t->node) {
    lua_newtable(L);
    return 1;
  }
  luaL_checkstack(L, 20, NULL);
  Node **list = collect_nodes(L, t->node, &count);  // at 2; places at 3
  lua_pushinteger(L, 0);
  lua_createtable(L, (int)count, 0);
  for (lua_Integer i = 0; i < count; i++) {
    lua_pushinteger(L, i + 1);
    lua_replace(L, 4);
    push_record(L, list[i], 5, 3);
  }
  lua_rawgeti(L, 5, count);
  lua_getfield(L, -1, "outputs");
  if (lua_rawgeti(L, -1, t->output + 1) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    set_shape(L, &t->layout);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, t->output + 1);
  }
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "value");
  lua_settop(L, 5);
  return 1;
}

// native.node_backward(node, grads): from dJ/d(output) for each output, false for none, the gradients by input.
static int node_backward(lua_State *L) {
  Error err;
  Node *n = check_node(L, 1);
  Tensor *grad[NB_MAX_OUTPUTS] = {NULL};
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  luaL_checkstack(L, NB_MAX_OUTPUTS + 10, NULL);
  for (int i = 0; i < NB_MAX_OUTPUTS; i++) {
    lua_rawgeti(L, 2, i + 1);
    grad[i] = nb_test_tensor(L, -1);
  }
  size_t count = n->edge_count > 0 ? (size_t)n->edge_count : 1;
  Tensor **given = lua_newuserdatauv(L, count * sizeof *given, 0);
  memset(given, 0, count * sizeof *given);
  int at = lua_gettop(L);
  lua_createtable(L, n->edge_count, 0);
  // The slots exist before there is anything to lose.
  for (int i = 0; i < n->edge_count; i++) {
    nb_new_tensor(L);
    lua_rawseti(L, at + 1, i + 1);
  }
  nb_enter(L);
  bool ok = nb_node_backward(n, grad, given, &err);
  for (int i = 0; i < n->edge_count; i++) {
    lua_rawgeti(L, at + 1, i + 1);
    Tensor **slot = lua_touserdata(L, -1);
    *slot = given[i];
    lua_pop(L, 1);
    if (given[i]) continue;
    lua_pushboolean(L, 0);
    lua_rawseti(L, at + 1, i + 1);
  }
  if (!ok) return nb_raise(L, &err);
  return 1;
}

// ---- tensors as they are in memory ----

// native.id(x): a number that stands for a tensor, a node or a table while it lives.
static int id(lua_State *L) {
  Tensor *t = nb_test_tensor(L, 1);
  nb_push_id(L, t ? (const void *)t : lua_topointer(L, 1));
  return 1;
}

// native.storage(t): a number that stands for its memory, and that memory's version.
static int storage(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  nb_push_id(L, t->storage);
  lua_pushinteger(L, t->storage->version);
  return 2;
}

// native.made_by(t): the order of the node that made it, and which output it is; nothing for a leaf or a constant.
static int made_by(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  if (!t->node) return 0;
  lua_pushinteger(L, (lua_Integer)t->node->order);
  lua_pushinteger(L, t->output + 1);
  return 2;
}

// native.overwrite(t, values, version): writes values of the same shape and dtype, and takes the version back (or
// forward) to one that was theirs: for a replay, after which pending backwards must work again.
static int overwrite(lua_State *L) {
  Error err;
  Tensor *t = nb_check_tensor(L, 1), *from = nb_check_tensor(L, 2);
  lua_Integer version = luaL_checkinteger(L, 3);
  bool before = nb_grad_enabled();
  nb_set_grad_enabled(false);
  nb_enter(L);
  bool ok = nb_apply_inplace(nb_op_find("copy"), (Value[NB_MAX_PARAMS]){{.tensor = t}, {.tensor = from}}, &err);
  nb_set_grad_enabled(before);
  if (!ok) return nb_raise(L, &err);
  t->storage->version = (uint32_t)version;
  return 0;
}

void nb_open_inspect(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"tape", tape},       {"node_backward", node_backward}, {"id", id},  {"storage", storage},
      {"made_by", made_by}, {"overwrite", overwrite},         {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  nb_make_class(L, node_name, collect_node, NULL);
}
