// SPDX-License-Identifier: MIT
// The session: what every front end shares.  It evaluates, displays and stops; front ends see only
// this header and know no Lua.
#ifndef NABLUA_SESSION_H
#define NABLUA_SESSION_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Session Session;

// What the session tells its front end.  Texts are UTF-8 and end with their length, not with NUL;
// they are valid during the call.
typedef struct Sink {
  void *user;
  void (*value)(void *user, const char *text, size_t length);  // the value of an input, to be shown
  void (*error)(void *user, const char *text, size_t length);  // message and the user's frames
} Sink;

typedef enum SessionStatus { SESSION_OK, SESSION_ERROR, SESSION_INTERRUPTED } SessionStatus;

typedef enum SessionCompleteness { SESSION_COMPLETE, SESSION_INCOMPLETE, SESSION_INVALID } SessionCompleteness;

// NULL when there is no memory or the library cannot be opened; then `reason` (of `size`) says why.
Session *session_new(const Sink *sink, char *reason, size_t size);
void session_free(Session *s);

// Evaluates one input: a chunk; the values of its last expression go to the sink.
SessionStatus session_eval(Session *s, const char *code, size_t length);

// Runs a file ("-" is standard input) as ordinary Lua, with `arguments` as ... and in the table arg.
// Errors, a file that cannot be read among them, go to the sink.
SessionStatus session_run_file(Session *s, const char *path, char *const *arguments, int count);

// Whether the input can be evaluated, needs more lines, or can never be right.
SessionCompleteness session_is_complete(Session *s, const char *code, size_t length);

// Asks the evaluation that runs, if any, to stop.  Safe in a signal handler of the evaluating thread.
void session_interrupt(Session *s);

// Whether errors show the frames of the library too.
void session_set_traceback(Session *s, bool full);

#endif
