// SPDX-License-Identifier: MIT
// Groups of processes in Lua: what lua/dist.lua is made of.
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "binding.h"
#include "board.h"
#include "buckets.h"
#include "group.h"
#include "nablua/compose.h"
#include "nablua/environment.h"
#include "nablua/events.h"
#include "nablua/map.h"
#include "nablua/random.h"
#include "nablua_lua.h"
#include "open.h"
#include "pieces.h"
#include "relay.h"
#include "workers.h"

static const char buckets_name[] = "nablua.buckets", member_name[] = "nablua.member";

// ---- joining and leaving ----

static int leave(lua_State *L) {
  (void)L;
  nb_group_leave();
  return 0;
}

// Whatever ends the state or the process leaves the group.  What hears of the state's end is made once: another that
// took its place would make garbage of it, whose end would be that of a group that began meanwhile.
static void be_member(lua_State *L) {
  static bool registered;
  if (!registered) atexit(nb_group_leave);
  registered = true;
  bool is_there = lua_rawgetp(L, LUA_REGISTRYINDEX, member_name) != LUA_TNIL;
  lua_pop(L, 1);
  if (is_there) return;
  lua_newuserdatauv(L, 0, 0);
  luaL_setmetatable(L, member_name);
  lua_rawsetp(L, LUA_REGISTRYINDEX, member_name);
}

static int push_place(lua_State *L) {
  const TransportPlace *p = nb_group();
  lua_pushinteger(L, p->rank + 1);
  lua_pushinteger(L, p->size);
  lua_pushinteger(L, p->node_rank + 1);
  lua_pushinteger(L, p->node_size);
  lua_pushstring(L, p->library);
  return 5;
}

// native.dist_open(path) → rank, size, rank on the machine, ranks on the machine, the library's name
static int open_group(lua_State *L) {
  Error err;
  const char *path = luaL_checkstring(L, 1);
  if (!nb_group_open(path, &err)) return nb_raise(L, &err);
  be_member(L);
  return push_place(L);
}

// native.dist_relay() → what a carrier finds this process by: its number, and a descriptor
static int open_relay(lua_State *L) {
  Error err;
  int pid, fd;
  if (!nb_relay_open(&pid, &fd, &err)) return nb_raise(L, &err);
  lua_pushinteger(L, pid);
  lua_pushinteger(L, fd);
  return 2;
}

// native.dist_launchers(path) → the names of the launcher
static int launchers(lua_State *L) {
  Error err;
  const char *const *names = nb_group_launchers(luaL_checkstring(L, 1), &err);
  if (!names) return nb_raise(L, &err);
  lua_newtable(L);
  for (int i = 0; names[i]; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

// native.dist_spawn(path, arguments): starts the launcher of the MPI there, and returns as dist_open does
static int spawn_group(lua_State *L) {
  enum { MOST = 4096 };
  Error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int count = (int)lua_rawlen(L, 2);
  luaL_argcheck(L, count >= 1 && count <= MOST, 2, "1 to 4096 arguments");
  char **arguments = lua_newuserdatauv(L, (size_t)(count + 2) * sizeof *arguments, 0);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, i);
    arguments[i] = (char *)(uintptr_t)luaL_checkstring(L, -1);  // the table keeps it
    lua_pop(L, 1);
  }
  arguments[count + 1] = NULL;
  // As many as are asked for on whatever cores; Open MPI 4 and 5 read these.
  setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
  setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 0);
  setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 0);
  setenv("PRTE_MCA_hwloc_default_binding_policy", "none", 0);
  if (!nb_group_spawn(path, arguments, &err)) return nb_raise(L, &err);
  be_member(L);
  return push_place(L);
}

// native.dist_carry(path, pid, fd): serves a prompt until that is gone
static int carry(lua_State *L) {
  Error err;
  bool ok = nb_group_carry(luaL_checkstring(L, 1), (int)luaL_checkinteger(L, 2), (int)luaL_checkinteger(L, 3), &err);
  return ok ? 0 : nb_raise(L, &err);
}

// native.dist_serve_prompt(): this process will be in a prompt's group
static int serve_prompt(lua_State *L) {
  (void)L;
  nb_group_serve_prompt();
  return 0;
}

// native.dist_ended() → nil, or the last words of the launcher that has ended
static int launcher_ended(lua_State *L) {
  char why[400];
  if (!nb_relay_has_ended(why, sizeof why)) return 0;
  lua_pushstring(L, why);
  return 1;
}

