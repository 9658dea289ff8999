// SPDX-License-Identifier: MIT
// The core alone: applying, recording, walking back and telling, with two toy operators and no family of the library's.
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "loops.h"
#include "nablua/args.h"
#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/memory.h"
#include "nablua/modes.h"
#include "nablua/op.h"
#include "nablua/random.h"
#include "nablua/tape.h"
#include "nablua/trace.h"

// ---- two toys ----

NB_UNARY(twice_f32, float, float, x + x)
NB_UNARY(twice_f64, double, double, x + x)
NB_BINARY(add_f32, float, float, x + y)
NB_BINARY(add_f64, double, double, x + y)

static bool twice_backward(Backward *b) {
  return nb_give(b, 0, nb_unary(b->scope, "twice", b->grad[0]));
}

static bool add_backward(Backward *b) {
  return (!nb_wants(b, 0) || nb_give(b, 0, b->grad[0])) && (!nb_wants(b, 1) || nb_give(b, 1, b->grad[0]));
}

static const Op toys[] = {
    {.name = "twice",
     .params = {TENSOR("x")},
     .inplace = true,
     .saves = NB_SAVE_OUT(0),  // which it does not need, so that a change is noticed
     .shape = nb_shape_unary,
     .forward = nb_forward_elementwise,
     .backward = twice_backward,
     .loops = NB_FLOAT_LOOPS(twice)},
    {.name = "add",
     .params = {TENSOR("x"), TENSOR("y")},
     .inplace = true,
     .shape = nb_shape_elementwise,
     .forward = nb_forward_elementwise,
     .backward = add_backward,
     .loops = NB_FLOAT_LOOPS(add)},
};
static const OpFamily family = {"Toys", toys, COUNT(toys)};
static const OpFamily *const families[] = {&family, NULL};

static int set_up(void **state) {
  Error err;
  (void)state;
  return nb_op_register(families, &err) ? 0 : -1;
}

// ---- helpers ----

static Tensor *leaf(double value) {
  Error err;
  Tensor *t = nb_tensor_scalar(value, NB_F64, &err);
  t->requires_grad = true;
  return t;
}

static Tensor *apply(const char *name, Tensor *x, Tensor *y, Error *err) {
  Tensor *out[NB_MAX_OUTPUTS];
  return nb_apply(nb_op_find(name), (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}}, out, err) ? out[0] : NULL;
}

static void release(Tensor *a, Tensor *b, Tensor *c) {
  nb_tensor_release(&a);
  nb_tensor_release(&b);
  nb_tensor_release(&c);
}

// ---- the table ----

static void test_rows_are_found_by_name(void **state) {
  Error err;
  (void)state;
  assert_ptr_equal(nb_op_find("twice"), &toys[0]);
  assert_null(nb_op_find("matmul"));
  assert_null(nb_op_need("matmul", &err));
  assert_string_equal(err.message, "there is no operator named matmul");
}

static void test_a_name_that_stands_twice_is_refused(void **state) {
  Error err;
  const OpFamily more = {"More toys", toys, 1};
  const OpFamily *const doubled[] = {&family, &more, NULL};
  (void)state;
  assert_false(nb_op_register(doubled, &err));
  assert_non_null(strstr(err.message, "twice has two rows"));
  assert_non_null(strstr(err.message, "More toys"));
  assert_true(nb_op_register(families, &err));
}

// ---- applying and walking back ----

static void test_the_gradient_of_two_paths_is_their_sum(void **state) {
  Error err;
  (void)state;
  Tensor *x = leaf(3), *y = apply("twice", x, NULL, &err), *J = apply("add", y, x, &err);
  assert_float_equal(nb_tensor_get(J, 0), 9, 0);
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err));
  assert_float_equal(nb_tensor_get(x->grad, 0), 3, 0);
  release(x, y, J);
}

