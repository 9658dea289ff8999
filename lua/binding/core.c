// SPDX-License-Identifier: MIT
// The functions of `nb` that are not operators: making tensors, gradient mode, seed, threads, memory.
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "backward.h"
#include "binding.h"
#include "convert.h"
#include "index.h"
#include "nablua/clock.h"
#include "nablua/environment.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/library.h"
#include "nablua/memory.h"
#include "nablua/parallel.h"
#include "nablua/random.h"
#include "nablua/tape.h"
#include "open.h"
#include "options.h"
#include "printing.h"
#include "visits.h"

// nb.tensor(value, {dtype=, requires_grad=, name=})
static int tensor(lua_State *L) {
  static const char *const options[] = {"dtype", "requires_grad", "name", NULL};
  DType dtype = NB_DTYPES;
  Error err;
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  if (nb_check_options(L, "tensor", 2, options)) {
    if (lua_getfield(L, 2, "dtype") != LUA_TNIL) {
      if (lua_type(L, -1) != LUA_TSTRING || !nb_dtype_parse(lua_tostring(L, -1), &dtype))
        return nb_raisef(L, "tensor: there is no dtype %s; there are f32, f64, i64, u8 and bool",
                         luaL_tolstring(L, -1, NULL));
    }
    lua_pop(L, 1);
  }
  nb_enter(L);
  Tensor *t = nb_push_from_lua(L, 1, dtype);
  if (lua_istable(L, 2)) {
    lua_getfield(L, 2, "requires_grad");
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
      return nb_raisef(L, "tensor: requires_grad must be true or false, got %s", nb_kind_of(L, -1));
    if (lua_toboolean(L, -1) && !nb_dtype_is_float(t->layout.dtype))
      return nb_raisef(L, "tensor: only f32 and f64 tensors can require grad, not %s", nb_dtype_name(t->layout.dtype));
    t->requires_grad = lua_toboolean(L, -1);
    lua_getfield(L, 2, "name");
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
      return nb_raisef(L, "tensor: name must be a string, got %s", nb_kind_of(L, -1));
    if (!nb_tensor_set_name(t, lua_tostring(L, -1), &err)) return nb_raise(L, &err);
    lua_pop(L, 2);
  }
  return 1;
}

static int is_tensor(lua_State *L) {
  lua_pushboolean(L, nb_test_tensor(L, 1) != NULL);
  return 1;
}

// ---- the machine ----

static int seed(lua_State *L) {
  int whole;
  lua_Integer value = lua_tointegerx(L, 1, &whole);
  if (!whole) return nb_raisef(L, "seed: needs a whole number, got %s", nb_kind_of(L, 1));
  nb_tell_unrepeatable("it seeds the random numbers");
  nb_random_set((RandomState){(uint64_t)value, 0});
  return 0;
}

// native.random_state([seed, counter]): the stream's place, for checkpoints.
static int random_state(lua_State *L) {
  RandomState s = nb_random_get();
  if (lua_gettop(L) >= 2)
    nb_random_set((RandomState){(uint64_t)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2)});
  lua_pushinteger(L, (lua_Integer)s.seed);
  lua_pushinteger(L, (lua_Integer)s.counter);
  return 2;
}

static int threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    int whole;
    lua_Integer n = lua_tointegerx(L, 1, &whole);
    if (!whole || n < 1 || n > 256 || !nb_set_threads((int)n))
      return nb_raisef(L, "threads: needs a whole number from 1 to 256, got %s", luaL_tolstring(L, 1, NULL));
  }
  lua_pushinteger(L, nb_threads());
  return 1;
}

