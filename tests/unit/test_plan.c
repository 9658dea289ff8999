// SPDX-License-Identifier: MIT
// Plans without Lua: recording, comparing, replaying on other inputs, and what makes one unfit, unready or stop.
#include <cmocka.h>
#include <string.h>

#include "loops.h"
#include "nablua/library.h"
#include "nablua/memory.h"
#include "nablua/plan.h"

// ---- helpers ----

enum { ROWS = 3, COLUMNS = 4 };

static Tensor *matrix(double first, int rows, int columns, DType dtype) {
  Error err;
  Tensor *t = nb_tensor_new(&(Layout){.dtype = dtype, .ndim = 2, .shape = {rows, columns}}, &err);
  for (int i = 0; i < rows * columns; i++) nb_tensor_set(t, i, first + 0.25 * i);
  return t;
}

static Tensor *call(const Op *op, Tensor *x, Tensor *y, Error *err) {
  Tensor *out[NB_MAX_OUTPUTS];
  return nb_apply(op, (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}}, out, err) ? out[0] : NULL;
}

// The result of an operator in place of *x, which is let go of.
static void then(Tensor **x, const char *name, Tensor *y) {
  Error err;
  Tensor *out = call(nb_op_find(name), *x, y, &err);
  assert_non_null(out);
  nb_tensor_release(x);
  *x = out;
}

static void then_sum(Tensor **x) {
  Error err;
  Tensor *out[NB_MAX_OUTPUTS];
  assert_true(nb_apply(nb_op_find("sum"), (Value[NB_MAX_PARAMS]){{.tensor = *x}, {.ints = {NULL, -1}}}, out, &err));
  nb_tensor_release(x);
  *x = out[0];
}

static void in_place(const char *name, Tensor *x, Tensor *y) {
  Error err;
  assert_true(nb_apply_inplace(nb_op_find(name), (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}}, &err));
}

static void assert_same(const Tensor *have, const Tensor *want) {
  int64_t n = nb_layout_numel(&want->layout);
  assert_int_equal(nb_layout_numel(&have->layout), n);
  for (int64_t i = 0; i < n; i++) assert_float_equal(nb_tensor_get(have, i), nb_tensor_get(want, i), 1e-12);
}

static size_t live;
static Tensor *w, *v;  // what functions find outside

static int set_up(void **state) {
  Error err;
  (void)state;
  return nb_open(&err) ? 0 : -1;
}

static int begin(void **state) {
  (void)state;
  live = nb_memory_stats().live;
  w = matrix(-1, COLUMNS, COLUMNS, NB_F64);
  v = matrix(2, ROWS, COLUMNS, NB_F64);
  return 0;
}

static int end(void **state) {
  (void)state;
  nb_tensor_release(&w);
  nb_tensor_release(&v);
  return nb_memory_stats().live == live && nb_grad_enabled() && !nb_interrupt_is_held() && !nb_interrupted() ? 0 : -1;
}

typedef Tensor *Function(Tensor *x);

// The plan of two recordings that agree, finished; or NULL with `err`.  `stand_in`, when given, is kept for the caller.
static Plan *plan_of(Function *f, bool grad, Tensor **stand_in, Error *err) {
  Plan *plans[2] = {NULL, NULL};
  bool ok = true;
  nb_set_grad_enabled(grad);
  for (int i = 0; i < 2 && ok; i++) {
    Tensor *x = matrix(i, ROWS, COLUMNS, NB_F64);
    plans[i] = nb_plan_begin(&x, 1, err);
    assert_non_null(plans[i]);
    Tensor *result = f(x);
    ok = nb_plan_end(plans[i], &result, result != NULL, err);
    nb_tensor_release(&result);
    if (stand_in && i == 0)
      *stand_in = x;
    else
      nb_tensor_release(&x);
  }
  ok = ok && nb_plan_same(plans[0], plans[1], err) && (nb_plan_free(&plans[1]), nb_plan_finish(plans[0], err));
  nb_plan_free(&plans[1]);
  if (!ok) nb_plan_free(&plans[0]);
  nb_set_grad_enabled(true);
  return plans[0];
}

static Plan *sure_plan_of(Function *f, bool grad) {
  Error err;
  Plan *p = plan_of(f, grad, NULL, &err);
  if (!p) print_message("%s\n", err.message);
  assert_non_null(p);
  return p;
}

// Runs the plan and its function on the same new inputs.
static void assert_replays(Plan *p, Function *f) {
  Error err;
  for (int k = 0; k < 3; k++) {
    Tensor *x = matrix(10 * k - 7, ROWS, COLUMNS, NB_F64);
    nb_set_grad_enabled(false);
    Tensor *want = f(x);
    nb_set_grad_enabled(true);
    assert_true(nb_plan_fits(p, &x, 1));
    assert_true(nb_plan_ready(p));
    assert_true(nb_plan_run(p, &x, &err));
    assert_same(nb_plan_result(p, 0), want);
    nb_tensor_release(&want);
    nb_tensor_release(&x);
  }
}

// ---- functions ----

