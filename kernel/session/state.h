// SPDX-License-Identifier: MIT
// What the files of the session know in common: its state, and the tables it keeps where the user's Lua does not look.
#ifndef NABLUA_STATE_H
#define NABLUA_STATE_H

#include <lua.h>
#include <signal.h>
#include <sys/types.h>
#include <time.h>

#include "chunk.h"
#include "session.h"

enum { MOST_PROGRAMS = 32, MOST_MIMES = 16, MOST_VISITS = 6 };

typedef struct Resumed Resumed;  // of interrupts.c

// A visitor that is served: visitors.c.
typedef struct Visit {
  SessionLevel level;
  double alone_from;             // by nb_clock, when an interrupt begins to mean it alone
  volatile sig_atomic_t passed;  // interrupts that what runs below is to have, too
  struct Visit *outer;
} Visit;

typedef struct Debugger Debugger;  // of debugger.c

// What the debugger is told of; see debugger.h.
typedef struct Watcher {
  void (*enter)(Session *s, lua_State *L, lua_State *left);
  void (*over)(Session *s);
  void (*pause)(Session *s, lua_State *L, bool waits);
  void (*rearm)(Session *s);
  void (*error)(Session *s, lua_State *L, bool caught, const char *message);
  void (*caught)(Session *s, lua_State *L);
  bool (*wants_raised)(const Session *s, lua_State *L);
  void (*note_source)(Session *s, const char *name);
} Watcher;

struct Session {
  lua_State *L;        // what evaluates: the main thread, or a visitor's
  lua_Alloc allocate;  // Lua's own, below the one that counts
  void *allocate_user;
  size_t lua_bytes, look_at;
  lua_State *volatile running;        // the coroutine that runs: the one a hook must be set on
  volatile sig_atomic_t active;       // evaluating: an interrupt has something to stop
  volatile sig_atomic_t interrupted;  // 1, or 2 after a second interrupt
  volatile sig_atomic_t within;       // an input is evaluated, part by part: between two nothing is active
  volatile sig_atomic_t awaited;      // an interrupt has come there, for the next
  unsigned interrupts;                // so far
  double peace_until;                 // after an interrupt, see interrupts.c
  bool owed;                          // its error waits for the end of a __close handler
  bool unwinding;                     // an error ends what is evaluated: __close handlers alone still run
  Resumed *resumed;                   // the coroutines that run, the last resumed first
  Sink sink;                          // of what runs; the front end's unless that is captured
  // Visitors: visitors.c.
  Sink front;                               // the front end's
  lua_State *visitors[MOST_VISITS];         // what they run on, one inside another
  Visit *volatile visit;                    // the innermost that is under way
  int depth;                                // how many are
  SessionLevel level;                       // of what runs: visits below it may come
  volatile sig_atomic_t called;             // somebody wants to visit
  bool serving;                             // the front end does so now
  bool captured;                            // what is written goes elsewhere
  double rest_until;                        // visitors have had their time, and wait
  unsigned steps;                           // of a training in what runs that have begun
  bool at_border;                           // between two of them
  unsigned waited_in;                       // the step within which who may change something began to wait for its end
  double waits_since;                       // and when, by what this thread has computed
  void (*serve)(Session *s, lua_State *L);  // has visitors served before what runs goes on
  volatile sig_atomic_t hooking;            // a hook is being set
  // The debugger: debugger.c.
  Debugger *debugger;
  const Watcher *watcher;
  bool going;                   // what is paused is to go on
  signed char pauses;           // as session_allow_pauses said: 1 allowed, -1 not; 0 before
  bool debugging;               // its hooks are wanted: there are breakpoints, or a step is under way
  volatile sig_atomic_t pause;  // somebody wants what runs to pause
  bool held;                    // what runs is paused; this evaluates what is asked for meanwhile
  int frame;                    // of the paused frame that inputs are evaluated in, or 0
  unsigned marks, armed;        // how often breakpoints changed; and when hooks were set for them
  bool full_traceback, color, rich;
  int width;
  int number;        // of the input that runs or ran last
  int command_line;  // lines of the input before the command that runs
  double due;        // when something is due by the clock; 0: nothing is
  timer_t timer;
  bool has_timer;
  bool apart;              // what runs is no input
  int beside;              // the number of an input beside those of this session, or 0
  bool more_follows;       // of pasted inputs that are one
  bool watched;            // something is to be done before each input
  bool deaf;               // the user cannot be asked
  bool may_leave, leaves;  // whether there is a prompt to leave, and that it ends
  // Of the input that is being made ready; here so that an error on the way leaks nothing.
  Chunk *chunk;
  Text text;
  Text printed;  // by the input that runs, and not yet recorded
  Completion *completions;
  struct sqlite3 *history;
  long long history_session;  // the row of this session, 0 before its first input
  bool history_held;          // another process holds the file and was waited for in vain
  Mime mimes[MOST_MIMES];
  int waits_for_programs;                  // how many are waited for, one in the visit of another
  volatile sig_atomic_t ending;            // the programs that run are to end
  volatile pid_t programs[MOST_PROGRAMS];  // that were started and not waited for to their end; 0: none
};

// Ties the session to its Lua state, and makes its tables there: "kept", the locals of inputs that stay; "sources", the
// inputs by name; "held", what the front end still reads; "modules", the library's names that are globals; "standard",
// the globals that are not the user's; "comms"; "outputs", what inputs showed; "inputs", the functions that inputs
// became, weakly; "visitors", their threads; "frames", in what environment inputs at a paused prompt are evaluated;
// "stamps", what file_stamp gave for those that were loaded, by their paths without links.
void state_open(lua_State *L, Session *s);

Session *session_of(lua_State *L);

// Pushes one of the tables.
void push_session_table(lua_State *L, const char *name);

// Pushes a module of the library, whatever the user has made of require.
void push_module(lua_State *L, const char *name);

#endif