// native.dist_renew(): on all ranks, after a failure on any
static int renew_group(lua_State *L) {
  Error err;
  return nb_group_renew(&err) ? 0 : nb_raise(L, &err);
}

// native.dist_drop(): alone again
static int drop_group(lua_State *L) {
  (void)L;
  nb_group_drop();
  nb_relay_close();
  return 0;
}

static const char *const states[] = {"computes", "waits", "left", "failed"};

// native.dist_rows(): what the processes do, a list of { rank=, pid=, state=, text=, number=, seconds=, dead=, bytes=,
// host=, here= }
static int rows_of_board(lua_State *L) {
  BoardRow row;
  lua_newtable(L);
  for (int i = 0; nb_board_row(i, &row); i++) {
    lua_createtable(L, 0, 10);
    lua_pushinteger(L, row.rank + 1);
    lua_setfield(L, -2, "rank");
    lua_pushinteger(L, row.pid);
    lua_setfield(L, -2, "pid");
    lua_pushstring(L, states[row.state]);
    lua_setfield(L, -2, "state");
    lua_pushstring(L, row.text);
    lua_setfield(L, -2, "text");
    lua_pushinteger(L, (lua_Integer)row.number);
    lua_setfield(L, -2, "number");
    lua_pushnumber(L, row.seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushboolean(L, row.dead);
    lua_setfield(L, -2, "dead");
    lua_pushinteger(L, (lua_Integer)row.bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, row.host);
    lua_setfield(L, -2, "host");
    lua_pushboolean(L, row.here);
    lua_setfield(L, -2, "here");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

void nablua_failed(const char *message) {
  // The prompt is told by itself to whoever waits for it, before its error comes here.
  if (nb_group_is_spawned() && nb_group()->rank > 0) nb_board_fail(message);
}

// native.dist_launched(): how many processes the launcher has started; 0 without one.
static int launched(lua_State *L) {
  lua_pushinteger(L, nb_group_launched());
  return 1;
}

// native.library_folder(): where the program or module lies that holds this library.
static int library_folder(lua_State *L) {
  char path[PATH_MAX];
  ssize_t n = -1;
  Dl_info info;
  // The symbol of a program is said to be in what it was called as, which may be no path.
  if (dladdr(buckets_name, &info) && info.dli_fname && strstr(info.dli_fname, ".so") && realpath(info.dli_fname, path))
    n = (ssize_t)strlen(path);
  else
    n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = '\0';
  char *slash = strrchr(path, '/');
  if (slash) *slash = '\0';
  lua_pushstring(L, path);
  return 1;
}

// native.cores(): how many the machine has, and the text of NABLUA_THREADS where that is set
static int cores(lua_State *L) {
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  lua_pushinteger(L, n > 0 ? n : 1);
  lua_pushstring(L, nb_environment("NABLUA_THREADS"));
  return 2;
}

// native.root_is_refused(): whether Open MPI would start nothing, since this is root and has not said that it may
static int root_is_refused(lua_State *L) {
  static const char *const allow[] = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"};
  bool allowed = true;
  for (int i = 0; i < 2; i++) allowed = allowed && getenv(allow[i]) != NULL;
  lua_pushboolean(L, geteuid() == 0 && !allowed);
  return 1;
}

// native.working_folder()
static int working_folder(lua_State *L) {
  char path[PATH_MAX];
  lua_pushstring(L, getcwd(path, sizeof path) ? path : ".");
  return 1;
}

// native.pause(seconds): a short sleep that nothing interrupts
static int pause_seconds(lua_State *L) {
  lua_Number seconds = luaL_checknumber(L, 1);
  if (seconds > 0 && seconds < 1) nanosleep(&(struct timespec){0, (long)(seconds * 1e9)}, NULL);
  return 0;
}

int nablua_rank(void) {
  return nb_group() && nb_group()->size > 1 ? nb_group()->rank + 1 : 0;
}

void nablua_abandon(int status) {
  nb_group_abandon(status);
}

// The ranks of a group begin with the same random numbers, unless they were seeded.
static void seed_alike(void) {
  static const char *const jobs[] = {"OMPI_MCA_orte_precondition_transports", "PMIX_NAMESPACE", "PMI_JOBID",
                                     "SLURM_JOB_ID"};
  if (nb_group_launched() < 2 || nb_environment("NABLUA_SEED")) return;
  for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
    const char *job = getenv(jobs[i]);
    if (!job) continue;
    nb_random_set((RandomState){nb_hash_text(job), 0});
    return;
  }
}

// ---- exchanges ----

static Element element_of(DType dtype) {
  return dtype == NB_F64 ? ELEMENT_F64 : dtype == NB_F32 ? ELEMENT_F32 : dtype == NB_I64 ? ELEMENT_I64 : ELEMENT_U8;
}

typedef struct Shape {
  int64_t dtype, ndim, sizes[NB_MAX_DIMS];
} Shape;
enum { SHAPE_NUMBERS = 2 + NB_MAX_DIMS, PIECE = 4 << 20 /* bytes that are summed at once */ };

static Shape shape_of(const Layout *l) {
  Shape s = {l->dtype, l->ndim, {0}};
  memcpy(s.sizes, l->shape, sizeof s.sizes);
  return s;
}

static Layout layout_of(const Shape *s) {
  Layout l = {.dtype = (DType)s->dtype, .ndim = (int)s->ndim};
  memcpy(l.shape, s->sizes, sizeof l.shape);
  return l;
}

typedef struct Kind {
  const char *name;
  Motion motion;
  bool any_shape;  // ranks but one know of none
} Kind;

static const Kind kinds[] = {
    {"barrier", MOTION_BARRIER, true}, {"allreduce_", MOTION_ALLREDUCE, false},
    {"reduce_", MOTION_REDUCE, false}, {"broadcast_", MOTION_BROADCAST, false},
    {"gather", MOTION_GATHER, false},  {"scatter", MOTION_SCATTER, true},
    {"send", MOTION_SEND, true},       {"receive", MOTION_RECEIVE, true},
};

// One call: what it is, the tensor it is about (NULL where it has none), and what words of it must be equal.
typedef struct Move {
  const Kind *kind;
  Tensor *t;
  Reduction reduction;
  int peer;  // -1: all
  Intent intent;
} Move;

static bool exchange_shape(const Move *m, Motion motion, Shape *shape, Error *err) {
  Shape *block = nb_group_block(sizeof *block, err);
  if (!block) return false;
  *block = *shape;
  Exchange x = {.motion = motion,
                .channel = CHANNEL_DATA,
                .element = ELEMENT_I64,
                .from = motion == MOTION_SEND ? block : NULL,
                .to = block,
                .count = SHAPE_NUMBERS,
                .peer = m->peer};
  bool ok = nb_exchange(&x, m->intent.text, err);
  *shape = *block;
  nb_group_free(block, sizeof *block, ok);
  return ok;
}

static bool exchange_data(const Move *m, Motion motion, DType dtype, const void *from, void *to, int64_t count,
                          Error *err) {
  Exchange x = {.motion = motion,
                .channel = CHANNEL_DATA,
                .element = element_of(dtype),
                .reduction = m->reduction,
                .from = from,
                .to = to,
                .count = count,
                .peer = m->peer};
  return nb_exchange(&x, m->intent.text, err);
}

// The result, owned: a new tensor, NULL without `err` where this rank gets none.
static bool move(const Move *m, Tensor **out, Error *err) {
  bool mine = nb_group()->rank == m->peer, ok = true;
  Motion motion = m->kind->motion;
  Shape shape = {0};
  Layout l = {0};
  *out = NULL;
  if (motion == MOTION_SEND || motion == MOTION_RECEIVE || motion == MOTION_SCATTER) {
    if (m->t) shape = shape_of(&m->t->layout);
    if (!exchange_shape(m, motion == MOTION_SCATTER ? MOTION_BROADCAST : motion, &shape, err)) return false;
    l = layout_of(&shape);
  } else if (m->t) {
    l = m->t->layout;
  }
  int64_t count = nb_layout_numel(&l);
  const void *data = m->t ? nb_tensor_data(m->t) : NULL;
  if (motion == MOTION_SCATTER) {
    for (int d = 1; d < l.ndim; d++) l.shape[d - 1] = l.shape[d];
    l.ndim--;
    count = nb_layout_numel(&l);
  } else if (motion == MOTION_GATHER) {
    if (l.ndim == NB_MAX_DIMS) return nb_fail(err, NB_ERROR_ARGUMENT, "gather: the result would have 9 dimensions");
    for (int d = l.ndim++; d > 0; d--) l.shape[d] = l.shape[d - 1];
    l.shape[0] = nb_group()->size;
    if (m->peer < 0) motion = MOTION_ALLGATHER;
  }
  bool gets = motion == MOTION_GATHER ? mine : motion != MOTION_SEND;
  if (gets && !(*out = nb_tensor_new(&l, err))) return false;
  void *to = gets ? nb_tensor_data(*out) : NULL;
  bool in_place = motion == MOTION_ALLREDUCE || motion == MOTION_REDUCE || motion == MOTION_BROADCAST;
  if (in_place) memcpy(to, data, (size_t)count * nb_dtype_size(l.dtype));
  if (motion == MOTION_ALLREDUCE && m->reduction == REDUCTION_SUM && nb_dtype_is_float(l.dtype))
    ok =
        nb_pieces_whole(CHANNEL_DATA, &(Range){.dtype = l.dtype, .at = to, .count = count, .factor = 1, .piece = PIECE},
                        m->intent.text, err);
  else
    ok = exchange_data(m, motion, l.dtype, in_place ? NULL : data, to, count, err);
  // What has failed may still be under way in MPI: its memory stays.
  if (!ok) *out = NULL;
  if (!ok && m->t) nb_tensor_retain(m->t);
  return ok;
}

static const Kind *kind_named(const char *name) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
  return NULL;
}

static void intend(Move *m, const char *words) {
  char text[NB_SHAPE_TEXT];
  if (m->t && !m->kind->any_shape)
    nb_intend(&m->intent, "%s%s of %s %s", m->kind->name, words, nb_dtype_name(m->t->layout.dtype),
              nb_shape_text(&m->t->layout, text));
  else
    nb_intend(&m->intent, "%s%s", m->kind->name, words);
}

// native.dist_move(name, t, reduction, peer, words) → a tensor, or nothing
static int dist_move(lua_State *L) {
  Error err;
  Scope s;
  Move m = {.kind = kind_named(luaL_checkstring(L, 1)),
            .t = lua_isnil(L, 2) ? NULL : nb_check_tensor(L, 2),
            .reduction = (Reduction)luaL_checkinteger(L, 3),
            .peer = (int)luaL_checkinteger(L, 4) - 1};
  const char *words = luaL_checkstring(L, 5);
  luaL_argcheck(L, m.kind != NULL, 1, "no such exchange");
  nb_enter(L);
  nb_tell_unrepeatable("it exchanges data with other ranks");
  intend(&m, words);
  Tensor **slot = nb_new_tensor(L);
  nb_scope_open(&s, &err);
  bool ok = true;
  if (m.t && !nb_layout_contiguous(&m.t->layout)) ok = (m.t = nb_contiguous(&s, m.t)) != NULL;
  bool pair = m.kind->motion == MOTION_SEND || m.kind->motion == MOTION_RECEIVE;
  ok = ok && (pair || nb_agree(&m.intent, &err));
  if (m.kind->motion != MOTION_BARRIER) ok = ok && move(&m, slot, &err);
  nb_scope_close(&s);
  if (!ok) return nb_raise(L, &err);
  if (!*slot) return 0;
  nb_feed_collector(*slot);
  return 1;
}

// ---- gradients ----

static int collect_buckets(lua_State *L) {
  Buckets **b = nb_collected_by(L, 1, collect_buckets);
  if (!b) return 0;
  nb_buckets_free(*b);
  *b = NULL;
  return 0;
}

static Buckets *check_buckets(lua_State *L) {
  Buckets **b = luaL_checkudata(L, 1, buckets_name);
  luaL_argcheck(L, *b != NULL, 1, "is gone");
  return *b;
}

// native.dist_buckets(tensors, names, sum, bytes, drift)
static int new_buckets(lua_State *L) {
  Error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  int count = (int)lua_rawlen(L, 1);
  BucketOptions o = {lua_toboolean(L, 3), luaL_checkinteger(L, 4), luaL_checkinteger(L, 5)};
  Buckets **b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = NULL;
  luaL_setmetatable(L, buckets_name);
  Tensor **leaves = lua_newuserdatauv(L, (size_t)count * sizeof *leaves + 1, 0);
  const char **names = lua_newuserdatauv(L, (size_t)count * sizeof *names + 1, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 1, i + 1);
    leaves[i] = nb_check_tensor(L, -1);
    lua_rawgeti(L, 2, i + 1);
    names[i] = luaL_checkstring(L, -1);
    lua_pop(L, 2);
  }
  if (!(*b = nb_buckets_new(leaves, names, count, o, &err))) return nb_raise(L, &err);
  lua_pop(L, 2);
  return 1;
}

