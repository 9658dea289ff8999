// SPDX-License-Identifier: MIT
// The board of a group, and the thread that keeps our part of it.
#include "board.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hub.h"
#include "nablua/clock.h"
#include "nablua/environment.h"

enum { BEAT = 100 /* ms */, SLOT = 512 };
static const double SILENT = 3;   // seconds without a heartbeat, after which a process is said to give no sign
static const double WORK = 0.01;  // seconds of computing between two looks that count as going on
static const double STALL = 30;   // seconds, without NABLUA_STALL
static const double GRACE = 2;    // seconds between asking all to end and ending them
static const double NEWS = 0.7;   // seconds in which other machines hear of it

// One process.  The texts are written before the state and may be read half-written: they are only shown.  Of a process
// of another machine it is what was heard last.
typedef struct Slot {
  atomic_int here;  // of this machine
  atomic_int pid, state, dead, renewed;
  atomic_uint_least64_t beat, work, number, bytes;  // heartbeats; µs of the computing thread; exchanges begun or behind
  atomic_int ends;                                  // somebody found the second stall
  atomic_int abandons;                              // of the first slot: somebody of this machine ends all
  char text[BOARD_TEXT], host[BOARD_HOST];
} Slot;
_Static_assert(sizeof(Slot) <= SLOT, "a slot must fit its place");

// What the thread saw of a slot when it last moved.
typedef struct Seen {
  uint64_t beat, work, number;
  double beaten;  // when the heart last beat
} Seen;

static struct {
  char *slots;
  int count, mine;
  bool running;
  void (*abandon)(int);
  pthread_t thread;
  clockid_t clock;  // the computing thread's
  atomic_bool stop, linked;
  double stall;
} board;

enum { MOST = 1024 };
static Seen seen[MOST];

size_t nb_board_bytes(int size) {
  return (size_t)SLOT * (size_t)size;
}

static Slot *slot_at(int i) {
  return (Slot *)(void *)(board.slots + (size_t)i * SLOT);
}

void nb_board_say(const char *format, ...) {
  char line[2000];
  int used = board.slots ? snprintf(line, sizeof line, "[rank %d] ", board.mine + 1) : 0;
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, ap);
  va_end(ap);
  used = n < (int)sizeof line - used - 1 ? used + n : (int)sizeof line - 2;
  line[used++] = '\n';
  if (write(STDERR_FILENO, line, (size_t)used) < 0) return;  // nobody listens
}

static void copy_text(const Slot *s, char text[BOARD_TEXT]) {
  memcpy(text, s->text, BOARD_TEXT);
  text[BOARD_TEXT - 1] = '\0';
}

// A process that ended without a word is gone from the system, or its parent has not looked yet.
bool nb_process_is_gone(int pid) {
  char path[64], text[256];
  if (pid <= 0) return false;
  if (kill(pid, 0) != 0) return errno == ESRCH;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *f = fopen(path, "re");
  if (!f) return true;
  size_t n = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  text[n] = '\0';
  const char *after = strrchr(text, ')');
  return after && (after[1] == ' ' && (after[2] == 'Z' || after[2] == 'X'));
}

static bool is_dead(const Slot *s) {
  return atomic_load(&s->here) ? nb_process_is_gone(atomic_load(&s->pid)) : atomic_load(&s->dead) != 0;
}

// "rank 3 (process 71 on b)"; the host where there are several.
static const char *name_of(int i, char text[BOARD_NAME]) {
  const Slot *s = slot_at(i);
  char host[BOARD_HOST];
  memcpy(host, s->host, sizeof host);
  host[sizeof host - 1] = '\0';
  bool other = board.linked && *host;
  snprintf(text, BOARD_NAME, "rank %d (process %d%s%s)", i + 1, atomic_load(&s->pid), other ? " on " : "",
           other ? host : "");
  return text;
}

