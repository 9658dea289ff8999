// SPDX-License-Identifier: MIT
// Memory: what is counted, limited, kept for reuse and given back; who is asked where it is short.
#include <cmocka.h>
#include <string.h>

#include "nablua/memory.h"

enum { BLOCK = 1 << 20 };

static void *held[4];
static int asked;

static bool give_one(void) {
  asked++;
  for (int i = 0; i < 4; i++) {
    if (!held[i]) continue;
    nb_free(held[i], BLOCK);
    held[i] = NULL;
    return true;
  }
  return false;
}

static bool give_nothing(void) {
  Error err;
  asked++;
  // Who is asked is not asked again from within.
  assert_null(nb_alloc((size_t)8 * BLOCK, &err));
  return false;
}

static void need_is_met_before_an_error(void **state) {
  (void)state;
  Error err;
  size_t before = nb_memory_stats().limit;
  nb_memory_on_need(give_nothing);
  nb_memory_on_need(give_one);
  nb_memory_on_need(give_one);
  nb_memory_set_limit(nb_memory_stats().live + (size_t)4 * BLOCK);
  for (int i = 0; i < 4; i++) assert_non_null(held[i] = nb_alloc(BLOCK, &err));
  void *two = nb_alloc((size_t)2 * BLOCK, &err);
  assert_non_null(two);
  assert_int_equal(asked, 4);  // each of the two for each block
  assert_null(nb_alloc((size_t)3 * BLOCK, &err));
  assert_int_equal(err.kind, NB_ERROR_MEMORY);
  assert_non_null(strstr(err.message, "not enough memory"));
  // What is beyond the limit by itself asks nobody.
  asked = 0;
  assert_null(nb_alloc((size_t)5 * BLOCK, &err));
  assert_int_equal(asked, 0);
  // Nor does a failure that a test wants.
  nb_memory_fail_at(1);
  assert_null(nb_alloc(64, &err));
  assert_int_equal(asked, 0);
  nb_free(two, (size_t)2 * BLOCK);
  nb_memory_set_limit(before);
}

// ---- counting ----

static size_t live(void) {
  return nb_memory_stats().live;
}

static void every_size_has_a_class_that_holds_it(void **state) {
  Error err;
  size_t before = live();
  (void)state;
  for (size_t bytes = 0; bytes < (size_t)1 << 21; bytes += 1 + bytes / 37) {
    char *block = nb_alloc(bytes, &err);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 64, 0);
    memset(block, 0x5A, bytes);
    size_t counted = live() - before;
    assert_true(counted >= bytes && counted <= bytes + bytes / 4 + 64);
    nb_free(block, bytes);
    assert_int_equal(live(), before);
  }
  nb_free(NULL, 64);
  assert_int_equal(live(), before);
  assert_null(nb_alloc(SIZE_MAX, &err));
  assert_null(nb_alloc(SIZE_MAX / 2, &err));
}

static void peak_is_the_most_that_was_live(void **state) {
  Error err;
  (void)state;
  nb_memory_reset_peak();
  size_t before = live();
  assert_int_equal(nb_memory_stats().peak, before);
  void *a = nb_alloc(BLOCK, &err), *b = nb_alloc(BLOCK, &err);
  nb_free(a, BLOCK);
  nb_free(b, BLOCK);
  assert_int_equal(nb_memory_stats().peak, before + (size_t)2 * BLOCK);
  nb_memory_reset_peak();
  assert_int_equal(nb_memory_stats().peak, before);
}

// ---- the limit, and what is kept ----

static void a_block_that_is_kept_counts_against_the_limit_as_well(void **state) {
  Error err;
  size_t before = nb_memory_stats().limit;
  (void)state;
  nb_free(nb_alloc(BLOCK, &err), BLOCK);  // now it is there
  nb_memory_set_limit(live() + BLOCK / 2);
  assert_null(nb_alloc(BLOCK, &err));
  assert_int_equal(err.kind, NB_ERROR_MEMORY);
  nb_memory_set_limit(live() + BLOCK);
  void *block = nb_alloc(BLOCK, &err);
  assert_non_null(block);
  nb_free(block, BLOCK);
  nb_memory_set_limit(before);
}

static void trimming_gives_back_all_that_is_kept(void **state) {
  static const size_t sizes[] = {1, 100, 1000, 100000};
  enum { COUNT = sizeof sizes / sizeof *sizes };
  void *blocks[COUNT];
  Error err;
  (void)state;
  for (int pass = 0; pass < 2; pass++) {  // in the second nothing comes from what was kept
    for (int i = 0; i < COUNT; i++) assert_non_null(blocks[i] = nb_alloc(sizes[i], &err));
    assert_true(nb_memory_stats().cached < (size_t)64 << 20);
    for (int i = 0; i < COUNT; i++) nb_free(blocks[i], sizes[i]);
    nb_memory_trim();
    assert_int_equal(nb_memory_stats().cached, 0);
  }
}

static void an_array_that_grows_keeps_what_is_in_it(void **state) {
  enum { MANY = 1000 };
  Error err;
  uint64_t *list = NULL;
  size_t room = 0, before = live();
  (void)state;
  for (size_t n = 0; n < MANY; n++) {
    assert_true(nb_grow(&list, &room, n + 1, sizeof *list, &err));
    assert_true(room > n);
    list[n] = n * n;
  }
  nb_memory_fail_at(1);
  size_t had = room;
  uint64_t *there = list;
  assert_false(nb_grow(&list, &room, 100 * MANY, sizeof *list, &err));
  assert_int_equal(room, had);
  assert_ptr_equal(list, there);
  for (size_t n = 0; n < MANY; n++) assert_int_equal(list[n], n * n);
  nb_free(list, room * sizeof *list);
  assert_int_equal(live(), before);
}

static void what_threads_beside_hold_counts_and_has_the_limit(void **state) {
  Error err;
  size_t before = live();
  (void)state;
  void *a = nb_alloc_beside(1 << 20, &err), *none = nb_alloc_beside(0, &err);
  assert_non_null(a);
  assert_non_null(none);
  assert_int_equal(live(), before + (1 << 20));
  size_t limit = nb_memory_stats().limit;
  nb_memory_set_limit(before + (3 << 20));
  assert_null(nb_alloc_beside(before + (size_t)(2 << 20) + 1, &err));
  assert_non_null(strstr(err.message, "not enough memory"));
  assert_null(nb_alloc_beside(SIZE_MAX, &err));
  assert_null(nb_alloc((size_t)5 << 19, &err));  // who computes sees it, too
  nb_memory_set_limit(limit);
  nb_free_beside(a, 1 << 20);
  nb_free_beside(none, 0);
  nb_free_beside(NULL, 7);
  assert_int_equal(live(), before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_size_has_a_class_that_holds_it),
      cmocka_unit_test(peak_is_the_most_that_was_live),
      cmocka_unit_test(a_block_that_is_kept_counts_against_the_limit_as_well),
      cmocka_unit_test(trimming_gives_back_all_that_is_kept),
      cmocka_unit_test(an_array_that_grows_keeps_what_is_in_it),
      cmocka_unit_test(what_threads_beside_hold_counts_and_has_the_limit),
      cmocka_unit_test(need_is_met_before_an_error),  // who is asked stays so
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
