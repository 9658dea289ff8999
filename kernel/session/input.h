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

// Evaluates an input in the frame s->frame, where that is not 0.
SessionStatus eval_in_frame(Session *s, const char *code, size_t length);

void forget_chunk(Session *s);

// Where an input begins behind what programs read from files alone: a byte order mark, and a first line such as
// "#!/usr/bin/env nablua", whose end stays, so that lines count as before.
size_t skip_mark(const char *code, size_t length);

typedef enum CommandState { NO_COMMAND, COMMAND, OPEN_COMMAND } CommandState;

// The command that begins at `at`, behind spaces, and where it ends: with its line, with the Lua that it is followed
// by, or, of a %%command, with the input.  Commands stand before any Lua.  An open one may go on in lines to come;
// `indent`, when not NULL, gets the spaces of the next.
CommandState command_at(Session *s, const char *code, size_t length, size_t *at, size_t *end, int *indent);

// Adds what stands behind the commands, as Lua: "=x" asks for the value of x.
void add_lua(const char *code, size_t length, Text *out);

// Completeness of an input without prompts.
SessionCompleteness judge(Session *s, const char *code, size_t length, int *indent);

#endif
