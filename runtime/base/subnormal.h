// SPDX-License-Identifier: MIT
// Numbers below the least normal one (1.2·10⁻³⁸ in f32), on which many processors compute a hundred times slower.
//
// A processor can be told to take them for 0, as operands and as results.  That is a state of each thread: who wants it
// has it from flush_begin to float_control_set(what that returned), with nothing of others' in between.  Workers of the
// pool compute as the thread does whose job they share.
#ifndef NABLUA_SUBNORMAL_H
#define NABLUA_SUBNORMAL_H

#include <stdint.h>

#if defined(__x86_64__)
enum { FLOAT_EXCEPTIONS = 0x3F, FLOAT_FLUSHES = 0x8040 };  // of MXCSR: what has happened; DAZ and FTZ

static inline uint64_t float_control(void) {
  uint32_t control;
  __asm__ volatile("stmxcsr %0" : "=m"(control)::"memory");
  return control & ~(uint32_t)FLOAT_EXCEPTIONS;
}

static inline void float_control_set(uint64_t control) {
  uint32_t low = (uint32_t)control;
  __asm__ volatile("ldmxcsr %0" ::"m"(low) : "memory");
}
#elif defined(__aarch64__)
enum { FLOAT_FLUSHES = 1 << 24 };  // of FPCR: FZ

static inline uint64_t float_control(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control)::"memory");
  return control;
}

static inline void float_control_set(uint64_t control) {
  __asm__ volatile("msr fpcr, %0" ::"r"(control) : "memory");
}
#else  // where nothing of the kind is known, they are what they are
enum { FLOAT_FLUSHES = 0 };

static inline uint64_t float_control(void) {
  return 0;
}

static inline void float_control_set(uint64_t control) {
  (void)control;
}
#endif

// From now on this thread takes them for 0; returns what float_control_set puts back.
static inline uint64_t flush_begin(void) {
  uint64_t before = float_control();
  float_control_set(before | FLOAT_FLUSHES);
  return before;
}

#endif
