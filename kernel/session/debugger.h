// SPDX-License-Identifier: MIT
// Pausing what runs, and the debugger: breakpoints, steps, errors.  lua/session/pause.lua is what people see of it.
#ifndef NABLUA_DEBUGGER_H
#define NABLUA_DEBUGGER_H

#include "state.h"

// False when there is no memory.
bool debugger_open(Session *s);
void debugger_free(Session *s);

void open_debugger(lua_State *L);

// A state begins to run Lua, or goes on behind the coroutine `left`, NULL where there was none: its hook is set as
// breakpoints and steps want it.  To be called where s->debugging is set.
void debugger_enter(Session *s, lua_State *L, lua_State *left);

// An input of that name, such as "=input 3", is about to be compiled.
void debugger_note_source(Session *s, const char *name);

// Breakpoints have changed while something else was evaluated: hooks are set as they want them now.
void debugger_rearm(Session *s);

// An evaluation on s->L is over, and steps in it with it.
void debugger_over(Session *s);

// What runs in L was asked to pause, now that it may: at the next line of the user's, or here where none comes soon.
// One that waits in C pauses here.
void debugger_pause(Session *s, lua_State *L, bool waits);

// An error is on its way, and the functions that it leaves are still there; whether somebody will catch it.
void debugger_error(Session *s, lua_State *L, bool caught, const char *message);

// An error was caught on its way through L, whose hook may have been set aside in what it left.
void debugger_caught(Session *s, lua_State *L);

// Whether errors stop that the caller of the function of C that runs in L is about to catch: code of the user's.
bool debugger_wants_raised(const Session *s, lua_State *L);

#endif
