// SPDX-License-Identifier: MIT
// A group of processes: joining it, agreeing, exchanging, leaving.
#include "group.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "nablua/tape.h"
#include "relay.h"

static struct {
  const Transport *transport;
  TransportPlace place;
  bool open, left, spawned;
  bool has_cores;     // each rank of this machine may have one
  uint64_t number;    // exchanges begun
  int age;            // how often it has begun anew
  char broken[1500];  // why nothing more can be exchanged
} group;

const TransportPlace *nb_group(void) {
  return group.open ? &group.place : NULL;
}

static bool breaks(Error *err, ErrorKind kind, const char *text);
static bool complete(Request *r, const char *text, Error *err);

// ---- joining ----

static int number_of(const char *variable) {
  const char *text = getenv(variable);
  long n = text ? strtol(text, NULL, 10) : 0;
  return n > 0 && n < 1 << 24 ? (int)n : 0;
}

// Open MPI's mpirun, MPICH's (and srun with its PMI), and srun with PMIx.
static const char *const launchers[][2] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"}, {"PMI_SIZE", "PMI_SIZE"}, {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};
enum { LAUNCHERS = sizeof launchers / sizeof *launchers };

int nb_group_launched(void) {
  static int launched = -1;
  for (int i = 0; i < LAUNCHERS && launched < 0; i++)
    if (getenv(launchers[i][0])) launched = number_of(launchers[i][1]);
  return launched < 0 ? launched = 0 : launched;
}

// Programs that this one runs are not ranks.
static void hide_launch(void) {
  for (int i = 0; i < LAUNCHERS; i++) unsetenv(launchers[i][0]);
}

static bool load(const char *path, Error *err) {
  // Open MPI opens parts of itself, which look for its symbols among the global ones.
  void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!module)
    return nb_fail(err, NB_ERROR_STATE,
                   "dist: %s cannot be opened (%s); install the MPI that it was built with (Debian: openmpi-bin)", path,
                   dlerror());
  union {
    void *address;
    TransportFunction function;
  } found = {dlsym(module, TRANSPORT_FUNCTION)};
  const Transport *t = found.address ? found.function() : NULL;
  if (!t || t->version != TRANSPORT_VERSION)
    return nb_fail(err, NB_ERROR_STATE, "dist: %s belongs to another version of nablua", path);
  group.transport = t;
  return true;
}

// A second stall ends the workers of a prompt, and not the prompt.
static void end_workers(int status) {
  BoardRow row;
  (void)status;
  for (int i = 0; nb_board_row(i, &row); i++)
    if (row.here && row.pid != getpid() && row.pid > 0) kill(row.pid, SIGKILL);
  nb_relay_kill();
}

// Where there are several machines, all boards learn where rank 1 is.
static bool link_boards(Error *err) {
  if (group.place.machines == 1) return true;
  HubPlace *place = nb_alloc(sizeof *place, err);
  if (!place) return false;
  *place = group.place.rank == 0 ? nb_hub_found() : (HubPlace){0};
  Exchange x = {.motion = MOTION_BROADCAST,
                .channel = CHANNEL_CONTROL,
                .element = ELEMENT_U8,
                .to = place,
                .count = sizeof *place};
  bool ok = nb_exchange(&x, "the place where machines tell of their ranks", err);
  if (ok)
    nb_board_link(place);  // without it the ranks of other machines are unknown, and it is said so where it matters
  nb_group_free(place, sizeof *place, ok);
  return ok;
}

// Opens the board, with which the group is open.
static bool open_board(void (*abandon)(int), Error *err) {
  char why[300] = "";
  size_t bytes = nb_board_bytes(group.place.size);
  int fd = group.transport->shared(bytes, why, sizeof why);
  void *slots = fd >= 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (fd >= 0 && slots == MAP_FAILED) snprintf(why, sizeof why, "%s", strerror(errno));
  if (slots == MAP_FAILED) return nb_fail(err, NB_ERROR_STATE, "dist: there is no memory that ranks share: %s", why);
  if (!nb_board_open(slots, group.place.size, group.place.rank, abandon, err)) return false;
  group.number = 0;
  *group.broken = '\0';
  group.has_cores = !group.spawned && sysconf(_SC_NPROCESSORS_ONLN) >= group.place.node_size;
  return link_boards(err) && (group.open = true);
}

