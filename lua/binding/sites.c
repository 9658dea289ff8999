// SPDX-License-Identifier: MIT
// Where in the user's program something happens: the line of an operator, and the modules whose calls are under way.
#include "sites.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "nablua/tape.h"

static lua_State *current;
static lua_CFunction call_function;
static const char call_key;

static void (*follow)(lua_State *L);

void nb_enter(lua_State *L) {
  if (L == current) return;
  current = L;
  if (follow) follow(L);
}

void nb_on_enter(void (*function)(lua_State *L)) {
  follow = function;
}

void nb_return_to(lua_State *L) {
  current = L;
}

lua_State *nb_entered(void) {
  return current;
}

// Embedded sources are named "=nablua..."; their lines mean nothing to a user.
static bool is_ours(const lua_Debug *ar) {
  static const char ours[] = "=nablua";
  return ar->srclen >= sizeof ours - 1 && memcmp(ar->source, ours, sizeof ours - 1) == 0;
}

int nb_user_level(lua_State *L, lua_Debug *ar) {
  for (int level = 0; lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    if (ar->currentline > 0 && !is_ours(ar)) return level;
  }
  return -1;
}

// Interned, since nodes outlive the functions that made them.  Past the table's size: unknown.
static const char *intern(const char *source) {
  enum { SOURCES = 512 };
  static char table[SOURCES][LUA_IDSIZE];
  static const char *last;
  unsigned h = 2166136261u;
  if (last && strcmp(last, source) == 0) return last;
  for (const char *p = source; *p; p++) h = (h ^ (unsigned char)*p) * 16777619u;
  for (unsigned i = 0; i < SOURCES; i++) {
    char *entry = table[(h + i) % SOURCES];
    if (!*entry) snprintf(entry, LUA_IDSIZE, "%s", source);
    if (strcmp(entry, source) == 0) return last = entry;
  }
  return NULL;
}

// The user's line behind calls of modules that are on the stack: it stands while they run, so their operators need not
// look for it again.  A call's frame is known by its place, and every call takes its place anew.
typedef struct Calling {
  const void *frame;
  lua_State *thread;
  const void *module;
  bool known;
  Site site;
} Calling;

enum { CALLINGS = 32 };
static Calling callings[CALLINGS];
static int callings_used;
static bool forgotten;  // that there were more at once

static Calling *calling_at(const void *frame) {
  for (int i = 0; i < callings_used; i++)
    if (callings[i].frame == frame) return &callings[i];
  return NULL;
}

// Where a call is noted whose frame is new: over one of this thread that has ended.  Lua's collector gives frames back
// and makes them elsewhere, so that without looking those of calls that still run would soon be written over.
static Calling *place_of_ended(lua_State *L) {
  static int next;
  bool runs[CALLINGS] = {false};
  lua_Debug ar;
  int outermost = 0;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    Calling *c = calling_at(ar.i_ci);
    if (c) runs[outermost = (int)(c - callings)] = true;
  }
  for (int i = 0; i < callings_used; i++)
    if (!runs[i] && callings[i].thread == L) return &callings[i];
  if (callings_used < CALLINGS) return &callings[callings_used++];
  for (int i = 0; i < CALLINGS; i++) {  // of threads, which may have ended too
    next = (next + 1) % CALLINGS;
    if (!runs[next]) return &callings[next];
  }
  forgotten = true;
  return &callings[outermost];
}

void nb_note_call(lua_State *L) {
  lua_Debug ar;
  if (!lua_getstack(L, 0, &ar)) return;
  Calling *c = calling_at(ar.i_ci);
  if (!c) c = place_of_ended(L);
  *c = (Calling){.frame = ar.i_ci, .thread = L, .module = lua_topointer(L, 1)};
}

// Whether the frame, which stands where one was noted, is that of a module's call and not one that came later.
static bool is_module_call(lua_State *L, lua_Debug *ar) {
  lua_getinfo(L, "f", ar);
  bool is = lua_tocfunction(L, -1) == call_function;
  lua_pop(L, 1);
  return is;
}

