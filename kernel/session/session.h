// SPDX-License-Identifier: MIT
// The session: what every front end shares.  It evaluates, completes, explains, displays and stops; front ends
// see this header and know no Lua; text.h, unicode.h and monotonic.h, which know no session, are theirs as well.  Texts
// are UTF-8; places in them are bytes from 0.
#ifndef NABLUA_SESSION_H
#define NABLUA_SESSION_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Session Session;

// One representation of a value; `data` ends with NUL, which `length` does not count.
typedef struct Mime {
  const char *type, *data;
  size_t length;
} Mime;

// A value in all its representations; text/plain is always among them, and the first.
typedef struct Bundle {
  const Mime *items;
  int count;
  const char *metadata;  // a JSON object that tells how to show it, or NULL
} Bundle;

// An error: what happened, and the user's frames, innermost first, a line each with its source ("" when none).
typedef struct Problem {
  const char *name;  // "Error", "Interrupted", "SyntaxError"
  const char *message;
  const char *frames;
} Problem;

typedef enum CommKind { SESSION_COMM_OPEN, SESSION_COMM_MESSAGE, SESSION_COMM_CLOSE } CommKind;

// A message between an object of the user and its counterpart in the client.
typedef struct Comm {
  CommKind kind;
  const char *id, *target;  // the target of an opening
  const char *data;         // JSON
  const char *metadata;     // of the message to the client, JSON; or NULL
  size_t length;
  const Mime *buffers;  // bytes that came along; their types do not count
  int buffer_count;
  bool more;  // from the client: another message for this comm waits
} Comm;

// What work is, the lower the less it may do; see session_visit.
typedef enum SessionLevel {
  SESSION_LOOK,    // runs no code of the user
  SESSION_HANDLE,  // runs handlers
  SESSION_BESIDE,  // runs inputs beside the session's own
  SESSION_INPUT,   // runs the session's inputs
} SessionLevel;

// What the session tells its front end; everything is valid during the call only.
typedef struct Sink {
  void *user;
  void (*value)(void *user, int number, const Bundle *value);  // what input `number` gave
  void (*page)(void *user, const Bundle *page);                // what ?name asked for; NULL: it is a value
  void (*display)(void *user, const Bundle *value, const char *id, bool update);  // id may be NULL
  void (*clear)(void *user, bool wait);
  void (*comm)(void *user, const Comm *comm);  // NULL: there is no client to talk to
  void (*program)(void *user);                 // another program is about to write where this one does; may be NULL
  void (*next_input)(void *user, const char *text, bool replace);  // the user is to edit it, in place of this input;
                                                                   // may be NULL
  void (*error)(void *user, const Problem *problem);
  // A line from malloc, of *length bytes before its NUL; NULL at the end of input.
  char *(*ask)(void *user, const char *prompt, bool hidden, size_t *length);
  // Does, by session_visit, the first piece of work that waits and is below a level; false when there is none.  NULL:
  // there is never any.
  bool (*visit)(void *user, SessionLevel level);
  // While what runs is paused: an input of the user's, from malloc, that is asked for at a prompt; or NULL after a
  // moment, at once where prompt is NULL.  False when there is no user any more, and it goes on.  NULL: nothing pauses.
  bool (*paused)(void *user, const char *prompt, char **input, size_t *length);
  void (*event)(void *user, const char *json, size_t length);  // of the debugger, for who is attached; may be NULL
  void (*controls)(void *user);                                // what session_controls gives has changed; may be NULL
} Sink;

typedef enum SessionStatus { SESSION_OK, SESSION_ERROR, SESSION_INTERRUPTED } SessionStatus;

// NULL when there is no memory or the library cannot be opened; then `reason` (of `size`) says why.
Session *session_new(const Sink *sink, char *reason, size_t size);
void session_free(Session *s);

// ---- the trace ----

// Where what NABLUA_TRACE asks for goes, unless NABLUA_TRACE_FILE names a file; before the first session.
void session_trace_to(int descriptor);

// Whether messages between a front end and its clients are told of, and with what they say.
typedef enum SessionTrace { SESSION_TRACE_NONE, SESSION_TRACE_MESSAGES, SESSION_TRACE_CONTENTS } SessionTrace;
SessionTrace session_traces_messages(void);

// Tells of one; from any thread.
void session_trace_message(const char *line);

// Sessions that are made from now on do not look at LUA_PATH and LUA_CPATH.
void session_ignore_environment(void);

// ---- evaluating ----

// Evaluates one input: commands (%time ...) and Lua.  The values of a last expression go to the sink, to `_` and
// to `_<number>`; top-level locals stay for later inputs.
SessionStatus session_eval(Session *s, const char *code, size_t length);

// The same apart from the inputs, for what a front end wants to know: it gets no number and is not remembered.
// `sink`, when not NULL, is told of it instead of the session's.
SessionStatus session_eval_apart(Session *s, const char *code, size_t length, const Sink *sink);

// The same beside the inputs, as input `number` of another prompt, of which errors say `prompt`: its value is shown
// with that number.  Locals and globals are those of the session.
SessionStatus session_eval_beside(Session *s, const char *prompt, int number, const char *code, size_t length);

