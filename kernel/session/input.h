// SPDX-License-Identifier: MIT
// An input before it runs: where its commands are, whether it is complete, and the function that Lua makes of it.
#ifndef NABLUA_INPUT_H
#define NABLUA_INPUT_H

#include "state.h"

typedef struct Source {
  const char *code;
  size_t length;
  const char *name;  // "=input 3"
} Source;

// Leaves the function that an input is; raises an error where it is none.  s->chunk stays until forget_chunk.
void compile(lua_State *L, Session *s, const Source *source);
void forget_chunk(Session *s);

// Where an input begins behind what programs read from files alone: a byte order mark, and a first line such as
// "#!/usr/bin/env nablua", whose end stays, so that lines count as before.
size_t skip_mark(const char *code, size_t length);

// The line at `at` when it is a command, and where the next one begins.  Commands stand before any Lua.
bool command_line(const char *code, size_t length, size_t *at, size_t *end);

// Completeness of an input without prompts.
SessionCompleteness judge(Session *s, const char *code, size_t length, int *indent);

#endif
