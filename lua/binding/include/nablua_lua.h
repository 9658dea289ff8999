// SPDX-License-Identifier: MIT
// The Lua module: `luaopen_nablua` leaves the table `nb` on the stack, as `require "nablua"` expects.
#ifndef NABLUA_LUA_H
#define NABLUA_LUA_H

struct lua_State;

__attribute__((visibility("default"))) int luaopen_nablua(struct lua_State *L);

// Where the trace goes that NABLUA_TRACE asks for, unless NABLUA_TRACE_FILE names a file; the standard error at first.
// Before the module is opened.
void nablua_trace_to(int descriptor);

// The rank, from 1, where this process is one of a group; else 0.
int nablua_rank(void);

// What this rank ran has failed: ranks that wait for it, of a group that a prompt has started, are told.
void nablua_failed(const char *message);

// Ends all processes of the group, as one has failed; does nothing where there is none.
void nablua_abandon(int status);

#endif
