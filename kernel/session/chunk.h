// SPDX-License-Identifier: MIT
// An input made ready for Lua, so that its top-level locals outlive it.
//
// The input becomes the body of a function whose upvalues are the kept locals that it names; the session
// joins these to the variables of earlier inputs.  After each declaration at the top level a call hands the
// new variables to the session: a closure that names them is all that is needed to keep them.
//
//   local n <const> = ... return function(...)  local m = n + 1 KEEP(function()return m end)  return m
//   end
#ifndef NABLUA_CHUNK_H
#define NABLUA_CHUNK_H

#include <stdbool.h>
#include <stddef.h>

#include "session.h"
#include "text.h"

// The first argument of the chunk: the function that declarations call.  The second returns its arguments.
#define CHUNK_KEEP "__nablua_keep"
#define CHUNK_VALUES "__nablua_values"

typedef struct Chunk Chunk;

// NULL when there is no memory.  `code` must outlive the chunk.
Chunk *chunk_new(const char *code, size_t length);
void chunk_free(Chunk *c);

// Whether the last statement may be an expression whose value is wanted.
bool chunk_ends_in_expression(const Chunk *c);

// Whether the input ends with ";", which hides its value.
bool chunk_is_quiet(const Chunk *c);

// The input itself; with `value`, "return" before its last statement.
void chunk_plain(const Chunk *c, bool value, Text *out);

// The whole function, see above.  lookup tells of a name whether it is a kept local: 0 no, 1 yes, 2 a constant.
// False when the input names more kept locals than a Lua function can reach.
bool chunk_wrapped(const Chunk *c, bool value, int (*lookup)(void *user, const char *name, size_t length), void *user,
                   Text *out);

// How deep blocks and brackets are open at the end, for indenting the next line.
int chunk_depth(const Chunk *c);

// Whether a text that grows by lines is open at its end: in a block, brackets, a long string, or behind an operator
// that wants more.  What of it is in `seen` is not looked at again.
bool growth_is_open(SessionGrowth *seen, const char *code, size_t length);

#endif
