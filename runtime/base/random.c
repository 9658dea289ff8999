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

void nb_random_block(RandomState state, uint64_t index, uint64_t out[2]) {
  uint64_t at = state.counter + index;
  philox4x32_ctr_t counter = {{(uint32_t)at, (uint32_t)(at >> 32), 0, 0}};
  philox4x32_key_t key = {{(uint32_t)state.seed, (uint32_t)(state.seed >> 32)}};
  philox4x32_ctr_t r = philox4x32_R(10, counter, key);
  for (int i = 0; i < 2; i++) out[i] = r.v[2 * i] | (uint64_t)r.v[2 * i + 1] << 32;
}

#if defined(__x86_64__)
// Blocks in two groups of four, so that the products of one fill the time that those of the other take.  Each 32-bit
// number stands in the low half of its lane; what is in the high half does not count.
enum { GROUPS = 2, GROUP = 4 };

CPU_AVX2_TARGET static void groups_of_blocks(RandomState state, uint64_t index, int64_t count, uint64_t *out) {
  const __m256i by_0 = _mm256_set1_epi64x(PHILOX_M4x32_0), by_1 = _mm256_set1_epi64x(PHILOX_M4x32_1);
  const __m256i step_0 = _mm256_set1_epi64x(PHILOX_W32_0), step_1 = _mm256_set1_epi64x(PHILOX_W32_1);
  __m256i at = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(state.counter + index)), _mm256_set_epi64x(3, 2, 1, 0));
  for (int64_t i = 0; i < count; i += GROUPS * GROUP) {
    __m256i c[GROUPS][4], k0 = _mm256_set1_epi64x((int64_t)state.seed), k1 = _mm256_srli_epi64(k0, 32);
    UNROLL for (int g = 0; g < GROUPS; g++) {
      c[g][0] = at;
      c[g][1] = _mm256_srli_epi64(at, 32);
      c[g][2] = c[g][3] = _mm256_setzero_si256();
      at = _mm256_add_epi64(at, _mm256_set1_epi64x(GROUP));
    }
    UNROLL for (int round = 0; round < 10; round++) {
      UNROLL for (int g = 0; g < GROUPS; g++) {
        __m256i a = _mm256_mul_epu32(c[g][0], by_0), b = _mm256_mul_epu32(c[g][2], by_1);
        c[g][0] = _mm256_xor_si256(_mm256_srli_epi64(b, 32), _mm256_xor_si256(c[g][1], k0));
        c[g][2] = _mm256_xor_si256(_mm256_srli_epi64(a, 32), _mm256_xor_si256(c[g][3], k1));
        c[g][1] = b;
        c[g][3] = a;
      }
      k0 = _mm256_add_epi64(k0, step_0);
      k1 = _mm256_add_epi64(k1, step_1);
    }
    UNROLL for (int g = 0; g < GROUPS; g++, out += 2 * GROUP) {
      __m256i low = _mm256_blend_epi32(c[g][0], _mm256_slli_epi64(c[g][1], 32), 0xAA);
      __m256i high = _mm256_blend_epi32(c[g][2], _mm256_slli_epi64(c[g][3], 32), 0xAA);
      __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
      _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(even, odd, 0x20));
      _mm256_storeu_si256((__m256i *)(out + 4), _mm256_permute2x128_si256(even, odd, 0x31));
    }
  }
}
#endif

void nb_random_blocks(RandomState state, uint64_t index, int64_t count, uint64_t *out) {
  int64_t i = 0;
#if defined(__x86_64__)
  if (cpu_level() > CPU_PORTABLE) {
    i = count - count % (GROUPS * GROUP);
    groups_of_blocks(state, index, i, out);
  }
#endif
  for (; i < count; i++) nb_random_block(state, index + (uint64_t)i, out + 2 * i);
}
