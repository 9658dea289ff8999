// SPDX-License-Identifier: MIT
// What the census counts, and that it finds each kind of damage; what the dumps for debuggers print.
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nablua/census.h"
#include "nablua/library.h"
#include "nablua/tape.h"

static int open_library(void **state) {
  Error err;
  (void)state;
  return nb_open(&err) ? 0 : -1;
}

static Tensor *vector(int64_t count, bool tracked) {
  Error err;
  Layout l = {.dtype = NB_F32, .ndim = 1, .shape = {count}};
  Tensor *t = nb_tensor_new(&l, &err);
  assert_non_null(t);
  for (int64_t i = 0; i < count; i++) nb_tensor_set(t, i, (double)i);
  t->requires_grad = tracked;
  return t;
}

static Tensor *apply(const char *name, Tensor *x, Tensor *y) {
  Error err;
  Tensor *out[NB_MAX_OUTPUTS];
  assert_true(nb_apply(nb_op_find(name), (Value[NB_MAX_PARAMS]){{.tensor = x}, {.tensor = y}}, out, &err));
  return out[0];
}

// w ── mul ── add, where mul keeps w twice.
typedef struct Net {
  Tensor *w, *square, *sum;
} Net;

static Net net_new(void) {
  Net n = {.w = vector(3, true)};
  n.square = apply("mul", n.w, n.w);
  n.sum = apply("add", n.square, n.w);
  return n;
}

static void net_free(Net *n) {
  nb_tensor_release(&n->sum);
  nb_tensor_release(&n->square);
  nb_tensor_release(&n->w);
}

static void test_it_counts_each_thing_once(void **state) {
  Error err;
  Census c;
  (void)state;
  Net n = net_new();
  Tensor *roots[] = {n.sum, n.w, n.sum};
  Tensor *held[] = {n.sum, n.square, n.w, nb_tensor_retain(n.sum)};  // a reference for each root
  assert_true(nb_census((Tensor *[]){n.w}, 1, &c, &err));
  assert_int_equal(c.tensors, 1);
  assert_int_equal(c.storages, 1);
  assert_int_equal(c.bytes, 12);
  assert_int_equal(c.nodes, 0);
  assert_true(nb_census(roots, 3, &c, &err));
  assert_int_equal(c.nodes, 2);
  assert_true(nb_census((Tensor *[]){n.sum, n.square, n.w}, 3, &c, &err));
  assert_int_equal(c.nodes, 2);
  nb_tensor_release(&held[3]);
  net_free(&n);
}

// Breaks one thing, expects the sentence, and mends it.
#define EXPECT(place, value, clause)                               \
  do {                                                             \
    __typeof__(place) before = (place);                            \
    (place) = (value);                                             \
    assert_false(nb_census(&n.sum, 1, &c, &err));                  \
    (place) = before;                                              \
    if (!strstr(err.message, clause)) fail_msg("%s", err.message); \
    assert_true(nb_census(&n.sum, 1, &c, &err));                   \
  } while (0)

static void test_it_finds_damage(void **state) {
  Error err;
  Census c;
  (void)state;
  Net n = net_new();
  Node *mul = n.square->node, *add = n.sum->node;
  EXPECT(n.sum->refs, 0, "held by nobody");
  EXPECT(mul->refs, 0, "held by nobody");
  EXPECT(n.w->refs, 1, "held more often than it counts");
  EXPECT(n.sum->storage->refs, -1, "held by nobody");
  EXPECT(n.sum->layout.ndim, 9, "too many dimensions");
  EXPECT(n.sum->layout.shape[0], -1, "negative size");
  EXPECT(n.sum->layout.shape[0], 4, "reaches beyond its storage");
  EXPECT(n.sum->layout.strides[0], -1, "reaches beyond its storage");
  EXPECT(n.sum->layout.offset, 1, "reaches beyond its storage");
  EXPECT(n.sum->history, 7, "writes that its storage does not");
  EXPECT(n.sum->output, 3, "no output of its node");
  EXPECT(n.sum->requires_grad, true, "a leaf and comes from a node");
  EXPECT(n.sum->storage->owner, n.w, "owner of another storage");
  EXPECT(add->edges[0].leaf, n.w, "a leaf and a node at once");
  EXPECT(mul->order, add->order + 1, "came later");
  EXPECT(add->watcher[0], n.w, "another node");
  EXPECT(mul->op, NULL, "no operator");
  net_free(&n);
}

static void test_the_tape_is_printed_latest_first(void **state) {
  Error err;
  char *text = NULL;
  size_t size = 0;
  (void)state;
  Net n = net_new();
  assert_true(nb_tensor_set_name(n.w, "weight", &err));
  FILE *to = open_memstream(&text, &size);
  nb_tape_dump(to, n.sum);
  nb_tape_dump(to, n.w);
  fclose(to);
  const char *add = strstr(text, "add  refs"), *mul = strstr(text, "mul  refs");
  assert_non_null(add);
  assert_non_null(mul);
  assert_true(add < mul);
  assert_null(strstr(mul + 1, "mul  refs"));  // each node once
  assert_non_null(strstr(text, "1: output 0 of mul #"));
  assert_non_null(strstr(text, "2: leaf f32 3 (weight), refs "));
  assert_non_null(strstr(text, ", requires grad: 0, 1, 2\n"));
  assert_non_null(strstr(text, "no tape: f32 3 (weight)"));
  free(text);
  net_free(&n);
}

// Two paths at each of thirty levels: a billion ways back, and thirty nodes.
static void test_a_tape_of_many_paths_is_printed_once(void **state) {
  char *text = NULL;
  size_t size = 0, lines = 0;
  (void)state;
  Tensor *t = vector(1, true);
  for (int i = 0; i < 30; i++) {
    Tensor *next = apply("add", t, t);
    nb_tensor_release(&t);
    t = next;
  }
  FILE *to = open_memstream(&text, &size);
  nb_tape_dump(to, t);
  fclose(to);
  for (const char *at = text; (at = strchr(at, '#')) && (at = strchr(at, '\n')); at++) lines += at[1] == '#';
  assert_in_range(lines, 29, 30);
  free(text);
  nb_tensor_release(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_it_counts_each_thing_once),
      cmocka_unit_test(test_it_finds_damage),
      cmocka_unit_test(test_the_tape_is_printed_latest_first),
      cmocka_unit_test(test_a_tape_of_many_paths_is_printed_once),
  };
  return cmocka_run_group_tests(tests, open_library, NULL);
}
