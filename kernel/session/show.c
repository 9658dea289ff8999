// SPDX-License-Identifier: MIT
// Values for people: bundles from the display module, and the functions that show and ask.
#include "show.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "native.h"
#include "record.h"

// `raw`: a table of MIME types is a bundle itself.
static void push_bundle_of(lua_State *L, Session *s, int index, bool raw) {
  index = lua_absindex(L, index);
  push_module(L, "nablua.display");
  lua_getfield(L, -1, "bundle");
  lua_remove(L, -2);
  lua_pushvalue(L, index);
  lua_createtable(L, 0, 4);
  lua_pushboolean(L, raw);
  lua_setfield(L, -2, "raw");
  lua_pushboolean(L, s->color);
  lua_setfield(L, -2, "color");
  lua_pushboolean(L, s->rich);
  lua_setfield(L, -2, "rich");
  if (s->width > 0) {
    lua_pushinteger(L, s->width);
    lua_setfield(L, -2, "width");
  }
  lua_call(L, 2, 1);
}

void push_bundle(lua_State *L, Session *s, int index) {
  push_bundle_of(L, s, index, false);
}

Bundle read_bundle(lua_State *L, Session *s) {
  const char *metadata = NULL;
  int count = 1;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) continue;
    Mime m = {.type = lua_tostring(L, -2)};
    if (strcmp(m.type, "metadata") == 0) {
      metadata = lua_tostring(L, -1);
      continue;
    }
    m.data = lua_tolstring(L, -1, &m.length);
    if (strcmp(m.type, "text/plain") == 0)
      s->mimes[0] = m;
    else if (count < MOST_MIMES)
      s->mimes[count++] = m;
  }
  return (Bundle){s->mimes, count, metadata};
}

// Whether what is updated can be seen while something runs: in a notebook, or at a terminal.
static int live(lua_State *L) {
  lua_pushboolean(L, session_of(L)->rich || isatty(STDOUT_FILENO));
  return 1;
}

int settle_values(lua_State *L) {
  lua_settop(L, 0);
  push_module(L, "nablua.display");
  lua_getfield(L, -1, "settle");
  lua_call(L, 0, 0);
  return 0;
}

static const char *display_id(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return NULL;
  return luaL_checkstring(L, index);
}

// Adds the metadata among the options at that index to the bundle on the top.
static void add_metadata(lua_State *L, int options) {
  if (lua_getfield(L, options, "metadata") == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  push_module(L, "nablua.display");
  lua_getfield(L, -1, "add_metadata");
  lua_pushvalue(L, -4);
  lua_pushvalue(L, -4);
  lua_call(L, 2, 0);
  lua_pop(L, 2);
}

// Whether a last argument says how the values before it are shown: nothing else has these fields alone.
static bool is_options(lua_State *L, int index) {
  int top = lua_gettop(L);
  bool is = lua_type(L, index) == LUA_TTABLE && !lua_getmetatable(L, index);
  if (is) lua_pushnil(L);
  while (is && lua_next(L, index)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    is = strcmp(key, "id") == 0 || strcmp(key, "metadata") == 0;
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  return is;
}

// display(value, ..., {id=, metadata=})
static int display(lua_State *L) {
  Session *s = session_of(L);
  luaL_checkany(L, 1);
  luaL_checkstack(L, 20, NULL);
  int last = lua_gettop(L), options = 0;
  const char *id = NULL;
  if (last == 2 && lua_isnil(L, 2)) last = 1;
  if (last > 1 && is_options(L, last)) {
    options = last--;
    lua_getfield(L, options, "id");
    id = display_id(L, -1);
  }
  if (id && last > 1) return luaL_error(L, "display: an id is for one value, and here are %d", last);
  int top = lua_gettop(L);
  for (int i = 1; i <= last; i++) {
    push_bundle_of(L, s, i, true);
    if (options) add_metadata(L, options);
    Bundle b = read_bundle(L, s);
    record_bundle(L, s, "display", id);
    if (s->sink.display) s->sink.display(s->sink.user, &b, id, false);
    lua_settop(L, top);
  }
  return 0;
}

// update_display(value, id)
static int update_display(lua_State *L) {
  Session *s = session_of(L);
  luaL_checkany(L, 1);
  const char *id = luaL_checkstring(L, 2);
  push_bundle_of(L, s, 1, true);
  Bundle b = read_bundle(L, s);
  record_bundle(L, s, "update", id);
  if (s->sink.display) s->sink.display(s->sink.user, &b, id, true);
  return 0;
}

// clear_output{wait=}
static int clear_output(lua_State *L) {
  Session *s = session_of(L);
  bool wait = false;
  if (!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "wait");
    wait = lua_toboolean(L, -1);
  }
  lua_newtable(L);
  record_bundle(L, s, wait ? "wait" : "clear", NULL);
  if (s->sink.clear) s->sink.clear(s->sink.user, wait);
  return 0;
}

typedef struct Answer {
  char *line;
  size_t length;
} Answer;

static int push_answer(lua_State *L) {
  const Answer *a = lua_touserdata(L, 1);
  lua_pushlstring(L, a->line, a->length);
  return 1;
}

// input(prompt, {password=})
static int ask_user(lua_State *L) {
  Session *s = session_of(L);
  const char *prompt = luaL_optstring(L, 1, "");
  bool hidden = false;
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "password");
    hidden = lua_toboolean(L, -1);
  }
  if (!s->sink.ask || s->deaf) return luaL_error(L, "input: there is nobody to ask here");
  luaL_checkstack(L, 4, NULL);
  lua_pushcfunction(L, push_answer);
  Answer answer = {NULL, 0};
  answer.line = s->sink.ask(s->sink.user, prompt, hidden, &answer.length);
  if (!answer.line) {
    if (s->interrupted) return luaL_error(L, "interrupted");
    lua_pushnil(L);
    return 1;
  }
  lua_pushlightuserdata(L, &answer);
  int status = lua_pcall(L, 1, 1, 0);
  free(answer.line);
  return status == LUA_OK ? 1 : lua_error(L);
}

// breakpoint{when=}: pauses in the caller's frame.
static int breakpoint(lua_State *L) {
  lua_settop(L, 1);
  push_module(L, "nablua.session.pause");
  lua_getfield(L, -1, "breakpoint");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  return 0;
}

// A function of the module that makes values to be shown, which is loaded when one is first called.
static int make_shown(lua_State *L) {
  push_module(L, "nablua.session.media");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_gettable(L, -2);
  lua_insert(L, 1);
  lua_pop(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

void open_display(lua_State *L) {
  static const char *const shown[] = {"HTML", "Markdown", "Latex", "SVG", "Image", "Audio", "JSON", NULL};
  static const luaL_Reg functions[] = {{"display", display},           {"update_display", update_display},
                                       {"clear_output", clear_output}, {"input", ask_user},
                                       {"breakpoint", breakpoint},     {NULL, NULL}};
  lua_pushglobaltable(L);
  luaL_setfuncs(L, functions, 0);
  for (int i = 0; shown[i]; i++) {
    lua_pushstring(L, shown[i]);
    lua_pushcclosure(L, make_shown, 1);
    lua_setfield(L, -2, shown[i]);
  }
  // For the library, which does not look at globals.
  push_module(L, "nablua.display");
  static const luaL_Reg library[] = {
      {"show", display}, {"update", update_display}, {"live", live}, {"json_error", json_error}, {NULL, NULL}};
  luaL_setfuncs(L, library, 0);
  lua_pop(L, 2);
}
