// SPDX-License-Identifier: MIT
// Finding out what instructions this machine has.
#include "cpu.h"

#include <string.h>

#include "nablua/environment.h"

atomic_int nb_cpu_known = -1;

CpuLevel nb_cpu_look(void) {
  CpuLevel level = CPU_PORTABLE;
#if defined(__x86_64__)
  const char *wish = nb_environment("NABLUA_CPU");
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = CPU_AVX2;
  if (level && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    level = CPU_AVX512;
  if (wish && !strcmp(wish, "portable")) level = CPU_PORTABLE;
  if (wish && !strcmp(wish, "avx2") && level > CPU_AVX2) level = CPU_AVX2;
#endif
  atomic_store_explicit(&nb_cpu_known, (int)level, memory_order_relaxed);
  return level;
}
