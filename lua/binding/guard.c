// SPDX-License-Identifier: MIT
// Walking what a function finds outside, and comparing.
#include "guard.h"

#include <string.h>

#include "code.h"
#include "nablua/memory.h"
#include "peek.h"

enum { MOST_FIELDS = 4096, MOST_SEEN = 200000 };

static const char guard_key, compiled_key;

void *nb_guard_function_key(void) {
  return (void *)&compiled_key;
}

// A Lua value as it was: `p` is the address of what has one.
typedef struct Seen {
  const void *p;
  union {
    lua_Integer integer;
    lua_Number number;
  } as;
  int8_t type;
  bool flag;  // of a boolean; of a number, whether it is an integer
} Seen;

typedef enum WatchKind { ALL_FIELDS, NAMED_FIELDS, UPVALUES } WatchKind;

// One thing that is looked at, at a place of the guard's own stack.
typedef struct Watch {
  WatchKind kind;
  int at;            // where it stands; the names of NAMED_FIELDS follow it
  int first, count;  // what was seen in it; of ALL_FIELDS a key and its value in turn
  const void *table, *metatable;
  Peek peek;
  size_t contents;  // where they stand in the guard's bytes
} Watch;

// Its uservalues are the thread whose stack it uses, a list of all that was seen, and the watches' names.
enum { STORE = 1, KEPT, NAMES, GUARD_VALUES = NAMES };
struct Guard {
  lua_State *store;
  Watch *watch;
  Seen *seen;
  int watches, seens;
  size_t watch_room, seen_room;
  bool peeks;   // all tables' memory was copied
  char *bytes;  // there
  size_t byte_count;
};

// ---- comparing ----

static Seen see(lua_State *S, int at) {
  Seen s = {.p = lua_topointer(S, at), .type = (int8_t)lua_type(S, at)};
  if (s.type == LUA_TBOOLEAN) s.flag = lua_toboolean(S, at);
  if (s.type != LUA_TNUMBER) return s;
  s.flag = lua_isinteger(S, at);
  if (s.flag)
    s.as.integer = lua_tointeger(S, at);
  else
    s.as.number = lua_tonumber(S, at);
  return s;
}

static bool is_plain_seen(lua_State *S, int at, const Seen *s) {
  Seen now = see(S, at);
  return now.type == s->type && now.flag == s->flag && memcmp(&now.as, &s->as, sizeof now.as) == 0;
}

static inline bool is_seen(lua_State *S, int at, const Seen *s) {
  const void *p = lua_topointer(S, at);
  return p == s->p && (p || is_plain_seen(S, at, s));
}

static bool same_metatable(lua_State *S, const Watch *w) {
  if (!lua_getmetatable(S, w->at)) return !w->metatable;
  bool same = lua_topointer(S, -1) == w->metatable;
  lua_pop(S, 1);
  return same;
}

static bool holds(lua_State *S, const Watch *w, const Seen *s, int top) {
  switch (w->kind) {
    case UPVALUES:
      for (int i = 0; i < w->count; i++) {
        lua_getupvalue(S, w->at, i + 1);
        if (!is_seen(S, top + 1, &s[i])) return false;
        lua_settop(S, top);
      }
      return true;
    case NAMED_FIELDS:
      for (int i = 0; i < w->count; i++) {
        lua_pushvalue(S, w->at + 1 + i);
        lua_rawget(S, w->at);
        if (!is_seen(S, top + 1, &s[i])) return false;
        lua_settop(S, top);
      }
      return true;
    case ALL_FIELDS:
      break;
  }
  lua_pushnil(S);
  for (int i = 0; i < w->count; i += 2) {
    if (!lua_next(S, w->at) || !is_seen(S, top + 2, &s[i + 1]) || !is_seen(S, top + 1, &s[i])) return false;
    lua_settop(S, top + 1);
  }
  return !lua_next(S, w->at) && same_metatable(S, w);
}

// Copies the memory of the tables as they are.
static void take_peeks(lua_State *L, Guard *g) {
  Error ignored;
  size_t bytes = 0;
  g->peeks = nb_peek_works(L);
  for (int i = 0; g->peeks && i < g->watches; i++) {
    Watch *w = &g->watch[i];
    if (w->kind != ALL_FIELDS) continue;
    w->table = lua_topointer(g->store, w->at);
    w->peek = nb_peek(w->table);
    w->contents = bytes;
    bytes += w->peek.array_bytes + w->peek.node_bytes;
  }
  nb_free(g->bytes, g->byte_count);
  g->byte_count = g->peeks ? bytes : 0;
  g->bytes = g->peeks ? nb_alloc(bytes, &ignored) : NULL;
  g->peeks = g->bytes;
  for (int i = 0; g->peeks && i < g->watches; i++)
    if (g->watch[i].kind == ALL_FIELDS) nb_peek_copy(&g->watch[i].peek, g->bytes + g->watch[i].contents);
}