bool nb_board_missing(uint64_t number, char *text, size_t size) {
  char name[BOARD_NAME], message[BOARD_TEXT];
  for (int i = 0; i < board.count; i++) {
    const Slot *s = slot_at(i);
    if (i == board.mine) continue;
    int state = atomic_load(&s->state);
    if (state == BOARD_LEFT && atomic_load(&s->number) < number) {
      snprintf(text, size, "rank %d has ended its program and will not come", i + 1);
      return true;
    }
    // What failed before the group began anew is over.
    if (state == BOARD_FAILED && atomic_load(&s->renewed) == atomic_load(&slot_at(board.mine)->renewed)) {
      copy_text(s, message);
      snprintf(text, size, "rank %d has failed: %s", i + 1, message);
      return true;
    }
    if (is_dead(s)) {
      snprintf(text, size, "%s has died", name_of(i, name));
      return true;
    }
  }
  return false;
}

bool nb_board_row(int i, BoardRow *row) {
  if (i >= board.count) return false;
  const Slot *s = slot_at(i);
  *row = (BoardRow){.rank = i,
                    .pid = atomic_load(&s->pid),
                    .state = (BoardState)atomic_load(&s->state),
                    .number = atomic_load(&s->number),
                    .bytes = atomic_load(&s->bytes),
                    .seconds = (double)atomic_load(&s->work) / 1e6,
                    .here = atomic_load(&s->here) != 0,
                    .dead = is_dead(s)};
  copy_text(s, row->text);
  memcpy(row->host, s->host, sizeof row->host);
  row->host[sizeof row->host - 1] = '\0';
  return true;
}

// ---- between machines ----

// The lowest of this machine whose heart beats tells the others of all of this machine.
static bool tells(double now) {
  for (int i = 0; i <= board.mine; i++)
    if (i == board.mine ||
        (atomic_load(&slot_at(i)->here) && now - seen[i].beaten <= SILENT / 2 && !is_dead(slot_at(i))))
      return i == board.mine;
  return false;
}

static void give(int i, HubNews *news) {
  const Slot *s = slot_at(i);
  *news = (HubNews){.rank = i,
                    .pid = atomic_load(&s->pid),
                    .state = atomic_load(&s->state),
                    .dead = is_dead(s),
                    .renewed = atomic_load(&s->renewed),
                    .ends = atomic_load(&s->ends),
                    .number = atomic_load(&s->number),
                    .beat = atomic_load(&s->beat),
                    .work = atomic_load(&s->work),
                    .bytes = atomic_load(&s->bytes)};
  memcpy(news->text, s->text, sizeof news->text);
  memcpy(news->host, s->host, sizeof news->host);
}

static void take(const HubNews *news) {
  if (news->rank < 0 || news->rank >= board.count) return;
  if (news->ends)
    for (int i = 0; i < board.count; i++)
      if (atomic_load(&slot_at(i)->here)) atomic_store(&slot_at(i)->ends, 1);
  Slot *s = slot_at(news->rank);
  if (atomic_load(&s->here) || news->beat < atomic_load(&s->beat)) return;  // ours, or older than what is known
  memcpy(s->text, news->text, sizeof s->text);
  memcpy(s->host, news->host, sizeof s->host);
  atomic_store(&s->pid, news->pid);
  atomic_store(&s->number, news->number);
  atomic_store(&s->renewed, news->renewed);
  atomic_store(&s->dead, news->dead);
  atomic_store(&s->work, news->work);
  atomic_store(&s->bytes, news->bytes);
  atomic_store(&s->beat, news->beat);
  atomic_store(&s->state, news->state);
}

static void talk(double now) {
  HubNews news;
  if (!board.linked) return;
  while (nb_hub_receive(&news)) take(&news);
  if (!nb_hub_time(now, board.count) || !tells(now)) return;
  for (int i = 0; i < board.count; i++) {
    const Slot *s = slot_at(i);
    if (atomic_load(&s->pid) == 0 || !(atomic_load(&s->here) || nb_hub_is_center())) continue;
    give(i, &news);
    nb_hub_send(&news);
  }
}

