// SPDX-License-Identifier: MIT
// Errors in the user's terms: their source line in front, the network's layer behind.
#ifndef NABLUA_RAISE_H
#define NABLUA_RAISE_H

#include <lua.h>

#include "nablua/error.h"

// Throws with the user's source line in front and the network's layer behind.
int nb_raise(lua_State *L, const Error *err);
int nb_raisef(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The string at `index` as C knows it; raises an error when it is none or holds a zero byte, where C would see its end.
// `what` names it in the sentence: "the path".
const char *nb_check_text(lua_State *L, int index, const char *what);

// Keeps the value on top, which Lua raised below the library, until nb_raise throws it as NB_ERROR_CALLBACK.  Pops it.
void nb_keep(lua_State *L);

// The kept value, pushed; false when there is none.
void nb_push_kept(lua_State *L);

#endif
