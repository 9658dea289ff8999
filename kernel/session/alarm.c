// SPDX-License-Identifier: MIT
// The clock: a timer of the system's calls for attention when something is due, and every 10 ms until that is done.
#include "alarm.h"

#include <lauxlib.h>
#include <signal.h>
#include <time.h>

#include "call.h"
#include "nablua/clock.h"
#include "native.h"

static void arm(Session *s, double seconds) {
  enum { AGAIN_NS = 10000000 };
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
  if (!s->has_timer && timer_create(CLOCK_MONOTONIC, &event, &s->timer) != 0) return;
  s->has_timer = true;
  struct itimerspec t = {{0, 0}, {0, 0}};
  if (seconds >= 0) {
    t.it_value.tv_sec = (time_t)seconds;
    t.it_value.tv_nsec = 1 + (long)(999999998 * (seconds - (double)(time_t)seconds));
    t.it_interval.tv_nsec = AGAIN_NS;
  }
  timer_settime(s->timer, 0, &t, NULL);
}

int set_alarm(lua_State *L) {
  Session *s = session_of(L);
  double seconds = luaL_optnumber(L, 1, -1);
  s->due = seconds < 0 ? 0 : nb_clock() + seconds;
  arm(s, seconds);
  return 0;
}

bool alarm_is_due(const Session *s) {
  return s->due > 0 && nb_clock() >= s->due;
}

double session_due(const Session *s) {
  if (s->due == 0) return -1;
  double left = s->due - nb_clock();
  return left > 0 ? left : 0;
}

static int run_due(lua_State *L) {
  push_module(L, "nablua.ui.clock");
  lua_getfield(L, -1, "run");
  lua_call(L, 0, 0);
  return 0;
}

void alarm_run(void *session) {
  Session *s = session;
  s->due = 0;  // until the list says when the next is
  lua_pushcfunction(s->L, run_due);
  protected_call(s, 0, 0);
}
