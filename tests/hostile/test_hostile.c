// SPDX-License-Identifier: MIT
// Fails every allocation in turn, Lua's and the library's, during a training step and a model's
// loading: each failure must be a Lua error, and nothing may leak.
#include <cmocka.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nablua/memory.h"
#include "nablua_lua.h"

static const char script[] =
    "local nb = require 'nablua'\n"
    "local nn, optim = nb.nn, nb.optim\n"
    "nb.seed(1)\n"
    "local net = nn.Sequential{ nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3) }\n"
    "local conv = nn.Sequential{ nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3) }\n"
    "local loss = nn.CrossEntropyLoss()\n"
    "local opt = optim.SGD(net:parameters(), {lr = 0.1, momentum = 0.9})\n"
    "local adam = optim.Adam(conv:parameters(), {lr = 0.01})\n"
    "local x, y = nb.randn(5, 4), nb.tensor({1, 2, 3, 1, 2}, {dtype = 'i64'})\n"
    "local images = nb.randn(5, 1, 6, 6)\n"
    "local path = os.tmpname()\n"
    "nb.save(path .. '.safetensors', net:state())\n"
    "local tests = {}\n"
    "local series = nb.tensor({1, 3, 2}, {dtype = 'f64'})\n"
    "function tests.plot() return nb.plot.curve(series):__display{width = 12, height = 4} end\n"
    "local native = require 'nablua.native'\n"
    "function tests.program() return native.spawn{'cat'}:exchange(('text'):rep(99999), nil, 60) end\n"
    "function tests.train()\n"
    "  opt:zero_grad()\n"
    "  loss(net(x), y):backward()\n"
    "  opt:step()\n"
    "end\n"
    "function tests.convolve()\n"
    "  adam:zero_grad()\n"
    "  loss(conv(images), y):backward()\n"
    "  adam:step()\n"
    "end\n"
    "function tests.load() net:load_state(nb.load(path .. '.safetensors')) end\n"
    "function tests.save() nb.save(path .. '.safetensors', net:state()) end\n"
    "function tests.archive()\n"
    "  nb.save(path .. '.npz', { x = x, y = y }, { compress = true })\n"
    "  assert(nb.load(path .. '.npz').x:eq(x):all():item())\n"
    "end\n"
    "local f = io.open(path .. '.csv', 'w')\n"
    "f:write('a,\"b c\",kind\\n1,2,x\\n3,,y\\n'):close()\n"
    "function tests.table() nb.data.csv(path .. '.csv', { target = 'kind', missing = 'mean' }) end\n"
    "local native, w = require 'nablua.native', nb.ones(2, 3, {requires_grad = true})\n"
    "function tests.tape()\n"
    "  local nodes = native.tape(nb.cat({w, w * w}, 1):sum())\n"
    "  native.node_backward(nodes[1].node, { nb.ones(2, 3) })\n"
    "end\n"
    "function tests.observe()\n"
    "  native.observe(function(e) e.kind = nil end)\n"
    "  local ok, message = pcall(function() nb.zeros(2):add_(1); (w * w):sum():backward(); w.grad = nil end)\n"
    "  native.observe(nil)\n"
    "  if not ok then error(message, 0) end\n"
    "end\n"
    "function tests.index()\n"
    "  local t = nb.tensor{{1, 2, 3}, {4, 5, 6}}\n"
    "  t[{1, {2, 3}}] = nb.tensor{7, 8}\n"
    "  t[t:gt(4)] = 0\n"
    "  return tostring(t[{nb.ALL, 2}])\n"
    "end\n"
    "function tests.algebra()\n"
    "  local a = (nb.eye(3) * 4 + nb.ones(3, 3)):to('f32')\n"
    "  a.requires_grad = true\n"
    "  local u, s, v = a:matmul(nb.tensor{{1, 2, 3}, {0, 1, 2}, {0, 0, 1}}):svd()\n"
    "  local J = nb.einsum('ij,jk->', a:cholesky(), a:inverse()) + a:det() + s:sum() + a:solve(nb.ones(3)):sum()\n"
    "  local q, r = a[{nb.ALL, {1, 2}}]:qr()\n"
    "  J = J + q:sum() + r:sum() + a:pinv():sum() + a:eigh():sum() + a:solve_triangular(nb.ones(3, 2)):sum()\n"
    "  J:backward()\n"
    "end\n"
    "nb.operator{ name = 'cube', forward = function(ctx, t) ctx:save(t) return t ^ 3 end,\n"
    "  backward = function(ctx, g) return g * 3 * ctx:saved() ^ 2 end }\n"
    "function tests.custom()\n"
    "  local a = nb.ones(3, {requires_grad = true})\n"
    "  local b = a * 2\n"
    "  b:register_hook(function(g) return g * 2 end)\n"
    "  b:cube():sum():backward()\n"
    "end\n"
    "local c = nb.ones(3, {requires_grad = true})\n"
    "local sgd = nb.optim.SGD({c}, {lr = 0.1})\n"
    "local function step(t)\n"
    "  sgd:zero_grad()\n"
    "  local J = (c * t):square():sum()\n"
    "  J:backward()\n"
    "  sgd:step()\n"
    "  return J, J:detach() * 2\n"
    "end\n"
    "local ready = nb.compile(step)\n"
    "for _ = 1, 4 do ready(nb.ones(3)) end\n"
    "function tests.replay()\n"
    "  local J, twice = ready(nb.ones(3))\n"
    "  sgd.lr = sgd.lr / 2\n"
    "  return J:item(), (J + twice):item()\n"
    "end\n"
    "function tests.compile()\n"
    "  local f = nb.compile(function(t) return t:square():sum() end)\n"
    "  for _ = 1, 5 do f(nb.ones(3)) end\n"
    "end\n"
    "function tests.clean() os.remove(path) os.remove(path .. '.safetensors') os.remove(path .. '.npz')"
    " os.remove(path .. '.csv') end\n"
    "return tests\n";