bool nb_guard_holds(const Guard *g) {
  lua_State *S = g->store;
  int top = lua_gettop(S);
  for (int i = 0; i < g->watches; i++) {
    const Watch *w = &g->watch[i];
    if (g->peeks && w->kind == ALL_FIELDS) {
      if (!nb_peek_same(w->table, &w->peek, g->bytes + w->contents)) return false;
      continue;
    }
    if (holds(S, &g->watch[i], g->seen + g->watch[i].first, top)) continue;
    lua_settop(S, top);
    return false;
  }
  return true;
}

// ---- looking closer ----

// Pushes the name of field `key` of what has a name: lr.v, losses[3].
static void push_field_name(lua_State *L, const char *of, int key) {
  key = lua_absindex(L, key);
  if (lua_type(L, key) == LUA_TSTRING)
    lua_pushfstring(L, *of ? "%s.%s" : "%s%s", of, lua_tostring(L, key));
  else if (lua_isinteger(L, key))
    lua_pushfstring(L, "%s[%I]", of, (LUAI_UACINT)lua_tointeger(L, key));
  else
    lua_pushfstring(L, "a field of %s", of);
}

// Moves the key on the guard's stack to L and pushes the name of the field.
static void name_field(lua_State *L, lua_State *S, int key, const char *of) {
  lua_pushvalue(S, key);
  lua_xmove(S, L, 1);
  push_field_name(L, of, -1);
}

// The key with that number among those seen, on the guard's stack.
static void push_kept(lua_State *L, lua_State *S, int kept, int number) {
  lua_rawgeti(L, kept, number + 1);
  lua_xmove(L, S, 1);
}

// Whether a table has the fields that were seen, in whatever order; else the name of one that differs is pushed.
static bool has_fields(lua_State *L, Guard *g, Watch *w, int kept, const char *name) {
  lua_State *S = g->store;
  int top = lua_gettop(S), count = 0;
  Seen *s = g->seen + w->first;
  if (!same_metatable(S, w)) {
    lua_pushfstring(L, "the metatable of %s", name);
    return false;
  }
  for (int i = 0; i < w->count; i += 2) {
    push_kept(L, S, kept, w->first + i);
    lua_pushvalue(S, top + 1);
    lua_rawget(S, w->at);
    if (!is_seen(S, top + 2, &s[i + 1])) {
      name_field(L, S, top + 1, name);
      return false;
    }
    lua_settop(S, top);
  }
  for (lua_pushnil(S); lua_next(S, w->at); lua_settop(S, top + 1), count += 2) {
    bool known = false;
    for (int i = 0; !known && i < w->count; i += 2) known = is_seen(S, top + 1, &s[(i + count) % w->count]);
    if (known) continue;
    name_field(L, S, top + 1, name);
    return false;
  }
  // Another order is seen from now on.
  int at = w->first;
  for (lua_pushnil(S); lua_next(S, w->at); lua_settop(S, top + 1), at += 2) {
    for (int i = 0; i < 2; i++) {
      g->seen[at + i] = see(S, top + 1 + i);
      lua_pushvalue(S, top + 1 + i);
      lua_xmove(S, L, 1);
      lua_rawseti(L, kept, at + i + 1);
    }
  }
  return true;
}

// Pushes the name of the first thing in a watch that differs.
static void push_difference(lua_State *L, const Guard *g, const Watch *w, const char *name) {
  lua_State *S = g->store;
  int top = lua_gettop(S);
  for (int i = 0; i < w->count; i++) {
    const char *upvalue = w->kind == UPVALUES ? lua_getupvalue(S, w->at, i + 1) : NULL;
    if (w->kind == NAMED_FIELDS) {
      lua_pushvalue(S, w->at + 1 + i);
      lua_rawget(S, w->at);
    }
    if (is_seen(S, top + 1, &g->seen[w->first + i])) {
      lua_settop(S, top);
      continue;
    }
    if (upvalue)
      lua_pushstring(L, upvalue);
    else
      name_field(L, S, w->at + 1 + i, name);
    return;
  }
  lua_pushstring(L, name);
}

