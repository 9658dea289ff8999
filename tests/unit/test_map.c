// SPDX-License-Identifier: MIT
// Tables from addresses to numbers: what is put in is found again while the table grows, under failing memory too.
#include <cmocka.h>

#include "nablua/map.h"
#include "nablua/memory.h"

enum { MANY = 5000 };

static char ground[16 * MANY];

// Neighbours and far ones, some of which share the low bits of their addresses.
static const void *key_of(int i) {
  return &ground[16 * ((i * 37) % MANY)];
}

static void test_finds_what_was_met(void **state) {
  (void)state;
  Error err;
  AddressMap map = {0};
  assert_null(nb_map_get(&map, ground));
  for (int i = 0; i < MANY; i++) assert_int_equal(*nb_map_meet(&map, key_of(i), i, &err), i);
  assert_int_equal(map.count, MANY);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(*nb_map_get(&map, key_of(i)), i);
    assert_int_equal(*nb_map_meet(&map, key_of(i), -1, &err), i);
  }
  assert_int_equal(map.count, MANY);
  assert_null(nb_map_get(&map, ground + 1));
  nb_map_close(&map);
  assert_null(nb_map_get(&map, ground));
}

static void test_keeps_its_promise_of_room(void **state) {
  (void)state;
  for (int entries = 0; entries < 300; entries += 7) {
    Error err;
    AddressMap map;
    assert_true(nb_map_open(&map, entries, &err));
    size_t size = map.size;
    for (int i = 0; i < entries; i++) assert_non_null(nb_map_meet(&map, key_of(i), i, &err));
    assert_int_equal(map.size, size);
    nb_map_close(&map);
  }
}

static void test_stays_as_it_was_without_memory(void **state) {
  (void)state;
  Error err;
  AddressMap map = {0};
  size_t before = nb_memory_stats().live;
  for (int i = 0; i < MANY; i++) {
    nb_memory_fail_at(1);
    int *place = nb_map_meet(&map, key_of(i), i, &err);
    nb_memory_fail_at(0);
    if (!place) {
      for (int j = 0; j < i; j++) assert_int_equal(*nb_map_get(&map, key_of(j)), j);
      assert_null(nb_map_get(&map, key_of(i)));
      place = nb_map_meet(&map, key_of(i), i, &err);
    }
    assert_int_equal(*place, i);
  }
  nb_map_close(&map);
  assert_int_equal(nb_memory_stats().live, before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_finds_what_was_met),
      cmocka_unit_test(test_keeps_its_promise_of_room),
      cmocka_unit_test(test_stays_as_it_was_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