static bool again;  // Lua collects and asks once more: that must fail too

static void *allocate(void *ud, void *block, size_t old, size_t size) {
  (void)ud;
  if (size == 0) {
    free(block);
    return NULL;
  }
  if (!block || size > old) {
    if (again) {
      again = false;
      return NULL;
    }
    if (nb_memory_must_fail()) {
      again = true;
      return NULL;
    }
  }
  return realloc(block, size);
}

// Calls tests[name]; true when it succeeded.  Leaves the stack as it was.
static bool call(lua_State *L, const char *name, char *message, size_t size) {
  lua_getfield(L, 1, name);
  int status = lua_pcall(L, 0, 0, 0);
  if (status == LUA_OK) return true;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no message)";
  snprintf(message, size, "%s", text);
  lua_settop(L, 1);
  return false;
}

static size_t live_after_collection(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT);
  return nb_memory_stats().live;
}

static void fail_each(void **state, const char *name) {
  lua_State *L = *state;
  char message[512];
  assert_true(call(L, name, message, sizeof message));  // warm: caches, lazily loaded modules
  assert_true(call(L, name, message, sizeof message));
  size_t base = live_after_collection(L);
  int failures = 0;
  for (uint64_t n = 1; n < 1000000; n++) {
    again = false;
    // Lua cannot call a finalizer without memory for the call, and drops its object: none runs here.
    lua_gc(L, LUA_GCSTOP);
    nb_memory_fail_at(n);
    bool ok = call(L, name, message, sizeof message);
    lua_gc(L, LUA_GCRESTART);
    // A counter that is still running means that all allocations of the call were reached.
    bool reached_all = nb_memory_failing();
    nb_memory_fail_at(0);
    again = false;
    if (!ok) {
      failures++;
      if (!strstr(message, "memory"))
        fail_msg("%s, allocation %d: \"%s\" does not speak of memory", name, (int)n, message);
    }
    // Momentum and gradients may exist or not: a good run brings them back before the count.
    if (!call(L, name, message, sizeof message)) fail_msg("%s after allocation %d failed: %s", name, (int)n, message);
    if (live_after_collection(L) != base)
      fail_msg("%s, allocation %d: %zu bytes live, %zu before", name, (int)n, nb_memory_stats().live, base);
    if (ok && reached_all) break;
  }
  print_message("%s: %d allocations failed in turn\n", name, failures);
  assert_true(failures > 5);
}

static void test_plotting(void **state) {
  fail_each(state, "plot");
}

static void test_program(void **state) {
  fail_each(state, "program");
}

static void test_training_step(void **state) {
  fail_each(state, "train");
}

static void test_convolution_step(void **state) {
  fail_each(state, "convolve");
}

static void test_loading(void **state) {
  fail_each(state, "load");
}

static void test_saving(void **state) {
  fail_each(state, "save");
}

static void test_archive(void **state) {
  fail_each(state, "archive");
}

static void test_table(void **state) {
  fail_each(state, "table");
}

static void test_indexing(void **state) {
  fail_each(state, "index");
}

static void test_reading_the_tape(void **state) {
  fail_each(state, "tape");
}

static void test_observing(void **state) {
  fail_each(state, "observe");
}

static void test_linear_algebra(void **state) {
  fail_each(state, "algebra");
}

static void test_replaying(void **state) {
  fail_each(state, "replay");
}

static void test_compiling(void **state) {
  fail_each(state, "compile");
}

static void test_callbacks(void **state) {
  fail_each(state, "custom");
}

static int setup(void **state) {
  lua_State *L = lua_newstate(allocate, NULL);
  if (!L) return 1;
  luaL_openlibs(L);
  luaL_requiref(L, "nablua", luaopen_nablua, 0);
  lua_pop(L, 1);
  if (luaL_dostring(L, script) != LUA_OK) {
    print_error("%s\n", lua_tostring(L, -1));
    return 1;
  }
  lua_settop(L, 1);
  *state = L;
  return 0;
}

static int teardown(void **state) {
  char message[512];
  lua_State *L = *state;
  call(L, "clean", message, sizeof message);
  lua_close(L);
  size_t live = nb_memory_stats().live;
  if (live) print_error("%zu bytes live after the state was closed\n", live);
  return live != 0;
}

int main(void) {
  const struct CMUnitTest drawing[] = {cmocka_unit_test(test_plotting), cmocka_unit_test(test_program)};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training_step),  cmocka_unit_test(test_convolution_step), cmocka_unit_test(test_loading),
      cmocka_unit_test(test_saving),         cmocka_unit_test(test_archive),          cmocka_unit_test(test_table),
      cmocka_unit_test(test_indexing),       cmocka_unit_test(test_reading_the_tape), cmocka_unit_test(test_observing),
      cmocka_unit_test(test_linear_algebra), cmocka_unit_test(test_replaying),        cmocka_unit_test(test_compiling),
      cmocka_unit_test(test_callbacks)};
  return cmocka_run_group_tests(tests, setup, teardown) + cmocka_run_group_tests(drawing, setup, teardown);
}
