// SPDX-License-Identifier: MIT
// Visitors do not change what they visit, keep what goes wrong with them, and leave the user's interrupts to the user.
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

static Session *session;

// ---- a front end whose visitors come by the clock ----

static struct {
  void (*run)(int number);  // what a visitor does, NULL: none comes
  SessionLevel level;
  int served, most;     // how many came, and may come
  bool at_once;         // several may come one right after another
  char value[1 << 16];  // the last that was shown
  char problem[4000];   // the last error
  char visitors[4000];  // the last error of a visitor
  bool visiting;
  int fuse;                // calls of the clock, from the first visitor on, until an interrupt comes; 0: none does
  double since;            // when the visitor came
  double interrupted;      // when it came
  int lost;                // how many had to be repeated
  bool interrupts_before;  // just before the next visitor
  bool stops_visitor;      // which has taken so long that an interrupt means it alone
  bool interrupting;       // when what is done before an input has failed
} front;

static void see_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number;
  if (!front.visiting) snprintf(front.value, sizeof front.value, "%s", value->items[0].data);
}

static void see_display(void *user, const Bundle *value, const char *id, bool update) {
  (void)user, (void)value, (void)id, (void)update;
}

static void see_nothing(void *user, bool wait) {
  (void)user, (void)wait;
}

static void see_error(void *user, const Problem *problem) {
  (void)user;
  snprintf(front.visiting ? front.visitors : front.problem, sizeof front.problem, "%s", problem->message);
  if (front.interrupting && strstr(problem->message, "before")) raise(SIGINT);
}

static void run_visitor(void *user) {
  (void)user;
  bool outer = front.visiting;
  front.visiting = true;
  if (!outer) front.since = session_clock();
  front.run(front.served++);
  front.visiting = outer;
}

static bool visit(void *user, SessionLevel level) {
  (void)user;
  static bool again;
  if (again && !front.at_once) return again = false;
  if (!front.run || front.level >= level || front.served >= front.most) return false;
  if (front.interrupts_before) raise(SIGINT);
  front.interrupts_before = false;
  again = session_visit(session, front.level, run_visitor, NULL);
  return again;
}

static void on_alarm(int number) {
  (void)number;
  // Of a visitor that has taken long, as where others have the processor, an interrupt means that one alone.
  double stay = front.visiting ? session_clock() - front.since : 0;
  bool alone = stay > 0.05;
  if (front.stops_visitor && stay > 0.6) {
    front.stops_visitor = false;
    raise(SIGINT);
  }
  if (front.fuse > 0 && front.served > 0 && !alone && --front.fuse == 0) {
    front.interrupted = session_clock();
    raise(SIGINT);
  } else if (front.interrupted > 0 && session_clock() - front.interrupted > 20) {
    front.interrupted = 0;
    front.lost++;
    raise(SIGINT);
  }
  session_attend(session);
}

static void on_interrupt(int number) {
  (void)number;
  session_interrupt(session);
}

static void visit_every(int microseconds) {
  struct itimerval t = {.it_value = {.tv_usec = microseconds}, .it_interval = {.tv_usec = microseconds}};
  setitimer(ITIMER_REAL, &t, NULL);
}

static void expect_visitors(void (*run)(int number), SessionLevel level, int most) {
  front.run = run;
  front.level = level;
  front.served = 0;
  front.most = most;
  front.at_once = false;
  front.fuse = 0;
  *front.visitors = '\0';
  visit_every(run ? 100 : 0);
}

static int open_session(void **state) {
  char reason[256];
  Sink sink = {.value = see_value, .display = see_display, .clear = see_nothing, .error = see_error, .visit = visit};
  (void)state;
  session = session_new(&sink, reason, sizeof reason);
  struct sigaction attention = {.sa_handler = on_alarm, .sa_flags = SA_RESTART},
                   interrupt = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &attention, NULL);
  sigaction(SIGINT, &interrupt, NULL);
  return session ? 0 : -1;
}

static int close_session(void **state) {
  (void)state;
  expect_visitors(NULL, SESSION_LOOK, 0);
  session_free(session);
  return 0;
}

