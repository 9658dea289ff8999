// SPDX-License-Identifier: MIT
// Tensors as userdata: their life in Lua, and what its collector is told of their memory.
#include <math.h>
#include <string.h>

#include "binding.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/references.h"

static const char metatable_key, scalars_key, methods_key, closer_key, noted_key;

void nb_push_metatable(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
}

void nb_push_scalar_metatable(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scalars_key);
}

void nb_push_methods(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &methods_key);
}

void nb_set_methods(lua_State *L) {
  lua_rawsetp(L, LUA_REGISTRYINDEX, &methods_key);
}

void nb_make_class(lua_State *L, const char *name, lua_CFunction finalizer, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  if (methods) {
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
  }
  lua_pushcfunction(L, finalizer);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

// A tensor's userdata.  The tag tells it from others' faster than its metatable would.
//
// A scalar begins as its bare value, in a userdata without a finalizer: a finalizer costs more than a small training
// step.  Whoever asks for its tensor makes it one, held by a second userdata, the uservalue of the first.
typedef struct Box {
  union {
    Tensor *t;         // tag &metatable_key, until it is finalized
    struct Box *held;  // tag &held_tag
    char value[8];     // tag &bare_tags[dtype]
  } is;
  const void *tag;
  struct Box *next, **at;  // of those with a tensor of the same Lua state
} Box;

static const char held_tag, bare_tags[NB_DTYPES];

// The boxes of one Lua state that have a finalizer: when the state closes, Lua frees those that other finalizers made
// meanwhile without calling it.
typedef struct Home {
  const void *state;  // the address of its registry
  Box *first;
  struct Home *next;
} Home;
static Home *homes;
static Home *only;  // the first home, as long as there never was another: then it need not be looked for

// Makes the state's home the first of the homes; false when it has none any more.
static __attribute__((noinline)) bool find_home(const void *state) {
  for (Home **at = &homes; *at; at = &(*at)->next) {
    if ((*at)->state != state) continue;
    Home *h = *at;
    *at = h->next;
    h->next = homes;
    homes = h;
    return true;
  }
  return false;
}

// The state's home; NULL when it has none any more.
static __attribute__((noinline)) Home *home_of(lua_State *L) {
  const void *state = lua_topointer(L, LUA_REGISTRYINDEX);
  return (homes && homes->state == state) || find_home(state) ? homes : NULL;
}

// Lists a box, which is not listed yet, at its state's home.
static inline void list(lua_State *L, Box *box) {
  Home *home = only ? only : home_of(L);
  box->at = NULL;
  if (!home) return;
  box->next = home->first;
  box->at = &home->first;
  if (box->next) box->next->at = &box->next;
  home->first = box;
}

static void unlist(Box *box) {
  if (!box->at) return;
  if (box->next) box->next->at = box->at;
  *box->at = box->next;
  box->at = NULL;
}

// ---- for whoever looks for cycles ----

static const BoxWatcher *watcher;
static bool noting;

void nb_watch_boxes(const BoxWatcher *w) {
  watcher = w;
}

void nb_note_boxes(bool on) {
  noting = on;
}

// Notes the userdata on top.
static __attribute__((noinline)) void note(lua_State *L, Box *box) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &noted_key);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, box);
  lua_pop(L, 1);
}

void nb_each_box(void (*f)(void *user, Tensor *t, const void *box, const void *registry), void *user) {
  for (const Home *h = homes; h; h = h->next)
    for (const Box *box = h->first; box; box = box->next)
      if (box->is.t) f(user, box->is.t, box, h->state);
}

bool nb_push_box(lua_State *L, const void *box) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &noted_key);
  lua_rawgetp(L, -1, box);
  lua_remove(L, -2);
  if (lua_touserdata(L, -1) == box) return true;
  lua_pop(L, 1);
  return false;
}

// Whatever nobody holds is gone now, not some day.
static void collect_often(lua_State *L) {
#ifdef NB_HOSTILE
  static int made;
  if (nb_collect_every && ++made % nb_collect_every == 0 && lua_gc(L, LUA_GCISRUNNING)) lua_gc(L, LUA_GCCOLLECT);
#else
  (void)L;
#endif
}

// Lua's collector sees a pointer where there are megabytes.  What it is told is scaled so that a
// cycle comes when tensors and Lua's own objects together have grown by a share of what is alive:
// often enough to keep memory flat, seldom enough not to be noticed.
static double debt;  // KB that it was not told of yet

