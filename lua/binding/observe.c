// SPDX-License-Identifier: MIT
// The observer of operators: tells a Lua function what is applied, and finds where NaN and infinities are born.
#include "nablua/observe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "callback.h"
#include "inspect.h"
#include "nablua/tape.h"
#include "open.h"

static bool telling, checking;  // what the observer is there for
static const char handler_key;

// ---- telling Lua ----

// What happened; the union of what the three calls of an observer are given.
typedef struct Event {
  const char *kind;
  Tensor *target;
  const Op *op;
  const Value *args;
  Tensor *const *out;
  int count;
  bool in_place;
  Node *node;
  Tensor *const *grad, *const *given;
} Event;

static void push_tensors(lua_State *L, Tensor *const *list, int count) {
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

static void push_call(lua_State *L, const Event *e) {
  const Op *op = e->op;
  lua_newtable(L);  // inputs
  lua_newtable(L);  // other arguments
  for (int i = 0, n = 0; i < nb_op_params(op); i++) {
    const Param *p = &op->params[i];
    if (p->kind <= NB_PARAM_MASK) {
      n++;
      if (!e->args[i].tensor) continue;
      lua_pushvalue(L, -2);
      push_input(L, p, e->args[i].tensor, n);
      lua_pop(L, 1);
    } else if (p->kind == NB_PARAM_TENSORS) {
      lua_pushvalue(L, -2);
      for (int j = 0; j < e->args[i].tensors.count; j++) push_input(L, p, e->args[i].tensors.items[j], ++n);
      lua_pop(L, 1);
    } else {
      nb_push_plain(L, p, &e->args[i]);
      lua_setfield(L, -2, p->name);
    }
  }
  lua_setfield(L, -3, "args");
  lua_setfield(L, -2, "inputs");
  push_tensors(L, e->out, e->count);
  lua_setfield(L, -2, "outputs");
  nb_push_modules(L);
  lua_setfield(L, -2, "modules");
  nb_set_site(L, nb_site_now());
  lua_pushstring(L, op->name);
  lua_setfield(L, -2, "op");
  lua_pushboolean(L, e->in_place);
  lua_setfield(L, -2, "in_place");
  if (!e->out[0]->node) return;
  lua_pushinteger(L, (lua_Integer)e->out[0]->node->order);
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
    push_tensors(L, e->grad, NB_MAX_OUTPUTS);
    lua_setfield(L, -2, "grads");
    push_tensors(L, e->given, e->node->edge_count);
    lua_setfield(L, -2, "given");
  } else {
    push_call(L, e);
  }
  lua_call(L, 1, 0);
  return 0;
}

// ---- the anomaly check ----

typedef struct Census {
  int64_t n, nan, inf, first;  // first: the place of the first that is not finite, from 0
  double lo, hi;               // of the finite ones
} Census;

static void count_in(Census *c, int64_t i, double v) {
  if (isfinite(v)) {
    if (v < c->lo) c->lo = v;
    if (v > c->hi) c->hi = v;
    return;
  }
  if (c->nan + c->inf == 0) c->first = i;
  if (isnan(v))
    c->nan++;
  else
    c->inf++;
}

static Census census(const Tensor *t) {
  const Layout *l = &t->layout;
  Census c = {.n = nb_layout_numel(l), .lo = INFINITY, .hi = -INFINITY};
  int64_t at[NB_MAX_DIMS] = {0}, offset = 0;
  for (int64_t i = 0; i < c.n; i++) {
    count_in(&c, i, nb_tensor_get(t, offset));
    for (int d = l->ndim - 1; d >= 0; d--) {
      offset += l->strides[d];
      if (++at[d] < l->shape[d]) break;
      offset -= l->strides[d] * l->shape[d];
      at[d] = 0;
    }
  }
  return c;
}

// Whether all is finite, at the speed of memory where the elements lie together: x·0 is 0 unless x is not finite.
static bool all_finite(const Tensor *t) {
  int64_t n = nb_layout_numel(&t->layout);
  if (!nb_dtype_is_float(t->layout.dtype)) return true;
  if (!nb_layout_contiguous(&t->layout)) {
    Census c = census(t);
    return c.nan + c.inf == 0;
  }
  if (t->layout.dtype == NB_F32) {
    const float *x = nb_tensor_data(t);
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * 0;
    return sum == 0;
  }
  const double *x = nb_tensor_data(t);
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * 0;
  return sum == 0;
}

static const char *what(const Census *c) {
  return c->nan > 0 ? "NaN" : "infinite";
}

// "x 4×3 in -2..1.5"
static void describe_operand(Error *err, const char *name, const Tensor *t) {
  char shape[NB_SHAPE_TEXT];
  Census c = census(t);
  nb_fail_more(err, "%s%s%s%s %s %s", name, t->name ? " (" : "", t->name ? t->name : "", t->name ? ")" : "",
               nb_dtype_name(t->layout.dtype), nb_shape_text(&t->layout, shape));
  if (c.nan + c.inf < c.n) nb_fail_more(err, c.lo < c.hi ? " in %.4g..%.4g" : " of %.4g", c.lo, c.hi);
  if (c.nan > 0) nb_fail_more(err, ", %lld NaN", (long long)c.nan);
  if (c.inf > 0) nb_fail_more(err, ", %lld infinite", (long long)c.inf);
}

typedef void (*Visit)(void *ctx, const char *name, const Tensor *t);

