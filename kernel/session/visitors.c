// SPDX-License-Identifier: MIT
// Visitors: a hook at the next instruction of what runs, which has the front end do what waits.
//
// Each runs on a Lua thread of its own, which takes the place of the session's for so long: all that the session knows
// of what it evaluates is set aside, as the library does with what it knows.  The hook is there for one instruction
// only; nothing costs anything while nobody visits.
#include "visitors.h"

#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "alarm.h"
#include "call.h"
#include "interrupts.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "nablua_lua.h"

static const double at_a_time = 0.005;  // seconds that visitors may take before what runs goes on
static const double patience = 0.5;     // seconds, after which an interrupt means the visitor alone
static const double a_step = 0.03;      // seconds of computing that who may change something waits for a step's end

// ---- setting aside ----

// What the session knows of what it evaluates.
typedef struct Evaluation {
  lua_State *L, *running;
  sig_atomic_t active, interrupted, within, awaited;
  double peace_until;
  bool owed, unwinding, asked;
  Resumed *resumed;
  Sink sink;
  SessionLevel level;
  bool serving, captured, apart, more_follows, deaf;
  int command_line, beside;
  bool held;
  int frame;
  unsigned armed;
  unsigned steps;
  bool at_border;
  Chunk *chunk;
  Text text, printed;
} Evaluation;

// A visitor and what it has interrupted.
typedef struct Stay {
  Visit visit;
  Evaluation before;
} Stay;

static Evaluation evaluation_of(const Session *s) {
  return (Evaluation){.L = s->L,
                      .running = s->running,
                      .active = s->active,
                      .interrupted = s->interrupted,
                      .within = s->within,
                      .awaited = s->awaited,
                      .peace_until = s->peace_until,
                      .owed = s->owed,
                      .unwinding = s->unwinding,
                      .asked = nb_interrupted(),
                      .resumed = s->resumed,
                      .sink = s->sink,
                      .level = s->level,
                      .serving = s->serving,
                      .captured = s->captured,
                      .apart = s->apart,
                      .more_follows = s->more_follows,
                      .deaf = s->deaf,
                      .command_line = s->command_line,
                      .beside = s->beside,
                      .held = s->held,
                      .frame = s->frame,
                      .armed = s->armed,
                      .steps = s->steps,
                      .at_border = s->at_border,
                      .chunk = s->chunk,
                      .text = s->text,
                      .printed = s->printed};
}

static void set_evaluation(Session *s, const Evaluation *e) {
  s->L = e->L;
  s->running = e->running;
  s->active = e->active;
  s->interrupted = e->interrupted;
  s->within = e->within;
  s->awaited = e->awaited;
  s->peace_until = e->peace_until;
  s->owed = e->owed;
  s->unwinding = e->unwinding;
  nb_interrupt_clear();
  if (e->asked) nb_interrupt();  // one that came just before the visitor, whose calls have cleared it
  s->resumed = e->resumed;
  s->sink = e->sink;
  s->level = e->level;
  s->serving = e->serving;
  s->captured = e->captured;
  s->apart = e->apart;
  s->more_follows = e->more_follows;
  s->deaf = e->deaf;
  s->command_line = e->command_line;
  s->beside = e->beside;
  s->held = e->held;
  s->frame = e->frame;
  s->armed = e->armed;
  s->steps = e->steps;
  s->at_border = e->at_border;
  s->chunk = e->chunk;
  s->text = e->text;
  s->printed = e->printed;
}

// Handlers of signals see the session before or after, never between.
static void hold_signals(sigset_t *before) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, before);
}

static void let_signals(const sigset_t *before) {
  pthread_sigmask(SIG_SETMASK, before, NULL);
}

static bool begin(Session *s, Stay *stay, SessionLevel level) {
  lua_State *V = s->visitors[s->depth];
  sigset_t signals;
  problem_aside(V);
  if (!nablua_begin_visit(V)) {
    problem_back(V);
    return false;
  }
  hold_signals(&signals);
  *stay = (Stay){.visit = {.level = level, .alone_from = nb_clock() + patience, .outer = s->visit},
                 .before = evaluation_of(s)};
  set_evaluation(
      s, &(Evaluation){
             .L = V, .running = V, .sink = s->front, .level = level, .apart = true, .deaf = true, .armed = s->marks});
  s->visit = &stay->visit;
  s->depth++;
  let_signals(&signals);
  return true;
}

static void end(Session *s, Stay *stay) {
  lua_State *V = s->L;
  sigset_t signals;
  hold_signals(&signals);
  text_free(&s->printed);
  set_evaluation(s, &stay->before);
  s->visit = stay->visit.outer;
  s->depth--;
  nablua_end_visit(V);
  problem_back(V);
  let_signals(&signals);
  if (s->armed != s->marks) s->watcher->rearm(s);
  for (; stay->visit.passed > 0; stay->visit.passed--) session_interrupt(s);
}

