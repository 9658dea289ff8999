// SPDX-License-Identifier: MIT
// Requests of the debugger's clients, which lua/session/dap.lua answers.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "nablua/clock.h"
#include "state.h"

static const double soon = 0.1;  // seconds, in which one is answered that evaluates nothing of the user's

typedef struct Request {
  const char *text;
  size_t length;
  char *answer;
  size_t answer_length;
  bool stopped;  // by an interrupt: it is refused
} Request;

// What goes wrong stands in the answer.
static void say_nothing(void *user, const Problem *problem) {
  (void)user, (void)problem;
}

static int answer(lua_State *L) {
  Request *r = lua_touserdata(L, 1);
  push_module(L, "nablua.session.dap");
  lua_getfield(L, -1, r->stopped ? "refuse" : "answer");
  lua_pushlstring(L, r->text, r->length);
  lua_call(L, 1, 1);
  const char *text = lua_tolstring(L, -1, &r->answer_length);
  if (text && (r->answer = malloc(r->answer_length + 1))) memcpy(r->answer, text, r->answer_length + 1);
  return 0;
}

char *session_debug(Session *s, const char *request, size_t length, size_t *answer_length) {
  Request r = {request, length, NULL, 0, false};
  Sink sink = s->sink;
  bool apart = s->apart;
  s->apart = true;
  s->sink.error = say_nothing;
  if (s->visit && !s->held) s->visit->level = SESSION_HANDLE;  // it may run code: an interrupt can mean it alone
  if (s->held) s->visit->alone_from = nb_clock() + soon;
  lua_pushcfunction(s->L, answer);
  lua_pushlightuserdata(s->L, &r);
  if (protected_call(s, 1, 0) != SESSION_OK && !r.answer) {
    r.stopped = true;
    lua_pushcfunction(s->L, answer);
    lua_pushlightuserdata(s->L, &r);
    protected_call(s, 1, 0);
  }
  if (s->held) s->visit->alone_from = INFINITY;
  s->apart = apart;
  s->sink = sink;
  *answer_length = r.answer_length;
  return r.answer;
}