static void each_operand(const Op *op, const Value *args, Visit visit, void *ctx) {
  for (int i = 0; i < nb_op_params(op); i++) {
    if (op->params[i].kind <= NB_PARAM_MASK && args[i].tensor) visit(ctx, op->params[i].name, args[i].tensor);
    if (op->params[i].kind == NB_PARAM_TENSORS)
      for (int j = 0; j < args[i].tensors.count; j++) visit(ctx, op->params[i].name, args[i].tensors.items[j]);
  }
}

typedef struct Operands {
  Error *err;
  int count;
  int64_t nan, inf;
  const char *carrier;  // the first operand with a NaN
} Operands;

static void describe_visit(void *ctx, const char *name, const Tensor *t) {
  Operands *o = ctx;
  if (!t->storage) return;
  nb_fail_more(o->err, o->count++ ? "; " : "");
  describe_operand(o->err, name, t);
}

static void census_visit(void *ctx, const char *name, const Tensor *t) {
  Operands *o = ctx;
  if (all_finite(t)) return;
  Census c = census(t);
  if (c.nan > 0 && o->nan == 0) o->carrier = name;
  o->nan += c.nan;
  o->inf += c.inf;
}

// Fails where this call made the first NaN, or the first infinity from finite numbers.
static bool check_call(const Op *op, const Value *args, Tensor *const *out, int count, Error *err) {
  for (int k = 0; k < count; k++) {
    if (all_finite(out[k])) continue;
    Census c = census(out[k]);
    Operands o = {.err = err};
    char shape[NB_SHAPE_TEXT];
    each_operand(op, args, census_visit, &o);
    // Infinities may be meant, such as the mask of attention; what came in as infinite is not born here.
    if (c.nan == 0 && (o.inf > 0 || op->creates)) continue;
    if (c.nan > 0 && o.nan > 0)
      nb_fail(err, NB_ERROR_STATE,
              "%s: anomaly: its operand %s already holds NaN; it was in the data, or made while the "
              "check was off: ",
              op->name, o.carrier);
    else
      nb_fail(err, NB_ERROR_STATE,
              "%s: anomaly: the first %s value%s born here, %lld of %lld in a result of shape %s, "
              "from element %lld on; operands: ",
              op->name, what(&c), c.nan + c.inf == 1 ? " was" : "s were", (long long)(c.nan + c.inf), (long long)c.n,
              nb_shape_text(&out[k]->layout, shape), (long long)c.first + 1);
    each_operand(op, args, describe_visit, &o);
    return false;
  }
  return true;
}

// Fails where a backward rule made the first NaN or infinity of finite gradients.
static bool check_visit(const Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (grad[i] && !all_finite(grad[i])) return true;
  int e = 0;
  for (int i = 0; i < nb_op_params(n->op); i++) {
    const Param *p = &n->op->params[i];
    int count = p->kind <= NB_PARAM_MASK ? 1 : p->kind == NB_PARAM_TENSORS ? n->args[i].tensors.count : 0;
    for (int j = 0; j < count; j++, e++) {
      if (!given[e] || all_finite(given[e])) continue;
      Census c = census(given[e]);
      Operands o = {.err = err};
      nb_fail(err, NB_ERROR_STATE,
              "backward: anomaly: the first %s gradient was born in the rule of %s, applied at %s:%d: ∂J/∂%s has %lld "
              "of %lld; operands: ",
              what(&c), n->op->name, n->site.source ? n->site.source : "?", n->site.line, p->name,
              (long long)(c.nan + c.inf), (long long)c.n);
      each_operand(n->op, n->args, describe_visit, &o);
      return false;
    }
  }
  return true;
}

// ---- the observer ----

static bool on_writing(void *user, Tensor *target, Error *err) {
  (void)user;
  return !telling || nb_call_lua(deliver, &(Event){.kind = "write", .target = target}, err);
}

static bool on_applied(void *user, const Op *op, const Value *args, Tensor *const *out, int count, bool in_place,
                       Error *err) {
  (void)user;
  if (checking && !op->view && !check_call(op, args, out, count, err)) return false;
  return !telling ||
         nb_call_lua(
             deliver,
             &(Event){.kind = "apply", .op = op, .args = args, .out = out, .count = count, .in_place = in_place}, err);
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  (void)user;
  if (checking && !check_visit(n, grad, given, err)) return false;
  return !telling || nb_call_lua(deliver, &(Event){.kind = "backward", .node = n, .grad = grad, .given = given}, err);
}

static void update(void) {
  static const Observer observer = {on_writing, on_applied, on_visited, NULL};
  nb_observe(telling || checking ? &observer : NULL);
}

// native.observe(f): f is called with an event for every operator and backward rule; nil ends it.
static int observe(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  telling = !lua_isnil(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
  update();
  return 0;
}

// native.observed(): whether somebody looks at single operators.
static int observed(lua_State *L) {
  lua_pushboolean(L, telling || checking);
  return 1;
}

// nb.anomaly([on]): whether the check is on; with an argument, switches it.
static int anomaly(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    if (!lua_isboolean(L, 1)) return nb_raisef(L, "anomaly: needs true or false, got %s", nb_kind_of(L, 1));
    checking = lua_toboolean(L, 1);
    update();
  }
  lua_pushboolean(L, checking);
  return 1;
}

void nb_open_observe(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"observe", observe}, {"observed", observed}, {"anomaly", anomaly}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