bool nb_guard_holds_all(lua_State *L, int guard) {
  Guard *g = lua_touserdata(L, guard);
  lua_State *S = g->store;
  int top = lua_gettop(S), names = lua_gettop(L) + 1, kept = names + 1;
  guard = lua_absindex(L, guard);
  luaL_checkstack(L, 12, "compile");
  lua_getiuservalue(L, guard, NAMES);
  lua_getiuservalue(L, guard, KEPT);
  for (int i = 0; i < g->watches; i++, lua_settop(L, kept)) {
    Watch *w = &g->watch[i];
    bool same = holds(S, w, g->seen + w->first, top);
    lua_settop(S, top);
    if (same) continue;
    lua_rawgeti(L, names, i + 1);
    const char *name = lua_tostring(L, -1);
    if (w->kind == ALL_FIELDS)
      same = has_fields(L, g, w, kept, name);
    else
      push_difference(L, g, w, name);
    lua_settop(S, top);
    if (same) continue;
    lua_replace(L, names);
    lua_settop(L, names);
    return false;
  }
  lua_settop(L, names - 1);
  take_peeks(L, g);
  return true;
}

// ---- walking ----

// Places on L's stack while a guard is made.
typedef struct Walk {
  lua_State *L, *store;
  Guard *g;
  int kept, names;    // the guard's uservalues
  int queue, titles;  // what is still to be looked at, and what it is called
  int known;          // what was queued, and for tables looked at by name { name = true }
  int library;        // set of the library's tables
  int globals;
  bool watches_globals;
  int queued;
  const char *refused;  // a clause, kept on L's stack
} Walk;

static void refuse(Walk *w, const char *format, const char *name) {
  if (w->refused) return;
  w->refused = lua_pushfstring(w->L, format, name);
  lua_rawseti(w->L, w->names, 0);
}

// Adds what is on top of L, which is popped, to what was seen.
static void add_seen(Walk *w) {
  Error ignored;
  Guard *g = w->g;
  if (g->seens >= MOST_SEEN || !nb_grow(&g->seen, &g->seen_room, (size_t)g->seens + 1, sizeof *g->seen, &ignored)) {
    refuse(w, "it can reach too much from outside to be watched; pass what it needs as an argument", "");
    lua_pop(w->L, 1);
    return;
  }
  g->seen[g->seens++] = see(w->L, -1);
  lua_rawseti(w->L, w->kept, g->seens);
}

// A new watch over the value at `index` of L; NULL after refusing.  Its name is on top, and popped.
static Watch *add_watch(Walk *w, WatchKind kind, int index) {
  Error ignored;
  Guard *g = w->g;
  index = lua_absindex(w->L, index);
  if (!lua_checkstack(w->store, 20) ||
      !nb_grow(&g->watch, &g->watch_room, (size_t)g->watches + 1, sizeof *g->watch, &ignored)) {
    refuse(w, "there is not enough memory to watch what it finds outside", "");
    lua_pop(w->L, 1);
    return NULL;
  }
  lua_pushvalue(w->L, index);
  lua_xmove(w->L, w->store, 1);
  Watch *new = &g->watch[g->watches++];
  *new = (Watch){.kind = kind, .at = lua_gettop(w->store), .first = g->seens};
  lua_rawseti(w->L, w->names, g->watches);
  return new;
}

// Whether a metatable is one that the library made: an event of it is a function of the library's.
static bool is_library_metatable(lua_State *L, int index) {
  static const char *const events[] = {"__tostring", "__newindex", "__index", "__call", "__close", NULL};
  index = lua_absindex(L, index);
  for (int i = 0; events[i]; i++) {
    lua_pushstring(L, events[i]);
    lua_rawget(L, index);
    bool is = nb_is_library_function(L, -1);
    lua_pop(L, 1);
    if (is) return true;
  }
  return false;
}

static bool is_in(lua_State *L, int set, int index) {
  lua_pushvalue(L, index);
  bool is = lua_rawget(L, set) != LUA_TNIL;
  lua_pop(L, 1);
  return is;
}

static void put_in(lua_State *L, int set, int index) {
  lua_pushvalue(L, index);
  lua_pushboolean(L, 1);
  lua_rawset(L, set);
}

