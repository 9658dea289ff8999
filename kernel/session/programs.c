// SPDX-License-Identifier: MIT
// Other programs: os.execute and io.popen as Lua's own, but an interrupt stops what they run and ends the waiting.
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
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
  if (isatty(STDIN_FILENO)) return;  // the terminal tells them
  for (int i = 0; i < MOST_PROGRAMS; i++)
    if (s->programs[i]) kill(-s->programs[i], SIGTERM);
}

// ---- running ----

// Waits for the program in short sleeps, which a signal ends.  An interrupt ends it, and `limit` seconds do if that is
// not 0.  -1 when there is nothing to wait for.
static int wait_for(Session *s, pid_t child, double limit, bool *stopped) {
  pid_t target = isatty(STDIN_FILENO) ? child : -child;  // see start
  struct timespec nap = {.tv_nsec = 200000};
  double waited = 0;
  int status;
  *stopped = false;
  for (int after = 0;;) {
    pid_t done = waitpid(child, &status, WNOHANG);
    if (done != 0) {
      note(s, child, 0);
      return done < 0 ? -1 : status;
    }
    if (s->interrupted) *stopped = true;
    if (*stopped || (limit > 0 && waited > limit)) {
      if (after == 0) kill(target, SIGTERM);
      if (++after == 50) kill(target, SIGKILL);
    }
    nanosleep(&nap, NULL);
    waited += 1e-9 * (double)nap.tv_nsec;
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
static int push_end(lua_State *L, pid_t child, double limit) {
  bool stopped;
  int status = wait_for(session_of(L), child, limit, &stopped);
  if (stopped) return luaL_error(L, "interrupted");
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
  errno = start(session_of(L), command, -1, -1, &child);
  return errno ? luaL_execresult(L, -1) : push_end(L, child, 0);
}

// A Lua file that is a pipe to a program.
typedef struct Pipe {
  luaL_Stream stream;
  pid_t child;
  bool reads;
  unsigned interrupts;  // of the session when the program began
} Pipe;

static int close_pipe(lua_State *L) {
  Pipe *p = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  fclose(p->stream.f);
  // What an interrupt has left unread may wait for its reader for ever.
  bool left = p->reads && p->interrupts != session_of(L)->interrupts;
  return push_end(L, p->child, left ? 0.2 : 0);
}

// io.popen(command [, mode])
int open_pipe(lua_State *L) {
  const char *command = luaL_checkstring(L, 1), *mode = luaL_optstring(L, 2, "r");
  luaL_argcheck(L, (*mode == 'r' || *mode == 'w') && !mode[1], 2, "invalid mode");
  bool reads = *mode == 'r';
  int ends[2];
  Pipe *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (Pipe){.reads = reads, .interrupts = session_of(L)->interrupts};  // a closed file until all has gone well
  luaL_setmetatable(L, LUA_FILEHANDLE);
  if (pipe2(ends, O_CLOEXEC) != 0) return luaL_fileresult(L, 0, command);
  int ours = ends[reads ? 0 : 1], its = ends[reads ? 1 : 0];
  errno = start(session_of(L), command, its, reads ? STDOUT_FILENO : STDIN_FILENO, &p->child);
  bool started = errno == 0;
  close(its);
  if (started) p->stream.f = fdopen(ours, mode);
  if (!p->stream.f) {
    close(ours);
    return luaL_fileresult(L, 0, command);
  }
  p->stream.closef = close_pipe;
  return 1;
}

void open_programs(lua_State *L) {
  lua_getglobal(L, "os");
  lua_pushcfunction(L, execute_program);
  lua_setfield(L, -2, "execute");
  lua_getglobal(L, "io");
  lua_pushcfunction(L, open_pipe);
  lua_setfield(L, -2, "popen");
  lua_pop(L, 2);
}
