// SPDX-License-Identifier: MIT
// Which names a Lua function looks up in the tables that its upvalues hold.
//
// A function's globals stand nowhere but in its code: _ENV.name is an instruction with the number of an upvalue and
// that of a string.  What lua_dump writes is read here for them, in the format of Lua 5.4.
#ifndef NABLUA_CODE_H
#define NABLUA_CODE_H

#include "binding.h"

// Pushes two tables for the Lua function at `f`, whose own functions are read with it: upvalue → { name = true, ... },
// and { text = true, ... } of all its strings.  An upvalue whose value is used in other ways, too, is missing in the
// first, which has a field 0 where the globals are used by way of _G and not a name's.  False, with nothing pushed,
// when the code is in another format.
bool nb_push_code_names(lua_State *L, int f);

// Whether the function at `index` is one of the library's Lua functions.
bool nb_is_library_function(lua_State *L, int index);

#endif