// Values of others' C code: nobody tells what becomes of them.
static bool is_foreign(lua_State *L, int index) {
  static const char *const ours[] = {"FILE*", "hook", "tape node", NULL};
  if (nb_test_tensor(L, index)) return false;
  if (luaL_getmetafield(L, index, "__name") == LUA_TNIL) return true;
  const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  bool known = name && strncmp(name, "nablua", 6) == 0;
  for (int i = 0; name && ours[i] && !known; i++) known = strcmp(name, ours[i]) == 0;
  lua_pop(L, 1);
  return !known;
}

// Queues the value below the top, whose name is the top; both are popped.
static void queue(Walk *w) {
  lua_State *L = w->L;
  int value = lua_gettop(L) - 1, type = lua_type(L, value);
  if (type == LUA_TUSERDATA && is_foreign(L, value))
    refuse(w, "it reaches %s, an object of another C library whose changes cannot be seen; pass tensors and numbers",
           lua_tostring(L, -1));
  while (lua_istable(L, value) && lua_rawgetp(L, value, &compiled_key) != LUA_TNIL)
    lua_replace(L, value);  // a compiled function is the one inside
  lua_settop(L, value + 1);
  bool function = lua_isfunction(L, value), wanted = function || lua_istable(L, value);
  wanted = wanted && !is_in(L, w->known, value) && !is_in(L, w->library, value);
  if (wanted && function) wanted = !lua_iscfunction(L, value) && !nb_is_library_function(L, value);
  if (wanted && lua_istable(L, value)) wanted = !is_library_metatable(L, value);
  if (!wanted) {
    lua_pop(L, 2);
    return;
  }
  put_in(L, w->known, value);
  lua_rawseti(L, w->titles, ++w->queued);
  lua_rawseti(L, w->queue, w->queued);
}

static void watch_names(Walk *w, int table, int names, int all, const char *title);

// What a table of globals or of the library's does not have, its metatable may.
static void watch_behind(Walk *w, int table, int missing, int all, const char *title) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if (luaL_getmetafield(L, table, "__index") == LUA_TTABLE) {
    watch_names(w, top + 1, missing, all, title);
  } else if (lua_isfunction(L, -1)) {
    lua_pushstring(L, "__index");
    queue(w);
  }
  lua_settop(L, top);
}

// Follows the value below the name on top; both are popped.
static void follow(Walk *w, int all) {
  lua_State *L = w->L;
  int value = lua_gettop(L) - 1;
  if (lua_istable(L, value) && is_in(L, w->library, value)) {
    watch_names(w, value, all, all, lua_tostring(L, value + 1));
    lua_settop(L, value - 1);
    return;
  }
  queue(w);
}

// Watches those fields of a table whose names are keys of `names` and that are not watched yet; of the library's
// tables those that they have.  `all` are all strings of the code that looks into it.
static void watch_names(Walk *w, int table, int names, int all, const char *title) {
  lua_State *L = w->L;
  int top = lua_gettop(L), new = top + 1, missing = top + 2, known = top + 3;
  luaL_checkstack(L, 20, "compile");
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  // What globals do not have may come, or be found behind them.
  bool library = !lua_rawequal(L, -1, table) && is_in(L, w->library, table);
  lua_settop(L, top);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushvalue(L, table);
  if (lua_rawget(L, w->known) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, table);
    lua_pushvalue(L, known);
    lua_rawset(L, w->known);
  }
  lua_pushstring(L, title);
  Watch *at = add_watch(w, NAMED_FIELDS, table);
  int place = at ? w->g->watches - 1 : -1, count = 0;
  for (lua_pushnil(L); place >= 0 && lua_next(L, names); lua_settop(L, known + 1)) {
    int key = known + 1;
    lua_pushvalue(L, key);
    lua_rawget(L, table);
    if (lua_isnil(L, -1)) put_in(L, missing, key);
    if (is_in(L, known, key) || (library && lua_isnil(L, -1))) continue;
    put_in(L, known, key);
    put_in(L, new, key);
    if (!lua_checkstack(w->store, 20)) break;
    lua_pushvalue(L, key);
    lua_xmove(L, w->store, 1);
    add_seen(w);
    count++;
  }
  lua_settop(L, known);
  if (place >= 0) w->g->watch[place].count = count;
  if (place >= 0 && count == 0) {  // nothing new
    w->g->watches--;
    lua_settop(w->store, w->g->watch[place].at - 1);
  }
  for (lua_pushnil(L); !w->refused && lua_next(L, new); lua_settop(L, known + 1)) {
    lua_pushvalue(L, known + 1);
    lua_rawget(L, table);
    lua_pushvalue(L, known + 1);
    follow(w, all);
  }
  lua_settop(L, known);
  if (!library) watch_behind(w, table, missing, all, title);
  lua_settop(L, top);
}

