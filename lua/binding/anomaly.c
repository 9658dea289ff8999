// SPDX-License-Identifier: MIT
// The anomaly check: finds the operator, or the backward rule, that made the first NaN or infinity.
#include <math.h>

#include "binding.h"
#include "nablua/args.h"
#include "nablua/events.h"
#include "nablua/tape.h"
#include "open.h"
#include "visits.h"

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

typedef struct Operands {
  int64_t nan, inf;
  const char *carrier;  // the first operand with a NaN
} Operands;

// What is known of a call's operands, in one clause after another.
static void describe_operands(Error *err, const Op *op, const Value *args) {
  const char *separator = "";
  for (TensorWalk w = nb_tensors_of(op, args); nb_next_tensor(&w);) {
    if (!(*w.slot)->storage) continue;
    nb_fail_more(err, "%s", separator);
    describe_operand(err, w.of->name, *w.slot);
    separator = "; ";
  }
}

static Operands census_operands(const Op *op, const Value *args) {
  Operands o = {.carrier = NULL};
  for (TensorWalk w = nb_tensors_of(op, args); nb_next_tensor(&w);) {
    if (all_finite(*w.slot)) continue;
    Census c = census(*w.slot);
    if (c.nan > 0 && o.nan == 0) o.carrier = w.of->name;
    o.nan += c.nan;
    o.inf += c.inf;
  }
  return o;
}

// Fails where this call made the first NaN, or the first infinity from finite numbers.
static bool check_call(const Op *op, const Value *args, Tensor *const *out, int count, Error *err) {
  for (int k = 0; k < count; k++) {
    if (all_finite(out[k])) continue;
    Census c = census(out[k]);
    Operands o = census_operands(op, args);
    char shape[NB_SHAPE_TEXT];
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
    describe_operands(err, op, args);
    return false;
  }
  return true;
}

// Fails where a backward rule made the first NaN or infinity of finite gradients.
static bool check_visit(const Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  for (int i = 0; i < NB_MAX_OUTPUTS; i++)
    if (grad[i] && !all_finite(grad[i])) return true;
  for (TensorWalk w = nb_tensors_of(n->op, n->args); nb_next_tensor(&w);) {
    const Tensor *g = given[w.edge];
    if (!g || all_finite(g)) continue;
    Census c = census(g);
    nb_fail(err, NB_ERROR_STATE,
            "backward: anomaly: the first %s gradient was born in the rule of %s, applied at %s:%d: ∂J/∂%s has %lld "
            "of %lld; operands: ",
            what(&c), n->op->name, n->site.source ? n->site.source : "?", n->site.line, w.of->name,
            (long long)(c.nan + c.inf), (long long)c.n);
    describe_operands(err, n->op, n->args);
    return false;
  }
  return true;
}

// ---- listening ----

static bool on_applied(void *user, const Applied *a, Error *err) {
  (void)user;
  return a->op->view || check_call(a->op, a->args, a->out, a->count, err);
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  (void)user;
  return check_visit(n, grad, given, err);
}

static Listener check = {.voice = NB_OUTER, .applied = on_applied, .visited = on_visited};
static bool checking;

static void listen(bool on) {
  checking = on;
  if (on)
    nb_listen(&check);
  else
    nb_unlisten(&check);
}

void nb_anomaly_aside(lua_State *V) {
  lua_pushboolean(V, checking);
  listen(false);
}

void nb_anomaly_back(lua_State *V) {
  listen(lua_toboolean(V, -1));
  lua_pop(V, 1);
}

// nb.anomaly([on]): whether the check is on; with an argument, switches it.
static int anomaly(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    if (!lua_isboolean(L, 1)) return nb_raisef(L, "anomaly: needs true or false, got %s", nb_kind_of(L, 1));
    listen(lua_toboolean(L, 1));
  }
  lua_pushboolean(L, checking);
  return 1;
}

void nb_open_anomaly(lua_State *L) {
  lua_pushcfunction(L, anomaly);
  lua_setfield(L, -2, "anomaly");
}
