// SPDX-License-Identifier: MIT
// The debugger's engine: which lines what runs stops at, and holding it there.
//
// Lines cost time in every function of a state where they are looked at.  With breakpoints set, calls alone are: one of
// a function that has a breakpoint turns lines on, one that this calls turns them off, and its return on again.
#include "debugger.h"

#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "dull.h"
#include "hooks.h"
#include "input.h"
#include "interrupts.h"
#include "marks.h"
#include "nablua/clock.h"
#include "nablua/interrupt.h"
#include "nablua_lua.h"
#include "native.h"
#include "visitors.h"

// Seconds in which a line of the user's is awaited before the library is stopped in.
static const double soon = 0.1;
enum { LEVELS_A_LOOK = 200 };

typedef enum StepKind {
  STEP_NONE,
  STEP_PAUSE,   // to the next line of the user's, or any where none comes soon
  STEP_INTO,    // to the next line of the user's, in whatever function
  STEP_NEXT,    // to the next line of a frame
  STEP_UNTIL,   // to a line of it that is no earlier than one
  STEP_OUT,     // to where a frame returns to
  STEP_ARRIVE,  // to the next instruction of a frame
} StepKind;

typedef struct Step {
  StepKind kind;
  lua_State *L;       // the frame's
  const void *frame;  // Lua's own name of it, while it is there
  int line;
  int depth;     // of visitors
  double begun;  // when the pause was asked for
  bool quiet;    // by somebody who has other means than a prompt
} Step;

struct Debugger {
  Quiet quiet;
  Marks marks;
  Step step;
  bool attached;          // somebody hears of stops and says when to go on
  bool uncaught, raised;  // errors stop: those that nobody catches, all
  bool quits;             // what is paused is to end
  bool stopping;          // somebody is asked whether it stops
};

// In calls that run code of the library alone there is nothing to stop at, unless by a step.
enum { RESTS = 1, WOKE };

static int begins_call(void *user, lua_State *L, bool closed) {
  Session *s = user;
  if (s->debugger->step.kind != STEP_NONE) return 0;
  if (closed) return rest_debugger(s, L) ? RESTS : 0;
  return wake_debugger(s, L) ? WOKE : 0;
}

static void ends_call(void *user, lua_State *L, int told) {
  Session *s = user;
  if (told == RESTS)
    wake_debugger(s, L);
  else if (s->debugger->step.kind == STEP_NONE)
    rest_debugger(s, L);
}

static void caught(void *user, lua_State *L) {
  debugger_caught(user, L);
}

static void update(Session *s) {
  Debugger *d = s->debugger;
  s->debugging = d->marks.count > 0 || d->step.kind != STEP_NONE;
  d->quiet = (Quiet){begins_call, ends_call, caught, s};
  nablua_on_quiet(d->marks.count > 0 ? &d->quiet : NULL);
}

static void end_step(Session *s) {
  s->debugger->step.kind = STEP_NONE;
  update(s);
}

// ---- frames ----

// The frame's source becomes known.
static bool is_lua(lua_State *L, lua_Debug *ar) {
  lua_getinfo(L, "S", ar);
  return *ar->what != 'C';
}

// What an input is wrapped in, a main chunk, is the session's.
static bool is_users(const lua_Debug *ar) {
  return *ar->what != 'C' && strncmp(ar->source, "=nablua", 7) != 0 &&
         !(*ar->what == 'm' && strncmp(ar->source, "=input ", 7) == 0);
}

static bool steps(const Session *s) {
  return s->debugger->step.kind != STEP_NONE && s->debugger->step.depth == s->depth;
}

// Whether a step looks for the end or the lines of a frame of L.
static bool follows_frame(const Session *s, lua_State *L) {
  return steps(s) && s->debugger->step.L == L && s->debugger->step.kind > STEP_INTO;
}

static bool wants_lines(const Session *s, lua_State *L, lua_Debug *ar) {
  const Step *step = &s->debugger->step;
  if (steps(s) && (step->kind == STEP_PAUSE || step->kind == STEP_INTO)) return true;
  if (follows_frame(s, L) && step->frame == ar->i_ci && (step->kind == STEP_NEXT || step->kind == STEP_UNTIL))
    return true;
  return marks_within(&s->debugger->marks, L, ar);
}

