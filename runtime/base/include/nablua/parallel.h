// SPDX-License-Identifier: MIT
// One pool of threads for the whole library.
#ifndef NABLUA_PARALLEL_H
#define NABLUA_PARALLEL_H

#include <stdbool.h>
#include <stdint.h>

// Calls body(begin, end, ctx) on parts of [0, n) of at least `grain` items, on several threads when
// there is work for them.  Parts depend on n, grain and the thread count alone, so a seeded run
// repeats bit for bit.  After an interrupt the remaining parts are skipped: nb_apply reports it.
// `body` must neither allocate nor call this function.
void nb_parallel_for(int64_t n, int64_t grain, void (*body)(int64_t begin, int64_t end, void *ctx), void *ctx);

// The number of threads that compute, the caller's included; at first the cores this process may use.
int nb_threads(void);

// Sets it; false when it is not in 1..256.
bool nb_set_threads(int count);

#endif