bool nb_board_link(const HubPlace *place) {
  if (!nb_hub_open(place)) return false;
  atomic_store(&board.linked, true);
  return true;
}

// ---- the thread ----

// "rank 2 waits in ...", "rank 3 has not come: ..."
static void tell_of(int i, double now, char *line, size_t size) {
  const Slot *s = slot_at(i);
  char text[BOARD_TEXT], name[BOARD_NAME];
  int rank = i + 1;
  copy_text(s, text);
  bool silent = now - seen[i].beaten > SILENT;
  if (atomic_load(&s->pid) == 0)
    snprintf(line, size, "what rank %d does is not known here: nothing was heard from its machine", rank);
  else if (is_dead(s))
    snprintf(line, size, "%s has died", name_of(i, name));
  else if (silent)
    snprintf(line, size, "%s gives no sign of life: it is stopped, or its machine %s; last: %s", name_of(i, name),
             atomic_load(&s->here) ? "overloaded" : "overloaded or out of reach", *text ? text : "nothing");
  else if (atomic_load(&s->state) == BOARD_WAITS)
    snprintf(line, size, "rank %d waits in %s (exchange %llu)", rank, text,
             (unsigned long long)atomic_load(&s->number));
  else if (atomic_load(&s->state) == BOARD_LEFT)
    snprintf(line, size, "rank %d has ended its program", rank);
  else if (atomic_load(&s->state) == BOARD_FAILED)
    snprintf(line, size, "rank %d has failed: %s", rank, text);
  else
    snprintf(line, size, "rank %d has not come: it neither computes nor exchanges; its last was %s", rank,
             *text ? text : "nothing");
}

static bool knows_all(void) {
  for (int i = 0; i < board.count; i++)
    if (atomic_load(&slot_at(i)->pid) == 0) return false;
  return true;
}

static void tell_stall(double seconds, int times, double now) {
  char line[BOARD_TEXT + 200];
  nb_board_say("dist: nobody has gone on for %.3g s:", seconds);
  for (int i = 0; i < board.count; i++) {
    tell_of(i, now, line, sizeof line);
    nb_board_say("  %s", line);
  }
  if (times > 1 && knows_all()) nb_board_say("dist: that is twice the time of NABLUA_STALL; ending all ranks");
}

// Whether anybody has gone on since the last look.
static bool look(double now) {
  bool moved = false;
  for (int i = 0; i < board.count; i++) {
    const Slot *s = slot_at(i);
    uint64_t beat = atomic_load(&s->beat), work = atomic_load(&s->work), number = atomic_load(&s->number);
    if (beat != seen[i].beat) seen[i].beaten = now;
    seen[i].beat = beat;
    moved = moved || number != seen[i].number;
    seen[i].number = number;
    if (atomic_load(&s->state) == BOARD_WAITS) {
      seen[i].work = work;  // a wait takes time of the processor, too
    } else if ((double)(work - seen[i].work) > WORK * 1e6) {
      seen[i].work = work;
      moved = true;
    }
  }
  return moved;
}

// Of those who wait, and live, the first speaks.
static bool speaks(double now) {
  for (int i = 0; i < board.count; i++)
    if (atomic_load(&slot_at(i)->state) == BOARD_WAITS && now - seen[i].beaten <= SILENT) return i == board.mine;
  return false;
}