bool visit_at_once(Session *s, SessionLevel level, void (*run)(void *user), void *user) {
  Stay stay;
  if (s->depth == MOST_VISITS || !begin(s, &stay, level)) return false;
  run(user);
  end(s, &stay);
  return true;
}

bool session_visit(Session *s, SessionLevel level, void (*run)(void *user), void *user) {
  if (!s->serving) {
    SessionLevel before = s->level;
    s->level = level;
    run(user);
    s->level = before;
    return true;
  }
  return level < s->level && visit_at_once(s, level, run, user);
}

// ---- serving ----

// Whether a finalizer is among the functions that run in a state.
static bool has_finalizer(lua_State *L) {
  enum { LEVELS_A_LOOK = 200 };
  lua_Debug ar;
  for (int level = 0; level < LEVELS_A_LOOK && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "n", &ar);
    if (ar.name && strcmp(ar.namewhat, "metamethod") == 0 && strcmp(ar.name, "__gc") == 0) return true;
  }
  return false;
}

bool may_visit(const Session *s, lua_State *L) {
  return s->active && !s->interrupted && !nb_interrupt_is_held() && !has_finalizer(L) && !any_waiting(s, has_finalizer);
}

// Serves the next visitor: what is due by the clock, or what the front end has.
static bool visit_next(Session *s, SessionLevel level) {
  if (level > SESSION_HANDLE && alarm_is_due(s) && session_visit(s, SESSION_HANDLE, alarm_run, s)) return true;
  return s->front.visit && s->front.visit(s->front.user, level);
}

void session_tick(Session *s) {
  if (alarm_is_due(s)) session_visit(s, SESSION_HANDLE, alarm_run, s);
}

// Whether what comes in the middle of a training's step waits for its end: a while, for a step may take long.
static bool waits_for_step(Session *s) {
  struct timespec t;
  if (s->steps == 0 || s->at_border) return false;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  if (s->waited_in != s->steps) s->waits_since = now;
  s->waited_in = s->steps;
  return now - s->waits_since < a_step;
}

static void serve_visitors(Session *s, lua_State *L, bool waits) {
  double begun = nb_clock(), now = begun;
  if ((!s->front.visit && s->due == 0) || !may_visit(s, L) || (!waits && begun < s->rest_until)) return;
  SessionLevel level = s->captured ? SESSION_HANDLE : s->level;
  bool within = !waits && level > SESSION_HANDLE && waits_for_step(s);
  if (within) level = SESSION_HANDLE;
  s->called = within;  // the rest is served when the step ends
  s->serving = true;
  while (!s->interrupted && visit_next(s, level)) {
    now = nb_clock();
    if (!waits && now - begun > at_a_time) {
      s->called = 1;
      break;
    }
  }
  s->serving = false;
  s->rest_until = now + (now - begun);
}

// Has visitors served before what runs in L goes on; what only waits has all the time.
static void serve(Session *s, lua_State *L, bool waits) {
  serve_visitors(s, L, waits);
  if (s->pause == s->depth + 1 || s->pause == -(s->depth + 1)) s->watcher->pause(s, L, waits);
}

bool session_is_held(const Session *s) {
  return s->held && !s->going && s->visit->passed == 0;
}

// What is paused does nothing itself: visitors need no room made for them.
static void serve_held(Session *s) {
  s->called = 0;
  while (session_is_held(s) && visit_next(s, s->level)) continue;
}

void session_serve(Session *s) {
  if (s->held && !s->active)
    serve_held(s);
  else if (s->called && s->running)
    serve(s, s->running, true);
}

// The library waits, or a function is recorded that is about to call another.
static void on_wait(lua_State *L) {
  Session *s = session_of(L);
  if (s->called && L == s->running) serve(s, L, !nablua_is_recorded(L));
}

// A step of a training has ended, and another begins.
static void on_border(lua_State *L) {
  Session *s = session_of(L);
  s->at_border = true;
  if (s->called && L == s->running) serve(s, L, false);
  s->at_border = false;
  s->steps++;
}

static void serve_between(Session *s, lua_State *L) {
  serve(s, L, false);
}

void open_visitors(lua_State *L) {
  Session *s = session_of(L);
  s->serve = serve_between;
  push_session_table(L, "visitors");
  for (int i = 0; i < MOST_VISITS; i++) {
    s->visitors[i] = lua_newthread(L);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pop(L, 1);
  nablua_on_wait(on_wait);
  nablua_on_border(on_border);
}
