// SPDX-License-Identifier: MIT
// Files of tensors, for the Lua sources that make nb.load, nb.save and data.
#include "nablua/io.h"

#include <string.h>

#include "binding.h"

static int push_read(lua_State *L, Tensor *(*read)(const char *, Error *)) {
  Error err;
  const char *path = luaL_checkstring(L, 1);
  Tensor **slot = nb_new_tensor(L);
  *slot = read(path, &err);
  if (!*slot) return nb_raise(L, &err);
  nb_feed_collector(L, *slot);
  return 1;
}

// native.idx_read(path)
static int idx_read(lua_State *L) {
  return push_read(L, nb_idx_read);
}

// native.npy_read(path)
static int npy_read(lua_State *L) {
  return push_read(L, nb_npy_read);
}

// native.npy_write(path, t)
static int npy_write(lua_State *L) {
  Error err;
  const char *path = luaL_checkstring(L, 1);
  return nb_npy_write(path, nb_check_tensor(L, 2), &err) ? 0 : nb_raise(L, &err);
}

static int close_file(lua_State *L) {
  nb_safetensors_close(lua_touserdata(L, 1));
  return 0;
}

// A TensorFile that the collector closes.
static TensorFile *new_file(lua_State *L) {
  TensorFile *file = lua_newuserdatauv(L, sizeof *file, 0);
  memset(file, 0, sizeof *file);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, close_file);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return file;
}

// native.safetensors_read(path): names in order, tensors in the same order, notes by key
static int safetensors_read(lua_State *L) {
  Error err;
  const char *path = luaL_checkstring(L, 1);
  TensorFile *file = new_file(L);
  if (!nb_safetensors_read(path, file, &err)) return nb_raise(L, &err);
  lua_newtable(L);  // names
  lua_newtable(L);  // tensors
  for (size_t i = 0; i < file->count; i++) {
    lua_pushstring(L, file->tensors[i].name);
    lua_rawseti(L, -3, (lua_Integer)i + 1);
    Tensor **slot = nb_new_tensor(L);
    *slot = file->tensors[i].tensor;
    file->tensors[i].tensor = NULL;
    nb_feed_collector(L, *slot);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_newtable(L);  // notes
  for (size_t i = 0; i < file->note_count; i++) {
    lua_pushstring(L, file->notes[i].key);
    lua_pushlstring(L, file->notes[i].value, file->notes[i].length);
    lua_rawset(L, -3);
  }
  return 3;
}

// native.safetensors_write(path, names, tensors, note keys, note values)
static int safetensors_write(lua_State *L) {
  Error err;
  const char *path = luaL_checkstring(L, 1);
  for (int i = 2; i <= 5; i++) luaL_checktype(L, i, LUA_TTABLE);
  size_t count = lua_rawlen(L, 2), notes = lua_rawlen(L, 4);
  NamedTensor *tensors = lua_newuserdatauv(L, (count + 1) * sizeof *tensors, 0);
  Note *note = lua_newuserdatauv(L, (notes + 1) * sizeof *note, 0);
  for (size_t i = 0; i < count; i++) {  // the tables keep strings and tensors alive
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    tensors[i] = (NamedTensor){luaL_checkstring(L, -2), nb_check_tensor(L, -1)};
    lua_pop(L, 2);
  }
  for (size_t i = 0; i < notes; i++) {
    lua_rawgeti(L, 4, (lua_Integer)i + 1);
    lua_rawgeti(L, 5, (lua_Integer)i + 1);
    note[i].key = luaL_checkstring(L, -2);
    note[i].value = luaL_checklstring(L, -1, &note[i].length);
    lua_pop(L, 2);
  }
  return nb_safetensors_write(path, tensors, count, note, notes, &err) ? 0 : nb_raise(L, &err);
}

void nb_open_io(lua_State *L) {
  static const luaL_Reg functions[] = {{"idx_read", idx_read},
                                       {"npy_read", npy_read},
                                       {"npy_write", npy_write},
                                       {"safetensors_read", safetensors_read},
                                       {"safetensors_write", safetensors_write},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
