// SPDX-License-Identifier: MIT
// Both ends of the relay: the prompt, and the process that carries its exchanges.
//
// Commands stand in a ring in shared memory and are begun in their order; the bytes of each lie in an arena behind it,
// which is as sparse as what is under way.
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "launch.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"

extern char **environ;

enum { COMMANDS = 1024, TEXT = 300, RENEW = -1, ALIGN = 64, NOTHING = -1 };
static const size_t ARENA = (size_t)64 << 30;     // address space, not memory
static const size_t LARGE = (size_t)16 << 20;     // memory that is given back at once
static const double PATIENCE = 60, FAREWELL = 3;  // seconds for all to join, and for the launcher to end
static const double BUSY = 0.02, AWAKE = 1;       // seconds of a wait with yields, and with short sleeps

typedef enum State { FREE, POSTED, BEGUN, DONE, FAILED } State;
typedef enum Carrier { COMING, READY, UNABLE, OVER } Carrier;  // OVER: the prompt wants it to end

typedef struct Command {
  atomic_int state;
  int motion, channel, element, reduction, peer, tag;
  int64_t count, from, to;  // the last two are places in the arena, or NOTHING
  char why[TEXT];
} Command;

typedef struct Shared {
  atomic_uint posted;  // how many commands; the carrier sleeps on it
  atomic_int carrier;
  int pid, board;  // of the carrier: the process, and its descriptor of the board's memory
  size_t board_bytes;
  TransportPlace place;
  char library[TEXT], why[TEXT];
  Command command[COMMANDS];
} Shared;

// What is under way of a command, at the prompt's end.
typedef struct Carried {
  bool used;
  int64_t at;  // of its bytes in the arena
  size_t bytes;
  void *to;     // what comes back goes there
  size_t back;  // so many bytes
} Carried;

static struct {
  Shared *shared;
  char *arena;
  int fd, said;  // the memory; what the launcher writes
  atomic_int launcher;
  atomic_bool asked;  // the launcher to end: asked twice Open MPI's ends at once and leaves the carrier behind
  unsigned next, looks;
  int64_t floor;  // below lies what was under way when the group began anew: MPI may still write there
  Carried carried[COMMANDS];
} relay = {.fd = -1, .said = -1};

static size_t head_bytes(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (sizeof(Shared) + page - 1) / page * page;
}

static bool map(int fd, Error *err) {
  void *memory = mmap(NULL, head_bytes() + ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED)
    return nb_fail(err, NB_ERROR_MEMORY, "dist.start: there is no address space for what is exchanged: %s",
                   strerror(errno));
  relay.shared = memory;
  relay.arena = (char *)memory + head_bytes();
  return true;
}

// ---- the prompt's end: starting ----

bool nb_relay_open(int *pid, int *fd, Error *err) {
  nb_relay_close();
  relay.fd = memfd_create("nablua-exchanges", MFD_CLOEXEC);
  relay.said = memfd_create("nablua-launcher", MFD_CLOEXEC);
  if (relay.fd < 0 || relay.said < 0 || ftruncate(relay.fd, (off_t)(head_bytes() + ARENA)) != 0)
    return nb_fail(err, NB_ERROR_STATE, "dist.start: there is no memory to share with workers: %s", strerror(errno));
  if (!map(relay.fd, err)) return false;
  memset(relay.carried, 0, sizeof relay.carried);
  relay.next = 0, relay.floor = 0;
  *pid = getpid(), *fd = relay.fd;
  return true;
}

// The launcher has a session of its own, so that Ctrl-C is ours alone.  It ends when its first process does, which is
// when we do.
static int start_launcher(pid_t *pid, char *const *arguments) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int status = nb_spawn_begin(&actions, &attributes, POSIX_SPAWN_SETSID);
  if (status) return status;
  status = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!status) status = posix_spawn_file_actions_adddup2(&actions, relay.said, STDOUT_FILENO);
  if (!status) status = posix_spawn_file_actions_adddup2(&actions, relay.said, STDERR_FILENO);
  if (!status) status = posix_spawnp(pid, arguments[0], &actions, &attributes, arguments, environ);
  nb_spawn_end(&actions, &attributes);
  return status;
}