bool nb_group_open(const char *path, Error *err) {
  char why[300] = "";
  if (group.open) return true;
  int launched = nb_group_launched();
  if (!group.transport && !load(path, err)) return false;
  if (!group.transport->open(&group.place, why, sizeof why)) return nb_fail(err, NB_ERROR_STATE, "dist: %s", why);
  if (group.place.size == 1 && launched > 1)
    return nb_fail(err, NB_ERROR_STATE,
                   "dist: the launcher started %d ranks, but this process finds itself alone: its MPI is %s, and the "
                   "mpirun is another's; use the mpirun of that MPI, or build nablua with the other one (mpicc)",
                   launched, group.place.library);
  hide_launch();
  return open_board(group.transport->abandon, err);
}

const char *const *nb_group_launchers(const char *path, Error *err) {
  const Transport *before = group.transport;
  if (!load(path, err)) return NULL;
  const char *const *names = group.transport->launchers;
  group.transport = before;
  return names;
}

bool nb_group_spawn(const char *path, char **arguments, Error *err) {
  const char *const *names = nb_group_launchers(path, err);
  if (!names || !nb_relay_start(names, arguments, &group.place, err)) return false;
  group.transport = nb_relay_transport();
  group.spawned = true;
  return open_board(end_workers, err);
}

bool nb_group_carry(const char *path, int pid, int fd, Error *err) {
  return load(path, err) && nb_relay_serve(group.transport, pid, fd, err);
}

void nb_group_serve_prompt(void) {
  group.spawned = true;
}

bool nb_group_is_spawned(void) {
  return group.open && group.spawned;
}

bool nb_group_renew(Error *err) {
  Request r;
  char why[300];
  *group.broken = '\0';
  group.number = 0;
  group.age++;
  nb_board_renew();
  if (!group.transport->renew(&r, why, sizeof why)) return breaks(err, NB_ERROR_STATE, why);
  if (!complete(&r, "the group to begin anew", err)) return false;
  group.transport->renewed();
  return true;
}

int nb_group_age(void) {
  return group.age;
}

void nb_group_drop(void) {
  if (!nb_group_is_spawned()) return;
  end_workers(0);
  nb_board_leave();
  nb_relay_close();
  group.transport = NULL;
  group.open = group.spawned = false;
}

void *nb_group_block(size_t bytes, Error *err) {
  return nb_alloc(bytes, err);
}

void nb_group_free(void *block, size_t bytes, bool done) {
  if (done) nb_free(block, bytes);
}

void nb_group_leave(void) {
  if (!group.open || group.left) return;
  if (group.spawned && group.place.rank == 0) {
    nb_group_drop();
    return;
  }
  group.left = true;
  if (*group.broken) {  // who waits in what has failed would wait for ever
    if (nb_board_may_abandon()) group.transport->abandon(1);
    return;
  }
  nb_board_leave();
  if (!group.spawned) group.transport->close();  // a prompt ends its group without waiting for anybody
}

void nb_group_abandon(int status) {
  if (!group.open || group.left) return;
  if (group.spawned && group.place.rank == 0) {
    nb_group_drop();
    return;
  }
  group.left = true;
  if (nb_board_may_abandon()) group.transport->abandon(status);
}

// ---- waiting ----

void nb_group_break(const char *why) {
  if (!*group.broken) snprintf(group.broken, sizeof group.broken, "%s", why);
}

static bool breaks(Error *err, ErrorKind kind, const char *text) {
  nb_group_break(text);
  return nb_fail(err, kind, "%s", text);
}