static SessionStatus evaluate(const char *code) {
  *front.problem = *front.value = '\0';
  return session_eval(session, code, strlen(code));
}

// The text of a value, without visitors.
static const char *ask(const char *code) {
  expect_visitors(NULL, SESSION_LOOK, 0);
  if (evaluate(code) != SESSION_OK) fail_msg("%s: %s", code, front.problem);
  return front.value;
}

static void beside(const char *code) {
  session_eval_beside(session, "beside", 1, code, strlen(code));
}

// ---- looking changes nothing ----

static const char prepare[] =
    "function fresh()\n"
    "  nb.seed(11)\n"
    "  net = nn.Sequential{nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2)}\n"
    "  x, y = nb.randn(64, 6), nb.randn(64, 2)\n"
    "  opt, loss = optim.Adam(net:parameters(), {lr=0.01}), nn.MSELoss()\n"
    "end\n"
    "function step() opt:zero_grad() local J = loss(net(x), y) J:backward() opt:step() return J end\n"
    "function bits()\n"
    "  local list = {}\n"
    "  for name, t in pairs(net:state()) do\n"
    "    local v = t:view(-1)\n"
    "    for i = 1, v:numel() do list[#list + 1] = ('%s %d %a'):format(name, i, v[i]:item()) end\n"
    "  end\n"
    "  list[#list + 1] = ('%a'):format(nb.rand(1):item())\n"
    "  table.sort(list)\n"
    "  return table.concat(list, '\\n')\n"
    "end\n"
    "fresh() step()\n";

static const struct {
  const char *name, *code;
} trainings[] = {
    {"eager", "for i = 1, 2000 * scale do step() end"},
    {"compiled", "local f = nb.compile(step) for i = 1, 6000 * scale do f() end"},
    {"recorded", "for k = 1, 60 * scale do local f = nb.compile(step) for i = 1, 6 do f() end end"},
    {"nn.fit", "nn.fit(net, loss, opt, {x, y}, {epochs=400 * scale // 1, size=16, progress=false})"},
    {"no_grad",
     "for i = 1, 400 * scale do step() nb.no_grad(function() for k = 1, 3 do y = y + 1e-3 * net(x) end end) end"},
    {"hooks",
     "local sum = nb.zeros(16)\n"
     "net[1].weight:register_hook(function(g) for k = 1, 20 do sum = sum + 0.01 * g:sum() end return g * "
     "sum:tanh():mean():abs() end)\n"
     "for i = 1, 1000 * scale do step() end"},
    {"observed", "nb.anomaly(true) for i = 1, 600 * scale do step() end nb.anomaly(false)"},
    {"coroutines",
     "local co = coroutine.wrap(function() while true do nb.no_grad(function() net(x) coroutine.yield() end) step() "
     "end end)\n"
     "for i = 1, 800 * scale do step() co() end"},
};

static void look(int number) {
  static const char *const codes[] = {
      "nb.randn(3, 3)",
      "net(x):sum():item()",
      "print(net, net[2].running_mean)",
      "math.pi",
      "nb.no_grad(function() return net(x):mean() end)",
      "local z = nb.rand(3, {requires_grad=true}) z:square():sum():backward()",
      "inspect.summary(net, x)",
      "nb.nn.Dropout(0.5)(nb.ones(100)):sum()",
      "plot.curve({1, 2, 3})",
      "opt.lr",
  };
  int indent;
  Completions found;
  Bundle page;
  switch (number % 13) {
    case 0:
      session_complete(session, "net[1].we", 9, 9, &found);
      assert_true(found.count > 0);
      break;
    case 1:
      assert_true(session_inspect(session, "nb.randn", 8, 4, false, &page));
      break;
    case 2:
      assert_int_equal(session_is_complete(session, "for i = 1, 2 do", 15, &indent), SESSION_INCOMPLETE);
      break;
    default:
      beside(codes[number % 13 - 3]);
  }
  assert_string_equal(front.visitors, "");
}

