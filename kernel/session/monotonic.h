// SPDX-License-Identifier: MIT
// The time that has passed: a clock that nobody sets, for how long something took and when it is due.
#ifndef NABLUA_MONOTONIC_H
#define NABLUA_MONOTONIC_H

#include <time.h>

static inline double monotonic_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
