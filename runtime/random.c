// SPDX-License-Identifier: MIT
// The library's random stream.
#include "nablua/random.h"

#include <Random123/philox.h>
#include <stdbool.h>
#include <sys/random.h>
#include <time.h>

static RandomState stream;
static bool seeded;

static uint64_t system_seed(void) {
  uint64_t seed;
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) seed = (uint64_t)time(NULL);
  return seed;
}

RandomState nb_random_get(void) {
  if (!seeded) nb_random_set((RandomState){system_seed(), 0});
  return stream;
}

void nb_random_set(RandomState state) {
  stream = state;
  seeded = true;
}

RandomState nb_random_take(uint64_t blocks) {
  RandomState before = nb_random_get();
  stream.counter += blocks;
  return before;
}

void nb_random_block(RandomState state, uint64_t index, uint32_t out[4]) {
  uint64_t at = state.counter + index;
  philox4x32_ctr_t counter = {{(uint32_t)at, (uint32_t)(at >> 32), 0, 0}};
  philox4x32_key_t key = {{(uint32_t)state.seed, (uint32_t)(state.seed >> 32)}};
  philox4x32_ctr_t r = philox4x32_R(10, counter, key);
  for (int i = 0; i < 4; i++) out[i] = r.v[i];
}