// Products whose operands are used again later, and elementwise steps between them.
static Tensor *products(Tensor *x) {
  Tensor *a = nb_tensor_retain(x), *b, *c;
  then(&a, "matmul", w);
  b = nb_tensor_retain(a);
  then(&b, "matmul", w);
  c = nb_tensor_retain(b);
  then(&c, "matmul", w);
  then(&c, "add", a);
  then(&b, "sub", v);
  then(&c, "mul", b);
  then(&c, "tanh", NULL);
  then(&c, "add", x);
  nb_tensor_release(&a);
  nb_tensor_release(&b);
  return c;
}

// Many small steps, none of which is a neighbour's.
static Tensor *steps(Tensor *x) {
  Tensor *a = nb_tensor_retain(x);
  for (int i = 0; i < 12; i++) {
    then_sum(&a);
    then(&a, "mul", v);
  }
  return a;
}

static Tensor *constants(Tensor *x) {
  static double last = 1;
  Error err;
  Tensor *a = nb_tensor_retain(x), *four = nb_tensor_new(&(Layout){.dtype = NB_F64, .ndim = 1, .shape = {4}}, &err);
  for (int i = 0; i < 4; i++) nb_tensor_set(four, i, i < 3 ? 1 : last);
  last *= w->requires_grad ? 2 : 1;
  then(&a, "mul", four);
  nb_tensor_release(&four);
  return a;
}

static Tensor *another_outside(Tensor *x) {
  Tensor *a = nb_tensor_retain(x), *fresh = matrix(1, 40 * COLUMNS, COLUMNS, NB_F64), *sum = nb_tensor_retain(fresh);
  then_sum(&sum);
  then(&a, "mul", sum);
  nb_tensor_release(&fresh);
  nb_tensor_release(&sum);
  return a;
}

// Leaves a gradient in w, which must have none before.
static Tensor *backward(Tensor *x) {
  Error err;
  Tensor *J = nb_tensor_retain(x);
  then(&J, "matmul", w);
  then_sum(&J);
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err));
  nb_tensor_release(&J);
  return NULL;
}

// ---- what is replayed ----

static void test_a_plan_does_what_its_function_does(void **state) {
  (void)state;
  Plan *p = sure_plan_of(products, false);
  assert_replays(p, products);
  nb_plan_free(&p);
  p = sure_plan_of(steps, false);
  assert_replays(p, steps);
  nb_plan_free(&p);
}

static void test_it_fits_inputs_of_the_same_layout_alone(void **state) {
  (void)state;
  Plan *p = sure_plan_of(products, false);
  Tensor *right = matrix(0, ROWS, COLUMNS, NB_F64), *narrow = matrix(0, ROWS, COLUMNS, NB_F32),
         *wide = matrix(0, ROWS, COLUMNS + 1, NB_F64), *turned = matrix(0, COLUMNS, ROWS, NB_F64),
         *tracked = matrix(0, ROWS, COLUMNS, NB_F64);
  Error err;
  Tensor *both[] = {right, right}, *across = nb_tensor_alias(turned, &right->layout, &err);
  across->layout.strides[0] = 1, across->layout.strides[1] = ROWS;
  tracked->requires_grad = true;
  assert_true(nb_plan_fits(p, &right, 1));
  assert_false(nb_plan_fits(p, both, 2));
  assert_false(nb_plan_fits(p, &narrow, 1));
  assert_false(nb_plan_fits(p, &wide, 1));
  assert_false(nb_plan_fits(p, &turned, 1));
  assert_false(nb_plan_fits(p, &across, 1));
  assert_false(nb_plan_fits(p, &tracked, 1));
  Tensor **all[] = {&right, &narrow, &wide, &turned, &across, &tracked};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) nb_tensor_release(all[i]);
  nb_plan_free(&p);
}

static void test_stand_ins_keep_their_own_memory(void **state) {
  Error err;
  Tensor *stand_in, *x = matrix(5, ROWS, COLUMNS, NB_F64);
  (void)state;
  Plan *p = plan_of(products, false, &stand_in, &err);
  assert_non_null(p);
  const char *own = stand_in->storage->data;
  assert_true(nb_plan_run(p, &x, &err));
  assert_ptr_equal(stand_in->storage->data, own);
  nb_plan_free(&p);
  nb_tensor_release(&stand_in);
  nb_tensor_release(&x);
}

// ---- what two recordings must have in common ----

static void test_constants_are_the_same_by_value(void **state) {
  Error err;
  (void)state;
  Plan *p = sure_plan_of(constants, false);
  nb_plan_free(&p);
  w->requires_grad = true;  // the last of four is another at each call
  assert_null(plan_of(constants, false, NULL, &err));
  assert_non_null(strstr(err.message, "reads a tensor that is another at each call"));
}

static void test_what_lies_outside_is_the_same_tensor(void **state) {
  Error err;
  (void)state;
  assert_null(plan_of(another_outside, false, NULL, &err));
  assert_non_null(strstr(err.message, "reads a tensor that is another at each call"));
}

