// SPDX-License-Identifier: MIT
// Keyframes as userdata, and what else lua/run/ has done in C.
#include "nablua/keyframes.h"

#include <math.h>
#include <string.h>

#include "binding.h"
#include "flags.h"
#include "nablua/kernels.h"
#include "open.h"
#include "raise.h"
#include "visits.h"

static const char sequence_name[] = "nablua keyframes", frame_name[] = "nablua keyframe";
static const char withdrawn_name[] = "nablua withdrawn";

static Keyframes *check_sequence(lua_State *L, int index) {
  Keyframes **k = luaL_checkudata(L, index, sequence_name);
  luaL_argcheck(L, *k, index, "it is closed");
  return *k;
}

static Keyframe *check_frame(lua_State *L, int index) {
  Keyframe **f = luaL_checkudata(L, index, frame_name);
  luaL_argcheck(L, *f, index, "it was dropped");
  return *f;
}

// native.keyframes(): a sequence.
static int keyframes(lua_State *L) {
  Error err;
  Keyframes **k = lua_newuserdatauv(L, sizeof *k, 0);
  *k = NULL;
  luaL_setmetatable(L, sequence_name);
  if (!nb_keyframes_new(k, &err)) return nb_raise(L, &err);
  return 1;
}

static int close_sequence(lua_State *L) {
  Keyframes **k = luaL_checkudata(L, 1, sequence_name);
  nb_keyframes_free(*k);
  *k = NULL;
  return 0;
}

// keyframes:take(list of tensors): a keyframe.
static int take(lua_State *L) {
  Error err;
  Keyframes *k = check_sequence(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = (size_t)lua_rawlen(L, 2);
  Tensor **list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
  Keyframe **f = lua_newuserdatauv(L, sizeof *f, 0);
  *f = NULL;
  luaL_setmetatable(L, frame_name);  // from here on Lua allocates nothing, so that no finalizer changes the list
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    if (!(list[i] = nb_test_tensor(L, -1))) return nb_raisef(L, "keyframes: entry %d is no tensor", (int)i + 1);
    lua_pop(L, 1);
  }
  if (!nb_keyframe_take(k, list, (int)count, f, &err)) return nb_raise(L, &err);
  return 1;
}

static int writes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)nb_keyframes_writes(check_sequence(L, 1)));
  return 1;
}

static int bytes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)nb_keyframes_bytes(check_sequence(L, 1)));
  return 1;
}

static int seconds(lua_State *L) {
  lua_pushnumber(L, nb_keyframes_seconds(check_sequence(L, 1)));
  return 1;
}

static int lost(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)nb_keyframes_lost(check_sequence(L, 1)));
  return 1;
}

static int restore(lua_State *L) {
  Error err;
  return nb_keyframe_restore(check_frame(L, 1), &err) ? 0 : nb_raise(L, &err);
}

static int whole(lua_State *L) {
  lua_pushboolean(L, nb_keyframe_whole(check_frame(L, 1)));
  return 1;
}

// keyframe:withdraw(): what was written since, which is not any more; nil where nothing was.
static int withdraw(lua_State *L) {
  Error err;
  Keyframe *f = check_frame(L, 1);
  Withdrawn **w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = NULL;
  luaL_setmetatable(L, withdrawn_name);
  if (!nb_keyframe_withdraw(f, w, &err)) return nb_raise(L, &err);
  if (!*w) lua_pushnil(L);
  return 1;
}

static int write_withdrawn(lua_State *L) {
  Error err;
  Withdrawn **w = luaL_checkudata(L, 1, withdrawn_name);
  return nb_withdrawn_write(*w, &err) ? 0 : nb_raise(L, &err);
}

static int free_withdrawn(lua_State *L) {
  Withdrawn **w = luaL_checkudata(L, 1, withdrawn_name);
  nb_withdrawn_free(*w);
  *w = NULL;
  return 0;
}

// ---- what will be taken back ----

enum { MOST_COVERS = 32 };
static const Keyframe *covers[MOST_COVERS];
static int cover_count;

bool nb_is_covered(const Storage *s) {
  for (int i = 0; i < cover_count; i++)
    if (nb_keyframe_holds(covers[i], s)) return true;
  return false;
}

// keyframe:cover(): until it is dropped, what somebody in the middle of a run writes into what it holds is let, since
// it will be withdrawn.
static int cover(lua_State *L) {
  const Keyframe *f = check_frame(L, 1);
  if (cover_count < MOST_COVERS) covers[cover_count++] = f;
  return 0;
}

