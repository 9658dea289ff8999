// SPDX-License-Identifier: MIT
// Work that is done between two instructions of what runs; see session.h.
#ifndef NABLUA_VISITORS_H
#define NABLUA_VISITORS_H

#include "state.h"

void open_visitors(lua_State *L);

// Whether what runs in L may be left for a while: it is not being unwound, nothing is written as a whole, and no
// finalizer runs.
bool may_visit(const Session *s, lua_State *L);

// Runs `run(user)` in the middle of what runs, as a visitor of any level; false where too many are under way.
bool visit_at_once(Session *s, SessionLevel level, void (*run)(void *user), void *user);

#endif
