// SPDX-License-Identifier: MIT
// Setting hooks from signals.
//
// The one that serves visitors stands in the place of the user's own, if there is one, for a single instruction.
#include "hooks.h"

#include "nablua/clock.h"
#include "nablua_lua.h"

static const double patience = 0.5;  // seconds, after which an interrupt means the visitor alone

static lua_Hook stop;

void know_stop_hook(lua_Hook hook) {
  stop = hook;
}

void arm_stop(lua_State *L) {
  lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

// Sets a hook, which handlers of signals look at.
static void set_hook(Session *s, lua_State *L, lua_Hook hook, int mask, int count) {
  s->hooking = 1;
  lua_sethook(L, hook, mask, count);
  s->hooking = 0;
  if (s->interrupted) arm_stop(L);  // an interrupt in the middle of that has set its own in vain
}

static void visit_hook(lua_State *L, lua_Debug *ar) {
  Session *s = session_of(L);
  Hooked h = s->hooked;
  int mask = lua_gethookmask(L);
  if (h.L != L) h = (Hooked){NULL, NULL, 0, 0};
  if (!(mask & LUA_MASKCOUNT)) {  // who had begun to set a hook of his own has set its mask over this one's
    h.mask = mask;
    h.count = lua_gethookcount(L);
  }
  if (ar->event == LUA_HOOKCOUNT || !(mask & LUA_MASKCOUNT)) {
    s->hooked.L = NULL;
    set_hook(s, L, h.hook, h.mask, h.count);
    if (s->called) s->serve(s, L);
  } else {
    set_hook(s, L, visit_hook, mask, 1);  // Lua may have counted just before it was told to
  }
  if (ar->event != LUA_HOOKCOUNT && h.hook) h.hook(L, ar);
}

void arm_visit(Session *s, lua_State *L) {
  lua_Hook hook = lua_gethook(L);
  int mask = lua_gethookmask(L);
  if (s->hooking || hook == stop || nablua_is_recorded(L)) return;
  if (hook != visit_hook) s->hooked = (Hooked){L, hook, mask, lua_gethookcount(L)};
  set_hook(s, L, visit_hook, LUA_MASKCOUNT | mask, 1);
}

void session_attend(Session *s) {
  s->called = 1;
  lua_State *running = s->running;
  if (s->active && running && !s->interrupted && s->rest_until < nb_clock()) arm_visit(s, running);
}

void note_interrupt(Session *s) {
  Visit *v = s->visit;
  if (v && (!s->active || v->level == SESSION_LOOK || nb_clock() - v->begun < patience)) v->passed++;
}
