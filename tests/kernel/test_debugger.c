// SPDX-License-Identifier: MIT
// What is paused and goes on ends in the same bits, and pauses wherever it may.
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "session.h"

static Session *session;

// ---- a front end that pauses by the clock, and says what it was told to ----

static struct {
  const char *lines[12];  // given at the prompt, in turn; then "c"
  int at, pauses, most;
  char value[1 << 16], problem[4000], shown[4000];
  bool armed;
} front;

static void see_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number;
  snprintf(front.value, sizeof front.value, "%s", value->items[0].data);
}

static void see_display(void *user, const Bundle *value, const char *id, bool update) {
  (void)user, (void)id, (void)update;
  size_t used = strlen(front.shown);
  snprintf(front.shown + used, sizeof front.shown - used, "%s|", value->items[0].data);
}

static void see_nothing(void *user, bool wait) {
  (void)user, (void)wait;
}

static void see_error(void *user, const Problem *problem) {
  (void)user;
  snprintf(front.problem, sizeof front.problem, "%s", problem->message);
}

static char *no_answer(void *user, const char *prompt, bool hidden, size_t *length) {
  (void)user, (void)prompt, (void)hidden, (void)length;
  return NULL;
}

static bool paused(void *user, const char *prompt, char **input, size_t *length) {
  (void)user;
  if (!prompt) return true;
  const char *line = front.at < 12 && front.lines[front.at] ? front.lines[front.at++] : "c";
  if (strcmp(line, "c") == 0) front.pauses++;
  *input = strdup(line);
  *length = strlen(line);
  return true;
}

static void on_alarm(int number) {
  (void)number;
  if (front.armed && front.pauses < front.most) session_pause(session);
}

static void pause_every(int microseconds) {
  struct itimerval t = {.it_value = {.tv_usec = microseconds}, .it_interval = {.tv_usec = microseconds}};
  front.armed = microseconds > 0;
  setitimer(ITIMER_REAL, &t, NULL);
}

static int open_session(void **state) {
  char reason[256];
  Sink sink = {.value = see_value,
               .display = see_display,
               .clear = see_nothing,
               .error = see_error,
               .ask = no_answer,
               .paused = paused};
  (void)state;
  session = session_new(&sink, reason, sizeof reason);
  if (session) session_allow_leaving(session);
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  return session ? 0 : -1;
}

static int close_session(void **state) {
  (void)state;
  pause_every(0);
  session_free(session);
  return 0;
}

static SessionStatus evaluate(const char *code) {
  *front.problem = *front.value = *front.shown = '\0';
  front.at = front.pauses = 0;
  return session_eval(session, code, strlen(code));
}

static void say(const char *a, const char *b, const char *c, const char *d) {
  const char *lines[12] = {a, b, c, d};
  memcpy(front.lines, lines, sizeof lines);
}

static const char *ask(const char *code) {
  if (evaluate(code) != SESSION_OK) fail_msg("%s: %s", code, front.problem);
  return front.value;
}

// ---- the same bits ----

static const char prepare[] =
    "function train(compiled, f)\n"
    "  nb.seed(11)\n"
    "  local net = nn.Sequential{nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2)}\n"
    "  local x, y = nb.randn(64, 6), nb.randn(64, 2)\n"
    "  local opt, loss = optim.Adam(net:parameters(), {lr=0.01}), nn.MSELoss()\n"
    "  local function step()\n"
    "    opt:zero_grad()\n"
    "    local J = loss(net(x), y)\n"
    "    J:backward()\n"
    "    opt:step()\n"
    "    return J\n"
    "  end\n"
    "  if compiled then step = nb.compile(step) end\n"
    "  for i = 1, f do\n"
    "    local J = step()\n"
    "  end\n"
    "  local list = {nb.rand(1):item()}\n"
    "  for name, t in pairs(net:state()) do\n"
    "    local v = t:view(-1)\n"
    "    for i = 1, v:numel() do list[#list + 1] = ('%s %a'):format(name, v[i]:item()) end\n"
    "  end\n"
    "  table.sort(list, function(a, b) return tostring(a) < tostring(b) end)\n"
    "  return table.concat(list, ';')\n"
    "end";

static void ends_in_the_same_bits(const char *code) {
  pause_every(0);
  char *alone = strdup(ask(code));
  int before = 0;
  // What is looked at draws numbers, calls a net, walks back: of none of it anything is noticed.
  say("nb.rand(3)", "nn.Dropout(0.5)(nb.ones(4))", "(nb.ones(2, {requires_grad=true}) ^ 2):sum():backward()", "c");
  for (int round = 0; round < 400 && before < 100; round++) {
    front.most = 100 - before;
    pause_every(2000);
    assert_int_equal(evaluate(code), SESSION_OK);
    pause_every(0);
    before += front.pauses;
    assert_string_equal(front.value, alone);
  }
  printf("figure: %d pauses, the same bits\n", before);
  assert_true(before >= 100);
  free(alone);
}

