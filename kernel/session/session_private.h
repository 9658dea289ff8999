// SPDX-License-Identifier: MIT
// What the files of the session share.
#ifndef NABLUA_SESSION_PRIVATE_H
#define NABLUA_SESSION_PRIVATE_H

#include <lua.h>
#include <signal.h>
#include <sys/types.h>

#include "chunk.h"
#include "session.h"

enum { MOST_PROGRAMS = 32, MOST_MIMES = 16 };

struct Session {
  lua_State *L;
  lua_Alloc allocate;  // Lua's own, below the one that counts
  void *allocate_user;
  size_t lua_bytes, look_at;
  lua_State *volatile running;        // the coroutine that runs: the one a hook must be set on
  volatile sig_atomic_t active;       // evaluating: an interrupt has something to stop
  volatile sig_atomic_t interrupted;  // 1, or 2 after a second interrupt
  unsigned interrupts;                // so far
  double peace_until;                 // after an interrupt, see interrupts.c
  Sink sink;
  bool full_traceback, color, rich;
  int width;
  int number;         // of the input that runs or ran last
  bool apart;         // what runs is no input
  bool more_follows;  // of pasted inputs that are one
  bool deaf;          // the user cannot be asked
  // Of the input that is being made ready; here so that an error on the way leaks nothing.
  Chunk *chunk;
  Text text;
  Completion *completions;
  struct sqlite3 *history;
  long long history_session;  // the row of this session, 0 before its first input
  bool history_held;          // another process holds the file and was waited for in vain
  Mime mimes[MOST_MIMES];
  volatile pid_t programs[MOST_PROGRAMS];  // that were started and not waited for to their end; 0: none
};

Session *session_of(lua_State *L);

// ---- session.c ----

// Calls the function below its `arguments` on the stack; the results replace them.  Reports errors to the sink.
SessionStatus protected_call(Session *s, int arguments, int results);

// Pushes field `name` of the session's table in the registry: "kept", "sources", "results".
void push_session_table(lua_State *L, const char *name);

// Pushes a module of the library, whatever the user has made of require.
void push_module(lua_State *L, const char *name);

// ---- input.c ----

typedef struct Source {
  const char *code;
  size_t length;
  const char *name;  // "=input 3"
} Source;

// Leaves the function that an input is; raises an error where it is none.  s->chunk stays until forget_chunk.
void compile(lua_State *L, Session *s, const Source *source);
void forget_chunk(Session *s);

// The value of a kept variable, by name; nil when there is none.
int local_value(lua_State *L);

// The line at `at` when it is a command, and where the next one begins.  Commands stand before any Lua.
bool command_line(const char *code, size_t length, size_t *at, size_t *end);

// Completeness of an input without prompts.
SessionCompleteness judge(Session *s, const char *code, size_t length, int *indent);

// ---- problem.c ----

// The message handler: makes { name=, message=, frames= } of the error at index 1.
int explain_error(lua_State *L);

// ---- history.c ----

void remember_input(Session *s, const char *code, size_t length);
void remember_output(Session *s, const char *text, size_t length);

// ---- comms.c ----

int send_comm(lua_State *L);
int new_comm_id(lua_State *L);

// ---- complete.c ----

int matching_files(lua_State *L);

// ---- interrupts.c ----

// Makes coroutines, pcall and xpcall take part in interrupts.
void open_interrupts(lua_State *L);

// Replaces module.name by f, whose upvalue is the function that was there.
void wrap_function(lua_State *L, const char *module, const char *name, lua_CFunction f);

// ---- sort.c ----

// table.sort that stops at an interrupt.
void open_sort(lua_State *L);

// ---- programs.c ----

// os.execute and io.popen that stop at an interrupt.
void open_programs(lua_State *L);

// ---- patterns.c ----

// string.find and its kin that stop at an interrupt.
void open_patterns(lua_State *L);

// ---- show.c ----

// Pushes a bundle, { type = data, ... }, of the value at `index`.
void push_bundle(lua_State *L, Session *s, int index);

// The bundle at the top of the stack, valid while it stays there.
Bundle read_bundle(lua_State *L, Session *s);

// Draws the last states of values that are updated while something runs.
int settle_values(lua_State *L);

// input(prompt, {password=}): a line from the user, nil at the end of input.
int ask_user(lua_State *L);

// display, update_display, clear_output, input, breakpoint as globals.
void open_display(lua_State *L);

#endif
