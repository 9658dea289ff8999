// SPDX-License-Identifier: MIT
// Where the time goes: a listener that adds up, for each operator at each place and phase, its calls, seconds, floating
// point operations and bytes.
//
// A place is a number that Lua gives for the layer that is called; what the tape recorded there goes backward there.
// The time between the end of one kernel and the begin of the next is a row of its own: Lua, checks, the tape.
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "inspect.h"
#include "nablua/args.h"
#include "nablua/clock.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "nablua/optimize.h"
#include "nablua/tape.h"
#include "open.h"
#include "visits.h"

typedef enum Phase { FORWARD, BACKWARD, UPDATE, PHASES } Phase;

static const char *const phases[PHASES] = {"forward", "backward", "update"};
static const char *const rules[NB_OPTIMIZERS] = {[NB_SGD] = "sgd", [NB_ADAM] = "adam", [NB_RMSPROP] = "rmsprop"};
static const char between[] = "";  // the row of what is no kernel

typedef struct Row {
  const char *what;  // an operator's name, a rule's, or `between`: told apart by address
  int place;
  Phase phase;
  double calls, seconds, flops, bytes;
} Row;

typedef struct Made {
  uint64_t order;  // of a node
  int place;
} Made;

enum { MOST_MADE = 1 << 20 };  // nodes whose place is remembered; older ones count as made nowhere

static struct {
  bool on;
  Row *rows;
  int count, room;
  int *slots;  // places in rows, -1: free; a power of two of them, at most half full
  int slot_count;
  Made *made;
  int made_count, made_room;
  int place, back_place;
  Phase phase;
  double begun, last;  // when the profile and the kernel began; when the last one ended
  double start;
  Row *update;
  bool lost;  // memory for a row was refused
} p;

static unsigned hash_of(const char *what, int place, Phase phase) {
  uintptr_t h = (uintptr_t)what >> 3;
  h = (h ^ (uintptr_t)place * 2654435761u) * 40503u + (uintptr_t)phase * 97u;
  return (unsigned)(h ^ (h >> 15));
}

static void place_in_slots(int index) {
  const Row *r = &p.rows[index];
  unsigned at = hash_of(r->what, r->place, r->phase);
  while (p.slots[at & (unsigned)(p.slot_count - 1)] >= 0) at++;
  p.slots[at & (unsigned)(p.slot_count - 1)] = index;
}

static bool grow(void) {
  Error err;
  int room = p.room ? 2 * p.room : 64;
  Row *rows = nb_alloc((size_t)room * sizeof *rows, &err);
  int *slots = rows ? nb_alloc(4 * (size_t)room * sizeof *slots, &err) : NULL;
  if (!slots) {
    if (rows) nb_free(rows, (size_t)room * sizeof *rows);
    return false;
  }
  if (p.rows) {
    memcpy(rows, p.rows, (size_t)p.count * sizeof *rows);
    nb_free(p.rows, (size_t)p.room * sizeof *rows);
    nb_free(p.slots, (size_t)p.slot_count * sizeof *slots);
  }
  p.rows = rows, p.room = room, p.slots = slots, p.slot_count = 4 * room;
  for (int i = 0; i < p.slot_count; i++) p.slots[i] = -1;
  for (int i = 0; i < p.count; i++) place_in_slots(i);
  return true;
}

static Row *row_of(const char *what, int place, Phase phase) {
  static Row none;
  for (unsigned at = hash_of(what, place, phase); p.slot_count; at++) {
    int index = p.slots[at & (unsigned)(p.slot_count - 1)];
    if (index < 0) break;
    Row *r = &p.rows[index];
    if (r->what == what && r->place == place && r->phase == phase) return r;
  }
  if (p.count == p.room && !grow()) {
    p.lost = true;
    return &none;
  }
  p.rows[p.count] = (Row){.what = what, .place = place, .phase = phase};
  place_in_slots(p.count);
  return &p.rows[p.count++];
}

static int place_now(void) {
  return p.phase == BACKWARD ? p.back_place : p.place;
}

