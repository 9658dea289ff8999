// SPDX-License-Identifier: MIT
// What surrounds a session for the commands that ask: the working folder, the environment, when files changed, and what
// is written while something runs.
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "native.h"
#include "state.h"

// ---- the folder and the environment ----

int working_folder(lua_State *L) {
  char path[PATH_MAX];
  const char *to = luaL_optstring(L, 1, NULL);
  if ((to && chdir(to) != 0) || !getcwd(path, sizeof path)) return luaL_fileresult(L, 0, to);
  lua_pushstring(L, path);
  return 1;
}

int set_variable(lua_State *L) {
  return luaL_fileresult(L, setenv(luaL_checkstring(L, 1), luaL_checkstring(L, 2), 1) == 0, NULL);
}

int variables(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; environ[i]; i++) {
    lua_pushstring(L, environ[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

bool push_file_stamp(lua_State *L, const char *path) {
  struct stat s;
  if (stat(path, &s) != 0) return false;
  lua_pushfstring(L, "%I.%I %I %I", (LUAI_UACINT)s.st_mtim.tv_sec, (LUAI_UACINT)s.st_mtim.tv_nsec,
                  (LUAI_UACINT)s.st_size, (LUAI_UACINT)s.st_ino);
  return true;
}

int file_stamp(lua_State *L) {
  return push_file_stamp(L, luaL_checkstring(L, 1));
}

// ---- capturing ----
//
// Standard output and error are a file for a while: the descriptors, for other programs, the C library's streams, which
// front ends replace, and those that Lua's io library holds; what is shown is written there as text.

typedef struct Capture {
  Session *session;
  Sink sink;
  FILE *file, *out, *err;  // the streams before
  int descriptors[2];
  bool outer;  // another was under way
  luaL_Stream *lua[2];
} Capture;

static void write_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number;
  fwrite(value->items[0].data, 1, value->items[0].length, stdout);
  putchar('\n');
}

static void write_display(void *user, const Bundle *value, const char *id, bool update) {
  (void)id, (void)update;
  write_value(user, 0, value);
}

static void clear_nothing(void *user, bool wait) {
  (void)user, (void)wait;
}

static int end_capture(lua_State *L) {
  Capture *c = lua_touserdata(L, 1);
  if (!c || !c->file) return 0;
  fflush(NULL);
  for (int i = 0; i < 2; i++) {
    if (c->descriptors[i] >= 0) {
      dup2(c->descriptors[i], i ? STDERR_FILENO : STDOUT_FILENO);
      close(c->descriptors[i]);
    }
    if (c->lua[i] && c->lua[i]->f == c->file) c->lua[i]->f = i ? c->err : c->out;
  }
  stdout = c->out;
  stderr = c->err;
  c->session->sink = c->sink;
  c->session->captured = c->outer;
  fclose(c->file);
  c->file = NULL;
  return 0;
}

static void begin_capture(lua_State *L, Capture *c) {
  static const char *const names[] = {"stdout", "stderr"};
  fflush(NULL);
  lua_getglobal(L, "io");
  for (int i = 0; i < 2; i++) {
    c->descriptors[i] = dup(i ? STDERR_FILENO : STDOUT_FILENO);
    if (c->descriptors[i] >= 0) dup2(fileno(c->file), i ? STDERR_FILENO : STDOUT_FILENO);
    if (lua_istable(L, -1)) {
      lua_getfield(L, -1, names[i]);
      c->lua[i] = luaL_testudata(L, -1, LUA_FILEHANDLE);
      if (c->lua[i] && c->lua[i]->f == (i ? c->err : c->out)) c->lua[i]->f = c->file;
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  stdout = stderr = c->file;
  c->outer = c->session->captured;
  c->session->captured = true;
  c->session->sink.value = write_value;
  c->session->sink.display = write_display;
  c->session->sink.clear = clear_nothing;
  c->session->sink.page = NULL;
  c->session->sink.program = NULL;
}

int capture(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  Capture *c = lua_newuserdatauv(L, sizeof *c, 0);
  *c = (Capture){
      .session = session_of(L), .sink = session_of(L)->sink, .out = stdout, .err = stderr, .descriptors = {-1, -1}};
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, end_capture);
  lua_setfield(L, -2, "__close");
  lua_pushcfunction(L, end_capture);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_toclose(L, 2);
  if (!(c->file = tmpfile())) return luaL_error(L, "there is no file to capture into: %s", strerror(errno));
  begin_capture(L, c);
  lua_pushvalue(L, 1);
  lua_call(L, 0, 0);
  fflush(NULL);
  rewind(c->file);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t n = 1; n > 0; luaL_addsize(&b, n)) n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, c->file);
  luaL_pushresult(&b);
  return 1;
}
