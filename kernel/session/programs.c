// SPDX-License-Identifier: MIT
// Other programs: os.execute and io.popen as Lua's own, but an interrupt stops what they run and ends the waiting.
//
// At a terminal a program that is waited for owns it: Ctrl-C is the program's, which may go on, as an interpreter does
// or a pager; this one is interrupted when the program ends of it.
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "interrupts.h"
#include "native.h"
#include "state.h"

// ---- those that run, by the leader of their group ----

static void note(Session *s, pid_t before, pid_t after) {
  for (int i = 0; i < MOST_PROGRAMS; i++) {
    if (s->programs[i] != before) continue;
    s->programs[i] = after;
    return;
  }
}

void session_end_programs(Session *s) {
  s->ending = 1;
  if (isatty(STDIN_FILENO)) return;  // the terminal tells them
  for (int i = 0; i < MOST_PROGRAMS; i++)
    if (s->programs[i]) kill(-s->programs[i], SIGTERM);
}

bool session_waits_for_program(const Session *s) {
  return s->waits_for_programs > 0;
}

// Serves visitors while a program is waited for.
static void serve_waiting(Session *s) {
  s->waits_for_programs++;
  session_serve(s);
  s->waits_for_programs--;
}

// ---- running ----

// How the terminal was before a program ran, and whether this one may set it.
typedef struct TerminalState {
  struct termios modes;
  bool known;
} TerminalState;

static TerminalState terminal_state(void) {
  TerminalState t;
  t.known = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &t.modes) == 0;
  return t;
}

// A program that was killed leaves the terminal as it was using it.
static void restore_terminal(const TerminalState *t) {
  if (t->known && tcgetpgrp(STDIN_FILENO) == getpgrp()) tcsetattr(STDIN_FILENO, TCSADRAIN, &t->modes);
}

// Whether a program ended of Ctrl-C, by itself or, as a shell says it, what it ran.  A shell may also die of one that
// the program it ran has lived through, at that one's end: long after.
static bool ended_of_interrupt(int status) {
  enum { SHELL_SIGNAL = 128 };
  return (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) ||
         (WIFEXITED(status) && WEXITSTATUS(status) == SHELL_SIGNAL + SIGINT);
}

typedef struct Waiting {
  bool owns;     // the program has the terminal
  bool before;   // an interrupt stood when it began, or when it was waited for
  double limit;  // seconds, 0: none
  bool stopped;  // the result: by an interrupt
} Waiting;

// Waits for the program in short sleeps, which a signal ends.  An interrupt ends it unless it owns the terminal, and so
// does the limit.  -1 when there is nothing to wait for.
static int wait_for(Session *s, pid_t child, Waiting *w) {
  pid_t target = isatty(STDIN_FILENO) ? child : -child;  // see start
  struct timespec nap = {.tv_nsec = 200000};
  static const double at_once = 0.5;  // seconds
  unsigned seen = s->interrupts;
  double waited = 0, since = 0;  // since the last interrupt
  int status;
  for (int after = 0;;) {
    pid_t done = waitpid(child, &status, WNOHANG);
    if (done != 0) {
      note(s, child, 0);
      if (done < 0) return -1;
      if (w->owns && !w->before && s->interrupted) {
        w->stopped = ended_of_interrupt(status) && since < at_once;
        if (!w->stopped) forgive_interrupt(s);
      }
      return status;
    }
    if (s->interrupted && (!w->owns || w->before || s->ending)) w->stopped = true;
    if (w->stopped || (w->limit > 0 && waited > w->limit)) {
      if (after == 0) kill(target, SIGTERM);
      if (++after == 50) kill(target, SIGKILL);
    }
    serve_waiting(s);
    nanosleep(&nap, NULL);
    waited += 1e-9 * (double)nap.tv_nsec;
    since = seen == s->interrupts ? since + 1e-9 * (double)nap.tv_nsec : 0;
    seen = s->interrupts;
    if (nap.tv_nsec < 20000000) nap.tv_nsec += nap.tv_nsec / 4;
  }
}

