// SPDX-License-Identifier: MIT
// Setting hooks, from signals too.
//
// What each wants of a state stands in the bytes that Lua keeps for that beside it.  Where the user alone wants
// something, his hook is set as it is; else one that hands each event to whom it is for.
#include "hooks.h"

#include <lauxlib.h>
#include <stdint.h>

#include "aside.h"
#include "dull.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "nablua_lua.h"

// The masks of the user and the debugger, whether a visitor is to be served, the debugger's mask while it rests, and
// the user's count.
typedef struct Wanted {
  uint8_t user, debugger, visit, resting;
  int32_t count;
} Wanted;
_Static_assert(sizeof(Wanted) <= LUA_EXTRASPACE, "what is wanted fits beside a state");

static lua_Hook stop, user_hook;
static Session *only;  // the session, as long as there never was another: then it need not be looked for
static bool several;
static void (*debug_hook)(Session *s, lua_State *L, lua_Debug *ar);

static Wanted *wanted(lua_State *L) {
  return lua_getextraspace(L);
}

void know_stop_hook(lua_Hook hook) {
  stop = hook;
}

void know_debug_hook(void (*hook)(Session *s, lua_State *L, lua_Debug *ar)) {
  debug_hook = hook;
}

void arm_stop(lua_State *L) {
  lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void share_hook(lua_State *L, lua_Debug *ar);
static void see_call(lua_State *L, lua_Debug *ar);

static bool is_shared(lua_Hook hook) {
  return hook == share_hook || hook == see_call;
}

// Sets the hook for what is wanted of a state.  To be called while `hooking` is set, when no handler of a signal sets
// one; an interrupt has set its own in vain then.
static void install(lua_State *L) {
  const Wanted *w = wanted(L);
  bool each = w->visit || (w->debugger & LUA_MASKCOUNT);
  int mask = w->user | w->debugger | (each ? LUA_MASKCOUNT : 0);
  bool calls_alone = w->debugger == LUA_MASKCALL && !w->visit && w->user == 0;
  lua_sethook(L, calls_alone ? see_call : w->debugger || w->visit ? share_hook : user_hook, mask, each ? 1 : w->count);
}

static void begin_setting(Session *s) {
  s->hooking = 1;
}

static void end_setting(Session *s, lua_State *L) {
  s->hooking = 0;
  if (s->active && s->interrupted) arm_stop(L);
}

// Of what the user's program asked for: a visitor who came meanwhile was told to wait.
static void end_setting_of_user(Session *s, lua_State *L) {
  end_setting(s, L);
  if (s->called) arm_visit(s, L);
}

void settle_hooks(Session *s, lua_State *L) {
  begin_setting(s);
  wanted(L)->visit = 0;
  install(L);
  end_setting(s, L);
}

void clear_hooks(Session *s, lua_State *L) {
  begin_setting(s);
  *wanted(L) = (Wanted){0};
  lua_sethook(L, NULL, 0, 0);
  end_setting(s, L);
}

// ---- events ----

static int mask_of(int event) {
  return event == LUA_HOOKTAILCALL ? LUA_MASKCALL : 1 << event;
}

static void share_hook(lua_State *L, lua_Debug *ar) {
  Wanted w = *wanted(L);
  Session *s = several ? session_of(L) : only;
  if (w.visit && ar->event == LUA_HOOKCOUNT) {
    settle_hooks(s, L);
    if (s->called) s->serve(s, L);
    w.user &= (uint8_t)~LUA_MASKCOUNT;  // it was not he who counted
  } else if (w.visit) {
    begin_setting(s);
    install(L);  // Lua may have counted just before it was told to
    end_setting(s, L);
  }
  if (w.debugger & LUA_MASKCOUNT) w.user &= (uint8_t)~LUA_MASKCOUNT;
  int event = mask_of(ar->event);
  if (w.debugger & event) debug_hook(s, L, ar);
  if ((w.user & event) && user_hook) user_hook(L, ar);
}

// Where the debugger alone wants something, and no more than calls: most are none of its business.
static void see_call(lua_State *L, lua_Debug *ar) {
  if (dull_call(L, ar) == NOT_DULL) share_hook(L, ar);
}

void arm_visit(Session *s, lua_State *L) {
  if (s->hooking || lua_gethook(L) == stop || nablua_is_recorded(L)) return;
  begin_setting(s);
  wanted(L)->visit = 1;
  install(L);
  end_setting(s, L);
}

void arm_debugger(Session *s, lua_State *L, int mask) {
  wanted(L)->resting = 0;
  if (wanted(L)->debugger == mask && mask == 0) return;
  begin_setting(s);
  wanted(L)->debugger = (uint8_t)mask;
  if (lua_gethook(L) != stop && !nablua_is_recorded(L)) install(L);
  end_setting(s, L);
}

bool rest_debugger(Session *s, lua_State *L) {
  Wanted *w = wanted(L);
  if (w->debugger == 0 || w->visit || w->user || !is_shared(lua_gethook(L))) return false;
  begin_setting(s);
  w->resting = w->debugger;
  w->debugger = 0;
  lua_sethook(L, NULL, 0, 0);
  end_setting_of_user(s, L);
  return true;
}

bool wake_debugger(Session *s, lua_State *L) {
  int mask = wanted(L)->resting;
  if (mask) arm_debugger(s, L, mask);
  return mask;
}

int debugger_mask(lua_State *L) {
  return wanted(L)->debugger;
}

void session_attend(Session *s) {
  s->called = 1;
  lua_State *running = s->running;
  if (s->active && running && !s->interrupted && (s->rest_until < nb_clock() || s->pause)) arm_visit(s, running);
}

void interrupt_what_runs(Session *s) {
  s->interrupted = s->interrupted ? 2 : 1;
  s->interrupts++;
  nb_interrupt();
  arm_stop(s->L);
  lua_State *running = s->running;
  if (running && running != s->L) arm_stop(running);
}

void note_interrupt(Session *s) {
  bool active = s->active;
  double now = nb_clock();  // which decides for all, also for those that go on only later
  for (Visit *v = s->visit; v && (!active || v->level == SESSION_LOOK || now < v->alone_from); v = v->outer) {
    v->passed++;
    active = true;
  }
}

// ---- the user's ----

// sethook([thread,] hook, mask [, count])
static int sethook(lua_State *L) {
  Session *s = session_of(L);
  int first = lua_isthread(L, 1) ? 2 : 1;
  if (!lua_isnoneornil(L, first)) {  // said here, with their own numbers
    luaL_checkstring(L, first + 1);
    luaL_checktype(L, first, LUA_TFUNCTION);
    luaL_optinteger(L, first + 2, 0);
  }
  lua_settop(L, first + 2);
  lua_State *of = prepare_aside(L);
  begin_setting(s);
  int status = call_aside(L);
  if (status == LUA_OK) {
    lua_Hook hook = lua_gethook(of);
    if (hook && hook != stop) user_hook = hook;  // an interrupt may have come just behind
    wanted(of)->user = (uint8_t)lua_gethookmask(of);
    wanted(of)->count = lua_gethookcount(of);
    if (wanted(of)->debugger || wanted(of)->visit) install(of);
  }
  end_setting_of_user(s, of);
  return status == LUA_OK ? 0 : lua_error(L);
}

// gethook([thread])
static int gethook(lua_State *L) {
  Session *s = session_of(L);
  lua_settop(L, lua_isthread(L, 1) ? 1 : 0);
  lua_State *of = prepare_aside(L);
  begin_setting(s);
  bool shared = is_shared(lua_gethook(of));
  const Wanted *w = wanted(of);
  if (shared) lua_sethook(of, user_hook, w->user, w->count);
  int status = call_aside(L);
  if (shared) install(of);
  end_setting_of_user(s, of);
  return status == LUA_OK ? lua_gettop(L) - 1 : lua_error(L);
}

void open_hooks(lua_State *L) {
  static const luaL_Reg functions[] = {{"sethook", sethook}, {"gethook", gethook}, {NULL, NULL}};
  several = only != NULL;
  only = session_of(L);
  *wanted(L) = (Wanted){0};  // which new states copy
  replace_in_debug(L, functions);
}
