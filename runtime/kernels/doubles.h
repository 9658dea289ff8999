// SPDX-License-Identifier: MIT
// The bits of doubles.
#ifndef NABLUA_DOUBLES_H
#define NABLUA_DOUBLES_H

#include <stdint.h>
#include <string.h>

// Added to a number below 2^51, it leaves the nearest whole number in the last bits.
static const double DOUBLES_ROUNDER = 0x1.8p52;

static inline __attribute__((always_inline)) uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline __attribute__((always_inline)) double double_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

#endif
