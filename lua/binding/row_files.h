// SPDX-License-Identifier: MIT
// Files of rows that Lua has opened.
#ifndef NABLUA_BINDING_ROW_FILES_H
#define NABLUA_BINDING_ROW_FILES_H

#include <lua.h>

#include "nablua/files.h"

// The file of rows at an index; NULL where there is something else, an error where it is closed.
RowFile *nb_rows_at(lua_State *L, int i);

#endif
