// SPDX-License-Identifier: MIT
// Keyframes: any of them comes back bit for bit, in whatever order; bytes are copied once and only when written; and
// without memory for a copy the write goes on and the keyframe says that it is not whole.
#include <cmocka.h>
#include <string.h>

#include "nablua/keyframes.h"
#include "nablua/memory.h"

enum { TENSORS = 4, LENGTH = 50, TIMES = 12 };

static Tensor *numbers(void) {
  Error err;
  Layout l = {.dtype = NB_F32, .ndim = 1, .shape = {LENGTH}};
  Tensor *t = nb_tensor_new(&l, &err);
  assert_non_null(t);
  memset(nb_tensor_data(t), 0, LENGTH * sizeof(float));
  return t;
}

static void write_into(Tensor *t, int value) {
  Error err;
  assert_true(nb_storage_write(t->storage, (Site){0}, &err));
  for (int i = 0; i < LENGTH; i++) nb_tensor_set(t, i, value + i);
}

static unsigned next_number(unsigned *state) {
  return *state = *state * 1664525u + 1013904223u;
}

static void test_goes_to_any_moment(void **state) {
  (void)state;
  Error err;
  Keyframes *k;
  Keyframe *frame[TIMES];
  Tensor *t[TENSORS];
  float held[TIMES][TENSORS][LENGTH];
  unsigned random = 1;
  size_t before = nb_memory_stats().live;
  for (int i = 0; i < TENSORS; i++) t[i] = numbers();
  assert_true(nb_keyframes_new(&k, &err));
  for (int n = 0; n < TIMES; n++) {
    for (int i = 0; i < TENSORS; i++)
      if (next_number(&random) >> 30 > 0) write_into(t[i], 100 * n + i);
    for (int i = 0; i < TENSORS; i++) memcpy(held[n][i], nb_tensor_data(t[i]), sizeof held[n][i]);
    assert_true(nb_keyframe_take(k, t, TENSORS, &frame[n], &err));
  }
  for (int walk = 0; walk < 200; walk++) {
    int n = (int)(next_number(&random) >> 16) % TIMES;
    uint32_t versions[TENSORS];
    for (int i = 0; i < TENSORS; i++) versions[i] = t[i]->storage->version;
    bool moved = memcmp(held[n][0], nb_tensor_data(t[0]), sizeof held[n][0]) != 0;
    assert_true(nb_keyframe_restore(frame[n], &err));
    for (int i = 0; i < TENSORS; i++) assert_memory_equal(held[n][i], nb_tensor_data(t[i]), sizeof held[n][i]);
    if (moved) assert_true(t[0]->storage->version > versions[0]);
    if (walk % 3 == 0) write_into(t[walk % TENSORS], -walk);
  }
  for (int n = 0; n < TIMES; n += 2) nb_keyframe_free(frame[n]);
  for (int n = 1; n < TIMES; n += 2) {
    assert_true(nb_keyframe_restore(frame[n], &err));
    for (int i = 0; i < TENSORS; i++) assert_memory_equal(held[n][i], nb_tensor_data(t[i]), sizeof held[n][i]);
  }
  nb_keyframes_free(k);
  for (int n = 1; n < TIMES; n += 2) nb_keyframe_free(frame[n]);
  for (int i = 0; i < TENSORS; i++) nb_tensor_release(&t[i]);
  assert_int_equal(nb_memory_stats().live, before);
}

static void test_copies_once_and_only_what_is_written(void **state) {
  (void)state;
  Error err;
  Keyframes *k;
  Keyframe *a, *b, *c;
  Tensor *t[] = {numbers(), numbers()};
  assert_true(nb_keyframes_new(&k, &err));
  assert_true(nb_keyframe_take(k, t, 2, &a, &err));
  assert_true(nb_keyframe_take(k, t, 2, &b, &err));
  assert_int_equal(nb_keyframes_bytes(k), 0);
  write_into(t[0], 5);
  write_into(t[0], 6);
  assert_int_equal(nb_keyframes_bytes(k), LENGTH * sizeof(float));
  assert_int_equal(nb_keyframes_writes(k), 2);
  assert_true(nb_keyframe_take(k, t, 2, &c, &err));
  assert_true(nb_keyframe_restore(a, &err));  // which copies what c holds
  assert_int_equal(nb_keyframes_bytes(k), 2 * LENGTH * sizeof(float));
  write_into(t[0], 7);  // what a holds has been copied before
  assert_int_equal(nb_keyframes_bytes(k), 2 * LENGTH * sizeof(float));
  nb_keyframe_free(a);
  assert_int_equal(nb_keyframes_bytes(k), 2 * LENGTH * sizeof(float));
  nb_keyframe_free(b);
  assert_int_equal(nb_keyframes_bytes(k), LENGTH * sizeof(float));
  nb_keyframe_free(c);
  assert_int_equal(nb_keyframes_bytes(k), 0);
  nb_keyframes_free(k);
  for (int i = 0; i < 2; i++) nb_tensor_release(&t[i]);
}

static void test_views_share_what_is_kept(void **state) {
  (void)state;
  Error err;
  Keyframes *k;
  Keyframe *f;
  Tensor *t = numbers(), *list[] = {t, nb_tensor_alias(t, &t->layout, &err)};
  assert_true(nb_keyframes_new(&k, &err));
  assert_true(nb_keyframe_take(k, list, 2, &f, &err));
  nb_tensor_release(&list[1]);
  write_into(t, 1);
  assert_int_equal(nb_keyframes_bytes(k), LENGTH * sizeof(float));
  nb_tensor_release(&t);  // the keyframe keeps the memory, and nobody sees it any more
  assert_true(nb_keyframe_restore(f, &err));
  nb_keyframe_free(f);
  nb_keyframes_free(k);
}

static void test_without_memory_the_write_goes_on(void **state) {
  (void)state;
  Error err;
  Keyframes *k;
  Keyframe *f;
  Tensor *t[] = {numbers()};
  assert_true(nb_keyframes_new(&k, &err));
  for (uint64_t nth = 1; nth < 100; nth++) {
    nb_memory_fail_at(nth);
    bool taken = nb_keyframe_take(k, t, 1, &f, &err);
    bool failed = !nb_memory_failing();
    nb_memory_fail_at(0);
    if (!taken) {
      assert_true(failed);
      continue;
    }
    nb_memory_fail_at(1);
    write_into(t[0], 3);
    nb_memory_fail_at(0);
    assert_int_equal(nb_tensor_get(t[0], 0), 3);
    assert_false(nb_keyframe_whole(f));
    assert_int_equal(nb_keyframes_lost(k), 1);
    assert_false(nb_keyframe_restore(f, &err));
    assert_int_equal(nb_tensor_get(t[0], 0), 3);
    nb_keyframe_free(f);
    break;
  }
  nb_keyframes_free(k);
  nb_tensor_release(&t[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_goes_to_any_moment),
      cmocka_unit_test(test_copies_once_and_only_what_is_written),
      cmocka_unit_test(test_views_share_what_is_kept),
      cmocka_unit_test(test_without_memory_the_write_goes_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
