// SPDX-License-Identifier: MIT
// How a prompt and the processes that it has started speak: a private folder with, of each, a fifo for what goes in and
// a file for what comes back.  Those on other machines connect (distant.h), and what they say goes to such a file, too.
//
//   native.dist_channels(n, {i, ...}) → channels; the list: those that are on other machines
//   channels:place(), channels:send(i, text), channels:read(i) → what has come since, channels:interrupt(i, pid),
//   channels:gone(i), channels:door() → where those on other machines connect, channels:shut()
//
// A file takes whatever a worker writes while the prompt is busy; and the fifo ends when the prompt does, however that
// ends, and the workers with it.
#include "workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "binding.h"
#include "distant.h"
#include "nablua/interrupt.h"

static const char metatable[] = "nablua.channels";

enum { MOST = 256, PATH = 200 };

typedef struct Channels {
  char folder[PATH];
  int count;
  int in[MOST], out[MOST];
  bool far[MOST];    // on another machine: no fifo
  Distant *distant;  // NULL where there are none
} Channels;

static void name_of(const Channels *c, const char *kind, int i, char path[PATH + 32]) {
  snprintf(path, PATH + 32, "%s/%s.%d", c->folder, kind, i + 1);
}

static int close_channels(lua_State *L) {
  Channels *c = luaL_checkudata(L, 1, metatable);
  char path[PATH + 32];
  nb_distant_close(c->distant);
  c->distant = NULL;
  for (int i = 0; i < c->count; i++) {
    if (c->in[i] >= 0) close(c->in[i]);
    if (c->out[i] >= 0) close(c->out[i]);
    name_of(c, "in", i, path);
    remove(path);
    name_of(c, "out", i, path);
    remove(path);
  }
  c->count = 0;
  if (*c->folder) remove(c->folder);
  *c->folder = '\0';
  return 0;
}

static bool open_pair(Channels *c, int i) {
  char path[PATH + 32];
  c->in[i] = c->out[i] = -1;
  c->count = i + 1;
  name_of(c, "out", i, path);
  FILE *f = fopen(path, "we");
  if (!f) return false;
  fclose(f);
  c->out[i] = open(path, O_RDONLY | O_CLOEXEC);
  if (c->out[i] < 0) return false;
  if (c->far[i]) return nb_distant_expect(c->distant, i, path);
  name_of(c, "in", i, path);
  // For reading, too: so it is open before the worker is there.
  return mkfifo(path, 0600) == 0 && (c->in[i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)) >= 0;
}

static int new_channels(lua_State *L) {
  int n = (int)luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 1 && n <= MOST, 1, "1 to 256");
  luaL_checktype(L, 2, LUA_TTABLE);
  static const char temporary[] = "TMPDIR";
  const char *root = getenv(temporary);
  Channels *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  snprintf(c->folder, sizeof c->folder, "%s/nablua-XXXXXX", root && strlen(root) < PATH - 20 ? root : "/tmp");
  bool ok = mkdtemp(c->folder) != NULL;
  if (!ok) *c->folder = '\0';
  luaL_setmetatable(L, metatable);
  for (lua_Integer k = 1; lua_rawgeti(L, 2, k) == LUA_TNUMBER; k++, lua_pop(L, 1)) {
    lua_Integer i = lua_tointeger(L, -1);
    luaL_argcheck(L, i >= 1 && i <= n, 2, "no such worker");
    c->far[i - 1] = true;
    if (ok && !c->distant) ok = (c->distant = nb_distant_open()) != NULL;
  }
  lua_pop(L, 1);
  for (int i = 0; ok && i < n; i++) ok = open_pair(c, i);
  if (!ok) return nb_raisef(L, "dist.start: no place for the workers' channels in %s: %s", c->folder, strerror(errno));
  if (c->distant) nb_distant_listen(c->distant);
  return 1;
}

static Channels *check(lua_State *L, int *i) {
  Channels *c = luaL_checkudata(L, 1, metatable);
  *i = (int)luaL_checkinteger(L, 2) - 1;
  luaL_argcheck(L, *i >= 0 && *i < c->count, 2, "no such worker");
  return c;
}

static int place(lua_State *L) {
  lua_pushstring(L, ((Channels *)luaL_checkudata(L, 1, metatable))->folder);
  return 1;
}

// Waits where the worker has not read what came before.
static int send_text(lua_State *L) {
  int i;
  size_t left;
  Error err;
  Channels *c = check(L, &i);
  const char *text = luaL_checklstring(L, 3, &left);
  if (c->far[i]) {
    if (!nb_distant_send(c->distant, i, text, left)) return nb_raisef(L, "dist: a worker cannot be reached");
    return 0;
  }
  while (left > 0) {
    ssize_t n = write(c->in[i], text, left);
    if (n > 0) text += n, left -= (size_t)n;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return nb_raisef(L, "dist: a worker cannot be reached: %s", strerror(errno));
    if (n < 0) poll(&(struct pollfd){.fd = c->in[i], .events = POLLOUT}, 1, 20);
    if (n < 0 && !nb_poll(&err)) return nb_raise(L, &err);
  }
  return 0;
}

static int read_text(lua_State *L) {
  int i;
  luaL_Buffer b;
  Channels *c = check(L, &i);
  luaL_buffinit(L, &b);
  for (ssize_t n = 1; n > 0;) {
    char *to = luaL_prepbuffer(&b);
    n = read(c->out[i], to, LUAL_BUFFERSIZE);
    if (n > 0) luaL_addsize(&b, (size_t)n);
  }
  luaL_pushresult(&b);
  return 1;
}

// Interrupts what a worker runs: SIGALRM is what `nablua --cells` takes for Ctrl-C.
static int interrupt(lua_State *L) {
  int i;
  Channels *c = check(L, &i);
  lua_Integer pid = luaL_checkinteger(L, 3);
  if (c->far[i])
    nb_distant_interrupt(c->distant, i);
  else if (pid > 1)
    kill((pid_t)pid, SIGALRM);
  return 0;
}

// Whether a worker of another machine was connected and is not any more.
static int gone(lua_State *L) {
  int i;
  Channels *c = check(L, &i);
  lua_pushboolean(L, c->far[i] && nb_distant_is_gone(c->distant, i));
  return 1;
}

// "ADDRESS,ADDRESS PORT SECRET", for those on other machines
static int door(lua_State *L) {
  Channels *c = luaL_checkudata(L, 1, metatable);
  char text[DISTANT_DOOR] = "";
  if (c->distant) nb_distant_door(c->distant, text);
  lua_pushstring(L, text);
  return 1;
}

void nb_open_workers(lua_State *L) {
  static const luaL_Reg methods[] = {{"place", place},         {"send", send_text}, {"read", read_text},
                                     {"interrupt", interrupt}, {"gone", gone},      {"door", door},
                                     {"shut", close_channels}, {NULL, NULL}};
  nb_make_class(L, metatable, close_channels, methods);
  lua_pushcfunction(L, new_channels);
  lua_setfield(L, -2, "dist_channels");
}