static void looking_changes_no_bit(void **state) {
  (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const double scale = 0.05;
#else
  const double scale = getenv("NABLUA_PROVE") ? 6 : 1;  // a thousand of each
#endif
  int all = 0;
  assert_int_equal(evaluate(prepare), SESSION_OK);
  char code[1000];
  snprintf(code, sizeof code, "scale = %g", scale);
  ask(code);
  for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++) {
    ask("fresh()");
    assert_int_equal(evaluate(trainings[i].code), SESSION_OK);
    char *alone = strdup(ask("bits()"));
    assert_true(strlen(alone) > 1000);
    ask("fresh()");
    expect_visitors(look, SESSION_BESIDE, 100000);
    front.at_once = true;
    SessionStatus status = evaluate(trainings[i].code);
    int served = front.served;
    expect_visitors(NULL, SESSION_LOOK, 0);
    if (status != SESSION_OK) fail_msg("%s: %s", trainings[i].name, front.problem);
    if (strcmp(alone, ask("bits()")) != 0) fail_msg("%s: %d visitors have changed it", trainings[i].name, served);
    printf("figure: %s: the same bits with %d visitors\n", trainings[i].name, served);
    assert_true(served > 0);
    all += served;
    free(alone);
  }
  assert_true(all > 1000 * scale);
}

// ---- writing ----

static const char *writing;

// Where the code says `armed = true`, and once.
static void write_something(int number) {
  char code[500];
  (void)number;
  snprintf(code, sizeof code, "if armed and not tried then tried = true %s end", writing);
  beside(code);
}

// Evaluates the code while visitors come that write; the first error of theirs is in front.visitors.
static SessionStatus evaluate_written(const char *code, const char *write) {
  writing = write;
  ask("armed, tried = false, false");
  expect_visitors(write_something, SESSION_BESIDE, 100000);
  SessionStatus status = evaluate(code);
  front.run = NULL;
  visit_every(0);
  return status;
}

static void what_a_tape_needs_is_not_written_by_visitors(void **state) {
  static const char halve[] = "nb.no_grad(function() w:mul_(0.5) end)",
                    assign[] = "nb.no_grad(function() w[1][2] = 7 end)", step[] = "o:step()",
                    load[] = "m:load_state{weight=nb.zeros(1, 4)}";
  static const struct {
    const char *write, *operator;
  } writes[] = {{halve, "mul"}, {assign, "mul"}, {step, "mul"}, {load, "mul"}};
  (void)state;
  ask("m = nn.Linear(4, 1, {bias=false}) w = m.weight o = optim.SGD({w}, {lr=0.1})");
  for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
    ask("nb.no_grad(function() w:fill_(3) end) w.grad = nb.ones(1, 4)");
    SessionStatus status = evaluate_written(
        "local J = (w * w):sum() armed = true while not tried do end w.grad = nil J:backward() "
        "return w.grad:sum():item()",
        writes[i].write);
    if (status != SESSION_OK) fail_msg("%s: %s", writes[i].write, front.problem);
    assert_string_equal(front.value, "24.0");  // ∂(w²)/∂w = 2·3, four times
    if (!strstr(front.visitors, "the backward of mul at input ") || !strstr(front.visitors, " is still to come"))
      fail_msg("%s: %s", writes[i].write, front.visitors);
  }
  // Nothing needs it where the backward is done, where nobody can ask for one any more, and where the value is another.
  static const char *const loops[] = {
      "local J = (w * w):sum() J:backward() armed = true while not tried do end",
      "(w * w):sum() do local a, b, c, d = 1, 2, 3, 4 end armed = true while not tried do end",
      "local J = (w * w):sum() nb.no_grad(function() w:mul_(1) end) armed = true while not tried do end",
      "local J = (w + w):sum() armed = true while not tried do end J:backward()",
  };
  for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
    ask("nb.no_grad(function() w:fill_(3) end)");
    assert_int_equal(evaluate_written(loops[i], halve), SESSION_OK);
    if (*front.visitors) fail_msg("%s: %s", loops[i], front.visitors);
    assert_string_equal(ask("w[1][1]:item() < 3"), "true");
  }
}

