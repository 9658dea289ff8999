// SPDX-License-Identifier: MIT
// Errors in the user's terms: their source line in front, the network's layer behind.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"
#include "callback.h"
#include "nablua/tape.h"

static lua_State *current;
static int module_call(lua_State *L);
static const char describe_key, call_key;

void nb_enter(lua_State *L) {
  if (L == current) return;
  current = L;
  nb_follow_mode(L);
}

lua_State *nb_entered(void) {
  return current;
}

// Embedded sources are named "=nablua..."; their lines mean nothing to a user.
static bool is_users(const lua_Debug *ar) {
  return ar->currentline > 0 && strncmp(ar->source, "=nablua", 7) != 0;
}

// The innermost of the user's frames.
static bool user_frame(lua_State *L, lua_Debug *ar) {
  for (int level = 0; lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    if (is_users(ar)) return true;
  }
  return false;
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
  bool known;
  Site site;
} Calling;

enum { CALLINGS = 8 };
static Calling callings[CALLINGS];

static Calling *calling_at(const void *frame) {
  for (int i = 0; i < CALLINGS; i++)
    if (callings[i].frame == frame) return &callings[i];
  return NULL;
}

static void note_calling(lua_State *L) {
  static int next;
  lua_Debug ar;
  if (!lua_getstack(L, 0, &ar)) return;
  Calling *c = calling_at(ar.i_ci);
  if (!c) c = &callings[next++ % CALLINGS];
  *c = (Calling){.frame = ar.i_ci};
}

// Whether the frame, which stands where one was noted, is that of a module's call and not one that came later.
static bool is_module_call(lua_State *L, lua_Debug *ar) {
  lua_getinfo(L, "f", ar);
  bool is = lua_tocfunction(L, -1) == module_call;
  lua_pop(L, 1);
  return is;
}

static Site site_now(void *user) {
  lua_State *L = current;
  lua_Debug ar;
  Calling *passed[CALLINGS];
  Site site = {NULL, 0};
  int count = 0;
  (void)user;
  if (!L || !lua_checkstack(L, 1)) return site;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {  // level 0 is a C function that called the library
    Calling *c = calling_at(ar.i_ci);
    if (c && is_module_call(L, &ar)) {
      if (c->known) {
        site = c->site;
        break;
      }
      if (count < CALLINGS) passed[count++] = c;
      continue;
    }
    lua_getinfo(L, "S", &ar);
    if (*ar.what == 'C' || strncmp(ar.source, "=nablua", 7) == 0) continue;
    lua_getinfo(L, "l", &ar);
    if (ar.currentline <= 0) continue;
    site = (Site){intern(ar.short_src), ar.currentline};
    break;
  }
  for (int i = 0; i < count; i++) {
    passed[i]->known = true;
    passed[i]->site = site;
  }
  return site;
}

// The modules whose calls are on the stack, outermost first; the field `input` is what the outermost was called with.
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

// Appends what describe(modules, message) says, " (in layer ...)" and where shapes do not fit a table of the layers:
// written in Lua, where modules are known.  If it fails the error goes without.
static void add_layer(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &describe_key);
  if (!lua_isfunction(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  if (nb_push_modules(L) == 0) {
    lua_pop(L, 2);
    return;
  }
  lua_pushvalue(L, -3);
  if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1)) {
    lua_concat(L, 2);
  } else {
    lua_pop(L, 1);
  }
}