// Watches all fields of a table, and which metatable it has.
static void watch_fields(Walk *w, int table, const char *title) {
  lua_State *L = w->L;
  int top = lua_gettop(L), count = 0;
  lua_pushstring(L, title);
  if (!add_watch(w, ALL_FIELDS, table)) return;
  int place = w->g->watches - 1;
  for (lua_pushnil(L); !w->refused && lua_next(L, table); lua_settop(L, top + 1)) {
    lua_pushvalue(L, -2);
    add_seen(w);
    add_seen(w);
    count += 2;
    if (count > 2 * MOST_FIELDS)
      refuse(w, "%s has too many fields to be watched; pass it, or what it is needed for, as an argument", title);
  }
  lua_settop(L, top);
  w->g->watch[place].count = count;
  if (!w->refused && lua_getmetatable(L, table)) {
    w->g->watch[place].metatable = lua_topointer(L, -1);
    add_seen(w);  // held
  }
}

// Where a function asks the globals for names that do not stand in its code, all are watched.
static void watch_globals(Walk *w) {
  if (w->watches_globals) return;
  w->watches_globals = true;
  watch_fields(w, w->globals, "_G");
}

// The methods of strings are fields of a table that functions do not name.
static void watch_strings(Walk *w, int all) {
  lua_pushliteral(w->L, "");
  if (luaL_getmetafield(w->L, -1, "__index") == LUA_TTABLE) watch_names(w, all + 2, all, all, "string");
  lua_settop(w->L, all);
}

static void walk_function(Walk *w, int f) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if (!nb_push_code_names(L, f)) {
    refuse(w, "it calls a function whose code cannot be read", "");
    return;
  }
  int names = top + 1, all = top + 2, count = 0;
  watch_strings(w, all);
  if (lua_rawgeti(L, names, 0) != LUA_TNIL) watch_globals(w);
  lua_settop(L, all);
  lua_pushliteral(L, "an upvalue");
  int place = add_watch(w, UPVALUES, f) ? w->g->watches - 1 : -1;
  while (place >= 0 && lua_getupvalue(L, f, count + 1)) {
    add_seen(w);
    count++;
  }
  if (place >= 0) w->g->watch[place].count = count;
  for (int i = 1; !w->refused && i <= count; i++, lua_settop(L, all)) {
    const char *name = lua_getupvalue(L, f, i);
    int value = all + 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    bool environment = strcmp(name, "_ENV") == 0 || lua_rawequal(L, -1, value);
    lua_settop(L, value);
    if (lua_istable(L, value) && (environment || is_in(L, w->library, value))) {
      bool loose = lua_rawgeti(L, names, i) != LUA_TTABLE;
      if (loose && lua_rawequal(L, value, w->globals) && strcmp(name, "_ENV") != 0) watch_globals(w);
      watch_names(w, value, loose ? all : value + 1, all, environment ? "" : name);
    } else {
      lua_pushstring(L, name);
      queue(w);
    }
  }
  lua_settop(L, top);
}

// The class of a module belongs to what is watched, and not the rest of its metatable.
static void walk_metatable(Walk *w, int meta, const char *title) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if (!is_library_metatable(L, meta)) {
    lua_pushvalue(L, meta);
    lua_pushfstring(L, "the metatable of %s", title);
    queue(w);
    return;
  }
  lua_pushliteral(L, "class");
  if (lua_rawget(L, meta) == LUA_TTABLE) {
    lua_pushliteral(L, "__name");
    lua_rawget(L, meta);
    if (lua_type(L, -1) != LUA_TSTRING) {
      lua_pop(L, 1);
      lua_pushliteral(L, "a class");
    }
    if (is_in(L, w->library, top + 1)) {
      if (!is_in(L, w->known, top + 1)) watch_fields(w, top + 1, lua_tostring(L, top + 2));
      put_in(L, w->known, top + 1);
    } else {
      queue(w);
    }
  }
  lua_settop(L, top);
}

static void walk_table(Walk *w, int table, const char *title) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  watch_fields(w, table, title);
  for (lua_pushnil(L); !w->refused && lua_next(L, table); lua_settop(L, top + 1)) {
    push_field_name(L, title, top + 1);
    queue(w);
  }
  lua_settop(L, top);
  if (!w->refused && lua_getmetatable(L, table)) walk_metatable(w, top + 1, title);
  lua_settop(L, top);
}