// native.dist_forget(buckets): ends them
static int forget_buckets(lua_State *L) {
  Buckets **b = luaL_checkudata(L, 1, buckets_name);
  nb_buckets_free(*b);
  *b = NULL;
  return 0;
}

// native.dist_sync(buckets, on)
static int sync_buckets(lua_State *L) {
  nb_buckets_sync(check_buckets(L), lua_toboolean(L, 2));
  return 0;
}

// native.dist_state(buckets) → how many exchanges, buckets begun before backward's end, buckets in all, and the list of
// the parameters that nobody had a gradient of
static int state_of_buckets(lua_State *L) {
  const Buckets *b = check_buckets(L);
  int64_t exchanges, early, all;
  nb_buckets_count(b, &exchanges, &early, &all);
  lua_pushinteger(L, exchanges);
  lua_pushinteger(L, early);
  lua_pushinteger(L, all);
  lua_newtable(L);
  for (int i = 0, k; exchanges > 0 && (k = nb_buckets_unused(b, i)) >= 0; i++) {
    lua_pushinteger(L, k + 1);
    lua_rawseti(L, -2, i + 1);
  }
  return 4;
}

static void set_seconds(lua_State *L, const char *name, double seconds) {
  lua_pushnumber(L, seconds);
  lua_setfield(L, -2, name);
}