static void writes_wait_for_the_end_of_a_step(void **state) {
  static const char *const trainings_by_steps[] = {
      "armed = true nn.fit(net, loss, opt, {x, y}, {epochs=400, size=16, progress=false})",
      "armed = true nb.run{net=net, loss=loss, opt=opt, data={x, y}, epochs=400, size=16}:go()",
  };
  (void)state;
  for (size_t i = 0; i < 2; i++) {
    ask("fresh() written = 0");
    SessionStatus status =
        evaluate_written(trainings_by_steps[i],
                         "nb.no_grad(function() net[1].weight:mul_(0.999) end) written = written + 1 tried = false");
    if (status != SESSION_OK) fail_msg("%s: %s", trainings_by_steps[i], front.problem);
    if (*front.visitors) fail_msg("%s: %s", trainings_by_steps[i], front.visitors);
    printf("figure: %s writes between the steps of a training\n", ask("written"));
    assert_true(atoi(ask("written")) > 5);
  }
}

// ---- what goes wrong with them ----

static void raise_error(int number) {
  (void)number;
  beside("came = (came or 0) + 1 error('of the visitor')");
}

static void errors_stay_with_the_visitor(void **state) {
  (void)state;
  expect_visitors(raise_error, SESSION_BESIDE, 50);
  // Visitors rest as long as the one before has taken, which is long where others have the processor.
  assert_int_equal(evaluate("local n = 0 while (came or 0) < 6 do n = n + 1 end return 'whole'"), SESSION_OK);
  assert_string_equal(front.value, "\"whole\"");
  assert_non_null(strstr(front.visitors, "of the visitor"));
  assert_string_equal(front.problem, "");
  expect_visitors(raise_error, SESSION_BESIDE, 50);  // one that comes while an error of the cell unwinds
  assert_int_equal(evaluate("local c <close> = setmetatable({}, {__close=function() for i = 1, 3000000 do end end})\n"
                            "error 'of the cell'"),
                   SESSION_ERROR);
  assert_non_null(strstr(front.problem, "of the cell"));
}

static void loop_for_ever(int number) {
  (void)number;
  beside("while true do end");
}

static void an_endless_visitor_is_stopped_alone(void **state) {
  (void)state;
  expect_visitors(loop_for_ever, SESSION_BESIDE, 1);
  front.stops_visitor = true;
  assert_int_equal(evaluate("local n = 0 for i = 1, 3000000 do n = n + 1 end return n"), SESSION_OK);
  assert_string_equal(front.value, "3000000");
  assert_string_equal(front.visitors, "interrupted");
}

static void handle(int number) {
  if (number % 3 == 0) {
    Completions found;
    session_complete(session, "nb.ra", 5, 5, &found);
  } else {
    beside(number % 3 == 1 ? "seen = (seen or 0) + 1" : "pcall(error, 'x') for i = 1, 2000 do end");
  }
}

static void interrupts_are_never_swallowed(void **state) {
  static const char *const loops[] = {
      "while true do end",
      "while true do pcall(function() for i = 1, 100 do end end) end",
      "while true do step() end",
      "local f = nb.compile(step) while true do f() end",
      "nb.sleep(1000)",
      "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
      "nn.fit(net, loss, opt, {x, y}, {epochs=1000000, progress=false})",
  };
  enum { LOOPS = sizeof loops / sizeof *loops, TIMES = 200 };
  int stopped = 0, served = 0, lost = 0;
  (void)state;
  ask("fresh()");
  srand(1);
  for (int i = 0; i < TIMES; i++) {
    expect_visitors(handle, SESSION_BESIDE, 1000000);
    front.fuse = 1 + rand() % 100;
    stopped += evaluate(loops[i % LOOPS]) == SESSION_INTERRUPTED;
    if (front.lost > lost) printf("lost in %s\n", loops[i % LOOPS]);
    lost = front.lost;
    served += front.served;
    front.interrupted = 0;
  }
  printf("figure: %d of %d interrupts have stopped what ran, with %d visitors\n", stopped, TIMES, served);
  assert_int_equal(stopped, TIMES);
  assert_int_equal(front.lost, 0);
  assert_true(served > TIMES);
}

