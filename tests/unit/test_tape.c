// SPDX-License-Identifier: MIT
// The tape: order, sums, what is held and let go of, hooks, interrupts; with the library's operators and some toys.
#include <cmocka.h>
#include <string.h>

#include "loops.h"
#include "nablua/events.h"
#include "nablua/library.h"
#include "nablua/memory.h"
#include "nablua/optimize.h"

// ---- helpers ----

static Tensor *number(double value, bool requires_grad) {
  Error err;
  Tensor *t = nb_tensor_scalar(value, NB_F64, &err);
  t->requires_grad = requires_grad;
  return t;
}

static Tensor *call(const Op *op, Tensor *x, Tensor *y, Error *err) {
  Tensor *out[NB_MAX_OUTPUTS];
  return nb_apply(op, (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}}, out, err) ? out[0] : NULL;
}

static Tensor *apply(const char *name, Tensor *x, Tensor *y) {
  Error err;
  Tensor *out = call(nb_op_find(name), x, y, &err);
  assert_non_null(out);
  return out;
}

static double value(const Tensor *t) {
  return nb_tensor_get(t, 0);
}

static const BackwardOptions plainly = {.retain_graph = false};

static size_t live;

static int set_up(void **state) {
  Error err;
  (void)state;
  if (!nb_open(&err)) return -1;
  Tensor *first = number(1, false);  // what is made once is made
  nb_tensor_release(&first);
  live = nb_memory_stats().live;
  return 0;
}

// Nothing is left, and nothing is left off.
static int tear_down(void **state) {
  (void)state;
  return nb_memory_stats().live == live && nb_grad_enabled() && !nb_interrupt_is_held() && !nb_interrupted() ? 0 : -1;
}

// ---- toys ----

static int rules;        // run by toys' nodes
static bool interrupts;  // whether a rule or a forward asks for a stop

static bool shape_like(Call *c, Error *err) {
  (void)err;
  c->layout[0] = c->args[0].tensor->layout;
  return true;
}

static bool forward_copy(Call *c, Error *err) {
  nb_copy(c->out[0], c->args[0].tensor);
  if (interrupts) nb_interrupt();
  return nb_poll(err);
}

static bool backward_copy(Backward *b) {
  rules++;
  if (interrupts) nb_interrupt();
  return nb_give(b, 0, b->grad[0]);
}

static bool backward_refusing(Backward *b) {
  return nb_fail(b->scope->err, NB_ERROR_STATE, "this rule refuses");
}

static const Op same = {.name = "same",
                        .params = {TENSOR("x")},
                        .inplace = true,
                        .shape = shape_like,
                        .forward = forward_copy,
                        .backward = backward_copy};
static const Op refusing = {.name = "refusing",
                            .params = {TENSOR("x")},
                            .shape = shape_like,
                            .forward = forward_copy,
                            .backward = backward_refusing};

// ---- order and sums ----

// A net of sums whose nodes have many users: only in descending order has all arrived when a node's turn comes.
static void test_nodes_are_visited_after_all_that_use_them(void **state) {
  enum { NODES = 200 };
  Error err;
  Tensor *t[NODES + 1];
  double slope[NODES + 1] = {1};
  unsigned seed = 12345;
  (void)state;
  t[0] = number(1, true);
  for (int i = 1; i <= NODES; i++) {
    int from = i > 12 ? i - 12 : 0, a = i - 1, b;
    seed = seed * 1103515245u + 12345u;
    b = from + (int)(seed >> 16) % (i - from);
    // Halved, so that the slopes stay small: exact in f64 all the same.
    Tensor *sum = apply("add", t[a], t[b]), *half = number(0.5, false);
    t[i] = apply("mul", sum, half);
    slope[i] = (slope[a] + slope[b]) / 2;
    nb_tensor_release(&sum);
    nb_tensor_release(&half);
  }
  assert_true(nb_backward(t[NODES], NULL, plainly, &err));
  assert_float_equal(value(t[0]->grad), slope[NODES], 1e-12);
  for (int i = 0; i <= NODES; i++) nb_tensor_release(&t[i]);
}