static bool is_whole(Error *err) {
  if (group.left) return nb_fail(err, NB_ERROR_STATE, "dist: this rank has left its group");
  return !*group.broken ||
         nb_fail(err, NB_ERROR_STATE, "dist: the group exchanges nothing more since this failed: %s", group.broken);
}

static char waits_in[INTENT_TEXT + 100];

Wait nb_wait_begin(const char *text) {
  snprintf(waits_in, sizeof waits_in, "%s", text);
  nb_board_wait(group.number, text);
  return (Wait){.begun = nb_clock(), .looked = nb_clock()};
}

void nb_wait_end(void) {
  nb_board_go(group.number);
}

bool nb_pause(Wait *w, bool moved, Error *err) {
  // Large tensors come in pieces, which move on only when somebody asks: at first a wait asks all the time, and where
  // each rank has a core keeps it, since who lets others have it gets it back after milliseconds on a busy machine.
  static const double OWN = 0.01, BUSY = 0.02, LIGHT = 1, LOOK = 0.05;
  double now = nb_clock();
  if (moved) w->begun = now;
  double waited = now - w->begun;
  if (waited < BUSY) {
    if (waited > OWN || !group.has_cores) sched_yield();
  } else {
    nanosleep(&(struct timespec){0, waited < LIGHT ? 50000 : 500000}, NULL);
  }
  if (++w->turns % 16) return true;
  Error stop;
  if (!nb_poll(&stop)) {
    breaks(err, stop.kind, stop.message);
    return false;
  }
  if (now - w->looked < LOOK) return true;
  w->looked = now;
  char missing[200], text[INTENT_TEXT + 400];
  if (!nb_board_missing(group.number, missing, sizeof missing)) return true;
  snprintf(text, sizeof text, "%s: %s", waits_in, missing);
  return breaks(err, NB_ERROR_STATE, text);
}

bool nb_request_begin(const Exchange *x, Request *r, Error *err) {
  char why[300];
  return group.transport->start(x, r, why, sizeof why) || breaks(err, NB_ERROR_STATE, why);
}

bool nb_request_test(Request *r, bool *done, Error *err) {
  char why[300];
  return group.transport->test(r, done, why, sizeof why) || breaks(err, NB_ERROR_STATE, why);
}

static bool complete(Request *r, const char *text, Error *err) {
  bool done = false, ok = nb_request_test(r, &done, err);
  if (ok && done) return true;
  Wait w = nb_wait_begin(text);
  while (ok && !done) ok = nb_pause(&w, false, err) && nb_request_test(r, &done, err);
  nb_wait_end();
  return ok;
}

bool nb_exchange(const Exchange *x, const char *text, Error *err) {
  Request r;
  return is_whole(err) && nb_request_begin(x, &r, err) && complete(&r, text, err);
}

// ---- agreeing ----

void nb_intend(Intent *intent, const char *format, ...) {
  va_list ap;
  memset(intent, 0, sizeof *intent);  // the texts of ranks are compared byte by byte
  va_start(ap, format);
  vsnprintf(intent->text, sizeof intent->text, format, ap);
  va_end(ap);
  intent->hash = nb_hash_text(intent->text);
  Site site = nb_site_now();
  size_t used = strlen(intent->text);
  if (site.source) snprintf(intent->text + used, sizeof intent->text - used, " at %s:%d", site.source, site.line);
}

bool nb_agree_begin(Agreement *a, const Intent *intent, Error *err) {
  if (!is_whole(err)) return false;
  uint64_t hash = intent->hash ^ ++group.number * 0x9E3779B97F4A7C15u;  // the same thing later is another
  *a = (Agreement){.intent = *intent, .number = group.number, .words = nb_group_block(AGREEMENT_BYTES, err)};
  if (!a->words) return false;
  a->words[0] = hash, a->words[1] = ~hash;
  return nb_request_begin(&(Exchange){.motion = MOTION_ALLREDUCE,
                                      .channel = CHANNEL_CONTROL,
                                      .element = ELEMENT_U64,
                                      .reduction = REDUCTION_MAX,
                                      .from = a->words,
                                      .to = a->words + 2,
                                      .count = 2},
                          &a->request, err);
}