// Starts the command with `stream` (STDIN_FILENO, STDOUT_FILENO) on `fd`, or with the streams of this program when fd
// is -1.  Returns an errno.
static int start(Session *s, const char *command, int fd, int stream, pid_t *child) {
  char *const arguments[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  fflush(NULL);
  if (s->sink.program) s->sink.program(s->sink.user);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_init(&actions);
  // At a terminal Ctrl-C reaches all that runs there; elsewhere what the command starts must be ended with it.
  short group = isatty(STDIN_FILENO) ? 0 : POSIX_SPAWN_SETPGROUP;
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGXFSZ);  // ignored here
  sigaddset(&ours, SIGQUIT);  // while a program owns the terminal
  posix_spawnattr_setsigdefault(&attributes, &ours);
  posix_spawnattr_setflags(&attributes, group | POSIX_SPAWN_SETSIGDEF);
  if (fd >= 0) posix_spawn_file_actions_adddup2(&actions, fd, stream);
  int failure = posix_spawn(child, "/bin/sh", &actions, &attributes, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (!failure) note(s, 0, *child);
  return failure;
}

// Waits for the program's end and pushes what Lua says of it.
static int push_end(lua_State *L, pid_t child, Waiting w, const TerminalState *terminal) {
  struct sigaction ignored = {.sa_handler = SIG_IGN}, quit;
  if (w.owns) sigaction(SIGQUIT, &ignored, &quit);
  int status = wait_for(session_of(L), child, &w);
  if (w.owns) sigaction(SIGQUIT, &quit, NULL);
  restore_terminal(terminal);
  if (w.stopped) return luaL_error(L, "interrupted");
  if (status >= 0) errno = 0;
  return luaL_execresult(L, status);
}

// os.execute([command])
int execute_program(lua_State *L) {
  const char *command = luaL_optstring(L, 1, NULL);
  pid_t child;
  if (!command) {
    lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
    return 1;
  }
  TerminalState terminal = terminal_state();
  // Asked before the start: the program may be at work, and get a Ctrl-C of its own, before this one runs again.
  Waiting w = {.owns = isatty(STDIN_FILENO), .before = session_of(L)->interrupted};
  errno = start(session_of(L), command, -1, -1, &child);
  if (errno) return luaL_execresult(L, -1);
  return push_end(L, child, w, &terminal);
}

// A Lua file that is a pipe to a program.
typedef struct Pipe {
  luaL_Stream stream;
  pid_t child;
  bool reads;
  unsigned interrupts;  // of the session when the program began
  TerminalState terminal;
} Pipe;

// What is read of a pipe waits in short polls, so that visitors are served.
typedef struct Reader {
  Session *session;
  int fd;
} Reader;

static ssize_t read_pipe(void *cookie, char *buffer, size_t size) {
  const Reader *r = cookie;
  bool before = r->session->interrupted;
  struct pollfd ready = {r->fd, POLLIN, 0};
  for (;;) {
    serve_waiting(r->session);
    if (poll(&ready, 1, 20) > 0) return read(r->fd, buffer, size);
    // At a terminal what is read was told as well, and may go on.
    if (r->session->interrupted && !before && !isatty(STDIN_FILENO)) {
      errno = EINTR;
      return -1;
    }
  }
}

static int close_reader(void *cookie) {
  Reader *r = cookie;
  int result = close(r->fd);
  free(r);
  return result;
}

static FILE *open_reader(Session *s, int fd) {
  Reader *r = malloc(sizeof *r);
  if (!r) return NULL;
  *r = (Reader){s, fd};
  FILE *f = fopencookie(r, "r", (cookie_io_functions_t){.read = read_pipe, .close = close_reader});
  if (!f) free(r);
  return f;
}

static int close_pipe(lua_State *L) {
  Pipe *p = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  bool before = session_of(L)->interrupted;
  fclose(p->stream.f);
  // What an interrupt has left unread may wait for its reader for ever.
  bool left = p->reads && p->interrupts != session_of(L)->interrupts;
  Waiting w = {.owns = !p->reads && isatty(STDIN_FILENO), .before = before, .limit = left ? 0.2 : 0};
  return push_end(L, p->child, w, &p->terminal);
}

// io.popen(command [, mode])
int open_pipe(lua_State *L) {
  const char *command = luaL_checkstring(L, 1), *mode = luaL_optstring(L, 2, "r");
  luaL_argcheck(L, (*mode == 'r' || *mode == 'w') && !mode[1], 2, "invalid mode");
  bool reads = *mode == 'r';
  int ends[2];
  Pipe *p = lua_newuserdatauv(L, sizeof *p, 0);
  // A closed file until all has gone well.
  *p = (Pipe){.reads = reads, .interrupts = session_of(L)->interrupts, .terminal = terminal_state()};
  luaL_setmetatable(L, LUA_FILEHANDLE);
  if (pipe2(ends, O_CLOEXEC) != 0) return luaL_fileresult(L, 0, command);
  int ours = ends[reads ? 0 : 1], its = ends[reads ? 1 : 0];
  errno = start(session_of(L), command, its, reads ? STDOUT_FILENO : STDIN_FILENO, &p->child);
  bool started = errno == 0;
  close(its);
  if (started) p->stream.f = reads ? open_reader(session_of(L), ours) : fdopen(ours, mode);
  if (!p->stream.f) {
    close(ours);
    return luaL_fileresult(L, 0, command);
  }
  p->stream.closef = close_pipe;
  return 1;
}

// os.exit as Lua's own, its upvalue; but what runs below a visitor cannot end within it.
static int exit_program(lua_State *L) {
  if (session_of(L)->depth > 0)
    return luaL_error(L, "os.exit: what is done in the middle of a run cannot end the program; stop the run first");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

void open_programs(lua_State *L) {
  lua_getglobal(L, "os");
  lua_getfield(L, -1, "exit");
  lua_pushcclosure(L, exit_program, 1);
  lua_setfield(L, -2, "exit");
  lua_pushcfunction(L, execute_program);
  lua_setfield(L, -2, "execute");
  lua_getglobal(L, "io");
  lua_pushcfunction(L, open_pipe);
  lua_setfield(L, -2, "popen");
  lua_pop(L, 2);
}