static void a_training_that_pauses_ends_in_the_same_bits(void **state) {
  (void)state;
  assert_int_equal(evaluate(prepare), SESSION_OK);
  ends_in_the_same_bits("return train(false, 300)");
}

static void a_compiled_one_does_too(void **state) {
  (void)state;
  assert_int_equal(evaluate(prepare), SESSION_OK);
  ends_in_the_same_bits("return train(true, 600)");
}

// ---- where it pauses ----

static void steps_go_where_they_say(void **state) {
  (void)state;
  assert_int_equal(
      evaluate("function inner(a)\n  local b = a + 1\n  return b\nend\n"
               "function outer(a)\n  breakpoint()\n  local x = inner(a)\n  local y = inner(x)\n  return y\nend"),
      SESSION_OK);
  const char *const lines[12] = {"next", "next", "x", "step", "a", "out", "y", "y = 50", "c"};
  memcpy(front.lines, lines, sizeof lines);
  assert_string_equal(ask("outer(1)"), "50");
  assert_string_equal(front.shown, "2|2|3|");
}

static void a_condition_is_asked_in_its_frame(void **state) {
  (void)state;
  assert_int_equal(evaluate("function f(n)\n  local square = n * n\n  return square\nend"), SESSION_OK);
  say("n", "square", "c", NULL);
  char code[200];
  snprintf(code, sizeof code,
           "%%break input %d:3 if square > 30\nlocal sum = 0\nfor i = 1, 7 do sum = sum + f(i) end\nreturn sum",
           session_next_number(session) - 1);
  assert_string_equal(ask(code), "140");
  assert_string_equal(front.shown, "6|36|");
  assert_int_equal(evaluate("%break off"), SESSION_OK);
  assert_string_equal(ask("f(6)"), "36");
  assert_int_equal(front.pauses, 0);
}

static void pauses_anywhere(const char *set, const char *code, const char *look, const char *expected) {
  say(look, "c", NULL, NULL);
  if (set && evaluate(set) != SESSION_OK) fail_msg("%s: %s", set, front.problem);
  if (evaluate(code) != SESSION_OK) fail_msg("%s: %s", code, front.problem);
  assert_true(front.pauses > 0);
  front.shown[strlen(expected)] = '\0';
  assert_string_equal(front.shown, expected);
}

static void it_pauses_in_coroutines_callbacks_and_hooks(void **state) {
  (void)state;
  pauses_anywhere(
      NULL, "local co = coroutine.wrap(function(a) local b = a * 2 breakpoint() coroutine.yield(b) end) return co(4)",
      "b", "8|");
  pauses_anywhere(
      NULL,
      "local w = nb.ones(2, {requires_grad=true}) local h = w * 3 "
      "h:register_hook(function(g) local seen = g:sum():item() breakpoint() return g end) h:sum():backward() "
      "return w.grad[1]:item()",
      "seen", "2.0|");
  assert_string_equal(front.value, "3.0");
  pauses_anywhere(NULL,
                  "local net, x = nn.Linear(1, 1), nb.rand(8, 1) "
                  "nn.fit(net, nn.MSELoss(), optim.SGD(net:parameters(), {lr=0.1}), {x, x}, {epochs=1, progress=false, "
                  "callback=function(e) local mark = 17 breakpoint() end})",
                  "mark", "17|");
  pauses_anywhere(
      NULL,
      "return pcall(function() local guard <close> = setmetatable({}, {__close=function() end}) local z = 5 "
      "breakpoint() end)",
      "z", "5|");
}