// Throws the message on top of the stack.
static int throw_message(lua_State *L) {
  lua_Debug ar;
  luaL_checkstack(L, 20, NULL);
  if (user_frame(L, &ar)) {
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  add_layer(L);
  return lua_error(L);
}

int nb_raise(lua_State *L, const Error *err) {
  if (err->kind == NB_ERROR_CALLBACK) {
    nb_push_kept(L);
    return lua_error(L);
  }
  lua_pushstring(L, err->message);
  if (err->kind == NB_ERROR_INTERRUPT) return lua_error(L);
  return throw_message(L);
}

int nb_raisef(lua_State *L, const char *format, ...) {
  Error err;
  va_list ap;
  va_start(ap, format);
  vsnprintf(err.message, sizeof err.message, format, ap);
  va_end(ap);
  lua_pushstring(L, err.message);
  return throw_message(L);
}

const char *nb_kind_of(lua_State *L, int index) {
  if (nb_test_tensor(L, index)) return "a tensor";
  switch (lua_type(L, index)) {
    case LUA_TNONE:
    case LUA_TNIL:
      return "nil";
    case LUA_TBOOLEAN:
      return "a boolean";
    case LUA_TNUMBER:
      return "a number";
    case LUA_TSTRING:
      return "a string";
    case LUA_TTABLE:
      return "a table";
    case LUA_TFUNCTION:
      return "a function";
    case LUA_TTHREAD:
      return "a coroutine";
    default:
      return "a userdata";
  }
}

// The edit distance of short names, where swapping neighbours counts once (Damerau 1964).
static int distance(const char *a, const char *b) {
  enum { LONGEST = 40 };
  int d[LONGEST + 1][LONGEST + 1];  // of the first i bytes of a and the first j of b
  int n = (int)strlen(a), m = (int)strlen(b);
  if (n > LONGEST || m > LONGEST) return LONGEST;
  for (int i = 0; i <= n; i++) {
    for (int j = 0; j <= m; j++) {
      int best = i + j;
      if (i > 0 && j > 0) {
        best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
        if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
        if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
        bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
        if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
      }
      d[i][j] = best;
    }
  }
  return d[n][m];
}

const char *nb_nearest(const char *name, const char *const *list) {
  const char *best = NULL;
  int length = (int)strlen(name), closest = (length < 2 ? 0 : length < 6 ? 1 : length / 3) + 1;
  for (; *list; list++) {
    int d = distance(name, *list);
    if (d < closest) {
      closest = d;
      best = *list;
    }
  }
  return best;
}

// native.raise(message)
static int raise_message(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  return throw_message(L);
}

static bool traced;  // somebody listens to the calls of modules
static const char trace_key;

// trace(module, whether it enters, its input or result)
static void tell_trace(lua_State *L, bool enters, int base) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &trace_key);
  lua_pushvalue(L, 1);
  lua_pushboolean(L, enters);
  if (enters)
    lua_pushvalue(L, base >= 2 ? 2 : 1);
  else if (lua_gettop(L) - 3 > base)
    lua_pushvalue(L, base + 1);
  else
    lua_pushnil(L);
  lua_call(L, 3, 0);
}

// native.trace(f): f hears of every call of a module; nil ends it.
static int trace(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  traced = !lua_isnil(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
  return 0;
}

// The __call of modules: self:forward(...).  A C function, so that it stays on the stack with its
// module at index 1, where add_layer finds it.
static int module_call(lua_State *L) {
  int arguments = lua_gettop(L) - 1;
  note_calling(L);
  lua_getfield(L, 1, "forward");
  if (lua_isnil(L, -1)) return nb_raisef(L, "this module has no forward method; define function M:forward(x) ... end");
  luaL_checkstack(L, arguments + 6, NULL);
  lua_pushvalue(L, 1);
  for (int i = 2; i <= arguments + 1; i++) lua_pushvalue(L, i);
  int base = arguments + 1;
  if (traced) tell_trace(L, true, base);
  lua_call(L, arguments + 1, LUA_MULTRET);
  if (traced) tell_trace(L, false, base);
  return lua_gettop(L) - base;
}

// native.set_describe(f)
static int set_describe(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &describe_key);
  return 0;
}

void nb_open_raise(lua_State *L) {
  static const luaL_Reg functions[] = {{"raise", raise_message},
                                       {"module_call", module_call},
                                       {"set_describe", set_describe},
                                       {"trace", trace},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "module_call");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &call_key);
  nb_set_site_provider(site_now, NULL);
}
