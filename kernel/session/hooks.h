// SPDX-License-Identifier: MIT
// The hooks of Lua's states, of which each has one: what stops it, what has visitors served, the debugger and the user
// share it.  All of this is safe in a signal handler of the evaluating thread.
#ifndef NABLUA_HOOKS_H
#define NABLUA_HOOKS_H

#include "state.h"

// Sets the hook that stops what runs in a state, in the place of all others: interrupts.c's, which says so first.
void know_stop_hook(lua_Hook hook);
void arm_stop(lua_State *L);

// Asks what is active to stop.
void interrupt_what_runs(Session *s);

// Has visitors served at the next instruction of a state.
void arm_visit(Session *s, lua_State *L);

// The events of a state that the debugger wants, a mask as lua_sethook's; at a count, of every instruction.  Of calls
// that dull.h knows it hears nothing while it wants no more than calls.
void know_debug_hook(void (*hook)(Session *s, lua_State *L, lua_Debug *ar));
void arm_debugger(Session *s, lua_State *L, int mask);
int debugger_mask(lua_State *L);

// Has the debugger want nothing of a state for a while, where it alone wants something; and again what it wanted,
// unless it was armed meanwhile.  Whether there was something to do.
bool rest_debugger(Session *s, lua_State *L);
bool wake_debugger(Session *s, lua_State *L);

// Sets the hook that those want who are left, behind one that stood in their place.
void settle_hooks(Session *s, lua_State *L);

// The same, where nobody wants any.
void clear_hooks(Session *s, lua_State *L);

// Notes an interrupt that comes while a visitor is served, for what runs below it.
void note_interrupt(Session *s);

// debug.sethook and debug.gethook, for which the user's hook is the only one.
void open_hooks(lua_State *L);

#endif
