// SPDX-License-Identifier: MIT
// Blocks of random numbers made several at once, against those of Random123 one by one.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "nablua/random.h"

static void blocks_are_what_they_are_one_by_one(void **state) {
  static const RandomState starts[] = {
      {0, 0}, {1, 0xFFFFFFFA}, {UINT64_MAX, UINT64_MAX - 3}, {0x123456789ABCDEF0, 0xFEDCBA9876543210}};
  enum { COUNTS = 28 };
  (void)state;
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++)
    for (int64_t count = 0; count < COUNTS; count++) {
      uint64_t have[COUNTS * 2] = {0}, want[COUNTS * 2] = {0};
      nb_random_blocks(starts[s], 5 * (uint64_t)count, count, have);
      for (int64_t i = 0; i < count; i++) nb_random_block(starts[s], 5 * (uint64_t)count + (uint64_t)i, want + 2 * i);
      assert_memory_equal(have, want, sizeof want);
    }
}

// The known answers of the paper's authors: kat_vectors of Random123.
static void blocks_are_philox(void **state) {
  uint64_t out[2 * 8];
  (void)state;
  nb_random_blocks((RandomState){0, 0}, 0, 8, out);
  const uint64_t zeros[2] = {0xe169c58d6627e8d5, 0x9b00dbd8bc57ac4c};
  assert_memory_equal(out, zeros, sizeof zeros);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_are_what_they_are_one_by_one),
                                     cmocka_unit_test(blocks_are_philox)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
