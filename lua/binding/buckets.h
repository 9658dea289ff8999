// SPDX-License-Identifier: MIT
// Gradients summed over a group while backward runs.
#ifndef NABLUA_BUCKETS_H
#define NABLUA_BUCKETS_H

#include "group.h"
#include "nablua/tensor.h"

typedef struct Buckets Buckets;

typedef struct BucketOptions {
  bool sum;       // of the ranks, in place of their mean
  int64_t bytes;  // of a bucket
  int64_t drift;  // exchanges between two comparisons of the parameters, 0: none
} BucketOptions;

// For `count` parameters, which are held; `names` are copied.
Buckets *nb_buckets_new(Tensor *const *leaves, const char *const *names, int count, BucketOptions o, Error *err);
void nb_buckets_free(Buckets *b);

// Without it gradients stay a rank's own until the next backward.
void nb_buckets_sync(Buckets *b, bool on);

// What this rank's gradients count for from now on: its share of the samples times the number of ranks.
void nb_buckets_weigh(double weight);

// The index of the ith parameter that had no gradient on any rank at the last exchange, -1 when there are no more.
int nb_buckets_unused(const Buckets *b, int i);

// The last exchange, by nb_clock: when its backward began and ended, when all was there, and how many buckets it had.
typedef struct WalkTimes {
  double begun, walked, done;
  int buckets;
} WalkTimes;
WalkTimes nb_buckets_walk(const Buckets *b);

// A bucket of it: its first parameter, how many it has, when it was full, when it left and when its sum was there.
typedef struct BucketTimes {
  int first, count;
  int64_t bytes;
  double full, begun, ended;
} BucketTimes;
BucketTimes nb_buckets_times(const Buckets *b, int i);

// How many exchanges there were, and how many of their buckets were on their way before backward's end.
void nb_buckets_count(const Buckets *b, int64_t *exchanges, int64_t *early, int64_t *all);

#endif