static bool is_on_stack(lua_State *L, const void *frame) {
  lua_Debug ar;
  int level = 0;
  for (; level < LEVELS_A_LOOK && lua_getstack(L, level, &ar); level++)
    if (ar.i_ci == frame) return true;
  return level == LEVELS_A_LOOK;
}

// ---- masks ----

// Sets the hook of L as what is on its stack wants it.
static void rearm(Session *s, lua_State *L) {
  int mask = LUA_MASKCALL;
  lua_Debug ar;
  if (!s->debugging || s->level == SESSION_LOOK) {
    arm_debugger(s, L, 0);
    return;
  }
  if (follows_frame(s, L)) mask |= LUA_MASKRET;
  for (int level = 0; level < LEVELS_A_LOOK && lua_getstack(L, level, &ar); level++)
    if (is_lua(L, &ar) && wants_lines(s, L, &ar)) mask |= level == 0 ? LUA_MASKLINE : LUA_MASKRET;
  arm_debugger(s, L, mask);
}

// The same for all states that run or wait for one that does.
void debugger_rearm(Session *s) {
  lua_State *states[LEVELS_A_LOOK];
  int count = waiting_states(s, states, LEVELS_A_LOOK);
  for (int i = 0; i < count; i++) rearm(s, states[i]);
  s->armed = s->marks;
}

// ---- holding ----

static int push_pause_function(lua_State *L, const char *name) {
  push_module(L, "nablua.session.pause");
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
  return 1;
}

