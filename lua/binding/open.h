// SPDX-License-Identifier: MIT
// What each file of the binding adds when the module is opened.
#ifndef NABLUA_OPEN_H
#define NABLUA_OPEN_H

#include <lua.h>

// Adds a function for each operator to the table on top, in-place forms as name_; internal rows go
// to the table below it.
void nb_open_ops(lua_State *L);

// Adds to the table on top: `nablua.core`, which becomes `nb`.
void nb_open_core(lua_State *L);

// Adds to the table on top: `nablua.native`, what Lua sources of the module use and users do not.
void nb_open_methods(lua_State *L);
void nb_open_raise(lua_State *L);
void nb_open_options(lua_State *L);
void nb_open_calls(lua_State *L);
void nb_open_backward(lua_State *L);
void nb_open_columns(lua_State *L);
void nb_open_raster(lua_State *L);
void nb_open_process(lua_State *L);
void nb_open_rows(lua_State *L);
void nb_open_machine(lua_State *L);
void nb_open_files(lua_State *L);
void nb_open_feed(lua_State *L);
void nb_open_inspect(lua_State *L);
void nb_open_observe(lua_State *L);
void nb_open_profile(lua_State *L);
void nb_open_anomaly(lua_State *L);
void nb_open_stops(lua_State *L);
void nb_open_measure(lua_State *L);
void nb_open_keyframes(lua_State *L);
void nb_open_cycles(lua_State *L);
void nb_open_callback(lua_State *L);
void nb_open_custom(lua_State *L);
void nb_open_compile(lua_State *L);
void nb_open_optimizer(lua_State *L);
void nb_open_mode(lua_State *L);
void nb_open_whole(lua_State *L);
void nb_open_visits(lua_State *L);
void nb_open_code(lua_State *L);
void nb_open_traces(lua_State *L);
void nb_open_dist(lua_State *L);
void nb_open_hostile(lua_State *L);      // the library T, in the hostile build alone
void nb_open_public_mode(lua_State *L);  // what of it is nb's

#endif