// ---- when it may not be replayed ----

static Tensor *backward_alone(Tensor *x) {
  nb_tensor_release(&w->grad);
  return backward(x);
}

static void test_it_is_ready_when_gradients_are_as_they_were(void **state) {
  Error err;
  (void)state;
  w->requires_grad = true;
  Plan *p = plan_of(backward_alone, true, NULL, &err);
  assert_non_null(p);
  nb_tensor_release(&w->grad);
  assert_true(nb_plan_ready(p));
  Tensor *x = matrix(1, ROWS, COLUMNS, NB_F64);
  assert_true(nb_plan_run(p, &x, &err));
  assert_non_null(w->grad);
  // ∂/∂w[i][j] of Σ x·w is the sum of x's column i.
  for (int i = 0; i < COLUMNS; i++) {
    double sum = 0;
    for (int r = 0; r < ROWS; r++) sum += nb_tensor_get(x, r * COLUMNS + i);
    for (int j = 0; j < COLUMNS; j++) assert_float_equal(nb_tensor_get(w->grad, i * COLUMNS + j), sum, 1e-12);
  }
  assert_false(nb_plan_ready(p));  // now there is one, to which backward would add
  nb_tensor_release(&w->grad);
  assert_true(nb_plan_ready(p));
  assert_true(nb_plan_leaves_same(p));
  w->requires_grad = false;
  assert_false(nb_plan_leaves_same(p));
  nb_plan_free(&p);
  nb_tensor_release(&x);
}

// ---- interrupts ----

static void test_a_replay_stops_between_steps(void **state) {
  Error err;
  Function *const each[] = {products, steps};
  Tensor *x = matrix(5, ROWS, COLUMNS, NB_F64);
  (void)state;
  for (int i = 0; i < 2; i++) {
    Plan *p = sure_plan_of(each[i], false);
    nb_interrupt();
    assert_false(nb_plan_run(p, &x, &err));
    assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
    assert_true(nb_grad_enabled());
    nb_interrupt_clear();
    assert_replays(p, each[i]);
    nb_plan_free(&p);
  }
  nb_tensor_release(&x);
}

static bool interrupts;

static bool shape_like(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  return true;
}

static bool forward_copy(Call *c, Error *err) {
  (void)err;
  nb_copy(c->out[0], c->args[0].tensor);
  if (interrupts) nb_interrupt();
  return true;
}

static const Op copying = {.name = "copying", .params = {TENSOR("x")}, .shape = shape_like, .forward = forward_copy};

static Tensor *writes_twice(Tensor *x) {
  Error err;
  in_place("add", v, x);
  Tensor *copy = call(&copying, x, NULL, &err);
  assert_non_null(copy);
  then(&copy, "add", v);
  in_place("add", v, x);
  return copy;
}

static void test_a_replay_that_has_written_goes_on_to_the_end(void **state) {
  Error err;
  (void)state;
  Plan *p = sure_plan_of(writes_twice, false);
  Tensor *x = matrix(5, ROWS, COLUMNS, NB_F64);
  double before = nb_tensor_get(v, 1);
  interrupts = true;
  assert_true(nb_plan_run(p, &x, &err));
  interrupts = false;
  const float after = (float)(before + 2 * nb_tensor_get(x, 1));
  assert_float_equal(nb_tensor_get(v, 1), after, 1e-12);
  assert_float_equal(nb_tensor_get(nb_plan_result(p, 0), 1), after, 1e-12);
  assert_false(nb_poll(&err));  // the stop has waited
  nb_interrupt_clear();
  nb_plan_free(&p);
  nb_tensor_release(&x);
}

// ---- failures ----

static void test_nothing_is_left_when_memory_fails(void **state) {
  (void)state;
  for (uint64_t n = 1;; n++) {
    Error err;
    Tensor *x = matrix(1, ROWS, COLUMNS, NB_F64);
    Plan *p = nb_plan_begin(&x, 1, &err);
    assert_non_null(p);
    nb_set_grad_enabled(false);
    Tensor *result = products(x);
    assert_true(nb_plan_end(p, &result, 1, &err));
    nb_tensor_release(&result);
    nb_set_grad_enabled(true);
    nb_memory_fail_at(n);
    bool ok = nb_plan_finish(p, &err), done = nb_memory_failing();
    nb_memory_fail_at(0);
    // Some steps can do without memory of their own.
    if (ok) assert_replays(p, products);
    nb_plan_free(&p);
    nb_tensor_release(&x);
    if (done) return;
  }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_a_plan_does_what_its_function_does),   CASE(test_it_fits_inputs_of_the_same_layout_alone),
      CASE(test_stand_ins_keep_their_own_memory),      CASE(test_constants_are_the_same_by_value),
      CASE(test_what_lies_outside_is_the_same_tensor), CASE(test_it_is_ready_when_gradients_are_as_they_were),
      CASE(test_a_replay_stops_between_steps),         CASE(test_a_replay_that_has_written_goes_on_to_the_end),
      CASE(test_nothing_is_left_when_memory_fails),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