// Calls a function of pause.lua, whose name is upvalue 1, with the arguments.
static int call_pause(lua_State *L) {
  push_pause_function(L, lua_tostring(L, lua_upvalueindex(1)));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static void push_call(lua_State *L, const char *name) {
  lua_pushstring(L, name);
  lua_pushcclosure(L, call_pause, 1);
}

typedef struct Hold {
  Session *s;
  lua_State *states[LEVELS_A_LOOK];  // innermost first
  int count;
  const char *reason, *message;
  bool asks;     // at a prompt
  bool is_deaf;  // nobody can be asked
} Hold;

static void begin_hold(Session *s, const Hold *h) {
  lua_State *V = s->L;
  push_call(V, "begin");
  lua_pushstring(V, h->reason);
  lua_pushboolean(V, h->asks);
  lua_pushstring(V, h->message);
  int count = h->count < 50 ? h->count : 50;
  for (int i = 0; i < count; i++) {
    lua_checkstack(h->states[i], 1);
    lua_pushthread(h->states[i]);
    lua_xmove(h->states[i], V, 1);
  }
  protected_call(s, 3 + count, 0);
}

// Hands pause.lua a line; what it does not know as a command is evaluated in the frame.
static void evaluate_line(Session *s, const char *line, size_t length) {
  lua_State *V = s->L;
  int top = lua_gettop(V);
  push_call(V, "line");
  lua_pushlstring(V, line, length);
  if (protected_call(s, 1, 2) == SESSION_OK && lua_isstring(V, top + 1)) {
    size_t size;
    const char *code = lua_tolstring(V, top + 1, &size);
    int outer = s->frame;
    s->frame = (int)lua_tointeger(V, top + 2);
    s->visit->alone_from = 0;
    eval_in_frame(s, code, size);
    s->visit->alone_from = INFINITY;
    s->frame = outer;
  }
  lua_settop(V, top);
}

// Does what is asked for until it goes on.
static void run_hold(void *user) {
  Hold *h = user;
  Session *s = h->s;
  Debugger *d = s->debugger;
  s->visit->alone_from = INFINITY;  // but for what is evaluated here, an interrupt means what is held
  s->held = true;
  s->going = d->quits = false;
  nb_interrupt_hold();
  begin_hold(s, h);
  nb_interrupt_let();
  bool there = true;
  while (!s->going && s->visit->passed == 0 && there) {
    char *line = NULL;
    size_t length = 0;
    char prompt[32] = "paused> ";
    if (strcmp(h->reason, "post mortem") == 0) strcpy(prompt, "debug> ");
    session_serve(s);
    s->deaf = h->is_deaf;
    if (s->going || s->visit->passed > 0) break;
    there = s->front.paused(s->front.user, h->asks ? prompt : NULL, &line, &length);
    if (line) evaluate_line(s, line, length);
    free(line);
  }
  nb_interrupt_hold();
  push_call(s->L, "finish");
  protected_call(s, 0, 0);
  nb_interrupt_let();
  if (d->quits) s->visit->passed++;
}

// Holds what runs in L, for a reason that people are told.  False where it may not be held now.
static bool hold(Session *s, lua_State *L, const char *reason, const char *message, bool asks) {
  Debugger *d = s->debugger;
  Hold h = {.s = s, .reason = reason, .message = message, .is_deaf = s->deaf};
  if (!s->front.paused || s->pauses < 0 || !may_visit(s, L)) return false;
  h.asks = asks && !d->attached && !s->deaf;
  h.count = waiting_states(s, h.states, LEVELS_A_LOOK);
  end_step(s);
  bool held = visit_at_once(s, s->level, run_hold, &h);
  s->going = false;
  if (d->step.kind != STEP_NONE) d->step.depth = s->depth;
  update(s);
  debugger_rearm(s);
  return held;
}

// ---- stopping ----

// Whether the breakpoint at a line of L stops it: its condition and its hits are looked at, its text is printed.
typedef struct Question {
  Session *s;
  lua_State *L;
  const char *source;
  int line;
  bool stops;
} Question;

static void run_question(void *user) {
  Question *q = user;
  Session *s = q->s;
  lua_State *V = s->L;
  push_call(V, "stops_at");
  lua_checkstack(q->L, 1);
  lua_pushthread(q->L);
  lua_xmove(q->L, V, 1);
  lua_pushstring(V, q->source);
  lua_pushinteger(V, q->line);
  if (protected_call(s, 3, 1) != SESSION_OK) {
    q->stops = true;  // a condition that fails is looked at
    return;
  }
  q->stops = lua_toboolean(V, -1);
  lua_pop(V, 1);
}

static bool stops_at(Session *s, lua_State *L, const lua_Debug *ar) {
  Question q = {s, L, ar->source, ar->currentline, false};
  if (!may_visit(s, L)) return false;
  visit_at_once(s, SESSION_LOOK, run_question, &q);
  return q.stops;
}

// A step is to end in the frame of the user's from `level` outwards; of one whose frame the library has called, in the
// next line of the user's, but for a step out.
static void arrive(Session *s, lua_State *L, int level) {
  Step *step = &s->debugger->step;
  lua_Debug ar;
  bool direct = true;
  for (; lua_getstack(L, level, &ar); level++) {
    if (!is_lua(L, &ar)) continue;
    if (is_users(&ar)) {
      bool any = !direct && step->kind != STEP_OUT;
      *step = (Step){.kind = any ? STEP_INTO : STEP_ARRIVE, .L = L, .frame = ar.i_ci, .depth = s->depth};
      return;
    }
    direct = false;
  }
  step->kind = STEP_OUT;  // of the coroutine, if it is one
  step->L = L;
  step->frame = NULL;
}

static void on_line(Session *s, lua_State *L, lua_Debug *ar) {
  const Step *step = &s->debugger->step;
  const char *reason = NULL;
  bool asks = true, users = is_lua(L, ar) && is_users(ar);
  if (users && marks_has(&s->debugger->marks, ar->source, ar->currentline) && stops_at(s, L, ar)) reason = "breakpoint";
  if (!reason && steps(s)) {
    bool here = step->L == L && step->frame == ar->i_ci;
    asks = !step->quiet;
    if (step->kind == STEP_INTO && users) reason = "step";
    if (step->kind == STEP_PAUSE && (users || nb_clock() > step->begun + soon)) reason = "pause";
    if (step->kind == STEP_NEXT && here) reason = "step";
    if (step->kind == STEP_UNTIL && here && ar->currentline >= step->line) reason = "step";
  }
  if (reason && hold(s, L, reason, NULL, asks)) return;
  if (!wants_lines(s, L, ar)) rearm(s, L);
}

// A function of C has no lines: what it calls is looked at then.
static void on_call(Session *s, lua_State *L, lua_Debug *ar) {
  int mask = debugger_mask(L), outer = mask & (LUA_MASKLINE | LUA_MASKRET) ? LUA_MASKRET : 0;
  bool still = s->debugger->step.kind == STEP_NONE, lines = false;
  Dull dull = still ? dull_call(L, ar) : NOT_DULL;
  if (dull == NOT_DULL) {
    lines = is_lua(L, ar) && wants_lines(s, L, ar);
    if (still && !lines) note_dull(L, ar);
    if (still && *ar->what == 'C') return;
  }
  int next = LUA_MASKCALL | outer | (lines ? LUA_MASKLINE : 0);
  if (dull != DULL_C && next != mask) arm_debugger(s, L, next);
}

static void on_return(Session *s, lua_State *L, lua_Debug *ar) {
  const Step *step = &s->debugger->step;
  lua_Debug up;
  if (follows_frame(s, L)) {
    bool over = step->kind != STEP_ARRIVE && step->frame == ar->i_ci;
    if (over || (!is_lua(L, ar) && step->frame && !is_on_stack(L, step->frame))) arrive(s, L, 1);
  }
  if (!lua_getstack(L, 1, &up)) return;
  if (step->kind == STEP_NONE && !(debugger_mask(L) & LUA_MASKLINE) && dull_call(L, &up) != NOT_DULL) return;
  int mask = LUA_MASKCALL | LUA_MASKRET;
  if (is_lua(L, &up)) {
    if (wants_lines(s, L, &up))
      mask |= LUA_MASKLINE;
    else if (step->kind == STEP_NONE)
      note_dull(L, &up);
  }
  if (follows_frame(s, L) && step->kind == STEP_ARRIVE && step->frame == up.i_ci) mask |= LUA_MASKCOUNT;
  if (mask != debugger_mask(L)) arm_debugger(s, L, mask);
}

static void on_count(Session *s, lua_State *L) {
  const Step *step = &s->debugger->step;
  lua_Debug ar;
  if (follows_frame(s, L) && step->kind == STEP_ARRIVE && lua_getstack(L, 0, &ar) && step->frame == ar.i_ci &&
      hold(s, L, "step", NULL, true))
    return;
  rearm(s, L);
}

static void on_event(Session *s, lua_State *L, lua_Debug *ar) {
  if (!s->debugging || s->level == SESSION_LOOK || s->interrupted) {
    arm_debugger(s, L, 0);
    return;
  }
  switch (ar->event) {
    case LUA_HOOKLINE:
      on_line(s, L, ar);
      break;
    case LUA_HOOKRET:
      on_return(s, L, ar);
      break;
    case LUA_HOOKCOUNT:
      on_count(s, L);
      break;
    default:
      on_call(s, L, ar);
  }
}

void debugger_enter(Session *s, lua_State *L, lua_State *left) {
  if (left && follows_frame(s, left)) arrive(s, L, 0);
  rearm(s, L);
  s->armed = s->marks;
}

void debugger_caught(Session *s, lua_State *L) {
  rearm(s, L);
}

void debugger_over(Session *s) {
  if (steps(s)) end_step(s);
}

void debugger_pause(Session *s, lua_State *L, bool waits) {
  bool quiet = s->pause < 0 && s->rich;
  if (!may_visit(s, L)) return;
  s->pause = 0;
  if (waits || nablua_is_recorded(L)) {
    hold(s, L, "pause", NULL, !quiet);
    return;
  }
  s->debugger->step = (Step){.kind = STEP_PAUSE, .depth = s->depth, .begun = nb_clock(), .quiet = quiet};
  update(s);
  debugger_rearm(s);
}

bool debugger_wants_raised(const Session *s, lua_State *L) {
  lua_Debug ar;
  return s->debugger->raised && lua_getstack(L, 1, &ar) && is_lua(L, &ar) && is_users(&ar);
}

void debugger_error(Session *s, lua_State *L, bool caught, const char *message) {
  Debugger *d = s->debugger;
  lua_Debug ar;
  bool users = false;
  if (s->interrupted || s->level == SESSION_LOOK || !(d->raised || (d->uncaught && !caught))) return;
  for (int level = 0; level < LEVELS_A_LOOK && !users && lua_getstack(L, level, &ar); level++)
    users = is_lua(L, &ar) && is_users(&ar);
  if (users && lua_checkstack(L, 100)) hold(s, L, "exception", message, true);
}

void session_pause(Session *s) {
  if (!s->active || s->level == SESSION_LOOK) return;
  s->pause = s->depth + 1;
  session_attend(s);
}

// ---- what Lua asks ----

// mark(source, lines): the lines of a source that have breakpoints.
static int mark(lua_State *L) {
  Session *s = session_of(L);
  const char *source = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int count = (int)lua_rawlen(L, 2), *lines = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *lines, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 2, i + 1);
    lines[i] = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  forget_dull(L);
  if (!marks_set(&s->debugger->marks, source, lines, count)) return luaL_error(L, "not enough memory");
  update(s);
  s->marks++;
  if (s->level > SESSION_LOOK) debugger_rearm(s);
  return 0;
}

