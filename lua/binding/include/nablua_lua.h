// SPDX-License-Identifier: MIT
// The Lua module: `luaopen_nablua` leaves the table `nb` on the stack, as `require "nablua"` expects.
#ifndef NABLUA_LUA_H
#define NABLUA_LUA_H

#include <stdbool.h>

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

// ---- visits ----
//
// Work that is done between two instructions of what runs, on a Lua thread of its own: all that the library knows of
// what runs is set aside for it, and put back afterwards.

// False, and nothing, when too many are under way or there is no memory.  What is on V's stack then stays below what
// the visitor puts there.
bool nablua_begin_visit(struct lua_State *V);
void nablua_end_visit(struct lua_State *V);

// Sets who is called where a visit may begin, with the state that runs: while nb.sleep waits, every 20 ms, and at each
// call of a function that is being recorded for nb.compile, whose hook stays where it is.
void nablua_on_wait(void (*serve)(struct lua_State *L));

// Sets who is called between two steps of a training, where those who come to change it may come.
void nablua_on_border(void (*serve)(struct lua_State *L));

// Whether the hook of this state is that of a recording.
bool nablua_is_recorded(struct lua_State *L);

// Who looks at every call of Lua's, while somebody does, and is told where he can rest: in calls of modules that run
// code of the library alone.
typedef struct Quiet {
  // A call of a module begins, which runs such code alone or not; 0, or what is to be told when it is over.
  int (*begins)(void *user, struct lua_State *L, bool closed);
  void (*ends)(void *user, struct lua_State *L, int told);  // unless it ends by an error
  void (*caught)(void *user, struct lua_State *L);          // the library has caught an error, of such a call perhaps
  void *user;
} Quiet;
void nablua_on_quiet(const Quiet *q);  // NULL: nobody looks

#endif
