// SPDX-License-Identifier: MIT
// Finding out what instructions this machine has.
#include "cpu.h"

atomic_int nb_cpu_known = -1;
static CpuLevel most = CPU_AVX512;

void nb_cpu_limit(CpuLevel level) {
  most = level;
  atomic_store_explicit(&nb_cpu_known, -1, memory_order_relaxed);
}

CpuLevel nb_cpu_look(void) {
  CpuLevel level = CPU_PORTABLE;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = CPU_AVX2;
  if (level && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    level = CPU_AVX512;
#endif
  if (level > most) level = most;
  atomic_store_explicit(&nb_cpu_known, (int)level, memory_order_relaxed);
  return level;
}
