// SPDX-License-Identifier: MIT
// A program that runs beside us: text goes to its input, its output comes back, and an interrupt ends the wait.
//
//   native.spawn{"gnuplot", "-d"} → process, or nil and why
//   process:exchange(text, marker, seconds) → output, complaints
//   process:alive(), process:close()
//
// With a marker the exchange ends when the output ends with it, and the program waits for more; without one its input
// is closed and the output read to its end.  The program has a process group of its own, so that Ctrl-C at the terminal
// is ours alone.  Whatever stops an exchange half-way ends the program: its state would not be known.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "binding.h"
#include "launch.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "open.h"

extern char **environ;

static const char metatable[] = "nablua.process";

enum { MOST_ARGUMENTS = 16, COMPLAINTS = 2000, SLICE = 20 /* ms */ };

typedef struct Process {
  pid_t pid;  // 0 once it has ended
  int input, output, complaints;
} Process;

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void finish(Process *p) {
  close_fd(&p->input);
  close_fd(&p->output);
  close_fd(&p->complaints);
  if (p->pid > 0) {
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) continue;
  }
  p->pid = 0;
}

static int close_process(lua_State *L) {
  finish(luaL_checkudata(L, 1, metatable));
  return 0;
}

static int alive(lua_State *L) {
  Process *p = luaL_checkudata(L, 1, metatable);
  if (p->pid > 0 && waitpid(p->pid, NULL, WNOHANG) == p->pid) {
    p->pid = 0;
    finish(p);
  }
  lua_pushboolean(L, p->pid > 0);
  return 1;
}

// Starts the program; 0 or an errno.  Of each pair of descriptors [0] is ours.
static int start(Process *p, char *const *arguments, const int in[2], const int out[2], const int err[2]) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int status = nb_spawn_begin(&actions, &attributes, POSIX_SPAWN_SETPGROUP);
  if (status) return status;
  status = posix_spawn_file_actions_adddup2(&actions, in[1], STDIN_FILENO);
  if (!status) status = posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  if (!status) status = posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
#if __GLIBC_PREREQ(2, 34)
  // What else is open here, a lock say, is not for it.
  if (!status) status = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
#endif
  if (!status) status = posix_spawnp(&p->pid, arguments[0], &actions, &attributes, arguments, environ);
  if (status) p->pid = 0;
  nb_spawn_end(&actions, &attributes);
  return status;
}

static int spawn(lua_State *L) {
  char *arguments[MOST_ARGUMENTS + 1];
  // A socket for its input: writing to one whose reader is gone can be told not to raise SIGPIPE.
  int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t count = lua_rawlen(L, 1);
  luaL_argcheck(L, count >= 1 && count <= MOST_ARGUMENTS, 1, "needs the program and at most 15 arguments");
  luaL_checkstack(L, MOST_ARGUMENTS + 4, NULL);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    arguments[i] = (char *)(uintptr_t)luaL_checkstring(L, -1);
  }
  arguments[count] = NULL;
  Process *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (Process){0, -1, -1, -1};
  luaL_setmetatable(L, metatable);
  int status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0 ||
                       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) < 0 ||
                       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, err) < 0
                   ? errno
                   : start(p, arguments, in, out, err);
  p->input = in[0];
  p->output = out[0];
  p->complaints = err[0];
  close_fd(&in[1]);
  close_fd(&out[1]);
  close_fd(&err[1]);
  if (status) {
    finish(p);
    lua_pushnil(L);
    lua_pushstring(L, strerror(status));
    return 2;
  }
  for (int i = 0; i < 3; i++) {
    int fd = i == 0 ? p->input : i == 1 ? p->output : p->complaints;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  }
  return 1;
}

