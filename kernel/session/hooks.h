// SPDX-License-Identifier: MIT
// The hooks by which signals reach what runs: one that stops it, and one that has visitors served.  All of this is safe
// in a signal handler of the evaluating thread.
#ifndef NABLUA_HOOKS_H
#define NABLUA_HOOKS_H

#include "state.h"

// Sets the hook that stops what runs in a state: interrupts.c's, which says so first.
void know_stop_hook(lua_Hook hook);
void arm_stop(lua_State *L);

// Sets the hook that serves visitors at the next instruction of a state.
void arm_visit(Session *s, lua_State *L);

// Notes an interrupt that comes while a visitor is served, for what runs below it.
void note_interrupt(Session *s);

#endif