// native.dist_times(buckets) → nil before the first exchange, or of the last, in seconds from its backward's beginning:
// { walked=, done=, { first= parameter, count=, bytes=, full=, begun=, ended= }, ... }
static int times_of_buckets(lua_State *L) {
  const Buckets *b = check_buckets(L);
  int64_t exchanges, early, all;
  nb_buckets_count(b, &exchanges, &early, &all);
  if (exchanges == 0) return 0;
  WalkTimes walk = nb_buckets_walk(b);
  lua_createtable(L, walk.buckets, 2);
  set_seconds(L, "walked", walk.walked - walk.begun);
  set_seconds(L, "done", walk.done - walk.begun);
  for (int i = 0; i < walk.buckets; i++) {
    BucketTimes k = nb_buckets_times(b, i);
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, k.first + 1);
    lua_setfield(L, -2, "first");
    lua_pushinteger(L, k.count);
    lua_setfield(L, -2, "count");
    lua_pushinteger(L, k.bytes);
    lua_setfield(L, -2, "bytes");
    set_seconds(L, "full", k.full - walk.begun);
    set_seconds(L, "begun", k.begun - walk.begun);
    set_seconds(L, "ended", k.ended - walk.begun);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

// native.dist_weigh(weight)
static int weigh(lua_State *L) {
  nb_buckets_weigh(luaL_checknumber(L, 1));
  return 0;
}

void nb_open_dist(lua_State *L) {
  static const luaL_Reg functions[] = {{"dist_open", open_group},
                                       {"dist_relay", open_relay},
                                       {"dist_launchers", launchers},
                                       {"dist_spawn", spawn_group},
                                       {"dist_carry", carry},
                                       {"dist_serve_prompt", serve_prompt},
                                       {"dist_ended", launcher_ended},
                                       {"dist_renew", renew_group},
                                       {"dist_drop", drop_group},
                                       {"dist_rows", rows_of_board},
                                       {"dist_launched", launched},
                                       {"library_folder", library_folder},
                                       {"cores", cores},
                                       {"root_is_refused", root_is_refused},
                                       {"working_folder", working_folder},
                                       {"pause", pause_seconds},
                                       {"dist_move", dist_move},
                                       {"dist_buckets", new_buckets},
                                       {"dist_forget", forget_buckets},
                                       {"dist_sync", sync_buckets},
                                       {"dist_state", state_of_buckets},
                                       {"dist_times", times_of_buckets},
                                       {"dist_weigh", weigh},
                                       {NULL, NULL}};
  nb_make_class(L, buckets_name, collect_buckets, NULL);
  nb_make_class(L, member_name, leave, NULL);
  luaL_setfuncs(L, functions, 0);
  nb_open_workers(L);
  seed_alike();
}
