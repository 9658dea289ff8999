// SPDX-License-Identifier: MIT
// Finding cycles: tensor ──► hook or own operator ──► Lua function ──► userdata ──► tensor, and w ──► grad ──► tape ──►
// w.
//
// What C holds of Lua is held by a table in the registry, so Lua's collector takes it for alive.  Now and then the
// library's references are followed from all userdata on, and shown to the collector for the time of one collection:
//
//   userdata ──ephemeron──► mirror ──► mirror ──► what is held          (a mirror is a table that stands for a tensor
//   or a
//                                                                        node from which something held can be reached)
//
// and what is held is held weakly meanwhile.  A tensor or node with more references than were found is somebody's in C:
// what can be reached from it stays held as ever.
#include "cycles.h"

#include <string.h>

#include "binding.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "nablua/references.h"
#include "open.h"

HeldKinds nb_held_kinds;

static const char held_key, weak_key;
static int held_count;
static bool looking;  // a search is under way: what is held may be in the weak table

// ---- the table of what is held ----

int nb_held_add(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &held_key);
  lua_insert(L, -2);
  int place = luaL_ref(L, -2);
  lua_pop(L, 1);
  if (held_count++ == 0) nb_note_boxes(true);
  return place;
}

void nb_held_push(lua_State *L, int place) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &held_key);
  if (lua_rawgeti(L, -1, place) == LUA_TBOOLEAN && looking) {
    lua_pop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
    lua_rawgeti(L, -1, place);
    lua_remove(L, -2);
  }
  lua_remove(L, -2);
}

void nb_held_remove(lua_State *L, int place) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &held_key);
  luaL_unref(L, -1, place);
  lua_pop(L, 1);
  held_count--;
}

// ---- the graph of references ----

typedef struct Thing {
  const void *p;  // a Tensor or a Node
  bool is_node;
  bool live;       // somebody in C holds it, or something that leads to it
  bool boxed;      // a userdata does, or something that leads to it
  bool kept;       // as a suspect
  bool leads;      // to something held that is looked for
  int32_t found;   // references that were met
  int first, end;  // of its edges
  int held, held_end;
} Thing;

typedef struct Graph {
  lua_State *L;  // NULL: nothing is asked of Lua
  Thing *things;
  int *edges, *held;
  AddressMap places;  // of things in the list
  int thing_count, edge_count, held_count;
  size_t thing_room, edge_room, held_room;
  bool full;  // no memory: nothing is known
} Graph;

// The index of a thing, which is added when it is new; -1 without memory.
static int meet(Graph *g, const void *p, bool is_node) {
  Error err;
  bool room = !g->full && nb_grow(&g->things, &g->thing_room, (size_t)g->thing_count + 1, sizeof *g->things, &err);
  const int *place = room ? nb_map_meet(&g->places, p, g->thing_count, &err) : NULL;
  g->full = !place;
  if (!place) return -1;
  if (*place == g->thing_count) g->things[g->thing_count++] = (Thing){.p = p, .is_node = is_node};
  return *place;
}

static void refer(Graph *g, const void *p, bool is_node) {
  Error err;
  int to = meet(g, p, is_node);
  if (to < 0) return;
  g->things[to].found++;
  if (!nb_grow(&g->edges, &g->edge_room, (size_t)g->edge_count + 1, sizeof *g->edges, &err)) {
    g->full = true;
    return;
  }
  g->edges[g->edge_count++] = to;
}

static void visit_tensor(void *user, Tensor *t) {
  refer(user, t, false);
}

static void visit_node(void *user, Node *n) {
  refer(user, n, true);
}

static void add_held(Graph *g, int place) {
  Error err;
  if (!place) return;
  if (!nb_grow(&g->held, &g->held_room, (size_t)g->held_count + 1, sizeof *g->held, &err)) {
    g->full = true;
    return;
  }
  g->held[g->held_count++] = place;
}

static void visit_hook(void *user, const HookFunction *f) {
  add_held(user, nb_held_kinds.of_hook(f));
}

static void visit_object(void *user, Object *object) {
  if (object->refs == 1) add_held(user, nb_held_kinds.of_object(object));
}

static void meet_box(void *user, Tensor *t, const void *box, const void *registry) {
  Graph *g = user;
  int i = meet(g, t, false);
  if (i < 0) return;
  g->things[i].boxed = true;
  // Of a userdata that cannot be found the reference is somebody's.
  if (!g->L || registry != lua_topointer(g->L, LUA_REGISTRYINDEX) || !nb_push_box(g->L, box)) return;
  lua_pop(g->L, 1);
  g->things[i].found++;
}

