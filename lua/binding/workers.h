// SPDX-License-Identifier: MIT
// How a prompt and the processes that it has started speak: cells go in, outputs come back.
#ifndef NABLUA_WORKERS_H
#define NABLUA_WORKERS_H

#include <lua.h>

// Adds native.dist_channels to the table on top.
void nb_open_workers(lua_State *L);

#endif