// ---- the library's tables ----

// Adds the tables among the fields of the one on top, down to a depth.
static void add_tables(lua_State *L, int set, int depth) {
  int table = lua_gettop(L);
  luaL_checkstack(L, 8, "compile");
  put_in(L, set, table);
  if (depth == 0) return;
  for (lua_pushnil(L); lua_next(L, table); lua_settop(L, table + 1))
    if (lua_istable(L, -1) && !is_in(L, set, table + 2)) add_tables(L, set, depth - 1);
}

// Pushes the set of tables of Lua's libraries and of this one: nb, nb.nn, nb.nn.init ...
static int push_library(lua_State *L) {
  static const char *const standard[] = {"_G",   "string",    "table", "math",    "io", "os",
                                         "utf8", "coroutine", "debug", "package", NULL};
  lua_newtable(L);
  int set = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (int i = 0; standard[i]; i++, lua_settop(L, set + 1))
    if (lua_getfield(L, set + 1, standard[i]) == LUA_TTABLE) put_in(L, set, set + 2);
  if (lua_getfield(L, set + 1, "nablua.core") == LUA_TTABLE) add_tables(L, set, 2);
  lua_settop(L, set + 1);
  for (lua_pushnil(L); lua_next(L, set + 1); lua_settop(L, set + 2))
    if (lua_type(L, set + 2) == LUA_TSTRING && strncmp(lua_tostring(L, set + 2), "nablua", 6) == 0 &&
        lua_istable(L, set + 3))
      put_in(L, set, set + 3);
  lua_settop(L, set);
  return set;
}

// ---- guards ----

static int collect(lua_State *L) {
  Guard *g = nb_collected_by(L, 1, collect);
  if (!g) return 0;
  nb_free(g->watch, g->watch_room * sizeof *g->watch);
  nb_free(g->seen, g->seen_room * sizeof *g->seen);
  nb_free(g->bytes, g->byte_count);
  *g = (Guard){.store = NULL};
  return 0;
}

static void walk(Walk *w) {
  lua_State *L = w->L;
  for (int i = 1; i <= w->queued && !w->refused; i++) {
    lua_rawgeti(L, w->queue, i);
    lua_rawgeti(L, w->titles, i);
    int at = lua_gettop(L) - 1;
    if (lua_isfunction(L, at))
      walk_function(w, at);
    else
      walk_table(w, at, lua_tostring(L, at + 1));
    lua_settop(L, at - 1);
  }
}

Guard *nb_push_guard(lua_State *L, int f, int roots) {
  f = lua_absindex(L, f);
  luaL_checkstack(L, 30, "compile");
  Guard *g = lua_newuserdatauv(L, sizeof *g, GUARD_VALUES);
  int own = lua_gettop(L);
  *g = (Guard){.store = NULL};
  lua_rawgetp(L, LUA_REGISTRYINDEX, &guard_key);
  lua_setmetatable(L, own);
  g->store = lua_newthread(L);
  lua_sethook(g->store, NULL, 0, 0);
  lua_setiuservalue(L, own, STORE);
  Walk w = {.L = L,
            .store = g->store,
            .g = g,
            .kept = own + 1,
            .names = own + 2,
            .queue = own + 3,
            .titles = own + 4,
            .known = own + 5};
  for (int i = w.kept; i <= w.known; i++) lua_newtable(L);
  lua_pushvalue(L, w.kept);
  lua_setiuservalue(L, own, KEPT);
  lua_pushvalue(L, w.names);
  lua_setiuservalue(L, own, NAMES);
  w.library = push_library(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  w.globals = lua_gettop(L);
  lua_pushvalue(L, f);
  lua_pushliteral(L, "");
  queue(&w);
  if (roots)
    for (lua_pushnil(L); lua_next(L, roots); lua_settop(L, w.globals + 1)) {
      lua_pushvalue(L, w.globals + 1);
      lua_pushliteral(L, "");
      queue(&w);
    }
  walk(&w);
  if (w.refused) {
    lua_rawgeti(L, w.names, 0);
    lua_replace(L, own);
    g = NULL;
  } else {
    take_peeks(L, g);
  }
  lua_settop(L, own);
  return g;
}

void nb_open_guard(lua_State *L) {
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &guard_key);
}