// nb.memory([{limit=bytes, reset_peak=true}])
static int memory(lua_State *L) {
  static const char *const options[] = {"limit", "reset_peak", NULL};
  if (nb_check_options(L, "memory", 1, options)) {
    if (lua_getfield(L, 1, "limit") != LUA_TNIL) {
      lua_Number bytes = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
      if (!(bytes >= 1 && bytes <= 1e18)) return nb_raisef(L, "memory: limit must be a number of bytes from 1 to 1e18");
      nb_memory_set_limit((size_t)bytes);
    }
    lua_getfield(L, 1, "reset_peak");
    if (lua_toboolean(L, -1)) nb_memory_reset_peak();
    lua_pop(L, 2);
  }
  MemoryStats s = nb_memory_stats();
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)s.live);
  lua_setfield(L, -2, "live");
  lua_pushinteger(L, (lua_Integer)s.cached);
  lua_setfield(L, -2, "cached");
  lua_pushinteger(L, (lua_Integer)s.peak);
  lua_setfield(L, -2, "peak");
  lua_pushinteger(L, (lua_Integer)s.limit);
  lua_setfield(L, -2, "limit");
  return 1;
}

static int clock_seconds(lua_State *L) {
  lua_pushnumber(L, nb_clock());
  return 1;
}

// nb.sleep(seconds): in slices, so that an interrupt ends it and visitors are served.
static int sleep_seconds(lua_State *L) {
  Error err;
  struct timespec slice = {0, 20000000};
  lua_Number seconds = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : -1;
  if (!(seconds >= 0 && seconds < 1e9))
    return nb_raisef(L, "sleep: needs a number of seconds from 0, got %s", luaL_tolstring(L, 1, NULL));
  double end = nb_clock() + seconds;
  for (;;) {
    double left = end - nb_clock();
    if (left <= 0) return 0;
    if (!nb_poll(&err)) return nb_raise(L, &err);
    nb_wait(L);
    left = end - nb_clock();
    if (left <= 0) return 0;
    slice.tv_nsec = left < 0.02 ? (long)(left * 1e9) : 20000000;
    nanosleep(&slice, NULL);
  }
}

// native.environment(): the variables that the library obeys, a list of { name=, takes=, doc=, fallback= }.
static int environment(lua_State *L) {
  lua_createtable(L, nb_environment_count, 0);
  for (int i = 0; i < nb_environment_count; i++) {
    const EnvironmentRow *row = &nb_environment_rows[i];
    lua_createtable(L, 0, 4);
    lua_pushstring(L, row->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, row->takes);
    lua_setfield(L, -2, "takes");
    lua_pushstring(L, row->doc);
    lua_setfield(L, -2, "doc");
    lua_pushstring(L, row->fallback);
    lua_setfield(L, -2, "fallback");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

// native.columns(): the terminal's columns and rows.
static int columns(lua_State *L) {
  struct winsize w;
  bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0;
  lua_pushinteger(L, known && w.ws_col > 0 ? w.ws_col : 80);
  lua_pushinteger(L, known && w.ws_row > 0 ? w.ws_row : 24);
  return 2;
}

static int interrupted(lua_State *L) {
  lua_pushboolean(L, nb_interrupted());
  return 1;
}

// native.text(t, columns)
static int text(lua_State *L) {
  Tensor *t = nb_check_tensor(L, 1);
  nb_push_text(L, t, (int)luaL_optinteger(L, 2, 100));
  return 1;
}

void nb_open_core(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"tensor", tensor},   {"is_tensor", is_tensor}, {"grad", nb_lua_grad},    {"seed", seed},
      {"threads", threads}, {"memory", memory},       {"sleep", sleep_seconds}, {NULL, NULL}};
  nb_open_ops(L);
  nb_open_public_mode(L);
  luaL_setfuncs(L, functions, 0);
  lua_pushlightuserdata(L, nb_index_all());
  lua_setfield(L, -2, "ALL");
  lua_pushlightuserdata(L, nb_index_new());
  lua_setfield(L, -2, "NEW");
  lua_pushstring(L, nb_version());
  lua_setfield(L, -2, "version");
}

void nb_open_machine(lua_State *L) {
  static const luaL_Reg functions[] = {{"environment", environment},   {"clock", clock_seconds},
                                       {"isatty", is_terminal},        {"interrupted", interrupted},
                                       {"columns", columns},           {"text", text},
                                       {"random_state", random_state}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
#ifdef NB_HOSTILE
  lua_pushboolean(L, true);
#else
  lua_pushboolean(L, false);
#endif
  lua_setfield(L, -2, "hostile");  // for tests: whether collections come as often as they can
}