// One gradient goes two ways, of which one is a sum.
static void test_a_sum_does_not_change_what_others_got(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, true), *y = number(5, true), *inner = apply("add", x, y), *J = apply("add", inner, x);
  assert_true(nb_backward(J, NULL, plainly, &err));
  assert_float_equal(value(x->grad), 2, 0);
  assert_float_equal(value(y->grad), 1, 0);
  assert_ptr_not_equal(x->grad->storage, y->grad->storage);
  // And again, onto what is there.
  Tensor *K = apply("mul", x, y);
  assert_true(nb_backward(K, NULL, plainly, &err));
  assert_float_equal(value(x->grad), 7, 0);
  assert_float_equal(value(y->grad), 4, 0);
  nb_tensor_release(&x);
  nb_tensor_release(&y);
  nb_tensor_release(&inner);
  nb_tensor_release(&J);
  nb_tensor_release(&K);
}

static void test_gradients_of_what_is_between_and_of_what_is_not_there(void **state) {
  Error err;
  Tensor *results[3];
  (void)state;
  Tensor *x = number(3, true), *alone = number(1, true), *y = apply("mul", x, x), *J = apply("mul", y, x);
  Tensor *const of[] = {x, y, alone};
  assert_true(nb_grad(J, NULL, of, 3, plainly, results, &err));
  assert_float_equal(value(results[0]), 27, 0);
  assert_float_equal(value(results[1]), 3, 0);
  assert_null(results[2]);
  assert_null(x->grad);  // nothing is deposited
  nb_tensor_release(&results[0]);
  nb_tensor_release(&results[1]);
  nb_tensor_release(&x);
  nb_tensor_release(&alone);
  nb_tensor_release(&y);
  nb_tensor_release(&J);
}

// ---- what is held, and until when ----

static void test_a_walk_frees_what_it_has_passed(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, true), *y = apply("mul", x, x);
  Storage *held = x->storage;
  int refs = x->refs;
  Tensor *J = apply("mul", y, y);
  nb_tensor_release(&y);
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = true}, &err));
  assert_true(nb_backward(J, NULL, plainly, &err));
  assert_float_equal(value(x->grad), 2 * 108, 0);
  assert_false(nb_backward(J, NULL, plainly, &err));
  assert_non_null(strstr(err.message, "was freed by the backward"));
  // What the nodes read is let go of while J is still there.
  assert_int_equal(held->refs, 1);
  assert_true(x->refs <= refs);
  nb_tensor_release(&J);
  assert_int_equal(x->refs, 1);
  nb_tensor_release(&x);
}

static void test_nothing_is_held_that_no_rule_reads(void **state) {
  (void)state;
  Tensor *x = number(3, true), *c = number(2, false), *sum = apply("add", x, c);
  assert_int_equal(c->refs, 1);  // of an addition the shape is enough
  assert_int_equal(c->storage->refs, 1);
  Tensor *product = apply("mul", sum, c);
  assert_int_equal(c->refs, 2);
  nb_tensor_release(&product);
  assert_int_equal(c->refs, 1);
  nb_tensor_release(&sum);
  nb_tensor_release(&c);
  nb_tensor_release(&x);
}

// ---- failures ----

static void test_a_walk_that_fails_leaves_no_trace(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, true), *y = call(&refusing, x, NULL, &err), *z = apply("mul", y, y);
  size_t before = nb_memory_stats().live;
  assert_false(nb_backward(z, NULL, plainly, &err));
  assert_string_equal(err.message, "this rule refuses");
  assert_true(nb_grad_enabled());
  assert_null(x->grad);
  assert_true(nb_memory_stats().live <= before);
  nb_tensor_release(&x);
  nb_tensor_release(&y);
  nb_tensor_release(&z);
}

// ---- interrupts ----

