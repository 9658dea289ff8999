// SPDX-License-Identifier: MIT
// What instructions this machine has, for kernels that come in several forms.
#ifndef NABLUA_CPU_H
#define NABLUA_CPU_H

#include <stdatomic.h>

typedef enum CpuLevel { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_LEVELS } CpuLevel;

#if defined(__x86_64__)
#define CPU_WIDE_TARGET __attribute__((target("avx2")))
#define CPU_AVX2_TARGET __attribute__((target("avx2,fma")))
#ifdef __clang__  // which knows no such preference
#define CPU_AVX512_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#else
#define CPU_AVX512_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")))
#endif
#endif

// Unrolls the loop that follows altogether, so that its arrays become registers.
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// The best level of this machine, at most what nb_cpu_limit was told.
extern atomic_int nb_cpu_known;  // −1 before the first look
CpuLevel nb_cpu_look(void);
void nb_cpu_limit(CpuLevel level);
static inline CpuLevel cpu_level(void) {
  int known = atomic_load_explicit(&nb_cpu_known, memory_order_relaxed);
  return __builtin_expect(known >= 0, 1) ? (CpuLevel)known : nb_cpu_look();
}

#endif
