// SPDX-License-Identifier: MIT
// Keeping what inputs showed.
#ifndef NABLUA_RECORD_H
#define NABLUA_RECORD_H

#include "state.h"

// Adds the bundle on the top of the stack, which stays: "value", "display", "update", "error" or "clear".
void record_bundle(lua_State *L, Session *s, const char *kind, const char *id);

// Adds what was printed; record_printed makes an item of what has come together.
void record_text(lua_State *L, const char *text, size_t length);
void record_printed(lua_State *L, Session *s);

#endif
