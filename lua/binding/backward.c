// SPDX-License-Identifier: MIT
// J:backward and nb.grad: gradients, left in .grad or returned.
#include "backward.h"

#include "binding.h"
#include "cycles.h"
#include "nablua/tape.h"
#include "open.h"
#include "options.h"

static bool option(lua_State *L, int table, const char *name, bool *value) {
  if (lua_getfield(L, table, name) != LUA_TNIL) {
    if (!lua_isboolean(L, -1)) return false;
    *value = lua_toboolean(L, -1);
  }
  lua_pop(L, 1);
  return true;
}

// Reads {retain_graph=, create_graph=}, and `grad` of which the caller makes something, where there is such a table.
static BackwardOptions backward_options(lua_State *L, const char *where, int index, bool with_grad) {
  const char *const names[] = {"retain_graph", "create_graph", with_grad ? "grad" : NULL, NULL};
  BackwardOptions o = {false, false};
  if (!nb_check_options(L, where, index, names)) return o;
  if (!option(L, index, "retain_graph", &o.retain_graph) || !option(L, index, "create_graph", &o.create_graph))
    nb_raisef(L, "%s: retain_graph and create_graph must be true or false", where);
  return o;
}

static bool depositing;  // the walk under way leaves its gradients in .grad

// native.depositing(): whether it is a J:backward that calls a hook, and not an nb.grad.
static int is_depositing(lua_State *L) {
  lua_pushboolean(L, depositing);
  return 1;
}

// J:backward([dL/dJ], [options])
static int backward(lua_State *L) {
  Error err;
  Tensor *J = nb_check_tensor(L, 1), *grad = NULL;
  int options = 2;
  if (lua_gettop(L) > 3)
    return nb_raisef(L, "backward: takes dL/dJ and a table of options, got %d arguments", lua_gettop(L) - 1);
  if (lua_gettop(L) >= 2 && (nb_test_tensor(L, 2) || lua_isnil(L, 2) || !lua_istable(L, 2))) {
    if (!lua_isnil(L, 2) && !(grad = nb_test_tensor(L, 2)))
      return nb_raisef(L, "backward: dL/dJ must be a tensor, got %s", nb_kind_of(L, 2));
    options = 3;
  }
  BackwardOptions o = backward_options(L, "backward", options, false);
  bool before = depositing;
  nb_enter(L);
  depositing = true;
  bool ok = nb_backward(J, grad, o, &err);
  depositing = before;
  if (o.create_graph) nb_cycles_pace(L);
  return ok ? 0 : nb_raise(L, &err);
}

int nb_lua_grad(lua_State *L) {
  Error err;
  Tensor *J = nb_check_tensor(L, 1), *seed = NULL;
  lua_settop(L, 3);
  BackwardOptions o = backward_options(L, "grad", 3, true);
  if (lua_istable(L, 3)) {
    lua_getfield(L, 3, "grad");
    if (!lua_isnil(L, -1) && !(seed = nb_test_tensor(L, -1)))
      return nb_raisef(L, "grad: grad must be a tensor, got %s", nb_kind_of(L, -1));
  }
  if (nb_test_tensor(L, 2)) {
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    lua_replace(L, 2);
  }
  if (!lua_istable(L, 2)) return nb_raisef(L, "grad: needs a table of tensors, got %s", nb_kind_of(L, 2));
  lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
  if (n < 1 || n > 100000) return nb_raisef(L, "grad: the table of tensors is empty");
  luaL_checkstack(L, (int)n + 6, "too many tensors");
  lua_createtable(L, (int)n, 0);  // the tensors, whatever a hook or a finalizer does to the list
  int kept = lua_gettop(L);
  Tensor **x = lua_newuserdatauv(L, 2 * (size_t)n * sizeof *x, 0), **result = x + n;
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    if (!(x[i - 1] = nb_test_tensor(L, -1)))
      return nb_raisef(L, "grad: entry %d is %s, not a tensor", (int)i, nb_kind_of(L, -1));
    lua_rawseti(L, kept, i);
  }
  int first = lua_gettop(L) + 1;
  for (lua_Integer i = 0; i < n; i++) nb_new_tensor(L);
  bool before = depositing;
  nb_enter(L);
  depositing = false;
  bool ok = nb_grad(J, seed, x, (int)n, o, result, &err);
  depositing = before;
  if (!ok) return nb_raise(L, &err);
  for (lua_Integer i = 0; i < n; i++) {
    Tensor **slot = lua_touserdata(L, first + (int)i);
    *slot = result[i];
    if (*slot) continue;
    lua_pushnil(L);  // J does not depend on it
    lua_replace(L, first + (int)i);
  }
  return (int)n;
}

void nb_open_backward(lua_State *L) {
  lua_pushcfunction(L, is_depositing);
  lua_setfield(L, -2, "depositing");
  nb_push_methods(L);
  lua_pushcfunction(L, backward);
  lua_setfield(L, -2, "backward");
  lua_pop(L, 1);
}
