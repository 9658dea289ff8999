// SPDX-License-Identifier: MIT
// Inputs that were copied from a prompt, with its prompts and what was shown in between.
#ifndef NABLUA_PASTED_H
#define NABLUA_PASTED_H

#include "chunk.h"

// Whether the text begins with a prompt: "3> ", "> ", ">>> ", "In [3]: ".
bool pasted_begins(const char *code, size_t length);

// Adds the input at or after byte *at without its prompts; lines that are no input become empty, so that lines keep
// their numbers.  Returns false when there is none left.
bool pasted_next(const char *code, size_t length, size_t *at, Text *out);

#endif