// The last lines of what the launcher said, as one.
static void last_words(char *text, size_t size) {
  struct stat about;
  *text = '\0';
  if (relay.said < 0 || fstat(relay.said, &about) != 0 || about.st_size == 0) return;
  off_t from = about.st_size > (off_t)size - 1 ? about.st_size - (off_t)size + 1 : 0;
  ssize_t n = pread(relay.said, text, size - 1, from);
  if (n < 0) n = 0;
  char *to = text;
  for (ssize_t i = 0; i < n; i++) {
    bool blank = text[i] == '\n' || text[i] == '\r' || text[i] == ' ' || text[i] == '-';
    if (!blank)
      *to++ = text[i];
    else if (to > text && to[-1] != ' ')
      *to++ = ' ';
  }
  while (to > text && to[-1] == ' ') to--;
  *to = '\0';
}

bool nb_relay_has_ended(char *why, size_t size) {
  int status, pid = atomic_load(&relay.launcher);
  if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid) atomic_store(&relay.launcher, pid = 0);
  if (pid > 0) return false;
  last_words(why, size);
  return true;
}

static bool wait_for_all(Error *err) {
  Shared *s = relay.shared;
  char said[TEXT * 2];
  for (double begun = nb_clock(); atomic_load(&s->carrier) == COMING;) {
    if (!nb_poll(err)) return false;
    if (nb_relay_has_ended(said, sizeof said))
      return nb_fail(err, NB_ERROR_STATE, "dist.start: the workers could not be started: %s",
                     *said ? said : "mpirun ended without a word");
    if (nb_clock() - begun > PATIENCE) {
      last_words(said, sizeof said);
      return nb_fail(err, NB_ERROR_STATE, "dist.start: the workers have not come in %.0f s: %s", PATIENCE,
                     *said ? said : "mpirun says nothing");
    }
    nanosleep(&(struct timespec){0, 2000000}, NULL);
  }
  return atomic_load(&s->carrier) == READY || nb_fail(err, NB_ERROR_STATE, "dist.start: %s", s->why);
}

bool nb_relay_start(const char *const *launchers, char **arguments, TransportPlace *place, Error *err) {
  pid_t pid = 0;
  int status = ENOENT;
  for (int i = 0; launchers[i] && status == ENOENT; i++) {
    arguments[0] = (char *)(uintptr_t)launchers[i];
    status = start_launcher(&pid, arguments);
  }
  if (status)
    return nb_fail(err, NB_ERROR_STATE,
                   "dist.start: there is no launcher that starts the workers (%s: %s); install MPI's programs (Debian: "
                   "openmpi-bin or mpich)",
                   arguments[0], strerror(status));
  atomic_store(&relay.asked, false);
  atomic_store(&relay.launcher, pid);
  if (!wait_for_all(err)) return false;
  *place = relay.shared->place;
  place->library = relay.shared->library;
  return true;
}

void nb_relay_kill(void) {
  int pid = atomic_load(&relay.launcher);
  if (pid > 0 && !atomic_exchange(&relay.asked, true)) kill(pid, SIGTERM);
}