static int drop(lua_State *L) {
  Keyframe **f = luaL_checkudata(L, 1, frame_name);
  for (int i = 0; i < cover_count; i++)
    if (covers[i] == *f) covers[i] = covers[--cover_count];
  nb_keyframe_free(*f);
  *f = NULL;
  return 0;
}

// ---- tables ----

static bool is_nan(lua_State *L, int index) {
  return lua_type(L, index) == LUA_TNUMBER && isnan(lua_tonumber(L, index));
}

static lua_Integer entries(lua_State *L, int table) {
  lua_Integer n = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) n++;
  return n;
}

// Whether two tables hold the same keys and values, without their metatables.
static bool same_table(lua_State *L, int a, int b) {
  lua_Integer n = 0;
  for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_rawget(L, b);
    bool same = lua_rawequal(L, -1, -2) || (is_nan(L, -1) && is_nan(L, -2));
    lua_pop(L, 1);
    if (!same) return false;
    n++;
  }
  return entries(L, b) == n;
}

// native.first_other(tables, copies): the place of the first table that does not hold what its copy does, or nil.
static int first_other(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  for (lua_Integer i = 1; lua_rawgeti(L, 1, i) == LUA_TTABLE && lua_rawgeti(L, 2, i) == LUA_TTABLE; i++) {
    if (!same_table(L, 3, 4)) {
      lua_pushinteger(L, i);
      return 1;
    }
    lua_settop(L, 2);
  }
  return 0;
}

// ---- what a step did ----

static uint64_t mixed(uint64_t sum, uint64_t bits) {
  sum = (sum ^ bits) * UINT64_C(0x9E3779B97F4A7C15);
  return sum ^ sum >> 29;
}

// native.sample(list of tensors, k): a number made of the bits of a few of their elements, others for another k.  What
// moves all weights moves it, and it costs the same for nets of any size.
static int sample(lua_State *L) {
  enum { EACH = 4 };
  luaL_checktype(L, 1, LUA_TTABLE);
  uint64_t place = mixed(1, (uint64_t)luaL_checkinteger(L, 2)), sum = 0;
  for (lua_Integer i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL; i++, lua_settop(L, 2)) {
    const Tensor *t = nb_test_tensor(L, -1);
    uint64_t n = t && t->storage ? (uint64_t)nb_layout_numel(&t->layout) : 0;
    if (n == 0 || !nb_layout_contiguous(&t->layout)) continue;
    size_t size = nb_dtype_size(t->layout.dtype);
    const char *data = nb_tensor_data(t);
    for (int k = 0; k < EACH; k++) {
      uint64_t bits = 0;
      place = mixed(place, (uint64_t)k + 1);
      memcpy(&bits, data + place % n * size, size);
      sum = mixed(sum, bits + 1);
    }
  }
  lua_pushinteger(L, (lua_Integer)(sum >> 1));
  return 1;
}

// native.way(): what the bits of results depend on, as a clause.
static int way(lua_State *L) {
  lua_pushstring(L, nb_kernels_way());
  return 1;
}

// native.flags_noted(): moves whenever requires_grad of a tensor was set, or one of its hooks came or went.
static int flags_noted(lua_State *L) {
  lua_pushinteger(L, nb_flags_noted());
  return 1;
}

void nb_open_keyframes(lua_State *L) {
  static const luaL_Reg of_sequence[] = {{"take", take},       {"writes", writes}, {"copied", bytes},
                                         {"copying", seconds}, {"lost", lost},     {NULL, NULL}};
  static const luaL_Reg of_frame[] = {{"restore", restore}, {"intact", whole}, {"withdraw", withdraw},
                                      {"cover", cover},     {"drop", drop},    {NULL, NULL}};
  static const luaL_Reg of_withdrawn[] = {{"write", write_withdrawn}, {NULL, NULL}};
  nb_make_class(L, sequence_name, close_sequence, of_sequence);
  nb_make_class(L, frame_name, drop, of_frame);
  nb_make_class(L, withdrawn_name, free_withdrawn, of_withdrawn);
  static const luaL_Reg functions[] = {{"first_other", first_other}, {"keyframes", keyframes},
                                       {"sample", sample},           {"way", way},
                                       {"flags_noted", flags_noted}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
