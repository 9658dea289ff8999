// SPDX-License-Identifier: MIT
// Visits: work done in the middle of what runs, which neither notices.  All that the binding and the library know of
// what runs is set aside, in one stack, and put back afterwards; what the registry holds of it lies on the visitor's
// Lua stack meanwhile.
#include "visits.h"

#include <lua.h>

#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/modes.h"
#include "nablua/op.h"
#include "nablua/tape.h"
#include "nablua_lua.h"
#include "open.h"
#include "sites.h"

enum { MOST_VISITS = 8 };

typedef struct Visit {
  Modes modes;
  lua_State *entered, *L;
  int top;         // behind what lies on the visitor's stack
  uint64_t order;  // of the last node that is not its own
} Visit;

static Visit visits[MOST_VISITS];
static int count;
static RandomState stream;  // that visitors draw from, one after the other
static void (*serve)(lua_State *L), (*serve_at_border)(lua_State *L);
static bool watched;  // Lua wants to be called when a visit begins and ends
static const char watch_key;

// Each pushes what a file knows, and pops it again.
static struct {
  void (*aside)(lua_State *V), (*back)(lua_State *V);
} const parts[] = {{nb_mode_aside, nb_mode_back},       {nb_calls_aside, nb_calls_back},
                   {nb_observe_aside, nb_observe_back}, {nb_profile_aside, nb_profile_back},
                   {nb_anomaly_aside, nb_anomaly_back}, {nb_kept_aside, nb_kept_back}};
enum { PARTS = sizeof parts / sizeof *parts };

// Calls the function that native.watch_visits was given, which an interrupt waits for; whether it ended well.
static bool tell_watch(lua_State *V, bool begins) {
  if (!watched) return true;
  nb_interrupt_hold();
  lua_rawgetp(V, LUA_REGISTRYINDEX, &watch_key);
  lua_pushboolean(V, begins);
  bool ok = lua_pcall(V, 1, 0, 0) == LUA_OK;
  if (!ok) lua_pop(V, 1);
  nb_interrupt_let();
  return ok;
}

// ---- writing ----

// What a backward of the visited still needs keeps its value: the error would be the visited's, who has done nothing
// wrong.  Garbage needs nothing.
static bool refuse_write(void *user, Storage *s, Error *err) {
  const Visit *v = &visits[count - 1];
  (void)user;
  if (!nb_tape_needs(s, v->order) || nb_is_covered(s)) return true;
  lua_gc(v->L, LUA_GCCOLLECT);
  const Node *n = nb_tape_needs(s, v->order);
  if (!n) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT,
                 "the backward of %s at %s:%d is still to come and needs this tensor's value, so what is done in the "
                 "middle of a run cannot write it now; write when that backward is done",
                 n->op->name, n->site.source ? n->site.source : "?", n->site.line);
}

static Listener guard = {.voice = NB_WRITE, .overwriting = refuse_write};

// ---- visits ----

bool nablua_begin_visit(lua_State *V) {
  if (count == MOST_VISITS || !lua_checkstack(V, 40)) return false;
  Visit *v = &visits[count];
  v->entered = nb_entered();
  for (int i = 0; i < PARTS; i++) parts[i].aside(V);
  if (stream.seed == 0) stream.seed = nb_random_get().seed ^ 0x9E3779B97F4A7C15u;
  nb_modes_set_aside(&v->modes, stream);
  v->top = lua_gettop(V);
  v->L = V;
  v->order = nb_tape_order();
  nb_return_to(V);
  count++;
  nb_listen(&guard);
  if (tell_watch(V, true)) return true;
  watched = false;
  nablua_end_visit(V);
  watched = true;
  return false;
}

void nablua_end_visit(lua_State *V) {
  tell_watch(V, false);
  Visit *v = &visits[--count];
  if (count == 0) nb_unlisten(&guard);
  stream = nb_random_get();
  nb_modes_put_back(&v->modes);
  lua_settop(V, v->top);
  for (int i = PARTS - 1; i >= 0; i--) parts[i].back(V);
  nb_return_to(v->entered);
}

bool nb_visiting(void) {
  return count > 0;
}

void nablua_on_wait(void (*function)(lua_State *L)) {
  serve = function;
}

void nb_wait(lua_State *L) {
  if (serve) serve(L);
}

void nablua_on_border(void (*function)(lua_State *L)) {
  serve_at_border = function;
}

// native.border(): one step of a training has ended, and the next has not begun.
static int border(lua_State *L) {
  if (serve_at_border) serve_at_border(L);
  return 0;
}

// native.visiting(): whether what runs was begun in the middle of something else.
static int visiting(lua_State *L) {
  lua_pushboolean(L, nb_visiting());
  return 1;
}

// native.watch_visits(f): f(true) is called when a visit has begun, and f(false) before it ends; nil: nobody is.
static int watch_visits(lua_State *L) {
  lua_settop(L, 1);
  watched = !lua_isnil(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &watch_key);
  return 0;
}

void nb_open_visits(lua_State *L) {
  lua_pushcfunction(L, watch_visits);
  lua_setfield(L, -2, "watch_visits");
  lua_pushcfunction(L, border);
  lua_setfield(L, -2, "border");
  lua_pushcfunction(L, visiting);
  lua_setfield(L, -2, "visiting");
}