// "ranks 1, 2 and 4"
static void name_ranks(const bool *in, char *text, size_t size) {
  int count = 0, shown = 0;
  size_t used = 0;
  for (int r = 0; r < group.place.size; r++) count += in[r];
  used += (size_t)snprintf(text, size, count > 1 ? "ranks " : "rank ");
  for (int r = 0; r < group.place.size && used < size; r++) {
    if (!in[r]) continue;
    const char *before = shown == 0 ? "" : shown == count - 1 ? " and " : ", ";
    if (++shown > 16) {
      snprintf(text + used, size - used, " and others");
      return;
    }
    used += (size_t)snprintf(text + used, size - used, "%s%d", before, r + 1);
  }
}

// All ranks know that they differ: each hears what all are about to do.
static bool tell_difference(const Agreement *a, Error *err) {
  int size = group.place.size, kinds = 0;
  size_t bytes = (size_t)size * (INTENT_TEXT + sizeof(bool));
  char *texts = nb_alloc(bytes, err), message[1200], ranks[200];
  if (!texts) return breaks(err, err->kind, err->message);
  bool *in = (bool *)(texts + (size_t)size * INTENT_TEXT);
  Exchange x = {.motion = MOTION_ALLGATHER,
                .channel = CHANNEL_CONTROL,
                .element = ELEMENT_U8,
                .from = a->intent.text,
                .to = texts,
                .count = INTENT_TEXT};
  if (!nb_exchange(&x, a->intent.text, err)) return false;  // the memory stays
  size_t used = (size_t)snprintf(message, sizeof message, "dist: the ranks do not meet in exchange %llu",
                                 (unsigned long long)a->number);
  for (int r = 0; r < size && used < sizeof message - 1; r++) {
    bool told = false;
    for (int q = 0; q < r; q++)
      told = told || memcmp(texts + (size_t)q * INTENT_TEXT, texts + (size_t)r * INTENT_TEXT, INTENT_TEXT) == 0;
    if (told) continue;
    for (int q = 0; q < size; q++)
      in[q] = memcmp(texts + (size_t)q * INTENT_TEXT, texts + (size_t)r * INTENT_TEXT, INTENT_TEXT) == 0;
    name_ranks(in, ranks, sizeof ranks);
    if (++kinds > 4) {
      snprintf(message + used, sizeof message - used, "; ...");
      break;
    }
    int n = snprintf(message + used, sizeof message - used, "%s %s: %s", kinds == 1 ? ":" : ";", ranks,
                     texts + (size_t)r * INTENT_TEXT);
    used = used + (size_t)n < sizeof message ? used + (size_t)n : sizeof message - 1;
  }
  nb_free(texts, bytes);
  return breaks(err, NB_ERROR_STATE, message);
}

bool nb_agree_test(Agreement *a, Error *err) {
  if (a->done) return true;
  bool done;
  if (!nb_request_test(&a->request, &done, err)) return false;
  if (!done) return true;
  a->done = true;
  bool same = a->words[2] == a->words[0] && a->words[3] == a->words[1];
  nb_group_free(a->words, AGREEMENT_BYTES, true);
  a->words = NULL;
  return same || tell_difference(a, err);
}

bool nb_agree(const Intent *intent, Error *err) {
  Agreement a;
  if (!nb_agree_begin(&a, intent, err) || !nb_agree_test(&a, err)) return false;
  if (a.done) return true;
  bool ok = true;
  Wait w = nb_wait_begin(intent->text);
  while (ok && !a.done) ok = nb_pause(&w, false, err) && nb_agree_test(&a, err);
  nb_wait_end();
  return ok;
}
