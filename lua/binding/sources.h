// SPDX-License-Identifier: MIT
// The Lua sources of the module, embedded by embed/embed.c: lua/foo/bar.lua is "nablua.foo.bar".
#ifndef NABLUA_SOURCES_H
#define NABLUA_SOURCES_H

#include <stddef.h>

// Bytes as zlib has packed them, and how many they were.
typedef struct Packed {
  const unsigned char *bytes;
  size_t count, size;
} Packed;

typedef struct LuaSource {
  const char *name;  // as `require` knows it: "nablua.nn"
  Packed text;
  Packed code;  // compiled by the Lua that nb_lua_compiler names
} LuaSource;

extern const LuaSource nb_lua_sources[];
extern const int nb_lua_source_count;
extern const char nb_lua_compiler[];  // its lua_ident

#endif