static void test_an_operator_sees_an_interrupt(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, true);
  nb_interrupt();
  assert_null(call(nb_op_find("add"), x, x, &err));
  assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
  nb_interrupt_clear();
  nb_tensor_release(&x);
}

static void test_a_write_in_place_is_whole_or_not_begun(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, false), *y = number(5, false);
  uint32_t version = x->storage->version;
  Value args[NB_MAX_PARAMS] = {{.tensor = x}, {.tensor = y}};
  nb_interrupt();
  assert_false(nb_apply_inplace(nb_op_find("add"), args, &err));
  assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
  assert_float_equal(value(x), 3, 0);
  assert_int_equal(x->storage->version, version);
  nb_interrupt_clear();
  interrupts = true;
  assert_true(nb_apply_inplace(&same, args, &err));  // the stop comes while it writes
  interrupts = false;
  assert_int_equal(x->storage->version, version + 1);
  assert_false(nb_poll(&err));
  nb_interrupt_clear();
  nb_tensor_release(&x);
  nb_tensor_release(&y);
}

static void test_a_walk_stops_between_nodes(void **state) {
  Error err;
  (void)state;
  Tensor *x = number(3, true), *y = call(&same, x, NULL, &err), *z = call(&same, y, NULL, &err);
  rules = 0;
  interrupts = true;
  assert_false(nb_backward(z, NULL, plainly, &err));
  interrupts = false;
  assert_int_equal(err.kind, NB_ERROR_INTERRUPT);
  assert_int_equal(rules, 1);
  assert_null(x->grad);
  nb_interrupt_clear();
  nb_tensor_release(&x);
  nb_tensor_release(&y);
  nb_tensor_release(&z);
}

// ---- hooks ----

typedef struct Doubler {
  int calls, released;
  Hook *removes;
} Doubler;

static Tensor *twice(void *user, Tensor *grad, Error *err) {
  Doubler *d = user;
  d->calls++;
  nb_hook_remove(d->removes);
  return call(nb_op_find("add"), grad, grad, err);
}

static void released(void *user) {
  ((Doubler *)user)->released++;
}

static Hook *hook(Tensor *t, Doubler *d) {
  Error err;
  Hook *h = nb_tensor_hook(t, (HookFunction){twice, released, d}, &err);
  assert_non_null(h);
  return h;
}

static void test_hooks_change_gradients_until_they_are_removed(void **state) {
  Error err;
  Doubler a = {0}, b = {0}, c = {0};
  (void)state;
  Tensor *x = number(3, true), *y = apply("mul", x, x);
  Hook *first = hook(y, &a), *second = hook(y, &b), *leaf = hook(x, &c);
  a.removes = second;
  Tensor *J = apply("mul", y, y);
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = true}, &err));
  assert_float_equal(value(x->grad), 108 * 4, 0);
  assert_int_equal(a.calls, 1);
  assert_int_equal(b.calls, 0);
  assert_int_equal(b.released, 1);
  nb_hook_remove(leaf);
  nb_tensor_release(&x->grad);
  assert_true(nb_backward(J, NULL, plainly, &err));
  assert_float_equal(value(x->grad), 108 * 2, 0);
  assert_int_equal(c.calls, 1);
  nb_hook_release(&first);
  nb_hook_release(&second);
  nb_hook_release(&leaf);
  nb_tensor_release(&x);
  nb_tensor_release(&y);
  nb_tensor_release(&J);
  assert_int_equal(a.released, 1);
  assert_int_equal(c.released, 1);
}

// ---- writes that are told ----

static int told;

static bool refuse_the_second(void *user, Storage *s, Error *err) {
  (void)user, (void)s;
  return ++told != 2 || nb_fail(err, NB_ERROR_MEMORY, "no memory for a copy");
}