// go(how [, thread, level [, line]]): what is paused goes on: "continue", "quit", or by a step, "into", "next", "until"
// or "out", of the frame at a level of a thread.  False where nothing is paused.
static int go(lua_State *L) {
  static const char *const names[] = {"continue", "quit", "into", "next", "until", "out", NULL};
  static const StepKind kinds[] = {STEP_NONE, STEP_NONE, STEP_INTO, STEP_NEXT, STEP_UNTIL, STEP_OUT};
  Session *s = session_of(L);
  Debugger *d = s->debugger;
  int how = luaL_checkoption(L, 1, NULL, names);
  lua_Debug ar = {.i_ci = NULL};
  lua_State *of = lua_tothread(L, 2);
  if (of && lua_getstack(of, (int)luaL_checkinteger(L, 3), &ar)) {
    d->step = (Step){.kind = kinds[how], .L = of, .frame = ar.i_ci, .line = (int)luaL_optinteger(L, 4, 0)};
  } else {
    d->step = (Step){.kind = kinds[how] == STEP_NONE ? STEP_NONE : STEP_INTO};
  }
  d->quits = how == 1;
  s->going = true;
  return 0;
}

// pause_below(): what this visitor has interrupted pauses once it is over; false where nothing is below.
static int pause_below(lua_State *L) {
  Session *s = session_of(L);
  bool below = s->depth > 0;
  if (below) s->pause = -s->depth;
  lua_pushboolean(L, below);
  return 1;
}

