// SPDX-License-Identifier: MIT
// Lua's own functions put in place once more, so that an interrupt stops them.
#ifndef NABLUA_INTERRUPTS_H
#define NABLUA_INTERRUPTS_H

#include <lua.h>

#include "state.h"

// Replaces module.name by f, whose upvalue is the function that was there.
void wrap_function(lua_State *L, const char *module, const char *name, lua_CFunction f);

// Lets what runs go on: the interrupt was meant for another program.
void forgive_interrupt(Session *s);

void open_interrupts(lua_State *L);  // coroutines, pcall and xpcall
void open_sort(lua_State *L);        // table.sort: sort.c
void open_programs(lua_State *L);    // os.execute and io.popen: programs.c
void open_loading(lua_State *L);     // load and its kin, for text alone: loading.c
void open_patterns(lua_State *L);    // string.find and its kin: patterns.c

#endif