// What lies between kernels ends here.
static void end_between(double now) {
  Row *r = row_of(between, place_now(), p.phase);
  r->seconds += now - p.last;
  r->calls++;
  p.last = now;
}

static void end_kernel(const char *what, double flops, double bytes) {
  double now = nb_clock();
  Row *r = row_of(what, place_now(), p.phase);
  r->seconds += now - p.start;
  r->calls++;
  r->flops += flops;
  r->bytes += bytes;
  p.last = now;
}

// ---- what happens ----

static void on_computing(void *user, const Op *op) {
  (void)user;
  if (!op) {  // a step is done
    if (p.phase != UPDATE) return;
    p.last = nb_clock();
    p.update->seconds += p.last - p.start;
    p.phase = FORWARD;
    return;
  }
  double now = nb_clock();
  end_between(now);
  p.start = now;
}

static double bytes_of(const Tensor *t) {
  return (double)nb_layout_numel(&t->layout) * (double)nb_dtype_size(t->layout.dtype);
}

// Where a node was made, so that its rule counts there.
static void remember(const Node *n) {
  Error err;
  if (p.made_count && p.made[p.made_count - 1].order >= n->order) return;
  if (p.made_count == p.made_room) {
    if (p.made_room == MOST_MADE) {  // the older half goes
      p.made_count = MOST_MADE / 2;
      memmove(p.made, p.made + MOST_MADE / 2, (size_t)p.made_count * sizeof *p.made);
    } else {
      int room = p.made_room ? 2 * p.made_room : 1024;
      Made *made = nb_alloc((size_t)room * sizeof *made, &err);
      if (!made) return;
      if (p.made) {
        memcpy(made, p.made, (size_t)p.made_count * sizeof *made);
        nb_free(p.made, (size_t)p.made_room * sizeof *made);
      }
      p.made = made, p.made_room = room;
    }
  }
  p.made[p.made_count++] = (Made){n->order, p.place};
}

static bool on_applied(void *user, const Applied *a, Error *err) {
  (void)user, (void)err;
  double bytes = 0;
  for (TensorWalk w = nb_tensors_of(a->op, a->args); nb_next_tensor(&w);)
    if (*w.slot) bytes += bytes_of(*w.slot);
  for (int i = 0; i < a->count; i++)
    if (a->out[i]) bytes += bytes_of(a->out[i]);
  double flops = a->call ? nb_call_flops(a->call) : 0;
  end_kernel(a->op->name, flops, bytes);
  if (p.phase == FORWARD && a->out[0]->node) remember(a->out[0]->node);
  return true;
}

static int compare_orders(const void *key, const void *at) {
  uint64_t a = *(const uint64_t *)key, b = ((const Made *)at)->order;
  return a < b ? -1 : a > b;
}

// The rule of a view has no kernel of its own, and neither had its forward: it belongs where its argument was made.
static int place_of(const Node *n) {
  const Made *found =
      p.made_count ? bsearch(&n->order, p.made, (size_t)p.made_count, sizeof *p.made, compare_orders) : NULL;
  return found ? found->place : p.back_place;
}

static void on_visiting(void *user, const Node *n) {
  (void)user;
  if (n) {
    if (p.phase == FORWARD) end_between(nb_clock());
    p.phase = BACKWARD;
    p.back_place = place_of(n);
  } else {
    end_between(nb_clock());
    p.phase = FORWARD;
  }
}

// Operations for each element by a rule's formula: a decay and a momentum are a multiplication and an addition; Adam's
// means are 3 and 4, and its step a root, a division, a multiplication, an addition.
static double rule_flops(const OptimizerRule *r) {
  double n = r->kind == NB_ADAM ? 3 + 4 + 5 : r->kind == NB_RMSPROP ? 4 + 5 : 2;
  return n + (r->momentum != 0 ? 2 : 0) + (r->weight_decay != 0 ? 2 : 0) + (r->nesterov ? 2 : 0);
}

