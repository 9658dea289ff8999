// SPDX-License-Identifier: MIT
// The operator rows as Lua tables: what help, completion, the reference and the tests are made from.
#include <math.h>
#include <string.h>

#include "arguments.h"
#include "binding.h"
#include "open.h"

static void set_string(lua_State *L, const char *key, const char *value) {
  if (!value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static void push_param(lua_State *L, const Param *p) {
  lua_newtable(L);
  set_string(L, "name", p->name);
  set_string(L, "kind", nb_arg_faces[p->kind].type);
  set_string(L, "doc", p->doc);
  set_string(L, "choices", p->choices);
  set_flag(L, "optional", p->optional);
  set_flag(L, "named", p->named);
  if (!p->optional) return;
  nb_arg_faces[p->kind].push_default(L, p);
  lua_setfield(L, -2, "default");
}

// nb.sum(x, [dim], {keepdim=false})
static void push_signature(lua_State *L, const Op *op) {
  luaL_Buffer b;
  bool first = true, named = false;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, op->internal ? "" : "nb.");
  luaL_addstring(&b, op->name);
  luaL_addchar(&b, '(');
  for (const Param *p = op->params; p < op->params + NB_MAX_PARAMS && p->name; p++) {
    if (p->named) {
      named = true;
      continue;
    }
    if (!first) luaL_addstring(&b, ", ");
    if (p->optional) luaL_addchar(&b, '[');
    luaL_addstring(&b, p->name);
    if (p->kind == NB_PARAM_INTS && !p->count) luaL_addstring(&b, "...");
    if (p->optional) luaL_addchar(&b, ']');
    first = false;
  }
  if (named || op->creates) {
    luaL_addstring(&b, first ? "{" : ", {");
    bool any = false;
    for (const Param *p = op->params; p < op->params + NB_MAX_PARAMS && p->name; p++) {
      if (!p->named) continue;
      if (any) luaL_addstring(&b, ", ");
      luaL_addstring(&b, p->name);
      luaL_addchar(&b, '=');
      nb_arg_faces[p->kind].push_default(L, p);
      if (!lua_isnil(L, -1)) {
        luaL_tolstring(L, -1, NULL);
        lua_remove(L, -2);
        luaL_addvalue(&b);
      } else {
        lua_pop(L, 1);
      }
      any = true;
    }
    if (op->creates) luaL_addstring(&b, any ? ", requires_grad=, name=" : "requires_grad=, name=");
    luaL_addchar(&b, '}');
  }
  luaL_addchar(&b, ')');
  luaL_pushresult(&b);
}

static void push_row(lua_State *L, const OpFamily *family, const Op *op) {
  lua_newtable(L);
  set_string(L, "family", family->title);
  set_string(L, "name", op->name);
  set_string(L, "doc", op->doc);
  set_string(L, "example", op->example);
  set_string(L, "derivative", op->derivative);
  set_string(L, "no_grad", op->no_grad);
  set_string(L, "source", op->source);
  set_string(L, "role", nb_role_name(op->role));
  set_string(L, "symbol", op->symbol);
  set_string(L, "latex", op->latex);
  set_string(L, "formula", op->formula);
  set_string(L, "factor", op->factor);
  set_string(L, "probability", op->probability);
  set_string(L, "shrinks", op->shrinks);
  set_flag(L, "inplace", op->inplace);
  set_flag(L, "internal", op->internal);
  set_flag(L, "view", op->view);
  set_flag(L, "dynamic", op->dynamic);
  set_flag(L, "elementwise", op->loops[NB_F32] || op->loops[NB_BOOL]);
  set_flag(L, "has_backward", op->backward != NULL);
  set_flag(L, "has_u8", op->loops[NB_U8] != NULL);
  set_flag(L, "has_i64", op->loops[NB_I64] != NULL);
  set_flag(L, "of_whole", op->loops[NB_I64] && !op->loops[NB_F64]);  // takes no fractions
  lua_pushinteger(L, (op->outputs ? op->outputs : 1) - op->hidden);
  lua_setfield(L, -2, "outputs");
  push_signature(L, op);
  lua_setfield(L, -2, "signature");
  lua_newtable(L);
  set_string(L, "args", op->sample.args);
  lua_pushnumber(L, op->sample.lo);
  lua_setfield(L, -2, "lo");
  lua_pushnumber(L, op->sample.hi);
  lua_setfield(L, -2, "hi");
  lua_setfield(L, -2, "sample");
  lua_newtable(L);
  for (int i = 0; i < nb_op_params(op); i++) {
    push_param(L, &op->params[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "params");
}

// native.rows(): all rows, in the reference's order.
static int rows(lua_State *L) {
  lua_Integer n = 0;
  lua_newtable(L);
  for (const OpFamily *const *f = nb_op_families(); *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      push_row(L, *f, &(*f)->ops[i]);
      lua_rawseti(L, -2, ++n);
    }
  }
  return 1;
}

// native.layers(): the layers that only apply an operator: { { layer, operator }, ... }
static int layers(lua_State *L) {
  lua_Integer n = 0;
  lua_newtable(L);
  for (const OpFamily *const *f = nb_op_families(); *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      const Op *op = &(*f)->ops[i];
      if (!op->layer) continue;
      lua_createtable(L, 2, 0);
      lua_pushstring(L, op->layer);
      lua_rawseti(L, -2, 1);
      lua_pushstring(L, op->name);
      lua_rawseti(L, -2, 2);
      lua_rawseti(L, -2, ++n);
    }
  }
  return 1;
}

// native.row(name): one of them, or nil.
static int row(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (const OpFamily *const *f = nb_op_families(); *f; f++) {
    for (int i = 0; i < (*f)->count; i++) {
      if (strcmp((*f)->ops[i].name, name) != 0) continue;
      push_row(L, *f, &(*f)->ops[i]);
      return 1;
    }
  }
  return 0;
}

void nb_open_rows(lua_State *L) {
  lua_pushcfunction(L, rows);
  lua_setfield(L, -2, "rows");
  lua_pushcfunction(L, row);
  lua_setfield(L, -2, "row");
  lua_pushcfunction(L, layers);
  lua_setfield(L, -2, "layers");
}