// Asked to end, the launcher ends what runs elsewhere, too.
static void end_launcher(void) {
  char said[2];
  nb_relay_kill();
  for (double begun = nb_clock(); nb_clock() - begun < FAREWELL && !nb_relay_has_ended(said, sizeof said);)
    nanosleep(&(struct timespec){0, 5000000}, NULL);
  int pid = atomic_load(&relay.launcher);
  if (pid > 0) {
    kill(-pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
  }
  atomic_store(&relay.launcher, 0);
}

void nb_relay_close(void) {
  if (relay.shared) atomic_store(&relay.shared->carrier, OVER);
  end_launcher();
  if (relay.shared) munmap(relay.shared, head_bytes() + ARENA);
  if (relay.fd >= 0) close(relay.fd);
  if (relay.said >= 0) close(relay.said);
  relay.shared = NULL;
  relay.fd = relay.said = -1;
}

// ---- the prompt's end: exchanges ----

// A free place in the arena: the first gap between those that are taken.
static int64_t place_for(size_t bytes) {
  int64_t at = relay.floor;
  for (bool moved = true; moved;) {
    moved = false;
    for (int i = 0; i < COMMANDS; i++) {
      const Carried *c = &relay.carried[i];
      if (c->bytes == 0 || at >= c->at + (int64_t)c->bytes || at + (int64_t)bytes <= c->at) continue;
      at = c->at + (int64_t)c->bytes;
      moved = true;
    }
  }
  return (size_t)at + bytes <= ARENA ? at : NOTHING;
}

static size_t whole(size_t bytes) {
  return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t bytes_of(Element e) {
  return e == ELEMENT_U8 ? 1 : e == ELEMENT_F32 ? 4 : 8;
}

// How many bytes go in, and come back.
static void count_bytes(const Exchange *x, size_t *in, size_t *out) {
  size_t each = (size_t)x->count * bytes_of(x->element), all = each * (size_t)relay.shared->place.size;
  bool root = x->peer == relay.shared->place.rank;
  *in = *out = 0;
  switch (x->motion) {
    case MOTION_BARRIER:
      break;
    case MOTION_ALLGATHER:
      *in = each, *out = all;
      break;
    case MOTION_GATHER:
      *in = each, *out = root ? all : 0;
      break;
    case MOTION_SCATTER:
      *in = root ? all : 0, *out = each;
      break;
    case MOTION_SEND:
      *in = each;
      break;
    case MOTION_RECEIVE:
      *out = each;
      break;
    default:
      *in = *out = each;
  }
}

static bool post(Command **command, Carried **carried, Request *r, char *why, size_t size) {
  unsigned i = relay.next % COMMANDS;
  *command = &relay.shared->command[i], *carried = &relay.carried[i];
  if (atomic_load(&(*command)->state) != FREE || (*carried)->used) {
    snprintf(why, size, "more than %d exchanges are under way", COMMANDS);
    return false;
  }
  relay.next++;
  **carried = (Carried){.used = true};
  memcpy(r->bytes, &i, sizeof i);
  return true;
}

static void go(Command *c) {
  atomic_store(&c->state, POSTED);
  atomic_fetch_add(&relay.shared->posted, 1);
  syscall(SYS_futex, &relay.shared->posted, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool relay_begin(const Exchange *x, Request *r, char *why, size_t size) {
  Command *c;
  Carried *k;
  size_t in, out;
  if (!post(&c, &k, r, why, size)) return false;
  count_bytes(x, &in, &out);
  // Elements that lie where the result goes have one place.
  bool in_place = !x->from;
  size_t bytes = in_place ? whole(in > out ? in : out) : whole(in) + whole(out);
  int64_t at = place_for(bytes);
  if (at == NOTHING) {
    snprintf(why, size, "an exchange has at most %zu bytes here, got %zu", ARENA, bytes);
    return false;
  }
  *k = (Carried){.used = true, .at = at, .bytes = bytes, .to = x->to, .back = x->to ? out : 0};
  const void *from = in_place ? x->to : x->from;
  if (in > 0 && from) memcpy(relay.arena + at, from, in);
  c->motion = (int)x->motion, c->channel = (int)x->channel;
  c->element = (int)x->element, c->reduction = (int)x->reduction;
  c->peer = x->peer, c->tag = x->tag, c->count = x->count;
  c->from = x->from ? at : NOTHING;
  c->to = in_place ? at : x->to ? at + (int64_t)whole(in) : NOTHING;
  go(c);
  return true;
}

static void let_go(Command *c, Carried *k) {
  if (k->bytes >= LARGE)
    fallocate(relay.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)head_bytes() + k->at, (off_t)k->bytes);
  *k = (Carried){0};
  atomic_store(&c->state, FREE);
}

static bool relay_test(Request *r, bool *done, char *why, size_t size) {
  unsigned i;
  memcpy(&i, r->bytes, sizeof i);
  Command *c = &relay.shared->command[i];
  Carried *k = &relay.carried[i];
  int state = atomic_load(&c->state);
  *done = state == DONE;
  if (state == FAILED) {
    snprintf(why, size, "%s", c->why);
    return false;
  }
  if (state != DONE) {
    char said[TEXT];
    if (++relay.looks % 1024 != 0 || !nb_relay_has_ended(said, sizeof said)) return true;
    snprintf(why, size, "the launcher of the workers has ended: %.200s", said);
    return false;
  }
  if (k->back > 0) memcpy(k->to, relay.arena + (c->to == NOTHING ? k->at : c->to), k->back);
  let_go(c, k);
  return true;
}

static bool relay_renew(Request *r, char *why, size_t size) {
  Command *c;
  Carried *k;
  if (!post(&c, &k, r, why, size)) return false;
  c->motion = RENEW;
  go(c);
  return true;
}

// The carrier has forgotten what was under way before.
static void relay_renewed(void) {
  for (int i = 0; i < COMMANDS; i++) {
    Carried *k = &relay.carried[i];
    if (!k->used) continue;
    if (k->at + (int64_t)k->bytes > relay.floor) relay.floor = k->at + (int64_t)k->bytes;
    *k = (Carried){0};
    atomic_store(&relay.shared->command[i].state, FREE);
  }
}

static int relay_shared(size_t bytes, char *why, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", relay.shared->pid, relay.shared->board);
  int fd = bytes <= relay.shared->board_bytes ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) snprintf(why, size, "%s: %s", path, strerror(errno));
  return fd;
}

const Transport *nb_relay_transport(void) {
  static const Transport transport = {.version = TRANSPORT_VERSION,
                                      .shared = relay_shared,
                                      .start = relay_begin,
                                      .test = relay_test,
                                      .renew = relay_renew,
                                      .renewed = relay_renewed};
  return &transport;
}

// ---- the carrier's end ----

typedef struct Active {
  Command *command;
  Request request;
} Active;

static struct {
  const Transport *real;
  Shared *shared;
  unsigned next;
  Active active[COMMANDS];
  int count;
} carrier;

static void fail_command(Command *c, const char *why) {
  snprintf(c->why, sizeof c->why, "%s", why);
  atomic_store(&c->state, FAILED);
}

static void begin_command(Command *c) {
  Active *a = &carrier.active[carrier.count];
  char why[TEXT] = "";
  bool ok;
  a->command = c;
  if (c->motion == RENEW) {
    carrier.count = 0;
    a = &carrier.active[0];
    a->command = c;
    ok = carrier.real->renew(&a->request, why, sizeof why);
  } else {
    Exchange x = {.motion = (Motion)c->motion,
                  .channel = (Channel)c->channel,
                  .element = (Element)c->element,
                  .reduction = (Reduction)c->reduction,
                  .from = c->from == NOTHING ? NULL : relay.arena + c->from,
                  .to = c->to == NOTHING ? NULL : relay.arena + c->to,
                  .count = c->count,
                  .peer = c->peer,
                  .tag = c->tag};
    ok = carrier.real->start(&x, &a->request, why, sizeof why);
  }
  if (!ok) {
    fail_command(c, why);
    return;
  }
  carrier.count++;
  atomic_store(&c->state, BEGUN);
}

// Whether anything came or ended.
static bool work(void) {
  bool moved = false;
  for (;; carrier.next++, moved = true) {
    Command *c = &carrier.shared->command[carrier.next % COMMANDS];
    if (atomic_load(&c->state) != POSTED) break;
    begin_command(c);
  }
  for (int i = 0; i < carrier.count; i++) {
    Active *a = &carrier.active[i];
    bool done = false;
    char why[TEXT] = "";
    bool ok = carrier.real->test(&a->request, &done, why, sizeof why);
    if (ok && !done) continue;
    if (ok && a->command->motion == RENEW) carrier.real->renewed();
    if (ok)
      atomic_store(&a->command->state, DONE);
    else
      fail_command(a->command, why);
    carrier.active[i--] = carrier.active[--carrier.count];
    moved = true;
  }
  return moved;
}

static bool join(char *why, size_t size) {
  Shared *s = carrier.shared;
  if (!carrier.real->open(&s->place, why, size)) return false;
  snprintf(s->library, sizeof s->library, "%s", s->place.library);
  s->board_bytes = nb_board_bytes(s->place.size);
  return (s->board = carrier.real->shared(s->board_bytes, why, size)) >= 0;
}

// One turn of the carrier's wait: something is posted, or under way, or the prompt may be gone.
static void rest(unsigned posted, double idle) {
  if (carrier.count == 0)
    syscall(SYS_futex, &carrier.shared->posted, FUTEX_WAIT, posted, &(struct timespec){0, 50000000}, NULL, 0);
  else if (idle < BUSY)
    sched_yield();
  else
    nanosleep(&(struct timespec){0, idle < AWAKE ? 50000 : 500000}, NULL);
}

bool nb_relay_serve(const Transport *real, int pid, int fd, Error *err) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
  int own = open(path, O_RDWR | O_CLOEXEC);
  if (own < 0) return nb_fail(err, NB_ERROR_STATE, "dist: %s: %s", path, strerror(errno));
  if (!map(own, err)) return false;
  carrier.real = real, carrier.shared = relay.shared;
  carrier.shared->pid = getpid();
  if (!join(carrier.shared->why, TEXT)) {
    atomic_store(&carrier.shared->carrier, UNABLE);
    nanosleep(&(struct timespec){1, 0}, NULL);  // the prompt reads why, and ends us
    return nb_fail(err, NB_ERROR_STATE, "dist: %s", carrier.shared->why);
  }
  atomic_store(&carrier.shared->carrier, READY);
  for (double moved = nb_clock(), looked = moved;;) {
    unsigned posted = atomic_load(&carrier.shared->posted);
    double now = nb_clock();
    if (work()) moved = now;
    if (now - looked > 0.05) {
      looked = now;
      if (atomic_load(&carrier.shared->carrier) == OVER || nb_process_is_gone(pid)) return true;
    }
    rest(posted, now - moved);
  }
}