static void on_stepped(void *user, const OptimizerRule *rule, const OptimizerSlot *slots, int count) {
  (void)user;
  double now = nb_clock(), n = 0, bytes = 0;
  end_between(now);
  p.start = now;
  p.phase = UPDATE;
  for (int i = 0; i < count; i++) {
    double one = bytes_of(slots[i].weight);
    n += (double)nb_layout_numel(&slots[i].weight->layout);
    bytes += one * (3 + (slots[i].first ? 2 : 0) + (slots[i].second ? 2 : 0));  // g is read, the others written, too
  }
  p.update = row_of(rules[rule->kind], p.place, UPDATE);
  p.update->calls++;
  p.update->flops += n * rule_flops(rule);
  p.update->bytes += bytes;
}

static Listener ear = {.voice = NB_INNER,
                       .brief = true,
                       .applied = on_applied,
                       .computing = on_computing,
                       .visiting = on_visiting,
                       .stepped = on_stepped};

// ---- from Lua ----

static void forget(void) {
  nb_unlisten(&ear);
  if (p.rows) nb_free(p.rows, (size_t)p.room * sizeof *p.rows);
  if (p.slots) nb_free(p.slots, (size_t)p.slot_count * sizeof *p.slots);
  if (p.made) nb_free(p.made, (size_t)p.made_room * sizeof *p.made);
  memset(&p, 0, sizeof p);
}

// native.profile_begin(): false where a profile is under way.
static int begin(lua_State *L) {
  if (!p.on && !p.rows) {
    nb_listen(&ear);
    p.on = true;
    p.begun = p.last = nb_clock();
    lua_pushboolean(L, true);
  } else {
    lua_pushboolean(L, false);
  }
  return 1;
}

// native.profile_place(number): where operators are from now on.
static int set_place(lua_State *L) {
  if (p.on) {
    if (p.phase == FORWARD) end_between(nb_clock());
    p.place = (int)luaL_checkinteger(L, 1);
  }
  return 0;
}

static void push_row(lua_State *L, const Row *r) {
  lua_createtable(L, 0, 7);
  lua_pushstring(L, r->what);
  lua_setfield(L, -2, "op");
  lua_pushinteger(L, r->place);
  lua_setfield(L, -2, "place");
  lua_pushstring(L, phases[r->phase]);
  lua_setfield(L, -2, "phase");
  lua_pushinteger(L, (lua_Integer)r->calls);
  lua_setfield(L, -2, "calls");
  lua_pushnumber(L, r->seconds);
  lua_setfield(L, -2, "seconds");
  lua_pushnumber(L, r->flops);
  lua_setfield(L, -2, "flops");
  lua_pushnumber(L, r->bytes);
  lua_setfield(L, -2, "bytes");
}

// native.profile_end(): { op=, place=, phase=, calls=, seconds=, flops=, bytes= } for each, and how long it took.
static int end(lua_State *L) {
  if (!p.on) return 0;
  double now = nb_clock(), seconds = now - p.begun;
  end_between(now);
  nb_unlisten(&ear);
  lua_createtable(L, p.count, 0);
  for (int i = 0; i < p.count; i++) {
    push_row(L, &p.rows[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushnumber(L, seconds);
  lua_pushboolean(L, p.lost);
  forget();
  return 3;
}

// native.profile_drop(): ends a profile that nobody wants any more.
static int drop(lua_State *L) {
  (void)L;
  if (p.on) forget();  // a visitor finds it off
  return 0;
}

bool nb_profiled(void) {
  return p.on;
}

// What a visitor does is not the program's: it is not counted, and neither is its time.
void nb_profile_aside(lua_State *V) {
  if (p.on) nb_unlisten(&ear);
  lua_pushboolean(V, p.on);
  lua_pushnumber(V, nb_clock());
  p.on = false;
}

void nb_profile_back(lua_State *V) {
  if (lua_toboolean(V, -2)) {
    double spent = nb_clock() - lua_tonumber(V, -1);
    p.on = true;
    p.begun += spent, p.last += spent, p.start += spent;
    nb_listen(&ear);
  }
  lua_pop(V, 2);
}

void nb_open_profile(lua_State *L) {
  static const luaL_Reg functions[] = {{"profile_begin", begin},
                                       {"profile_place", set_place},
                                       {"profile_end", end},
                                       {"profile_drop", drop},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