// What waits in C looks at the library's flag alone, which calls of the visitor have cleared.
static void an_interrupt_just_before_a_visitor_is_kept(void **state) {
  (void)state;
  expect_visitors(handle, SESSION_BESIDE, 3);
  front.interrupts_before = true;
  double begun = session_clock();
  assert_int_equal(evaluate("nb.sleep(60)"), SESSION_INTERRUPTED);
  assert_true(session_clock() - begun < 30);
}

// Between the parts of an input nothing is active for a moment, as where what is done before each input has failed.
static void an_interrupt_between_two_parts_stops_the_next(void **state) {
  (void)state;
  ask("commands = require 'nablua.session.commands' before = commands.before_input\n"
      "commands.before_input = function() error 'before' end require('nablua.session.native').watch(true)");
  front.interrupting = true;
  assert_int_equal(evaluate("for i = 1, 1e9 do end"), SESSION_INTERRUPTED);
  front.interrupting = false;
  assert_int_equal(evaluate("return 1"), SESSION_OK);  // it stops nothing later
  ask("commands.before_input = before require('nablua.session.native').watch(false)");
}

// ---- where they come ----

static void count(int number) {
  (void)number;
  beside("seen = (seen or 0) + 1");
}

static void waits_serve_visitors_and_take_as_long(void **state) {
  static const char *const waits[] = {"nb.sleep(%g)", "os.execute 'sleep %g'", "io.popen('sleep %g; echo x'):read 'a'"};
  (void)state;
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    front.served = 0;
    for (double seconds = 0.3; front.served < 5 && seconds < 5; seconds *= 3) {  // others may have had the processors
      char code[100];
      snprintf(code, sizeof code, waits[i], seconds);
      expect_visitors(count, SESSION_BESIDE, 100000);
      double begun = session_clock();
      assert_int_equal(evaluate(code), SESSION_OK);
      double took = session_clock() - begun;
      assert_true(took >= seconds && took < seconds + 5);
    }
    if (front.served < 5) fail_msg("%s: %d visitors", waits[i], front.served);
  }
}

static void none_comes_into_a_finalizer_or_behind_an_interrupt(void **state) {
  (void)state;
  ask("seen = 0 inside = -1");
  expect_visitors(count, SESSION_BESIDE, 100000);
  assert_int_equal(evaluate("setmetatable({}, {__gc=function() local before = seen nb.sleep(0.1)\n"
                            "  coroutine.wrap(function() for i = 1, 100000 do end end)() inside = seen - before end})\n"
                            "collectgarbage() collectgarbage()"),
                   SESSION_OK);
  assert_string_equal(ask("inside"), "0");
  ask("behind = -1");
  expect_visitors(count, SESSION_BESIDE, 100000);
  assert_int_equal(evaluate("local c <close> = setmetatable({}, {__close=function() local before = seen\n"
                            "  for i = 1, 1000000 do end behind = seen - before end})\n"
                            "os.execute 'kill -INT $PPID' while true do end"),
                   SESSION_INTERRUPTED);
  assert_string_equal(ask("behind"), "0");
}

static void a_hook_of_the_user_survives(void **state) {
  // Lines that a hook sees which stays, and which is set and taken away all the while.
  static const char code[] =
      "local lines, others = 0, 0\n"
      "local function hook() lines = lines + 1 end\n"
      "debug.sethook(hook, 'l')\n"
      "for i = 1, 20000 do\n"
      "  local x = i\n"
      "end\n"
      "for i = 1, 300000 do others = others + (debug.gethook() == hook and 0 or 1) end\n"
      "for i = 1, 50000 do\n"
      "  debug.sethook()\n"
      "  debug.sethook(hook, 'l')\n"
      "end\n"
      "debug.sethook()\n"
      "return ('%d lines, another %d times'):format(lines, others)";
  (void)state;
  expect_visitors(NULL, SESSION_LOOK, 0);
  assert_int_equal(evaluate(code), SESSION_OK);
  char *alone = strdup(front.value);
  for (int i = 0; i < 5; i++) {
    expect_visitors(count, SESSION_BESIDE, 100000);
    assert_int_equal(evaluate(code), SESSION_OK);
    assert_true(front.served > 0);
    assert_string_equal(front.value, alone);
  }
  free(alone);
}

