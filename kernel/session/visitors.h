// SPDX-License-Identifier: MIT
// Work that is done between two instructions of what runs; see session.h.
#ifndef NABLUA_VISITORS_H
#define NABLUA_VISITORS_H

#include "state.h"

void open_visitors(lua_State *L);

#endif
