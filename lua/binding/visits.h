// SPDX-License-Identifier: MIT
// Work that is done in the middle of what runs; see nablua_lua.h for who begins it.
#ifndef NABLUA_VISITS_H
#define NABLUA_VISITS_H

#include <lua.h>
#include <stdbool.h>

#include "nablua/tensor.h"

// Whether what runs is such work.
bool nb_visiting(void);

// Whether what such work writes into a storage will be taken back when it ends.
bool nb_is_covered(const Storage *s);

// Lets who waits be served; what waits itself calls it every 20 ms or so, and must expect that anything has changed.
void nb_wait(lua_State *L);

// To be called where the library has caught an error of what it called, and goes on.
void nb_caught(lua_State *L);

// What the files of the binding know of what runs: pushed and set as at the start, popped and as it was.
void nb_mode_aside(lua_State *V);
void nb_mode_back(lua_State *V);
void nb_calls_aside(lua_State *V);
void nb_calls_back(lua_State *V);
void nb_observe_aside(lua_State *V);
void nb_observe_back(lua_State *V);
void nb_profile_aside(lua_State *V);
void nb_profile_back(lua_State *V);
void nb_anomaly_aside(lua_State *V);
void nb_anomaly_back(lua_State *V);
void nb_kept_aside(lua_State *V);
void nb_kept_back(lua_State *V);

#endif