// The number that the next input gets, from 1.
int session_next_number(const Session *s);

// Makes the table arg of a command line: argv[script] is arg[0], what follows it are the script's arguments.
void session_set_arguments(Session *s, char *const *argv, int argc, int script);

// Runs a file, NULL for standard input, as ordinary Lua; with `arguments`, what is in arg then is its `...`.
// Errors, a file that cannot be read among them, go to the sink.
SessionStatus session_run_file(Session *s, const char *path, bool arguments);

// The same for a text, of which errors say `name`.
SessionStatus session_run_text(Session *s, const char *code, const char *name);

// Of "module" or "name=module": loads the module into the global of that name.
SessionStatus session_require(Session *s, const char *what);

// Asks the evaluation that runs, if any, to stop.  Safe in a signal handler of the evaluating thread.
void session_interrupt(Session *s);

// Whether what runs was asked to stop: a sink that waits returns then.
bool session_interrupted(const Session *s);

// Ends the programs that os.execute and io.popen started and that still run.  Safe in a signal handler.
void session_end_programs(Session *s);

// Whether the user can be asked now; if not, input() is an error.  At first the sink's `ask` decides.
void session_allow_input(Session *s, bool allowed);

// A front end with a prompt to leave says so; when an input asked to leave it, session_leaves is true.
void session_allow_leaving(Session *s);
bool session_leaves(const Session *s);

// For a front end whose standard input is the user: whether what runs may read it now.  If not, the read that asks is
// an error as soon as it returns.  To be called by the evaluating thread while it reads.
bool session_may_read(Session *s);

// ---- visitors ----
//
// A visitor is work that the evaluator does between two instructions of what it runs: a front end that has some asks
// for attention, and is asked for it through its sink.  What runs does not notice: the visitor has modes, a random
// stream, errors and interrupts of its own.  It is never served between an error or an interrupt and the end of what
// that unwinds, nor in a finalizer.

// Asks that the sink's `visit` be called soon, once.  Safe in a signal handler of the evaluating thread, and cheap: a
// front end asks again, every 10 ms or so, while work waits.  The signal for it is SIGURG, which the session's own
// clock uses: a front end's handler calls this.
void session_attend(Session *s);

// What the user wants done by the clock is done while something runs.  For a front end that waits: the seconds until
// something is due, -1 where nothing is; and doing what is.
double session_due(const Session *s);
void session_tick(Session *s);

// The same at once, for what waits in a function of the sink; in functions of C that wait the session does it itself.
void session_serve(Session *s);

// Runs `run(user)`, which may call all functions here but session_free.  In the middle of what runs, that is within the
// sink's `visit`, as a visitor: false, and nothing, where that cannot be now.  Otherwise as it is, but only what is
// below the level may visit it.
//
// An interrupt stops a visitor; what runs below it is stopped as well unless the visitor has taken long enough to be
// meant alone.
bool session_visit(Session *s, SessionLevel level, void (*run)(void *user), void *user);

// ---- pausing ----

// Asks what runs to pause: it is held as it is until its user, or a debugger, lets it go on.  Safe in a signal handler
// of the evaluating thread.
void session_pause(Session *s);

// Whether what runs may be paused; at first where the sink has `paused`, at a prompt and in notebooks.
void session_allow_pauses(Session *s, bool allowed);

// Whether something is paused and has not been told to go on: a sink that waits in `paused` returns when not.
bool session_is_held(const Session *s);

// Answers a request of the Debug Adapter Protocol, JSON; the answer, JSON from malloc, NULL when there is no memory.
char *session_debug(Session *s, const char *request, size_t length, size_t *answer_length);

// Seconds since some moment that stays the same while the process runs.
double session_clock(void);

// Whether what runs waits for another program, whose the terminal is then.
bool session_waits_for_program(const Session *s);

// ---- controls ----
//
// For a front end without widgets: the controls that were shown to the user, as one line.  Both are to be called within
// session_visit.

// The line, of at most so many columns, to be freed; NULL where no control is shown.  `given`: keys are for it;
// `paused`: what runs waits.
char *session_controls(Session *s, int columns, bool given, bool paused);

typedef enum SessionKey {
  SESSION_KEY_TAKEN,  // by a control, or it means nothing
  SESSION_KEY_LEAVE,  // keys are for the line no more
  SESSION_KEY_PAUSE,  // what runs is to wait, or to go on
  SESSION_KEY_STOP,   // what runs is to stop
} SessionKey;

// Gives the line a key: "tab", "backtab", "left", "right", "up", "down", "enter", "escape", "backspace", "space" or a
// character.  Handlers run, whose errors go to the sink.
SessionKey session_controls_key(Session *s, const char *key);

// Such as "5.4".
const char *session_lua_version(void);

// Writes lines on each environment variable that the library obeys, for a front end's help.
void session_describe_environment(char *text, size_t size);

// Whether errors show the frames of the library too.
void session_set_traceback(Session *s, bool full);

// What representations may hold: colours in text, and formats beyond text; and how wide text may be (0: as wide as
// the terminal).
void session_set_display(Session *s, bool color, bool rich, int width);