// All that a step will write is told before the first weight moves.
static void test_a_step_that_is_refused_has_not_begun(void **state) {
  Error err;
  Listener listener = {.voice = NB_WRITE, .overwriting = refuse_the_second};
  const OptimizerRule rule = {.kind = NB_SGD, .lr = 0.5};
  OptimizerSlot slots[2];
  (void)state;
  for (int i = 0; i < 2; i++) {
    slots[i] = (OptimizerSlot){{.weight = number(3 + i, true), .step = number(0, false)}};
    slots[i].weight->grad = number(1, false);
  }
  told = 0;
  nb_listen(&listener);
  assert_false(nb_optimizer_step(&rule, slots, 2, &err));
  assert_int_equal(told, 2);
  for (int i = 0; i < 2; i++) {
    assert_true(value(slots[i].weight) == 3 + i);
    assert_float_equal(value(slots[i].step), 0, 0);
    assert_int_equal(slots[i].weight->storage->version, 0);
  }
  assert_true(nb_optimizer_step(&rule, slots, 2, &err));
  assert_int_equal(told, 6);
  nb_unlisten(&listener);
  for (int i = 0; i < 2; i++) {
    assert_true(value(slots[i].weight) == 2.5 + i);
    assert_float_equal(value(slots[i].step), 1, 0);
    assert_int_equal(slots[i].weight->storage->version, 1);
    nb_tensor_release(&slots[i].weight);
    nb_tensor_release(&slots[i].step);
  }
}

// ---- arrivals ----

static const Tensor *arrivals[8];
static int arrived, at_walk;
static double arrival_values[8];

static bool note_arrival(void *user, Tensor *leaf, Tensor **grad, Error *err) {
  (void)user, (void)err;
  arrival_values[arrived] = value(*grad);
  arrivals[arrived++] = leaf;
  assert_null(leaf->grad);  // it is deposited later
  Tensor *twice = apply("add", *grad, *grad);
  nb_tensor_release(grad);
  *grad = twice;
  return true;
}

static bool note_walk(void *user, bool whole, Error *err) {
  (void)user, (void)err;
  at_walk = whole ? arrived : -1;
  return true;
}

// d(x·y + y·z)/dy has two parts: y comes when both are there, and x, whose product was made first, last.
static void test_a_leaf_arrives_once_with_all_its_parts(void **state) {
  Error err;
  Listener listener = {.voice = NB_INNER, .arrived = note_arrival, .walked = note_walk};
  Tensor *x = number(2, true), *y = number(3, true), *z = number(5, true);
  (void)state;
  Tensor *xy = apply("mul", x, y), *yz = apply("mul", y, z), *J = apply("add", xy, yz);
  arrived = 0, at_walk = 0;
  nb_listen(&listener);
  assert_true(nb_backward(J, NULL, plainly, &err));
  nb_unlisten(&listener);
  assert_int_equal(arrived, 3);
  assert_int_equal(at_walk, 3);
  assert_ptr_equal(arrivals[0], z);
  assert_true(arrivals[1] != arrivals[2]);
  for (int i = 1; i < 3; i++) assert_true(arrival_values[i] == (arrivals[i] == y ? 7 : 3));
  assert_true(value(x->grad) == 6 && value(y->grad) == 14 && value(z->grad) == 6);  // as the listener replaced them
  Tensor *all[] = {x, y, z, xy, yz, J};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) nb_tensor_release(&all[i]);
}

// ---- counting operations ----

static Tensor *zeros(int ndim, int64_t a, int64_t b, int64_t c) {
  Error err;
  return nb_tensor_new(&(Layout){.dtype = NB_F32, .ndim = ndim, .shape = {a, b, c}}, &err);
}