static void test_second_derivatives_are_recorded(void **state) {
  Error err;
  Tensor *g;
  (void)state;
  Tensor *x = leaf(3), *seed = leaf(1), *J = apply("twice", x, NULL, &err);
  assert_true(nb_grad(J, seed, &x, 1, (BackwardOptions){.create_graph = true}, &g, &err));
  assert_float_equal(nb_tensor_get(g, 0), 2, 0);
  assert_true(nb_tensor_tracked(g));  // 2·seed depends on the seed
  assert_true(nb_backward(g, NULL, (BackwardOptions){.retain_graph = false}, &err));
  assert_float_equal(nb_tensor_get(seed->grad, 0), 2, 0);
  nb_tensor_release(&g);
  release(x, seed, J);
}

static void test_a_value_that_changed_in_place_is_noticed(void **state) {
  Error err;
  (void)state;
  Tensor *x = leaf(3), *y = apply("twice", x, NULL, &err), *J = apply("add", y, x, &err);
  nb_set_grad_enabled(false);
  assert_true(nb_apply_inplace(&toys[0], (Value[NB_MAX_PARAMS]){{.tensor = y}}, &err));
  nb_set_grad_enabled(true);
  assert_float_equal(nb_tensor_get(y, 0), 12, 0);
  assert_false(nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err));
  assert_non_null(strstr(err.message, "changed in place"));
  release(x, y, J);
}

static void test_nothing_is_left_when_memory_fails(void **state) {
  (void)state;
  size_t before = nb_memory_stats().live;
  for (uint64_t n = 1;; n++) {
    Error err;
    nb_memory_fail_at(n);
    Tensor *x = nb_tensor_scalar(1, NB_F64, &err);
    if (x) x->requires_grad = true;
    Tensor *y = x ? apply("twice", x, NULL, &err) : NULL, *J = y ? apply("add", y, x, &err) : NULL;
    bool ok = J && nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err);
    bool done = nb_memory_failing();
    nb_memory_fail_at(0);
    release(x, y, J);
    assert_int_equal(nb_memory_stats().live, before);
    if (done) {
      assert_true(ok);
      return;
    }
    assert_false(ok);
    assert_int_equal(err.kind, NB_ERROR_MEMORY);
  }
}

// ---- listeners ----

typedef struct Ear {
  Listener listener;
  int applied, writes, visited, deposited, overwritten;
  struct Ear *removes;  // while it is told
} Ear;

static bool on_applied(void *user, const Applied *a, Error *err) {
  Ear *e = user;
  e->applied++;
  if (e->removes) nb_unlisten(&e->removes->listener);
  // What a listener applies is nobody's business, its own included.
  Tensor *x = nb_tensor_scalar(1, NB_F64, err), *y = apply("twice", x, NULL, err);
  bool ok = y && (a->call == NULL) == (e->listener.voice == NB_OUTER);
  release(x, y, NULL);
  return ok;
}

static bool on_writing(void *user, Tensor *target, Error *err) {
  (void)target, (void)err;
  ((Ear *)user)->writes++;
  return true;
}

static bool on_visited(void *user, Node *n, Tensor *const *grad, Tensor *const *given, Error *err) {
  (void)n, (void)given, (void)err;
  ((Ear *)user)->visited += grad[0] != NULL;
  return true;
}

static void on_deposited(void *user, Tensor *l, const Tensor *before, bool cleared) {
  (void)l, (void)before, (void)cleared;
  ((Ear *)user)->deposited++;
}

static bool on_overwriting(void *user, Storage *s, Error *err) {
  Ear *e = user;
  assert_float_equal(*(double *)(void *)s->data, 4, 0);  // what was there is still there
  return ++e->overwritten < 2 || nb_fail(err, NB_ERROR_MEMORY, "no memory for a copy");
}