static void visit_and_look(int number) {
  (void)number;
  if (front.level == SESSION_BESIDE) {
    front.level = SESSION_LOOK;  // what comes while this runs
    beside("for i = 1, 300000 do end deep = true");
    front.level = SESSION_BESIDE;
  } else {
    Completions found;
    session_complete(session, "nb.ra", 5, 5, &found);
    assert_true(found.count > 0);
    front.value[0] = 'L';
  }
}

static void a_look_comes_into_a_visit_and_a_visit_does_not(void **state) {
  (void)state;
  front.value[0] = '\0';
  expect_visitors(visit_and_look, SESSION_BESIDE, 40);
  assert_int_equal(evaluate("for i = 1, 5000000 do end"), SESSION_OK);
  assert_int_equal(front.value[0], 'L');
  assert_string_equal(ask("deep"), "true");
}

// A look that takes longer than the time for which an interrupt means what runs below, too.
static void visit_and_be_interrupted(int number) {
  (void)number;
  if (front.level == SESSION_BESIDE) {
    front.level = SESSION_LOOK;
    beside("while true do end");
    front.level = SESSION_BESIDE;
  } else {
    raise(SIGINT);
    for (double begun = session_clock(); session_clock() - begun < 0.7;) continue;
  }
}

static void an_interrupt_means_all_that_have_just_begun(void **state) {
  (void)state;
  expect_visitors(visit_and_be_interrupted, SESSION_BESIDE, 2);
  assert_int_equal(evaluate("local t = os.time() while os.time() - t < 60 do end"), SESSION_INTERRUPTED);
  assert_string_equal(front.visitors, "interrupted");
}

static double visited, last_visit;  // seconds of all visits but the last; when that began

static void hold_up(int number) {
  static double before;  // how long the last took
  double begun = session_clock();
  if (number == 0) visited = before = 0;
  visited += before;
  last_visit = begun;
  beside("held = (held or 0) + 1 local t = os.clock() while os.clock() - t < 0.004 do end");
  before = session_clock() - begun;
}

static void visitors_take_half_the_time_at_most(void **state) {
  (void)state;
  expect_visitors(hold_up, SESSION_BESIDE, 1000000);
  front.at_once = true;
  double begun = session_clock();
  assert_int_equal(evaluate("local n = 0 while n < 20000000 or (held or 0) < 20 do n = n + 1 end"), SESSION_OK);
  double share = visited / (last_visit - begun);
  printf("figure: who comes all the while gets %.2f of the time\n", share);
  assert_true(share < 0.55);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(looking_changes_no_bit),
      cmocka_unit_test(what_a_tape_needs_is_not_written_by_visitors),
      cmocka_unit_test(writes_wait_for_the_end_of_a_step),
      cmocka_unit_test(errors_stay_with_the_visitor),
      cmocka_unit_test(an_endless_visitor_is_stopped_alone),
      cmocka_unit_test(interrupts_are_never_swallowed),
      cmocka_unit_test(an_interrupt_just_before_a_visitor_is_kept),
      cmocka_unit_test(an_interrupt_between_two_parts_stops_the_next),
      cmocka_unit_test(waits_serve_visitors_and_take_as_long),
      cmocka_unit_test(none_comes_into_a_finalizer_or_behind_an_interrupt),
      cmocka_unit_test(a_hook_of_the_user_survives),
      cmocka_unit_test(a_look_comes_into_a_visit_and_a_visit_does_not),
      cmocka_unit_test(visitors_take_half_the_time_at_most),
      cmocka_unit_test(an_interrupt_means_all_that_have_just_begun),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
