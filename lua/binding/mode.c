// SPDX-License-Identifier: MIT
// The gradient mode in Lua: nb.no_grad and its like, whose mode is that of the coroutine they run in; and the protected
// call by which modes of other things come back.
//
// Who switches the mode for a while has a frame in a list, the latest first.  A coroutine that yields, or dies of an
// error, leaves its frames behind without a word: they count only while it runs, or waits for one that it resumed.
#include "binding.h"
#include "nablua/tape.h"
#include "open.h"
#include "visits.h"

typedef struct Frame {
  struct Frame *below;
  lua_State *owner;  // kept by the userdata that the frame is
  bool mode, listed;
  int visit;  // whose it is, see visits.c: frames of others do not count
} Frame;

static const char frame_key;
static Frame *latest;
static bool outside = true;  // the mode where no frame counts
static int visit;            // how many visits are under way

// The frame whose mode holds for what runs in L, or NULL.
static Frame *frame_of(lua_State *L) {
  for (Frame *f = latest; f; f = f->below)
    if (f->owner == L && f->visit == visit) return f;
  for (Frame *f = latest; f; f = f->below)
    if (f->visit == visit && lua_status(f->owner) == LUA_OK) return f;
  return NULL;
}

// Sets the mode of what runs in L, where another coroutine ran before.
static void follow(lua_State *L) {
  if (!latest) return;
  const Frame *f = frame_of(L);
  nb_set_grad_enabled(f ? f->mode : outside);
}

// The __close and the __gc of a frame.
static int leave(lua_State *L) {
  Frame *f = nb_collected_by(L, 1, leave);
  if (!f || !f->listed) return 0;
  for (Frame **at = &latest; *at; at = &(*at)->below) {
    if (*at != f) continue;
    *at = f->below;
    break;
  }
  f->listed = false;
  const Frame *now = frame_of(L);
  nb_set_grad_enabled(now ? now->mode : outside);
  return 0;
}

static int finish(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  return lua_gettop(L) - 1;
}

// f(...) in a mode; what it returns.  The frame is a to-be-closed value, so that errors pass with their traceback.
static int call_in(lua_State *L, const char *name, bool mode) {
  if (!lua_isfunction(L, 1) && (nb_test_tensor(L, 1) || luaL_getmetafield(L, 1, "__call") == LUA_TNIL))
    return nb_raisef(L, "%s: needs a function, got %s: nb.%s(function() ... end)", name, nb_kind_of(L, 1), name);
  if (!lua_isfunction(L, 1)) lua_pop(L, 1);  // its __call
  nb_enter(L);
  Frame *f = lua_newuserdatauv(L, sizeof *f, 1);
  *f = (Frame){.owner = L, .mode = mode, .visit = visit};
  lua_pushthread(L);
  lua_setiuservalue(L, -2, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &frame_key);
  lua_setmetatable(L, -2);
  lua_insert(L, 1);
  lua_toclose(L, 1);
  if (!latest && visit == 0) outside = nb_grad_enabled();
  f->below = latest, f->listed = true;
  latest = f;
  nb_set_grad_enabled(mode);
  lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, finish);
  return finish(L, LUA_OK, 0);
}

static int no_grad(lua_State *L) {
  return call_in(L, "no_grad", false);
}

// native.with_grad(f, ...): the opposite.
static int with_grad(lua_State *L) {
  return call_in(L, "with_grad", true);
}

static int after_protected(lua_State *L, int status, lua_KContext context) {
  bool ok = status == LUA_OK || status == LUA_YIELD;
  (void)context;
  if (!ok) nb_caught(L);
  lua_pushboolean(L, ok);
  lua_insert(L, 1);
  return lua_gettop(L);
}

// native.protected(f, ...): Lua's pcall, also where the session has a pcall that interrupts pass through.
static int protected(lua_State *L) {
  return after_protected(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, after_protected), 0);
}

static int grad_enabled(lua_State *L) {
  nb_enter(L);
  lua_pushboolean(L, nb_grad_enabled());
  return 1;
}

static int set_grad_enabled(lua_State *L) {
  if (!lua_isboolean(L, 1)) return nb_raisef(L, "set_grad_enabled: needs true or false, got %s", nb_kind_of(L, 1));
  nb_enter(L);
  bool mode = lua_toboolean(L, 1);
  Frame *f = frame_of(L);
  *(f ? &f->mode : &outside) = mode;
  nb_set_grad_enabled(mode);
  return 0;
}

void nb_mode_aside(lua_State *V) {
  lua_pushboolean(V, outside);
  outside = true;
  visit++;
}

void nb_mode_back(lua_State *V) {
  visit--;
  outside = lua_toboolean(V, -1);
  lua_pop(V, 1);
}

void nb_open_mode(lua_State *L) {
  static const luaL_Reg functions[] = {{"with_grad", with_grad}, {"protected", protected}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  nb_on_enter(follow);
  lua_createtable(L, 0, 3);
  lua_pushcfunction(L, leave);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__close");
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &frame_key);
}

void nb_open_public_mode(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"no_grad", no_grad}, {"grad_enabled", grad_enabled}, {"set_grad_enabled", set_grad_enabled}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
