// SPDX-License-Identifier: MIT
// Threads that make batches ready, and transforms of pictures.
//
//   native.feed_open(workers) → feed
//   feed:submit({tensor or rows, ...}, places, steps, key, first), feed:take() → tensors, feed:count(), feed:close()
//   native.pictures(x, steps, key) → tensor, native.pictures_random(steps) → whether one draws
//   native.pictures_key() → a key, drawn from the random stream
//
// Steps are a list of { kind, a, b, c, d, mean = list, std = list }.
#include "nablua/feed.h"

#include "binding.h"
#include "nablua/events.h"
#include "nablua/random.h"
#include "open.h"
#include "row_files.h"

static const char metatable[] = "nablua.feed";

// In the order of PictureKind.
static const char *const kinds[] = {"ToFloat",  "Normalize", "CenterCrop", "RandomCrop", "Resize", "FlipColumns",
                                    "FlipRows", "Erase",     "Affine",     "Jitter",     NULL};

// The numbers of a list in field `name` of the table on top, in memory of Lua's that is left below that table.
static const double *read_list(lua_State *L, const char *name, int64_t *count) {
  int table = lua_absindex(L, -1);
  lua_getfield(L, table, name);
  *count = lua_istable(L, -1) ? (int64_t)lua_rawlen(L, -1) : 0;
  if (*count == 0) return lua_pop(L, 1), NULL;
  double *to = lua_newuserdatauv(L, (size_t)*count * sizeof *to, 0);
  for (int64_t i = 0; i < *count; i++) {
    lua_rawgeti(L, -2, (lua_Integer)i + 1);
    to[i] = luaL_checknumber(L, -1);
    lua_pop(L, 1);
  }
  lua_insert(L, table);
  lua_pop(L, 1);
  return to;
}

// The list of steps at an argument; what it points to stays on the stack.
static int read_steps(lua_State *L, int arg, PictureStep *steps) {
  luaL_checktype(L, arg, LUA_TTABLE);
  int count = (int)lua_rawlen(L, arg);
  luaL_argcheck(L, count <= NB_PICTURE_STEPS, arg, "too many steps");
  luaL_checkstack(L, 2 * count + 8, NULL);
  for (int i = 0; i < count; i++) {
    PictureStep *s = &steps[i];
    *s = (PictureStep){.mean = NULL};
    lua_rawgeti(L, arg, i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_rawgeti(L, -1, 1);
    s->kind = (PictureKind)luaL_checkoption(L, -1, NULL, kinds);
    lua_pop(L, 1);
    for (int k = 0; k < 4; k++) {
      lua_rawgeti(L, -1, k + 2);
      s->v[k] = luaL_optnumber(L, -1, 0);
      lua_pop(L, 1);
    }
    s->mean = read_list(L, "mean", &s->means);
    s->std = read_list(L, "std", &s->stds);
    lua_pop(L, 1);
  }
  return count;
}

static Feed *check_feed(lua_State *L) {
  Feed **f = luaL_checkudata(L, 1, metatable);
  luaL_argcheck(L, *f, 1, "it is closed");
  return *f;
}

static int feed_close(lua_State *L) {
  Feed **f = luaL_checkudata(L, 1, metatable);
  nb_feed_close(*f);
  *f = NULL;
  return 0;
}

static int feed_open(lua_State *L) {
  Error err;
  Feed **f = lua_newuserdatauv(L, sizeof(Feed *), 0);
  *f = NULL;
  luaL_setmetatable(L, metatable);
  if (!(*f = nb_feed_open((int)luaL_checkinteger(L, 1), &err))) return nb_raise(L, &err);
  return 1;
}

static int feed_submit(lua_State *L) {
  Error err;
  PictureStep steps[NB_PICTURE_STEPS];
  FeedColumn columns[NB_FEED_COLUMNS] = {{NULL, NULL}};
  Feed *f = check_feed(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  const Tensor *places = nb_check_tensor(L, 3);
  luaL_argcheck(L, places->layout.dtype == NB_I64 && places->layout.ndim == 1 && nb_layout_contiguous(&places->layout),
                3, "a contiguous vector of i64");
  FeedBatch batch = {.columns = columns,
                     .count = (int)lua_rawlen(L, 2),
                     .places = nb_tensor_data(places),
                     .n = places->layout.shape[0],
                     .steps = steps,
                     .key = (uint64_t)luaL_checkinteger(L, 5),
                     .first = (uint64_t)luaL_checkinteger(L, 6)};
  luaL_argcheck(L, batch.count <= NB_FEED_COLUMNS, 2, "too many tensors");
  for (int i = 0; i < batch.count; i++) {
    lua_rawgeti(L, 2, i + 1);
    columns[i].file = nb_rows_at(L, -1);
    if (!columns[i].file) columns[i].tensor = nb_check_tensor(L, -1);
    lua_pop(L, 1);  // the table has them
  }
  batch.step_count = read_steps(L, 4, steps);
  if (!nb_feed_submit(f, &batch, &err)) return nb_raise(L, &err);
  return 0;
}

static int feed_take(lua_State *L) {
  nb_tell_unrepeatable("it takes batches of a loader");
  Error err;
  Feed *f = check_feed(L);
  int count = nb_feed_columns(f);
  Tensor **slots[NB_FEED_COLUMNS], *out[NB_FEED_COLUMNS];
  luaL_checkstack(L, count + 4, NULL);
  for (int i = 0; i < count; i++) slots[i] = nb_new_tensor(L);
  if (!nb_feed_take(f, out, &err)) return nb_raise(L, &err);
  for (int i = 0; i < count; i++) *slots[i] = out[i];
  for (int i = 0; i < count; i++) nb_feed_collector(out[i]);
  return count;
}

static int pictures(lua_State *L) {
  Error err;
  PictureStep steps[NB_PICTURE_STEPS];
  const Tensor *x = nb_check_tensor(L, 1);
  luaL_argcheck(L, nb_layout_contiguous(&x->layout), 1, "contiguous");
  uint64_t key = (uint64_t)luaL_checkinteger(L, 3);
  int count = read_steps(L, 2, steps);
  Tensor **slot = nb_new_tensor(L);
  if (!(*slot = nb_pictures_apply(x, steps, count, key, &err))) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  return 1;
}

static int pictures_random(lua_State *L) {
  PictureStep steps[NB_PICTURE_STEPS];
  bool draws = false;
  int count = read_steps(L, 1, steps);
  for (int i = 0; i < count; i++) draws = draws || nb_pictures_random(steps[i].kind);
  lua_pushboolean(L, draws);
  return 1;
}

static int pictures_key(lua_State *L) {
  nb_tell_unrepeatable("it draws for pictures");
  uint64_t words[2];
  nb_random_block(nb_random_take(1), 0, words);
  lua_pushinteger(L, (lua_Integer)words[0]);
  return 1;
}

void nb_open_feed(lua_State *L) {
  static const luaL_Reg functions[] = {{"feed_open", feed_open},
                                       {"pictures", pictures},
                                       {"pictures_random", pictures_random},
                                       {"pictures_key", pictures_key},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"submit", feed_submit}, {"take", feed_take}, {"close", feed_close}, {NULL, NULL}};
  luaL_newmetatable(L, metatable);
  lua_pushcfunction(L, feed_close);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