// A full collection, of cycles through C as well where there may be some.
static void collect_all(lua_State *L) {
  int suspects;
  nb_suspects(&suspects);
  if (watcher && (noting || suspects > 0))
    watcher->collect(L);
  else
    lua_gc(L, LUA_GCCOLLECT);
}

// Tells it.  Before a tensor is made, so that the memory of one that nobody holds any more can serve for it while it is
// in the caches.
static __attribute__((noinline)) void pay_collector(lua_State *L) {
  static double lowest;  // bytes of tensors: the least since the last collection below
  static const double at_least = 1e6, slack = 16e6;
  if (lua_gc(L, LUA_GCISRUNNING)) {
    double heap = 1024.0 * lua_gc(L, LUA_GCCOUNT), live = (double)nb_memory_stats().live;
    if (live < lowest) lowest = live;
    double tensors = lowest > at_least ? lowest : at_least;
    double step = debt * heap / (heap + tensors) + 1;
    lua_gc(L, LUA_GCSTEP, step < 1e6 ? (int)step : 1000000);
    // Lua's own pace can stall for long after its heap has shrunk much, and young collections leave what was old
    // before it became garbage: do not wait.
    if (live - lowest > fmax(fmax(tensors, 2 * heap), slack)) {
      collect_all(L);
      lowest = (double)nb_memory_stats().live;
    }
  }
  debt = 0;
}

void nb_feed_collector(const Tensor *t) {
  static const double overhead = 0.75;  // KB: a tensor's and its node's own blocks
  if (t->storage && t->storage->refs == 1) debt += (double)t->storage->bytes / 1024 + overhead;
}

__attribute__((cold)) bool nb_collect_for(lua_State *L, const Error *err) {
  if (err->kind != NB_ERROR_MEMORY || nb_memory_failing() || !lua_gc(L, LUA_GCISRUNNING)) return false;
  size_t before = nb_memory_stats().live;
  collect_all(L);
  return nb_memory_stats().live < before;
}

__attribute__((cold)) bool nb_stop_is_put_off(lua_State *L, const Error *err) {
  return err->kind == NB_ERROR_INTERRUPT && nb_interrupt_is_put_off(L);
}

void nb_fill_slot(lua_State *L, Tensor **slot, const Layout *layout) {
  Error err;
  *slot = nb_tensor_new(layout, &err);
  if (!*slot && nb_collect_for(L, &err)) *slot = nb_tensor_new(layout, &err);
  if (!*slot) nb_raise(L, &err);
}

Tensor **nb_new_tensor_of(lua_State *L, int metatable) {
  if (debt >= 64) pay_collector(L);
  Box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->is.t = NULL;
  box->tag = &metatable_key;
  list(L, box);
  lua_pushvalue(L, metatable);
  lua_setmetatable(L, -2);
  if (noting) note(L, box);
  collect_often(L);
  return &box->is.t;
}

void nb_push_scalar_of(lua_State *L, int metatable, DType dtype, const void *value) {
  Box *box = lua_newuserdatauv(L, sizeof *box, 1);
  box->tag = &bare_tags[dtype];
  memcpy(box->is.value, value, nb_dtype_size(dtype));
  lua_pushvalue(L, metatable);
  lua_setmetatable(L, -2);
  collect_often(L);
}

// The dtype of a bare scalar; NB_DTYPES when it is none.
static DType bare_dtype(const Box *box) {
  uintptr_t dtype = (uintptr_t)box->tag - (uintptr_t)bare_tags;
  return dtype < NB_DTYPES ? (DType)dtype : NB_DTYPES;
}

Tensor **nb_new_tensor(lua_State *L) {
  nb_push_metatable(L);
  Tensor **slot = nb_new_tensor_of(L, lua_gettop(L));
  lua_remove(L, -2);
  return slot;
}

typedef struct Push {
  Tensor *t;
} Push;

static int push_protected(lua_State *L) {
  Push *p = lua_touserdata(L, 1);
  *nb_new_tensor(L) = p->t;
  p->t = NULL;
  return 1;
}

void nb_push_tensor(lua_State *L, Tensor *t) {
  Push p = {t};
  lua_pushcfunction(L, push_protected);
  lua_pushlightuserdata(L, &p);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    nb_tensor_release(&p.t);
    lua_error(L);
  }
  nb_feed_collector(t);
}

// These stand in line wherever a tensor is read: each operator reads several.
static inline __attribute__((always_inline)) Box *any_box_at(lua_State *L, int index) {
  Box *box = lua_touserdata(L, index);
  return box && lua_rawlen(L, index) == sizeof *box ? box : NULL;  // the length of a light userdata is 0
}