// Breakpoints rest in calls of modules that run the library's code alone; they are met where such calls lead to code of
// the user's all the same, in whatever way, and behind errors in them.
static void what_the_library_calls_is_stopped_in(void **state) {
  static const char *const ways[] = {
      "nn.Sequential{nn.Linear(2, 2), Mine(), nn.Tanh()}(x)",
      "nn.Sequential{nn.Linear(2, 2), nn.Sequential{nn.Tanh(), Mine()}}(x)",
      "nn.Sequential{nn.Tanh(), mine}(x)",
      "local net = nn.Sequential{nn.Tanh(), nn.Tanh()} net[2] = mine net(x)",
      "local net = nn.Sequential{nn.Tanh(), nn.Linear(2, 2)} net[2]:register_forward_hook(function(m, i, y) mine(y) "
      "end) net(x)",
      "local net = nn.Linear(2, 2) function net.forward(m, x) return mine(x) end nn.Sequential{net}(x)",
      "nn.Sequential{nn.Tanh()}(x) mine(1)",
      "pcall(nn.Sequential{nn.Linear(3, 2)}, x) mine(1)",
      "xpcall(nn.Linear(3, 2), function(m) return m end, x) mine(1)",
      "pcall(coroutine.wrap(function() nn.Linear(3, 2)(x) end)) mine(1)",
      "coroutine.wrap(function() nn.Tanh()(x) mine(1) end)()",
      "local l = nn.Tanh()(nb.rand(2, {requires_grad=true})) l:register_hook(function(g) mine(g) end) "
      "l:sum():backward()",
      "nn.MSELoss()(x, x) mine(1)",
      "pcall(nn.MSELoss(), x, 1) mine(1)",
      "nb.no_grad(function() nn.Sequential{nn.Tanh(), Mine()}(x) end)",
  };
  (void)state;
  assert_int_equal(evaluate("function mine(x)\n  local here = x\n  return here\nend\nx = nb.rand(1, 2)\n"
                            "Mine = nn.module('Mine', {forward=function(m, x) return mine(x) end})"),
                   SESSION_OK);
  char set[40];
  snprintf(set, sizeof set, "%%break input %d:2", session_next_number(session) - 1);
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    say("c", NULL, NULL, NULL);
    assert_int_equal(evaluate(set), SESSION_OK);
    if (evaluate(ways[i]) != SESSION_OK) fail_msg("%s: %s", ways[i], front.problem);
    if (front.pauses != 1) fail_msg("%s: %d pauses", ways[i], front.pauses);
    assert_int_equal(evaluate("%break off"), SESSION_OK);
  }
}

static void a_run_pauses_at_the_end_of_a_step(void **state) {
  (void)state;
  pauses_anywhere(
      NULL,
      "net, x = nn.Linear(1, 1), nb.rand(8, 1) local count = 0 "
      "run = nb.run{net=net, opt=optim.SGD(net:parameters(), {lr=0.1}), data={x, x}, size=4, epochs=3, seed=1, "
      "loss=function(a, b) count = count + 1 if count == 3 then run:pause() end return nn.mse(a, b) end} run:go()",
      "run.step", "3|");
}

static void quitting_ends_the_input_alone(void **state) {
  (void)state;
  say("q", NULL, NULL, NULL);
  assert_int_equal(evaluate("kept = 5 breakpoint() kept = 6"), SESSION_INTERRUPTED);
  assert_string_equal(ask("kept"), "5");
}

static void an_error_pauses_where_it_happens(void **state) {
  (void)state;
  assert_int_equal(evaluate("%pdb on"), SESSION_OK);
  say("n", "c", NULL, NULL);
  assert_int_equal(evaluate("local function g(n) return n.x.y end g({z=1})"), SESSION_ERROR);
  assert_int_equal(front.pauses, 1);
  assert_int_equal(evaluate("%pdb off"), SESSION_OK);
  assert_int_equal(evaluate("local function g(n) return n.x.y end g({z=1})"), SESSION_ERROR);
  assert_int_equal(front.pauses, 0);
}

static void locals_of_the_prompt_stay_within_it(void **state) {
  (void)state;
  say("local q = n + 1", "q * 2", "n = 9", "c");
  assert_string_equal(ask("local function h(n)\n  breakpoint()\n  return n\nend\nreturn h(4)"), "9");
  assert_string_equal(front.shown, "10|");
  assert_string_equal(ask("q == nil"), "true");
}

static void a_hook_of_the_user_goes_on(void **state) {
  (void)state;
  static const char code[] =
      "local lines, hook = 0 hook = function() lines = lines + 1 end\n"
      "debug.sethook(hook, 'l')\n"
      "for i = 1, 3000 do\n"
      "  local x = i\n"
      "end\n"
      "local same = debug.gethook() == hook\n"
      "debug.sethook()\n"
      "return ('%s %d'):format(tostring(same), lines)";
  pause_every(0);
  char *alone = strdup(ask(code));
  say(NULL, NULL, NULL, NULL);
  front.most = 20;
  pause_every(500);
  for (int i = 0; i < 10; i++) assert_string_equal(ask(code), alone);
  pause_every(0);
  free(alone);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_training_that_pauses_ends_in_the_same_bits),
      cmocka_unit_test(a_compiled_one_does_too),
      cmocka_unit_test(steps_go_where_they_say),
      cmocka_unit_test(a_condition_is_asked_in_its_frame),
      cmocka_unit_test(it_pauses_in_coroutines_callbacks_and_hooks),
      cmocka_unit_test(what_the_library_calls_is_stopped_in),
      cmocka_unit_test(a_run_pauses_at_the_end_of_a_step),
      cmocka_unit_test(quitting_ends_the_input_alone),
      cmocka_unit_test(an_error_pauses_where_it_happens),
      cmocka_unit_test(locals_of_the_prompt_stay_within_it),
      cmocka_unit_test(a_hook_of_the_user_goes_on),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