static void ear_open(Ear *e, Voice voice) {
  *e = (Ear){.listener = {.voice = voice,
                          .applied = on_applied,
                          .writing = on_writing,
                          .visited = on_visited,
                          .overwriting = on_overwriting,
                          .deposited = on_deposited,
                          .user = e}};
  nb_listen(&e->listener);
}

static void test_each_voice_is_heard_by_its_own(void **state) {
  Error err;
  Ear outer, inner;
  (void)state;
  ear_open(&outer, NB_OUTER);
  ear_open(&inner, NB_INNER);
  Tensor *x = leaf(3), *y = apply("twice", x, NULL, &err), *J = apply("add", y, x, &err);
  assert_int_equal(outer.applied, 2);
  assert_int_equal(inner.applied, 2);
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err));
  assert_int_equal(outer.applied, 2);
  assert_int_equal(outer.visited, 2);
  assert_int_equal(inner.visited, 0);
  assert_true(inner.applied > 2);  // the rules' own calls
  assert_int_equal(inner.deposited, 1);
  nb_unlisten(&outer.listener);
  nb_unlisten(&inner.listener);
  release(x, y, J);
}

static void test_a_listener_may_remove_any_other_while_it_is_told(void **state) {
  Error err;
  Ear first, second, third;
  (void)state;
  ear_open(&first, NB_OUTER);
  ear_open(&second, NB_OUTER);
  ear_open(&third, NB_OUTER);
  first.removes = &second;
  third.removes = &third;
  Tensor *x = leaf(3), *y = apply("twice", x, NULL, &err), *z = apply("twice", y, NULL, &err);
  assert_int_equal(first.applied, 2);
  assert_int_equal(second.applied, 0);
  assert_int_equal(third.applied, 1);
  nb_unlisten(&first.listener);
  nb_unlisten(&first.listener);
  release(x, y, z);
}

static void test_a_write_can_be_copied_before_it_happens_or_refused(void **state) {
  Error err;
  Ear e;
  (void)state;
  Tensor *x = nb_tensor_scalar(4, NB_F64, &err);
  ear_open(&e, NB_WRITE);
  uint32_t version = x->storage->version;
  assert_true(nb_apply_inplace(&toys[0], (Value[NB_MAX_PARAMS]){{.tensor = x}}, &err));
  assert_int_equal(x->storage->version, version + 1);
  nb_tensor_set(x, 0, 4);
  assert_false(nb_apply_inplace(&toys[0], (Value[NB_MAX_PARAMS]){{.tensor = x}}, &err));
  assert_int_equal(x->storage->version, version + 1);
  assert_float_equal(nb_tensor_get(x, 0), 4, 0);
  nb_unlisten(&e.listener);
  nb_tensor_release(&x);
}

static void test_modes_are_set_aside_and_put_back(void **state) {
  Error err;
  Ear outer;
  (void)state;
  nb_random_set((RandomState){7, 3});
  nb_set_grad_enabled(false);
  ear_open(&outer, NB_OUTER);
  Ear second, late;
  Modes before;
  ear_open(&second, NB_OUTER);
  nb_modes_set_aside(&before, (RandomState){99, 0});
  assert_true(nb_grad_enabled());
  ear_open(&late, NB_OUTER);  // hears from here on, until the modes are put back
  nb_random_take(5);
  Tensor *x = leaf(1), *y = apply("twice", x, NULL, &err);
  assert_true(nb_tensor_tracked(y));
  assert_int_equal(outer.applied, 0);
  assert_int_equal(late.applied, 1);
  nb_unlisten(&second.listener);  // one that was set aside
  nb_modes_put_back(&before);
  assert_false(nb_grad_enabled());
  assert_int_equal(nb_random_get().seed, 7);
  assert_int_equal(nb_random_get().counter, 3);
  Tensor *z = apply("twice", x, NULL, &err);
  assert_int_equal(outer.applied, 1);
  assert_int_equal(late.applied, 1);
  assert_int_equal(second.applied, 0);
  nb_unlisten(&outer.listener);
  nb_set_grad_enabled(true);
  release(x, y, z);
}