// Reads what there is, up to `size`; -1 at the end, 0 when there is nothing yet.
static ssize_t take(int fd, char *buffer, size_t size) {
  ssize_t n = read(fd, buffer, size);
  if (n > 0) return n;
  return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool ends_with(const luaL_Buffer *b, const char *marker, size_t length) {
  return length > 0 && luaL_bufflen(b) >= length &&
         memcmp(luaL_buffaddr(b) + luaL_bufflen(b) - length, marker, length) == 0;
}

// Raises after ending the program.
static int give_up(lua_State *L, Process *p, const Error *err, const char *program) {
  finish(p);
  return err ? nb_raise(L, err) : nb_raisef(L, "%s", program);
}

static int exchange(lua_State *L) {
  Process *p = luaL_checkudata(L, 1, metatable);
  size_t left, length = 0, said = 0;
  const char *text = luaL_checklstring(L, 2, &left);
  const char *marker = luaL_optlstring(L, 3, NULL, &length);
  double limit = nb_clock() + luaL_checknumber(L, 4);
  char complaints[COMPLAINTS];
  bool done = false;
  Error err;
  luaL_Buffer b;
  if (p->pid <= 0) return luaL_error(L, "the program has ended");
  // The place in the buffer for output comes from Lua's memory, which may fail: until the end the process is not ours.
  Process running = *p;
  *p = (Process){0, -1, -1, -1};
  Process *guard = lua_newuserdatauv(L, sizeof *guard, 0);
  *guard = running;
  luaL_setmetatable(L, metatable);
  luaL_buffinit(L, &b);
  while (!done) {
    if (left == 0 && length == 0) close_fd(&guard->input);
    struct pollfd fds[] = {
        {.fd = guard->output, .events = POLLIN},
        {.fd = guard->complaints, .events = POLLIN},
        {.fd = left > 0 ? guard->input : -1, .events = POLLOUT},
    };
    poll(fds, 3, SLICE);
    if (!nb_poll(&err)) return give_up(L, guard, &err, NULL);
    if (nb_clock() > limit) return give_up(L, guard, NULL, "a program that draws did not answer in time");
    if (fds[2].revents) {
      ssize_t n = send(guard->input, text, left, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) text += n, left -= (size_t)n;
      if (n < 0 && errno != EAGAIN && errno != EINTR) left = 0;  // it ended: its output says so below
    }
    if (fds[1].revents) {
      char rest[COMPLAINTS];
      size_t room = sizeof complaints - said;
      ssize_t n =
          room > 0 ? take(guard->complaints, complaints + said, room) : take(guard->complaints, rest, sizeof rest);
      if (n > 0 && room > 0) said += (size_t)n;
      if (n < 0) close_fd(&guard->complaints);
    }
    if (fds[0].revents) {
      char *place = luaL_prepbuffsize(&b, 65536);
      ssize_t n = take(guard->output, place, 65536);
      if (n > 0) luaL_addsize(&b, (size_t)n);
      if (n < 0) {
        // The end: what it said on its way out may still come.
        while (guard->complaints >= 0 && said < sizeof complaints) {
          struct pollfd last = {.fd = guard->complaints, .events = POLLIN};
          ssize_t m =
              poll(&last, 1, 100) > 0 ? take(guard->complaints, complaints + said, sizeof complaints - said) : -1;
          if (m < 0) break;
          said += (size_t)m;
        }
        finish(guard);
        done = true;
      } else if (ends_with(&b, marker, length)) {
        luaL_buffsub(&b, length);
        done = true;
      }
    }
  }
  luaL_pushresult(&b);
  lua_pushlstring(L, complaints, said);
  *p = *guard;
  *guard = (Process){0, -1, -1, -1};
  return 2;
}

void nb_open_process(lua_State *L) {
  static const luaL_Reg methods[] = {{"exchange", exchange}, {"alive", alive}, {"close", close_process}, {NULL, NULL}};
  nb_make_class(L, metatable, close_process, methods);
  lua_pushcfunction(L, spawn);
  lua_setfield(L, -2, "spawn");
}
