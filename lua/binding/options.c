// SPDX-License-Identifier: MIT
// Tables of options: the sentences about them.
#include "options.h"

#include <string.h>

#include "binding.h"
#include "nearest.h"
#include "open.h"

static int refuse(lua_State *L, const char *where, const char *such, const char *got) {
  return nb_raisef(L, "%s: the options must be a table%s%s%s, got %s", where, *such ? " such as {" : "", such,
                   *such ? "=...}" : "", got);
}

// Pushes "; did you mean "lr"?", or the list of all names where none is near.
static void push_suggestion(lua_State *L, const char *name, const char *const *names) {
  const char *near = nb_nearest(name, names);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  if (near) {
    luaL_addstring(&b, "; did you mean \"");
    luaL_addstring(&b, near);
    luaL_addstring(&b, "\"?");
  } else {
    luaL_addstring(&b, *names ? "; there are " : "; there are none");
    for (int i = 0; names[i]; i++) {
      if (i > 0) luaL_addstring(&b, ", ");
      luaL_addstring(&b, names[i]);
    }
  }
  luaL_pushresult(&b);
}

int nb_no_option(lua_State *L, const char *where, const char *name, const char *const *names) {
  push_suggestion(L, name, names);
  return nb_raisef(L, "%s: there is no option \"%s\"%s", where, name, lua_tostring(L, -1));
}

bool nb_check_options(lua_State *L, const char *where, int index, const char *const *names) {
  if (lua_isnoneornil(L, index)) return false;
  if (!lua_istable(L, index)) refuse(L, where, *names, nb_kind_of(L, index));
  lua_pushnil(L);
  while (lua_next(L, index)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_tolstring(L, -2, NULL);
    int i = 0;
    while (names[i] && strcmp(names[i], name) != 0) i++;
    if (!names[i] || lua_type(L, -2) != LUA_TSTRING) nb_no_option(L, where, name, names);
    lua_pop(L, 1);
  }
  return true;
}

// native.refuse_options(where, such, got): raises that the options must be a table, one that has the option `such`
// unless that is ""; `got` says what they are.
static int refuse_options(lua_State *L) {
  return refuse(L, luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3));
}

// The strings of the list at `index`, which keeps them, as a NULL-ended list that stands on the stack.
static const char *const *names_at(lua_State *L, int index) {
  lua_Integer count = luaL_len(L, index);
  const char **names = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *names, 0);
  for (lua_Integer i = 0; i < count; i++) {
    lua_rawgeti(L, index, i + 1);
    if (lua_type(L, -1) != LUA_TSTRING) nb_raisef(L, "names must be strings, got %s", nb_kind_of(L, -1));
    names[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  names[count] = NULL;
  return names;
}

// native.nearest(name, names): of a list of names the one nearest to `name`; nil when none is near.
static int nearest(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_pushstring(L, nb_nearest(name, names_at(L, 2)));
  return 1;
}

// native.no_option(where, name, names): raises that there is no such option.
static int no_option(lua_State *L) {
  const char *where = luaL_checkstring(L, 1), *name = luaL_tolstring(L, 2, NULL);
  luaL_checktype(L, 3, LUA_TTABLE);
  return nb_no_option(L, where, name, names_at(L, 3));
}

void nb_open_options(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"refuse_options", refuse_options}, {"nearest", nearest}, {"no_option", no_option}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
