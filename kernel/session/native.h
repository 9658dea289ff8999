// SPDX-License-Identifier: MIT
// The functions that the Lua part of the session calls: the module nablua.session.native, each in the file it is about.
#ifndef NABLUA_NATIVE_H
#define NABLUA_NATIVE_H

#include <lua.h>

// evaluate(code) → its values: runs code as the input that is being evaluated; remember(code): what the input of this
// number is from now on, for %history and the frames of errors.  evaluate.c
int evaluate_code(lua_State *L);
int remember_code(lua_State *L);

// local_value(name): the value of a local that was kept; nil when there is none.  input.c
int local_value(lua_State *L);

// files(prefix): the paths that begin with it, folders with "/" at their end.  complete.c
int matching_files(lua_State *L);

// input(prompt, {password=}): a line from the user, nil at the end of input.  show.c
int ask_user(lua_State *L);

// json_error(text): what is wrong with a text as JSON, nil when nothing is.  comms.c
int json_error(lua_State *L);

// send_comm(kind, id, target, json, buffers), and new_comm_id(): a name that no other comm has.  comms.c
int send_comm(lua_State *L);
int new_comm_id(lua_State *L);

#endif
