// SPDX-License-Identifier: MIT
// Lua's own functions put in place once more, so that an interrupt stops them.
#ifndef NABLUA_INTERRUPTS_H
#define NABLUA_INTERRUPTS_H

#include <lua.h>

#include "state.h"

// Stops what is evaluated now by an interrupt that was noted before.
void deliver_interrupt(Session *s);

// Lets what runs go on: the interrupt was meant for another program.
void forgive_interrupt(Session *s);

// The states that run or wait for one that does, the innermost first; how many.
int waiting_states(const Session *s, lua_State **states, int most);

// Whether one of the states that wait for a coroutine is such a one.
bool any_waiting(const Session *s, bool (*is)(lua_State *L));

void open_interrupts(lua_State *L);      // coroutines, pcall and xpcall
void know_protected_call(lua_State *L);  // the library's own, once it is loaded
void open_sort(lua_State *L);            // table.sort: sort.c
void open_getinfo(lua_State *L);         // debug.getinfo, for which an input is a main chunk: getinfo.c
void open_record(lua_State *L);          // print and io.write, whose text is kept: record.c
void open_programs(lua_State *L);        // os.execute and io.popen: programs.c
void open_loading(lua_State *L);         // load and its kin, for text alone: loading.c
void open_patterns(lua_State *L);        // string.find and its kin: patterns.c

// luaL_loadfilex, which also notes what file it was that was loaded.  loading.c
int load_file(lua_State *L, const char *path, const char *mode);

#endif
