// SPDX-License-Identifier: MIT
// The library T of the hostile build, as Lua's own tests have one: it lets memory and files fail, counts and queries
// what lives, and checks at every operator that all which must hold does.  `require "nablua.T"`; no other build has it.
#include <errno.h>
#include <string.h>

#include "binding.h"
#include "nablua/census.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "nablua/replace.h"
#include "open.h"

int nb_collect_every = 127;

// ---- failures ----

// Lua's own allocator, below one that takes part in the failures.
static lua_Alloc below;
static void *below_user;
static bool again;  // Lua collects and asks once more: that must fail too
static lua_State *owner;

static void *allocate(void *user, void *block, size_t old, size_t size) {
  (void)user;
  // Lua drops a finalizer that finds no memory for its own frame: nothing of ours can be done about it.
  bool finalizes = lua_gc(owner, LUA_GCISRUNNING) < 0;
  if (size > 0 && (!block || size > old) && !finalizes) {
    if (again) {
      again = false;
      return NULL;
    }
    if (nb_memory_must_fail()) {
      again = true;
      return NULL;
    }
  }
  return below(below_user, block, old, size);
}

// T.fail_memory(n): the nth allocation from now fails, the library's and Lua's counted together; 0: none does.
static int fail_memory(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0, 1, "a count from 1, or 0 for none");
  again = false;
  nb_memory_fail_at((uint64_t)n);
  return 0;
}

// T.fail_file(n, how): the nth operation on files from now fails with "full" (the default), "denied" or "broken".
static int fail_file(lua_State *L) {
  static const char *const names[] = {"full", "denied", "broken", NULL};
  static const int codes[] = {ENOSPC, EACCES, EIO};
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0, 1, "a count from 1, or 0 for none");
  nb_file_fail_at((uint64_t)n, codes[luaL_checkoption(L, 2, "full", names)]);
  return 0;
}

// T.failing(): whether failures of memory and of files are still to come.
static int failing(lua_State *L) {
  lua_pushboolean(L, nb_memory_failing());
  lua_pushboolean(L, nb_file_failing());
  return 2;
}

// ---- counting and querying ----

typedef struct Roots {
  Tensor **list;
  size_t count, room, handles;
  bool ok;
  Error *err;
} Roots;

static void add_root(void *user, Tensor *t, const void *box, const void *registry) {
  Roots *r = user;
  (void)box, (void)registry;
  r->handles++;
  if (r->ok && (r->ok = nb_grow(&r->list, &r->room, r->count + 1, sizeof *r->list, r->err))) r->list[r->count++] = t;
}

// Looks at all that Lua can reach.
static bool look(Census *census, size_t *handles, Error *err) {
  Roots r = {.ok = true, .err = err};
  nb_each_box(add_root, &r);
  bool ok = r.ok && nb_census(r.list, r.count, census, err);
  nb_free(r.list, r.room * sizeof *r.list);
  *handles = r.handles;
  return ok;
}

// T.count(): what lives: {handles=, tensors=, storages=, nodes=, bytes=, live=}; tensors from which userdata (handles)
// lead to them, `live` all bytes of the library.  It checks like T.check.
static int count(lua_State *L) {
  Census census;
  Error err;
  size_t handles;
  if (!look(&census, &handles, &err)) return nb_raise(L, &err);
  const struct {
    const char *name;
    size_t value;
  } fields[] = {{"handles", handles},    {"tensors", census.tensors}, {"storages", census.storages},
                {"nodes", census.nodes}, {"bytes", census.bytes},     {"live", nb_memory_stats().live}};
  lua_newtable(L);
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    lua_pushinteger(L, (lua_Integer)fields[i].value);
    lua_setfield(L, -2, fields[i].name);
  }
  return 1;
}

static void set_number(lua_State *L, const char *name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

// T.query(tensor): {refs=, storage_refs=, version=, history=, bytes=, storage= (the same for views of one), node= (its
// operator) and order=, when it has one}.
static int query(lua_State *L) {
  const Tensor *t = nb_check_tensor(L, 1);
  lua_newtable(L);
  set_number(L, "refs", t->refs);
  set_number(L, "storage_refs", t->storage->refs);
  set_number(L, "version", t->storage->version);
  set_number(L, "history", t->storage->history);
  set_number(L, "bytes", (lua_Integer)t->storage->bytes);
  lua_pushfstring(L, "%p", (void *)t->storage);
  lua_setfield(L, -2, "storage");
  if (t->node) {
    lua_pushstring(L, t->node->op->name);
    lua_setfield(L, -2, "node");
    set_number(L, "order", (lua_Integer)t->node->order);
  }
  return 1;
}

// ---- checking ----

static int check(lua_State *L) {
  Census census;
  Error err;
  size_t handles;
  return look(&census, &handles, &err) ? 0 : nb_raise(L, &err);
}

static bool check_call(void *user, const Applied *a, Error *err) {
  Census census;
  size_t handles;
  (void)user, (void)a;
  return nb_memory_failing() || look(&census, &handles, err);
}

// T.check_always(on): checks after every operator, those of backward walks included; what is wrong makes it fail.
static int check_always(lua_State *L) {
  static Listener listener = {.voice = NB_INNER, .applied = check_call};
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  if (lua_toboolean(L, 1))
    nb_listen(&listener);
  else
    nb_unlisten(&listener);
  return 0;
}

// T.collect_every(n): a whole collection at every nth tensor that is made, at first the 127th; 0: as in other builds.
// Returns what it was.
static int collect_every(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0 && n <= 1000000, 1, "a count from 1, or 0 for none");
  lua_pushinteger(L, nb_collect_every);
  nb_collect_every = (int)n;
  return 1;
}

static int open_library(lua_State *L) {
  static const luaL_Reg functions[] = {{"fail_memory", fail_memory},
                                       {"fail_file", fail_file},
                                       {"failing", failing},
                                       {"count", count},
                                       {"query", query},
                                       {"check", check},
                                       {"check_always", check_always},
                                       {"collect_every", collect_every},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  if (!below) below = lua_getallocf(L, &below_user);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  owner = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_setallocf(L, allocate, NULL);
  return 1;
}

void nb_open_hostile(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_library);
  lua_setfield(L, -2, "nablua.T");
  lua_pop(L, 1);
}