// stop(reason): pauses here.  Whether it could.
static int stop(lua_State *L) {
  Session *s = session_of(L);
  const char *reason = luaL_checkstring(L, 1);
  if (s->deaf && !s->debugger->attached)
    return luaL_error(L, "%s: there is nobody to ask here, and no debugger is attached",
                      strcmp(reason, "post mortem") == 0 ? "%debug" : reason);
  lua_pushboolean(L, hold(s, L, reason, luaL_optstring(L, 2, NULL), true));
  return 1;
}

// can_ask(): whether somebody is there who would see that it pauses.
static int can_ask(lua_State *L) {
  const Session *s = session_of(L);
  bool prompt = !s->deaf && (s->may_leave || s->rich || s->pauses > 0);
  lua_pushboolean(L, s->front.paused && s->pauses >= 0 && s->level > SESSION_LOOK && (s->debugger->attached || prompt));
  return 1;
}

static int attach(lua_State *L) {
  session_of(L)->debugger->attached = lua_toboolean(L, 1);
  return 0;
}

// catch(uncaught, raised): which errors pause.
static int catch_errors(lua_State *L) {
  Debugger *d = session_of(L)->debugger;
  d->uncaught = lua_toboolean(L, 1);
  d->raised = lua_toboolean(L, 2);
  return 0;
}