// ---- the trace ----

static char traced[2000];

static void trace(const char *line) {
  snprintf(traced + strlen(traced), sizeof traced - strlen(traced), "%s\n", line);
}

static void test_the_trace_has_a_line_for_each_thing_that_happens(void **state) {
  Error err;
  (void)state;
  traced[0] = '\0';
  assert_true(nb_trace("op,tape,write", trace, &err));
  Tensor *x = leaf(3), *y = apply("twice", x, NULL, &err), *J = apply("add", y, x, &err);
  assert_true(nb_tensor_set_name(x, "weight", &err));
  assert_true(nb_backward(J, NULL, (BackwardOptions){.retain_graph = false}, &err));
  nb_set_grad_enabled(false);
  assert_true(nb_apply_inplace(&toys[0], (Value[NB_MAX_PARAMS]){{.tensor = x}}, &err));
  nb_set_grad_enabled(true);
  assert_true(nb_trace("", trace, &err));
  Tensor *z = apply("twice", x, NULL, &err);
  assert_string_equal(traced,
                      "op    twice f64 scalar → f64 scalar\n"
                      "op    add f64 scalar, f64 scalar → f64 scalar\n"
                      "tape  add f64 scalar → f64 scalar, f64 scalar\n"
                      "tape  twice f64 scalar → f64 scalar\n"
                      "write 8 bytes f64 scalar (weight), version 1\n"
                      "op    twice_ f64 scalar (weight) → f64 scalar (weight)\n");
  assert_false(nb_trace("op,tap", trace, &err));
  assert_non_null(strstr(err.message, "there is no word \"tap\""));
  assert_false(nb_trace("op=3", trace, &err));
  assert_non_null(strstr(err.message, "\"op=3\" is not understood"));
  assert_false(nb_trace("memory=2X", trace, &err));
  assert_non_null(strstr(err.message, "\"memory=2X\" is not understood"));
  nb_tensor_release(&z);
  release(x, y, J);
}

static void test_the_trace_tells_of_large_blocks_and_of_a_refusal(void **state) {
  Error err;
  (void)state;
  size_t limit = nb_memory_stats().limit;
  nb_memory_trim();
  traced[0] = '\0';
  assert_true(nb_trace("memory=64K", trace, &err));
  void *small = nb_alloc(40000, &err), *large = nb_alloc(65536, &err);
  nb_free(small, 40000);
  nb_free(large, 65536);
  assert_null(nb_alloc(limit + 1, &err));
  assert_true(nb_trace("", trace, &err));
  assert_non_null(strstr(traced, "memory alloc 65536 from the system, live "));
  assert_non_null(strstr(traced, "memory free 65536, live "));
  assert_non_null(strstr(traced, "memory refused "));
  int lines = 0;
  for (const char *at = traced; (at = strchr(at, '\n')); at++) lines++;
  assert_int_equal(lines, 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_trace_tells_of_large_blocks_and_of_a_refusal),
      cmocka_unit_test(test_rows_are_found_by_name),
      cmocka_unit_test(test_a_name_that_stands_twice_is_refused),
      cmocka_unit_test(test_the_gradient_of_two_paths_is_their_sum),
      cmocka_unit_test(test_second_derivatives_are_recorded),
      cmocka_unit_test(test_a_value_that_changed_in_place_is_noticed),
      cmocka_unit_test(test_nothing_is_left_when_memory_fails),
      cmocka_unit_test(test_each_voice_is_heard_by_its_own),
      cmocka_unit_test(test_a_listener_may_remove_any_other_while_it_is_told),
      cmocka_unit_test(test_a_write_can_be_copied_before_it_happens_or_refused),
      cmocka_unit_test(test_modes_are_set_aside_and_put_back),
      cmocka_unit_test(test_the_trace_has_a_line_for_each_thing_that_happens),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