static uint64_t resident_bytes(void) {
  unsigned long long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (!f) return 0;
  bool ok = fscanf(f, "%*u %llu", &pages) == 1;
  fclose(f);
  return ok ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void beat(void) {
  Slot *s = slot_at(board.mine);
  struct timespec used;
  if (clock_gettime(board.clock, &used) == 0)
    atomic_store(&s->work, (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000);
  if (atomic_fetch_add(&s->beat, 1) % 10 == 0) atomic_store(&s->bytes, resident_bytes());
}

static bool is_first_here(void) {
  for (int i = 0; i < board.mine; i++)
    if (atomic_load(&slot_at(i)->here)) return false;
  return true;
}

static void *keep(void *user) {
  double moved = nb_clock(), ending = 0;
  int times = 0;
  (void)user;
  while (!atomic_load(&board.stop)) {
    struct timespec pause = {0, BEAT * 1000000L};
    nanosleep(&pause, NULL);
    beat();
    double now = nb_clock();
    talk(now);
    if (look(now)) {
      moved = now;
      times = 0;
    }
    if (now - moved >= board.stall * (times + 1)) {
      times++;
      if (speaks(now)) {
        tell_stall(now - moved, times, now);
        if (times > 1 && knows_all())
          for (int i = 0; i < board.count; i++) atomic_store(&slot_at(i)->ends, 1);
      }
    }
    if (ending == 0 && atomic_load(&slot_at(board.mine)->ends)) ending = now + (is_first_here() ? NEWS : GRACE);
    if (ending > 0 && now >= ending) {
      if (nb_board_may_abandon()) board.abandon(1);
      return NULL;
    }
  }
  return NULL;
}

// ---- ours ----

static double stall_of(void) {
  const char *text = nb_environment("NABLUA_STALL");
  double seconds = text ? strtod(text, NULL) : 0;
  return seconds > 0 && seconds < 1e9 ? seconds : STALL;
}

bool nb_board_open(void *slots, int size, int rank, void (*abandon)(int), Error *err) {
  sigset_t all, before;
  if (size > MOST) return nb_fail(err, NB_ERROR_STATE, "dist: a group can have at most %d ranks, got %d", MOST, size);
  board.slots = slots, board.count = size, board.mine = rank;
  board.abandon = abandon;
  board.stall = stall_of();
  pthread_getcpuclockid(pthread_self(), &board.clock);
  Slot *s = slot_at(rank);
  if (gethostname(s->host, sizeof s->host) != 0) *s->host = '\0';
  s->host[sizeof s->host - 1] = '\0';
  atomic_store(&s->here, 1);
  atomic_store(&s->state, BOARD_COMPUTES);
  atomic_store(&s->pid, getpid());
  for (int i = 0; i < size; i++) seen[i] = (Seen){.beaten = nb_clock()};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the main thread's
  board.running = pthread_create(&board.thread, NULL, keep, NULL) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return board.running || nb_fail(err, NB_ERROR_STATE, "dist: the system gives no thread for the board");
}

void nb_board_wait(uint64_t number, const char *text) {
  if (!board.slots) return;
  Slot *s = slot_at(board.mine);
  snprintf(s->text, sizeof s->text, "%s", text);
  atomic_store(&s->number, number);
  atomic_store(&s->state, BOARD_WAITS);
}

void nb_board_fail(const char *message) {
  if (!board.slots) return;
  Slot *s = slot_at(board.mine);
  snprintf(s->text, sizeof s->text, "%s", message);
  atomic_store(&s->state, BOARD_FAILED);
}

void nb_board_go(uint64_t number) {
  if (!board.slots) return;
  Slot *s = slot_at(board.mine);
  atomic_store(&s->state, BOARD_COMPUTES);
  atomic_store(&s->number, number);
}

void nb_board_renew(void) {
  if (!board.slots) return;
  nb_board_go(0);
  atomic_fetch_add(&slot_at(board.mine)->renewed, 1);
}

// Open MPI 4.1 was seen to take a minute where several processes abort at once.
bool nb_board_may_abandon(void) {
  if (!board.slots || atomic_exchange(&slot_at(0)->abandons, 1) == 0) return true;
  return nanosleep(&(struct timespec){(time_t)SILENT, 0}, NULL) == 0;
}

void nb_board_leave(void) {
  if (!board.running) return;
  atomic_store(&slot_at(board.mine)->state, BOARD_LEFT);
  atomic_store(&board.stop, true);
  pthread_join(board.thread, NULL);
  atomic_store(&board.stop, false);
  board.running = false;
  if (board.linked) nb_hub_close();
  atomic_store(&board.linked, false);
  board.slots = NULL;
  board.count = 0;
}