// The module of a module's call that is under way.
static const void *module_of(lua_State *L, const lua_Debug *ar) {
  if (!lua_getlocal(L, ar, 1)) return NULL;
  const void *module = lua_topointer(L, -1);
  lua_pop(L, 1);
  return module;
}

// Frames that run for a while, such as those of a run's step, one within the other: all that is called from them has
// the same user behind it, unless it is the user's itself.
enum { HELD = 3 };
static struct {
  const void *frame[HELD];
  int count;  // 0: nobody holds one
  lua_State *thread;
  bool known;
  Site site;
} held;

void nb_hold_site(lua_State *L, Hold how) {
  lua_Debug ar;
  if (how == NB_HOLD || held.count == 0 || held.thread != L) {
    held.count = 0;
    held.known = false;
    held.thread = L;
  } else if (how == NB_HOLD_ALONE || held.count == HELD) {
    held.count = 0;
  }
  if (lua_getstack(L, 1, &ar)) held.frame[held.count++] = ar.i_ci;
}

void nb_let_site(void) {
  held.count = 0;
}

static bool is_held(const void *frame) {
  for (int i = 0; i < held.count; i++)
    if (held.frame[i] == frame) return true;
  return false;
}

enum { FRAMES = 12 };  // at most, between an operator and the call of its module

static Site site_now(const void **module) {
  lua_State *L = current;
  lua_Debug ar;
  Calling *passed[CALLINGS];
  Site site = {NULL, 0};
  bool known = false;   // the line; the module is looked for a little further
  bool beyond = false;  // the held frame
  int count = 0;
  if (!L || !lua_checkstack(L, 1)) return site;
  // Level 0 is a C function that called the library.
  for (int level = 1; (!known || (module && !*module && level <= FRAMES)) && lua_getstack(L, level, &ar); level++) {
    Calling *c = calling_at(ar.i_ci);
    if ((c || forgotten) && is_module_call(L, &ar)) {
      if (module && !*module) *module = c ? c->module : module_of(L, &ar);
      if (known) break;
      if (c && c->known) {
        site = c->site;
        break;
      }
      if (c && count < CALLINGS) passed[count++] = c;
      continue;
    }
    if (known) continue;
    if (L == held.thread && is_held(ar.i_ci)) {
      beyond = true;
      if (held.known) {
        site = held.site;
        break;
      }
    }
    lua_getinfo(L, "S", &ar);
    if (*ar.what == 'C' || is_ours(&ar)) continue;
    lua_getinfo(L, "l", &ar);
    if (ar.currentline <= 0) continue;
    site = (Site){intern(ar.short_src), ar.currentline};
    known = true;
  }
  for (int i = 0; i < count; i++) {
    passed[i]->known = true;
    passed[i]->site = site;
  }
  if (beyond && !held.known) {
    held.known = true;
    held.site = site;
  }
  return site;
}

int nb_push_modules(lua_State *L) {
  lua_Debug ar;
  int count = 0;
  luaL_checkstack(L, 6, NULL);
  lua_newtable(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &call_key);
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "f", &ar);
    bool is_call = lua_rawequal(L, -1, -2);
    lua_pop(L, 1);
    if (!is_call || !lua_getlocal(L, &ar, 1)) continue;
    lua_rawseti(L, -3, ++count);
    if (!lua_getlocal(L, &ar, 2)) continue;
    lua_setfield(L, -3, "input");  // the outermost call's comes last
  }
  lua_pop(L, 1);
  for (int i = 1, j = count; i < j; i++, j--) {
    lua_rawgeti(L, -1, i);
    lua_rawgeti(L, -2, j);
    lua_rawseti(L, -3, i);
    lua_rawseti(L, -2, j);
  }
  return count;
}

void nb_set_call(lua_State *L, lua_CFunction call) {
  call_function = call;
  lua_pushcfunction(L, call);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &call_key);
  nb_set_site_provider(site_now);
}