// The userdata that holds the tensor of a scalar; NULL when it is finalized or was taken away.
static __attribute__((noinline)) Box *box_of_scalar(lua_State *L, int index, Box *box) {
  DType dtype = bare_dtype(box);
  if (dtype == NB_DTYPES && box->tag != &held_tag) return NULL;
  index = lua_absindex(L, index);
  luaL_checkstack(L, 4, "not enough memory");
  if (dtype < NB_DTYPES) {
    Tensor **slot = nb_new_tensor(L);
    nb_fill_slot(L, slot, &(Layout){.dtype = dtype});
    memcpy(nb_tensor_data(*slot), box->is.value, nb_dtype_size(dtype));
    *box = (Box){.is.held = lua_touserdata(L, -1), .tag = &held_tag};
    lua_setiuservalue(L, index, 1);
  }
  lua_getiuservalue(L, index, 1);
  bool lives = lua_touserdata(L, -1) == box->is.held && box->is.held->tag == &metatable_key;
  lua_pop(L, 1);
  return lives ? box->is.held : NULL;
}

static inline __attribute__((always_inline)) Box *box_at(lua_State *L, int index) {
  Box *box = any_box_at(L, index);
  return !box || box->tag == &metatable_key ? box : box_of_scalar(L, index, box);
}

Tensor *nb_test_tensor(lua_State *L, int index) {
  const Box *box = box_at(L, index);
  return box ? box->is.t : NULL;
}

Tensor *nb_check_tensor(lua_State *L, int index) {
  Tensor *t = nb_test_tensor(L, index);
  if (!t)
    nb_raisef(L, "argument %d must be a tensor, got %s%s", index, nb_kind_of(L, index),
              index == 1 ? " (methods are called with a colon: t:method())" : "");
  return t;
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

void *nb_collected_by(lua_State *L, int index, lua_CFunction collect) {
  void *data = lua_type(L, index) == LUA_TUSERDATA ? lua_touserdata(L, index) : NULL;
  if (!data || !lua_getmetatable(L, index)) return NULL;
  lua_pushliteral(L, "__gc");
  lua_rawget(L, -2);
  bool is = lua_tocfunction(L, -1) == collect;
  lua_pop(L, 2);
  return is ? data : NULL;
}

void nb_note_box(lua_State *L, int index) {
  Box *box = box_at(L, index);
  if (!box) return;
  if (lua_touserdata(L, index) == box)
    lua_pushvalue(L, index);
  else
    lua_getiuservalue(L, index, 1);  // a scalar's
  note(L, box);
  lua_pop(L, 1);
}

static int collect(lua_State *L) {
  Box *box = box_at(L, 1);
  if (!box) return 0;
  box->tag = NULL;
  unlist(box);
  nb_tensor_release(&box->is.t);
  return 0;
}

// The last finalizer that is called when the state closes, since its object is the first of the library's.
static int close_home(lua_State *L) {
  Home **own = nb_collected_by(L, 1, close_home);
  if (!own || !*own || !find_home((*own)->state)) return 0;
  while (homes->first) {
    Box *box = homes->first;
    box->tag = NULL;
    unlist(box);
    nb_tensor_release(&box->is.t);
  }
  only = NULL;
  homes = (*own)->next;
  nb_free(*own, sizeof **own);
  *own = NULL;
  if (watcher) watcher->closed();
  return 0;
}

static void open_home(lua_State *L) {
  Error err;
  Home **own = lua_newuserdatauv(L, sizeof *own, 0);
  *own = NULL;
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, close_home);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  Home *home = nb_alloc(sizeof *home, &err);
  if (!home) nb_raise(L, &err);
  *home = (Home){.state = lua_topointer(L, LUA_REGISTRYINDEX), .next = homes};
  static bool another;
  only = another ? NULL : home;
  another = true;
  *own = homes = home;
  lua_rawsetp(L, LUA_REGISTRYINDEX, &closer_key);
}

const char *nb_bare_scalar(lua_State *L, int index, DType *dtype) {
  const Box *box = any_box_at(L, index);
  *dtype = box ? bare_dtype(box) : NB_DTYPES;
  return *dtype < NB_DTYPES ? box->is.value : NULL;
}

void nb_open_metatable(lua_State *L) {
  open_home(L);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &noted_key);
  lua_createtable(L, 0, 32);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
}

void nb_open_scalar_metatable(lua_State *L) {
  nb_push_metatable(L);
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, -3)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_pushnil(L);
  lua_setfield(L, -2, "__gc");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scalars_key);
  lua_pop(L, 1);
}
