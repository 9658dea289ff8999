// SPDX-License-Identifier: MIT
// The functions that the Lua part of the session calls: the module nablua.session.native, each in the file it is about.
#ifndef NABLUA_NATIVE_H
#define NABLUA_NATIVE_H

#include <lua.h>
#include <stdbool.h>

// evaluate(code, ...) → its values: runs code as the input that is being evaluated, with ... for its own;
// remember(code): what the input of this number is from now on, for %history and the frames of errors.  evaluate.c
int evaluate_code(lua_State *L);
int remember_code(lua_State *L);

// local_value(name): the value of a local that was kept; nil when there is none.  input.c
int local_value(lua_State *L);

// files(prefix): the paths that begin with it, folders with "/" at their end.  complete.c
int matching_files(lua_State *L);

// working_folder([path]) → the path of the working folder, after a change to `path`; nil and why where there is none.
// set_variable(name, value); variables() → the environment as "name=value"; file_stamp(path) → a text that changes when
// the file does, nil where there is none; capture(f) → all that is written and shown while f runs.  surroundings.c
int working_folder(lua_State *L);
int set_variable(lua_State *L);
int variables(lua_State *L);
int file_stamp(lua_State *L);
bool push_file_stamp(lua_State *L, const char *path);  // nothing where there is none
int capture(lua_State *L);

// command(text) → how many bytes the command takes that begins the text, nil where none does.  input.c
// next_input(text, replace): what the next input begins as, false where the front end has no way to say.  evaluate.c
int command_end(lua_State *L);
int next_input(lua_State *L);

// os.execute and io.popen, whatever the user makes of these.  programs.c
int execute_program(lua_State *L);
int open_pipe(lua_State *L);

// set_alarm([seconds]): when nablua.ui.clock.run is to be called; without, never.  alarm.c
int set_alarm(lua_State *L);

// controls_changed(): the line of the controls is to be drawn anew.  controls.c
int controls_changed(lua_State *L);

// watch(on): whether commands.before_input is called before each input.  evaluate.c
int watch_inputs(lua_State *L);

// leave(): ends the prompt.  scripts.c
int leave(lua_State *L);

// json_error(text): what is wrong with a text as JSON, nil when nothing is.  comms.c
int json_error(lua_State *L);

// send_comm(kind, id, target, json, buffers, metadata); has_client(): whether somebody could hear it; and
// new_comm_id(): a name that no other comm has.  comms.c
int send_comm(lua_State *L);
int has_client(lua_State *L);
int new_comm_id(lua_State *L);

#endif
