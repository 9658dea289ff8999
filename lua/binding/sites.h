// SPDX-License-Identifier: MIT
// Where in the user's program something happens.
#ifndef NABLUA_SITES_H
#define NABLUA_SITES_H

#include <lua.h>
#include <stdbool.h>

// The interpreter state that last called into the library: the one whose line a node remembers.
void nb_enter(lua_State *L);
lua_State *nb_entered(void);

// Makes a state that had entered the one that did so last, as if none had since.
void nb_return_to(lua_State *L);

// Calls the function when another coroutine enters than the one before.
void nb_on_enter(void (*function)(lua_State *L));

// The level of the innermost frame of the user's code, whose source and line `ar` gets; -1 when there is none.
int nb_user_level(lua_State *L, lua_Debug *ar);

// The __call of modules, to be told from other frames; from then on operators know their lines.
void nb_set_call(lua_State *L, lua_CFunction call);

// Called by it at its beginning: the user's line behind it is looked for once for all operators in it.
void nb_note_call(lua_State *L);

// The Lua function that calls is at work, until nb_let_site: the user's line behind it is looked for once.  One at a
// time: a second takes the place of the first, which costs time and nothing else.  Where the function runs within one
// that is held the line stays, and `how` says whether both are, or this one alone.
typedef enum Hold { NB_HOLD, NB_HOLD_TOO, NB_HOLD_ALONE } Hold;
void nb_hold_site(lua_State *L, Hold how);
void nb_let_site(void);

// Pushes a list of the modules whose calls are on the stack, outermost first, with what the outermost was called with
// in its field `input`; returns their number.
int nb_push_modules(lua_State *L);

#endif
