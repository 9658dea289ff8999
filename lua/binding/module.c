// SPDX-License-Identifier: MIT
// Opening the module: `nablua.native` and `nablua.core` from C, the rest from embedded Lua sources.
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "binding.h"
#include "nablua/environment.h"
#include "nablua/library.h"
#include "nablua_lua.h"
#include "open.h"
#include "sources.h"
#include "traces.h"
#include "whole.h"

// Pushes the bytes, in a block of Lua's own.
static const char *push_unpacked(lua_State *L, const Packed *p) {
  uLongf size = (uLongf)p->size;
  void *bytes = lua_newuserdatauv(L, p->size, 0);
  if (uncompress(bytes, &size, p->bytes, (uLong)p->count) != Z_OK || size != p->size)
    luaL_error(L, "nablua: a part of the program cannot be unpacked: there is not enough memory");
  return bytes;
}

// The loader of an embedded source; its index in the list is the upvalue.  Further values are
// `require`'s: the name and this function.  A source that an interrupt cut short would be missed by what knows of it.
static int load_source(lua_State *L) {
  char chunk[80];
  const LuaSource *s = &nb_lua_sources[lua_tointeger(L, lua_upvalueindex(1))];
  // Compiled code is for the very version that made it, and was made by the build; users' chunks are text only.
  bool compiled = strcmp(lua_ident, nb_lua_compiler) == 0;
  snprintf(chunk, sizeof chunk, "=%s", s->name);
  const Packed *p = compiled ? &s->code : &s->text;
  const char *bytes = push_unpacked(L, p);
  if (luaL_loadbufferx(L, bytes, p->size, chunk, compiled ? "b" : "t") != LUA_OK) return lua_error(L);
  lua_remove(L, -2);
  lua_insert(L, 1);
  return nb_call_whole(L, lua_gettop(L) - 1);
}

// sources[name]: the text of an embedded source, for help.
static int source_text(lua_State *L) {
  const char *name = luaL_checkstring(L, 2);
  for (int i = 0; i < nb_lua_source_count; i++) {
    if (strcmp(nb_lua_sources[i].name, name) != 0) continue;
    const char *text = push_unpacked(L, &nb_lua_sources[i].text);
    lua_pushlstring(L, text, nb_lua_sources[i].text.size);
    return 1;
  }
  return 0;
}

// native.source_names(): the names of all of them, in order.
static int source_names(lua_State *L) {
  lua_createtable(L, nb_lua_source_count, 0);
  for (int i = 0; i < nb_lua_source_count; i++) {
    lua_pushstring(L, nb_lua_sources[i].name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static void tell(const char *sentence) {
  fprintf(stderr, "nablua: %s\n", sentence);
}

// The native table and, in its field `core`, what becomes `nb`.
static int open_native(lua_State *L) {
  lua_createtable(L, 0, 256);  // native; all three of about their size, for growing takes longer than filling
  nb_open_methods(L);
  nb_open_raise(L);
  nb_open_options(L);
  nb_open_calls(L);
  nb_open_backward(L);
  nb_open_columns(L);
  nb_open_raster(L);
  nb_open_process(L);
  nb_open_rows(L);
  nb_open_machine(L);
  nb_open_files(L);
  nb_open_feed(L);
  nb_open_inspect(L);
  nb_open_observe(L);
  nb_open_stops(L);
  nb_open_profile(L);
  nb_open_anomaly(L);
  nb_open_measure(L);
  nb_open_keyframes(L);
  nb_open_cycles(L);
  nb_open_callback(L);
  nb_open_custom(L);
  nb_open_compile(L);
  nb_open_optimizer(L);
  nb_open_mode(L);
  nb_open_whole(L);
  nb_open_visits(L);
  nb_open_code(L);
  nb_open_traces(L);
  nb_open_dist(L);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, source_text);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "sources");
  lua_pushcfunction(L, source_names);
  lua_setfield(L, -2, "source_names");
  lua_createtable(L, 0, 512);  // core, above native
  nb_open_core(L);
  lua_setfield(L, -2, "core");
  return 1;
}

static int open_core(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nablua.native");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "core");
  return 1;
}

int luaopen_nablua(lua_State *L) {
  Error err;
  luaL_checkversion(L);
  if (!nb_open(&err)) return luaL_error(L, "nablua: %s", err.message);
  nb_on_notice(tell);
  nb_environment_apply();
  nb_open_trace();
#ifdef NB_HOSTILE
  nb_open_hostile(L);
#endif
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_native);
  lua_setfield(L, -2, "nablua.native");
  lua_pushcfunction(L, open_core);
  lua_setfield(L, -2, "nablua.core");
  for (int i = 0; i < nb_lua_source_count; i++) {
    lua_pushinteger(L, i);
    lua_pushcclosure(L, load_source, 1);
    lua_setfield(L, -2, nb_lua_sources[i].name);
  }
  // Nothing of it becomes garbage: collecting meanwhile would only walk through it.
  bool collecting = lua_gc(L, LUA_GCISRUNNING);
  lua_gc(L, LUA_GCSTOP);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nablua.init");
  int status = lua_pcall(L, 1, 1, 0);
  if (collecting) lua_gc(L, LUA_GCRESTART);
  return status == LUA_OK ? 1 : lua_error(L);
}
