// SPDX-License-Identifier: MIT
// The Lua sources of the module, embedded by embed/embed.c: lua/foo/bar.lua is "nablua.foo.bar".
#ifndef NABLUA_SOURCES_H
#define NABLUA_SOURCES_H

#include <stddef.h>

typedef struct LuaSource {
  const char *name;           // as `require` knows it: "nablua.nn"
  const unsigned char *text;  // ends with a NUL that `size` does not count
  size_t size;
  const unsigned char *code;  // compiled by the Lua that nb_lua_compiler names
  size_t code_size;
} LuaSource;

extern const LuaSource nb_lua_sources[];
extern const int nb_lua_source_count;
extern const char nb_lua_compiler[];  // its lua_ident

#endif