static void follow_all(Graph *g) {
  Visitor v = {visit_tensor, visit_node, visit_hook, visit_object, g};
  int suspects;
  Tensor *const *list = nb_suspects(&suspects);
  nb_each_box(meet_box, g);
  for (int i = 0; i < suspects; i++) {
    int k = meet(g, list[i], false);
    if (k >= 0) g->things[k].found++;
  }
  for (int i = 0; i < g->thing_count && !g->full; i++) {
    int first = g->edge_count, held = g->held_count;
    const void *p = g->things[i].p;
    if (g->things[i].is_node)
      nb_node_references(p, &v);
    else
      nb_tensor_references(p, &v);
    Thing *t = &g->things[i];
    t->first = first, t->end = g->edge_count, t->held = held, t->held_end = g->held_count;
  }
}

// Spreads `live` and `boxed` along the references, from where they are.
static void spread(Graph *g) {
  Error err;
  int *stack = nb_alloc((size_t)(g->thing_count + 1) * 2 * sizeof *stack, &err), top = 0;
  if (!stack) {
    g->full = true;
    return;
  }
  for (int i = 0; i < g->thing_count; i++) {
    Thing *t = &g->things[i];
    t->live = (t->is_node ? nb_node_count(t->p) : nb_tensor_count(t->p)) > t->found;
    if (t->live || t->boxed) stack[top++] = i;
  }
  while (top > 0) {  // each thing is pushed once for what it begins with, and once for what it gets
    const Thing *t = &g->things[stack[--top]];
    for (int e = t->first; e < t->end; e++) {
      Thing *to = &g->things[g->edges[e]];
      bool more = (t->live && !to->live) || (t->boxed && !to->boxed);
      to->live = to->live || t->live;
      to->boxed = to->boxed || t->boxed;
      if (more && top < 2 * g->thing_count) stack[top++] = g->edges[e];
      if (more && top >= 2 * g->thing_count) g->full = true;
    }
  }
  nb_free(stack, (size_t)(g->thing_count + 1) * 2 * sizeof *stack);
}

static void graph_free(Graph *g) {
  nb_free(g->things, g->thing_room * sizeof *g->things);
  nb_free(g->edges, g->edge_room * sizeof *g->edges);
  nb_free(g->held, g->held_room * sizeof *g->held);
  nb_map_close(&g->places);
}

// ---- cycles of tensors alone ----

static bool keep_suspect(void *user, Tensor *t, bool *broken) {
  Graph *g = user;
  if (!t->node && !(t->grad && (t->grad->node || t->grad->grad))) return false;
  const int *place = nb_map_get(&g->places, t);
  if (!place) return true;
  Thing *thing = &g->things[*place];
  *broken = !thing->live && !thing->boxed;
  if (*broken || thing->kept) return false;
  thing->kept = true;
  return true;
}

static void sweep(void) {
  Graph g = {.L = NULL};
  follow_all(&g);
  if (!g.full) spread(&g);
  if (!g.full) nb_suspects_sift(keep_suspect, &g);
  graph_free(&g);
}

// ---- showing Lua what it cannot see ----

// Marks what leads to something held that nobody in C keeps; false when there is no such thing.  References lead to
// what is older mostly, which is met later, so that few rounds from the last to the first are enough.
static bool mark_leading(Graph *g) {
  bool any = false, changed = true;
  for (int i = 0; i < g->thing_count; i++) {
    Thing *t = &g->things[i];
    t->leads = !t->live && t->held < t->held_end;
    any = any || t->leads;
  }
  while (any && changed) {
    changed = false;
    for (int i = g->thing_count - 1; i >= 0; i--) {
      Thing *t = &g->things[i];
      if (t->leads || t->live) continue;
      for (int e = t->first; !t->leads && e < t->end; e++) t->leads = g->things[g->edges[e]].leads;
      changed = changed || t->leads;
    }
  }
  return any;
}

typedef struct Anchor {
  Graph *g;
  int mirrors, anchors;  // stack indices
} Anchor;

