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
  (void)state;
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++)
    for (int64_t count = 0; count < 14; count++) {
      uint32_t have[14][4] = {{0}}, want[14][4] = {{0}};
      nb_random_blocks(starts[s], 5 * (uint64_t)count, count, have);
      for (int64_t i = 0; i < count; i++) nb_random_block(starts[s], 5 * (uint64_t)count + (uint64_t)i, want[i]);
      assert_memory_equal(have, want, sizeof want);
    }
}

// The known answers of the paper's authors: kat_vectors of Random123.
static void blocks_are_philox(void **state) {
  uint32_t out[4][4];
  (void)state;
  nb_random_blocks((RandomState){0, 0}, 0, 4, out);
  const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  assert_memory_equal(out[0], zeros, sizeof zeros);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_are_what_they_are_one_by_one),
                                     cmocka_unit_test(blocks_are_philox)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
