// SPDX-License-Identifier: MIT
// Hooks on calls, and the functions that they look for.
#include "doings.h"

#include <string.h>

#include "code.h"
#include "nablua/events.h"
#include "nablua/plan.h"
#include "nablua_lua.h"
#include "visits.h"

// Registry keys: function → clause, or one of the numbers below; and the functions called so far.
static const char known_key, called_key;
enum { REQUIRES = 1, RESUMES, YIELDS };

typedef struct Watched {
  lua_State *recorder;  // the coroutine that is watched
  lua_Hook before;      // the hook that it had
  int mask, count;
} Watched;
static Watched watched;

// C functions are known by their addresses, since each library that is opened makes them anew.
static void push_key(lua_State *L, int index) {
  lua_CFunction f = lua_tocfunction(L, index);
  if (f) {
    void *address;
    memcpy(&address, &f, sizeof address);
    lua_pushlightuserdata(L, address);
  } else {
    lua_pushvalue(L, index);
  }
}

static void on_call(lua_State *L, lua_Debug *ar);

static void look_at_coroutine(lua_State *L, int index) {
  lua_State *co = lua_tothread(L, index);
  if (co && lua_gethook(co) != on_call)
    nb_tell_unrepeatable("it resumes a coroutine that was made outside; make it inside");
}

// What needs a closer look: a module that is loaded already is only fetched, for example.
static void look_closer(lua_State *L, lua_Debug *ar, int what) {
  int top = lua_gettop(L);
  if (what == YIELDS && L == watched.recorder) {  // whether it will ever go on nobody knows
    nb_tell_unrepeatable("it yields while it is recorded");
    nb_plan_abandon();
    watched.recorder = NULL;
  }
  if (what == YIELDS || !lua_getlocal(L, ar, 1)) return;
  if (what == RESUMES) {
    look_at_coroutine(L, top + 1);
  } else if (lua_type(L, top + 1) == LUA_TSTRING) {
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, top + 1);
    lua_rawget(L, top + 2);
    if (!lua_toboolean(L, -1) && strncmp(lua_tostring(L, top + 1), "nablua.", 7) != 0)
      nb_tell_unrepeatable("it loads a module; require it outside");
  }
  lua_settop(L, top);
}

static void on_call(lua_State *L, lua_Debug *ar) {
  nb_wait(L);
  int top = lua_gettop(L), function = top + 1;
  if (!watched.recorder) {  // a coroutine that has outlived the recording it was made in
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  lua_getinfo(L, "f", ar);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
  push_key(L, function);
  int kind = lua_rawget(L, function + 1);
  if (kind == LUA_TSTRING) {
    nb_tell_unrepeatable(lua_tostring(L, -1));
  } else if (kind == LUA_TNUMBER) {
    look_closer(L, ar, (int)lua_tointeger(L, -1));
  } else if (lua_iscfunction(L, function)) {
    for (int i = 1; i <= 2 && lua_getupvalue(L, function, i); i++)  // what coroutine.wrap gives
      look_at_coroutine(L, lua_gettop(L));
  } else if (!nb_is_library_function(L, function)) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &called_key) == LUA_TTABLE) {
      lua_pushvalue(L, function);
      lua_pushboolean(L, 1);
      lua_rawset(L, -3);
    }
  }
  lua_settop(L, top);
}

bool nablua_is_recorded(lua_State *L) {
  return lua_gethook(L) == on_call;
}

void nb_doings_watch(lua_State *L, int called) {
  called = lua_absindex(L, called);
  Watched *outer = lua_newuserdatauv(L, sizeof *outer, 1);
  *outer = watched;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &called_key);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, called);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &called_key);
  watched = (Watched){L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
  lua_sethook(L, on_call, LUA_MASKCALL, 0);
}

bool nb_doings_leave(lua_State *L, int watch) {
  if (watched.recorder != L) return false;
  bool whole = lua_gethook(L) == on_call;
  if (whole) lua_sethook(L, watched.before, watched.mask, watched.count);
  watched = *(const Watched *)lua_touserdata(L, watch);
  lua_getiuservalue(L, watch, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &called_key);
  return whole;
}

// native.doing(function, clause): a plan that is recorded while the function is called is refused with the clause;
// "require", "resume" and "yield" stand for those that need a closer look.
static int doing(lua_State *L) {
  static const char *const special[] = {"require", "resume", "yield", NULL};
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *clause = luaL_checkstring(L, 2);
  lua_settop(L, 2);
  for (int i = 0; special[i]; i++) {
    if (strcmp(clause, special[i]) != 0) continue;
    lua_pushinteger(L, REQUIRES + i);
    lua_replace(L, 2);
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
  push_key(L, 1);
  lua_pushvalue(L, 2);
  lua_rawset(L, 3);
  return 0;
}

void nb_open_doings(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &known_key);
  lua_pushcfunction(L, doing);
  lua_setfield(L, -2, "doing");
}
