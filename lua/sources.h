// SPDX-License-Identifier: MIT
// The Lua sources of the module, embedded as text by embed.cmake: lua/foo/bar.lua is "nablua.foo.bar".
#ifndef NABLUA_SOURCES_H
#define NABLUA_SOURCES_H

#include <stddef.h>

typedef struct LuaSource {
  const char *name;           // as `require` knows it: "nablua.nn"
  const unsigned char *text;  // ends with a NUL that `size` does not count
  size_t size;
} LuaSource;

extern const LuaSource nb_lua_sources[];
extern const int nb_lua_source_count;

#endif
