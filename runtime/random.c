// SPDX-License-Identifier: MIT
// The library's random stream.
#include "nablua/random.h"

#include <Random123/philox.h>
#include <stdbool.h>
#include <sys/random.h>
#include <time.h>

#include "cpu.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

#if defined(__x86_64__)
// Four blocks side by side, each number in the low half of its lane; what is in the high half does not count.
CPU_AVX2_TARGET static void four_blocks(RandomState state, uint64_t index, uint32_t (*out)[4]) {
  const __m256i by_0 = _mm256_set1_epi64x(PHILOX_M4x32_0), by_1 = _mm256_set1_epi64x(PHILOX_M4x32_1);
  __m256i c0 = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(state.counter + index)), _mm256_set_epi64x(3, 2, 1, 0));
  __m256i c1 = _mm256_srli_epi64(c0, 32), c2 = _mm256_setzero_si256(), c3 = c2;
  uint32_t k0 = (uint32_t)state.seed, k1 = (uint32_t)(state.seed >> 32);
  for (int round = 0; round < 10; round++, k0 += PHILOX_W32_0, k1 += PHILOX_W32_1) {
    __m256i a = _mm256_mul_epu32(c0, by_0), b = _mm256_mul_epu32(c2, by_1);
    c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), c1), _mm256_set1_epi64x(k0));
    c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), c3), _mm256_set1_epi64x(k1));
    c1 = b;
    c3 = a;
  }
  __m256i low = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xAA);
  __m256i high = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xAA);
  __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
  _mm_storeu_si128((__m128i *)out[0], _mm256_castsi256_si128(even));
  _mm_storeu_si128((__m128i *)out[1], _mm256_castsi256_si128(odd));
  _mm_storeu_si128((__m128i *)out[2], _mm256_extracti128_si256(even, 1));
  _mm_storeu_si128((__m128i *)out[3], _mm256_extracti128_si256(odd, 1));
}
#endif

void nb_random_blocks(RandomState state, uint64_t index, int64_t count, uint32_t (*out)[4]) {
  int64_t i = 0;
#if defined(__x86_64__)
  if (cpu_level() > CPU_PORTABLE)
    for (; i + 4 <= count; i += 4) four_blocks(state, index + (uint64_t)i, out + i);
#endif
  for (; i < count; i++) nb_random_block(state, index + (uint64_t)i, out[i]);
}