static void anchor_box(void *user, Tensor *t, const void *box, const void *registry) {
  const Anchor *a = user;
  lua_State *L = a->g->L;
  const int *place = nb_map_get(&a->g->places, t);
  if (registry != lua_topointer(L, LUA_REGISTRYINDEX) || !place || !a->g->things[*place].leads) return;
  if (!nb_push_box(L, box)) return;
  lua_rawgeti(L, a->mirrors, *place + 1);
  lua_rawset(L, a->anchors);
}

static void build_mirrors(const Graph *g, int mirrors) {
  lua_State *L = g->L;
  for (int i = 0; i < g->thing_count; i++) {
    if (!g->things[i].leads) continue;
    lua_newtable(L);
    lua_rawseti(L, mirrors, i + 1);
  }
  for (int i = 0; i < g->thing_count; i++) {
    const Thing *t = &g->things[i];
    if (!t->leads) continue;
    lua_Integer n = 0;
    lua_rawgeti(L, mirrors, i + 1);
    for (int e = t->first; e < t->end; e++) {
      if (!g->things[g->edges[e]].leads) continue;
      lua_rawgeti(L, mirrors, g->edges[e] + 1);
      lua_rawseti(L, -2, ++n);
    }
    for (int h = t->held; h < t->held_end; h++) {
      nb_held_push(L, g->held[h]);
      lua_rawseti(L, -2, ++n);
    }
    lua_pop(L, 1);
  }
}

// Moves what is held by things that lead from the strong table to the weak one.
static void weaken(const Graph *g) {
  lua_State *L = g->L;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &held_key);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
  for (int i = 0; i < g->thing_count; i++) {
    for (int h = g->things[i].held; g->things[i].leads && h < g->things[i].held_end; h++) {
      lua_rawgeti(L, -2, g->held[h]);
      lua_rawseti(L, -2, g->held[h]);
      lua_pushboolean(L, 0);
      lua_rawseti(L, -3, g->held[h]);
    }
  }
  lua_pop(L, 2);
}

// Moves back what is still there.
static int strengthen(lua_State *L) {
  lua_settop(L, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &held_key);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
  for (lua_pushnil(L); lua_next(L, 2);) {
    lua_Integer place = lua_tointeger(L, 3);
    if (lua_rawgeti(L, 1, place) == LUA_TBOOLEAN) {
      lua_pushvalue(L, 4);
      lua_rawseti(L, 1, place);  // the key exists: no memory is needed
    }
    lua_settop(L, 3);
    lua_pushvalue(L, 3);
    lua_pushnil(L);
    lua_rawset(L, 2);
  }
  return 0;
}

static int look(lua_State *L) {
  Graph *g = lua_touserdata(L, 1);
  Anchor a = {.g = g, .mirrors = 2, .anchors = 3};
  luaL_checkstack(L, 20, NULL);
  lua_createtable(L, g->thing_count, 0);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  build_mirrors(g, a.mirrors);
  nb_each_box(anchor_box, &a);
  weaken(g);
  lua_pushnil(L);
  lua_replace(L, 2);
  lua_gc(L, LUA_GCCOLLECT);
  return 0;
}

void nb_cycles_break(lua_State *L) {
  if (looking || !lua_checkstack(L, 20)) return;
  looking = true;
  int running = lua_gc(L, LUA_GCISRUNNING);
  lua_gc(L, LUA_GCSTOP);
  Graph g = {.L = L};
  follow_all(&g);
  if (!g.full) spread(&g);
  bool any = !g.full && mark_leading(&g);
  if (running) lua_gc(L, LUA_GCRESTART);
  if (any) {
    lua_pushcfunction(L, look);
    lua_pushlightuserdata(L, &g);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
    lua_pushcfunction(L, strengthen);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
  } else {
    lua_gc(L, LUA_GCCOLLECT);
  }
  graph_free(&g);
  looking = false;
  sweep();
}

void nb_cycles_pace(lua_State *L) {
  enum { FEW = 100 };
  static int enough = FEW;
  int suspects;
  nb_suspects(&suspects);
  if (held_count + suspects < enough || looking || !lua_gc(L, LUA_GCISRUNNING)) return;
  nb_cycles_break(L);
  nb_suspects(&suspects);
  enough = 2 * (held_count + suspects) + FEW;
}

static void closed(void) {
  if (!looking) sweep();
}

void nb_open_cycles(lua_State *L) {
  static const BoxWatcher watcher = {nb_cycles_break, closed};
  nb_watch_boxes(&watcher);
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &held_key);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &weak_key);
}