// Of rows that only backward applies: what their sums and products by hand come to.
static void test_operations_of_backward_rows_are_counted(void **state) {
  (void)state;
  Tensor *q = zeros(3, 2, 3, 4), *k = zeros(3, 2, 5, 4), *v = zeros(3, 2, 5, 6), *y = zeros(3, 2, 3, 6),
         *lse = zeros(2, 2, 3, 0), *qkv = zeros(3, 2, 3, 24), *out = zeros(3, 2, 3, 8), *heads = zeros(3, 2, 2, 3);
  const Value attention[NB_MAX_ARGS] = {{.tensor = q}, {.tensor = k}, {.tensor = v},  {.tensor = NULL},
                                        {.tensor = y}, {.tensor = y}, {.tensor = lse}};
  // 2·3·5 scores; for each q·k again, δq and δk of depth 4, δp and δv of width 6, and 4 more.
  assert_float_equal(nb_op_flops(nb_op_find("attention_grad"), attention), 30 * (2 * (3 * 4 + 2 * 6) + 4), 0);
  const Value self[NB_MAX_ARGS] = {{.tensor = qkv}, {.integer = 2},  {.tensor = NULL},
                                   {.tensor = out}, {.tensor = out}, {.tensor = heads}};
  assert_float_equal(nb_op_flops(nb_op_find("self_attention_grad"), self), 2 * 2 * 9 * (2 * (3 * 4 + 2 * 4) + 4), 0);
  // Of an LSTM's 3 steps, 2 sequences and 4 units: 4 gates, each with 2·4 by the recurrent weight, and 2 more.
  Tensor *weight = zeros(2, 16, 4, 0), *states = zeros(3, 4, 2, 4), *cells = zeros(3, 4, 2, 4),
         *kept = zeros(3, 3, 2, 20);
  const Value steps[NB_MAX_ARGS] = {{.tensor = weight}, {.tensor = states}, {.tensor = cells}, {.tensor = kept},
                                    {.tensor = states}, {.tensor = NULL},   {.tensor = NULL},  {.choice = 0}};
  assert_float_equal(nb_op_flops(nb_op_find("recurrent_grad"), steps), 3 * 2 * 4 * 4 * (2 * 4 + 2), 0);
  const Value sums[NB_MAX_ARGS] = {{.tensor = q}, {.tensor = q}, {.tensor = q}};
  assert_float_equal(nb_op_flops(nb_op_find("multiply_add"), sums), 2 * 24, 0);
  Tensor *all[] = {q, k, v, y, lse, qkv, out, heads, weight, states, cells, kept};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) nb_tensor_release(&all[i]);
}

// ---- what no front end asks for ----

static void test_what_a_row_cannot_do_is_a_sentence(void **state) {
  Error err;
  Tensor *out[NB_MAX_OUTPUTS], *x = zeros(2, 3, 4, 0), *whole = nb_tensor_whole(3, NB_I64, &err);
  int64_t sizes[9] = {12, 1, 1, 1, 1, 1, 1, 1, 1};
  const Value many[NB_MAX_ARGS] = {{.tensor = x}, {.ints = {sizes, 9}}};
  (void)state;
  assert_false(nb_apply(nb_op_find("reshape"), many, out, &err));
  assert_non_null(strstr(err.message, "at most 8 dimensions, not 9"));
  static const Op idle = {.name = "idle", .params = {TENSOR("x")}, .shape = nb_shape_unary};
  assert_null(call(&idle, whole, NULL, &err));
  assert_string_equal(err.message, "idle: is not defined for i64");
  nb_tensor_release(&x);
  nb_tensor_release(&whole);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, NULL, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_nodes_are_visited_after_all_that_use_them),
      CASE(test_a_sum_does_not_change_what_others_got),
      CASE(test_gradients_of_what_is_between_and_of_what_is_not_there),
      CASE(test_a_walk_frees_what_it_has_passed),
      CASE(test_nothing_is_held_that_no_rule_reads),
      CASE(test_a_walk_that_fails_leaves_no_trace),
      CASE(test_an_operator_sees_an_interrupt),
      CASE(test_a_write_in_place_is_whole_or_not_begun),
      CASE(test_a_walk_stops_between_nodes),
      CASE(test_hooks_change_gradients_until_they_are_removed),
      CASE(test_a_step_that_is_refused_has_not_begun),
      CASE(test_a_leaf_arrives_once_with_all_its_parts),
      CASE(test_operations_of_backward_rows_are_counted),
      CASE(test_what_a_row_cannot_do_is_a_sentence),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
