// SPDX-License-Identifier: MIT
// Where memory is short, who can give some back is asked before an allocation fails.
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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(need_is_met_before_an_error)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