// catches(): whether errors that nobody catches pause.
static int catches(lua_State *L) {
  lua_pushboolean(L, session_of(L)->debugger->uncaught);
  return 1;
}

// event(json): tells who is attached.
static int event(lua_State *L) {
  const Sink *front = &session_of(L)->front;
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  if (front->event) front->event(front->user, text, length);
  return 0;
}

static int process(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

// real_path(path): without links, nil where there is no file.
static int real_path(lua_State *L) {
  char real[PATH_MAX];
  lua_pushstring(L, realpath(luaL_checkstring(L, 1), real));
  return 1;
}

static int compile_input(lua_State *L) {
  Source source = {.name = session_of(L)->frame ? "=paused" : "=code"};
  source.code = lua_tolstring(L, 1, &source.length);
  compile(L, session_of(L), &source);
  return 1;
}

// evaluate(code, frame): the values of an input in a paused frame.
static int evaluate_there(lua_State *L) {
  Session *s = session_of(L);
  luaL_checkstring(L, 1);
  int outer = s->frame;
  s->frame = (int)luaL_checkinteger(L, 2);
  lua_settop(L, 1);
  lua_pushcfunction(L, compile_input);
  lua_insert(L, 1);
  int status = lua_pcall(L, 1, 1, 0);
  s->frame = outer;
  if (status != LUA_OK) return lua_error(L);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L);
}

// compile(text, is_input): the function that an input or a file is, or nil and why it is none.
static int compile_text(lua_State *L) {
  Session *s = session_of(L);
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  int status;
  if (lua_toboolean(L, 2)) {
    lua_pushcfunction(L, compile_input);
    lua_pushvalue(L, 1);
    status = lua_pcall(L, 1, 1, 0);
    forget_chunk(s);
  } else {
    size_t at = skip_mark(text, length);
    status = luaL_loadbufferx(L, text + at, length - at, "=code", "t");
  }
  if (status == LUA_OK) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

static int open_functions(lua_State *L) {
  static const luaL_Reg functions[] = {{"mark", mark},           {"go", go},
                                       {"stop", stop},           {"pause_below", pause_below},
                                       {"attach", attach},       {"can_ask", can_ask},
                                       {"catch", catch_errors},  {"event", event},
                                       {"real_path", real_path}, {"compile", compile_text},
                                       {"catches", catches},     {"evaluate", evaluate_there},
                                       {"process", process},     {NULL, NULL}};
  luaL_newlib(L, functions);
  push_session_table(L, "frames");
  lua_setfield(L, -2, "frames");
  return 1;
}

void debugger_note_source(Session *s, const char *name) {
  if (!s->debugger->attached) return;
  push_call(s->L, "note_source");
  lua_pushstring(s->L, name);
  protected_call(s, 1, 0);
}

// ---- opening ----

bool debugger_open(Session *s) {
  s->debugger = calloc(1, sizeof *s->debugger);
  static const Watcher watcher = {debugger_enter, debugger_over,   debugger_pause,        debugger_rearm,
                                  debugger_error, debugger_caught, debugger_wants_raised, debugger_note_source};
  s->watcher = &watcher;
  know_debug_hook(on_event);
  return s->debugger;
}

void debugger_free(Session *s) {
  if (s->debugger) marks_free(&s->debugger->marks);
  nablua_on_quiet(NULL);
  free(s->debugger);
}

// native.pause_here(reason, message [, frames, names]): the library pauses, in frames that are over where they are
// given. False where nobody would see it.
static int pause_here(lua_State *L) {
  lua_settop(L, 4);
  push_pause_function(L, "here");
  lua_insert(L, 1);
  lua_call(L, 4, 1);
  return 1;
}

void open_debugger(lua_State *L) {
  push_module(L, "nablua.native");
  lua_pushcfunction(L, pause_here);
  lua_setfield(L, -2, "pause_here");
  lua_pop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_functions);
  lua_setfield(L, -2, "nablua.session.engine");
  lua_pop(L, 1);
}
