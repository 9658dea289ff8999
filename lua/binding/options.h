// SPDX-License-Identifier: MIT
// Tables of options: what is said of one that is none, or that has an option nobody knows, in C and in Lua.
#ifndef NABLUA_OPTIONS_H
#define NABLUA_OPTIONS_H

#include <lua.h>
#include <stdbool.h>

// Whether there is a table of options at `index`.  Raises an error when there is something else but nil, or when one of
// its keys is not in the NULL-ended list.
bool nb_check_options(lua_State *L, const char *where, int index, const char *const *names);

// Raises that the function `where` knows no such option.
int nb_no_option(lua_State *L, const char *where, const char *name, const char *const *names);

#endif