// ---- history ----

// Keeps inputs in a file shared by all sessions, for its owner alone; without a path in the user's state folder.  On
// failure `reason` says why, and the session goes on without.
bool session_history_open(Session *s, const char *path, char *reason, size_t size);
void session_history_close(Session *s);

typedef struct HistoryQuery {
  // The last inputs of all sessions; those of one session from line `first` up to before `stop` (0: to the end); or
  // those that match a glob, each only once when `unique`.
  enum { HISTORY_TAIL, HISTORY_RANGE, HISTORY_SEARCH } kind;
  int count;          // at most so many, the last ones; 0: all
  long long session;  // 0 is this one, -1 the one before
  int first, stop;
  const char *pattern;
  bool unique;
} HistoryQuery;

typedef struct HistoryEntry {
  long long session;
  int line;
  const char *input, *output;  // output: the text of its value, or NULL
} HistoryEntry;

// Shows what the query finds, the oldest first.
void session_history(Session *s, const HistoryQuery *query, void (*see)(void *user, const HistoryEntry *entry),
                     void *user);

// ---- files ----

// Replaces a file as a whole, as all that is written here is; a private one is for its owner alone, any other keeps the
// rights it has.  On failure the old file is as it was, and `reason` is a sentence that names it.
bool session_replace_file(const char *path, const void *data, size_t length, bool is_private, char *reason,
                          size_t size);

// ---- comms ----

// Hands what a client sent to the user's handler, whose errors go to the sink.  False when nobody knows the comm, or
// the target of an opening.
bool session_comm(Session *s, const Comm *comm);

// Shows the comms that are open.
void session_comms(Session *s, void (*see)(void *user, const char *id, const char *target), void *user);

// ---- the terminal ----

// What the user has set in nb.terminal, or as stock Lua's _PROMPT and _PROMPT2, for the next input; to be freed, NULL
// where he has set nothing.  Errors go to the sink.
char *session_prompt(Session *s, bool continued);

// A number that changes with nb.terminal.
int session_terminal_changes(Session *s);

// A setting of it as text, such as "editing" or, as a sequence for the terminal, "colors.keyword"; to be freed, NULL
// where there is none.
char *session_terminal_setting(Session *s, const char *name);

// Shows the keys that were set, as readline writes them, with the name of a command, or "" for a function.
void session_terminal_keys(Session *s, void (*see)(void *user, const char *keys, const char *command), void *user);

// Calls the function of such keys with a text and the cursor's byte in it; the new text, to be freed, and the new
// place, or NULL when it leaves all as it is.  Errors go to the sink.
char *session_terminal_press(Session *s, const char *keys, const char *text, size_t length, size_t *cursor);

// ---- looking at inputs ----

typedef enum SessionCompleteness { SESSION_COMPLETE, SESSION_INCOMPLETE, SESSION_INVALID } SessionCompleteness;

// Whether the input can be evaluated, needs more lines, or can never be right.  `indent`, when not NULL, gets the
// spaces that the next line should begin with.
SessionCompleteness session_is_complete(Session *s, const char *code, size_t length, int *indent);

// What is known of an input that is read line by line; all zero before its first.
typedef struct SessionGrowth {
  size_t at, searched;  // the token that is not looked at yet, and how far the end of a long one was looked for
  size_t judged;        // how long the input was when all of it was looked at
  int depth;            // of blocks and brackets
  bool wants_more;      // it ends in an operator
} SessionGrowth;

// Whether an input that has grown by a line needs more of them.  While a long one is plainly open all of it is looked
// at only once in a while, so that reading takes time as its length, and an error in it may be seen lines later.
bool session_goes_on(Session *s, const char *code, size_t length, SessionGrowth *growth);

typedef struct Completion {
  const char *text;  // what may stand from `begin` to `end`
  const char *kind;  // "function", "method", "field", "module", "local", "global", "keyword", "option", "path", ...
  const char *note;  // one line about it, or ""
} Completion;

typedef struct Completions {
  size_t begin, end;
  int count;
  const Completion *items;
} Completions;

// What may stand at the cursor.  Runs no code of the user.  Valid until the session's next call.
void session_complete(Session *s, const char *code, size_t length, size_t cursor, Completions *out);

// What there is to know of the name at the cursor; with `source`, its source too.  Returns false when nothing is;
// otherwise the bundle is valid until the session's next call.
bool session_inspect(Session *s, const char *code, size_t length, size_t cursor, bool source, Bundle *out);

// The signature, of one line, of the function that the text ends with: "y = nn.Linear" gives "nn.Linear(in, out,
// {bias=true})".  To be freed; NULL when nothing is known.  Runs no code of the user.
char *session_signature(Session *s, const char *text, size_t length);

typedef enum SessionColor {
  SESSION_PLAIN,
  SESSION_KEYWORD,
  SESSION_NUMBER,
  SESSION_STRING,
  SESSION_COMMENT,
  SESSION_COMMAND,
} SessionColor;

// The next stretch of one colour at or after byte `at`; false at the end.  Needs no session.
bool session_color(const char *code, size_t length, size_t at, size_t *begin, size_t *end, SessionColor *color);

#endif
