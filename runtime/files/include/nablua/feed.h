// SPDX-License-Identifier: MIT
// Batches made ready by threads beside the one that computes: rows of tensors and files, and pictures on their way.
//
// One thread, that which computes, calls these functions; it allocates all that a batch needs, so that the others only
// read and write.  What a batch holds does not depend on how many they are.  A write into a tensor that batches are
// made of waits for the rows that are being read, and those batches are made again.
#ifndef NABLUA_FEED_H
#define NABLUA_FEED_H

#include "nablua/files.h"
#include "nablua/pictures.h"

enum { NB_FEED_COLUMNS = 8, NB_FEED_WORKERS = 64 };

typedef struct Feed Feed;

// A tensor whose rows are contiguous, or a file; not both.
typedef struct FeedColumn {
  Tensor *tensor;
  RowFile *file;
} FeedColumn;

typedef struct FeedBatch {
  const FeedColumn *columns;
  int count;
  const int64_t *places;  // rows, counted from 1
  int64_t n;
  const PictureStep *steps;  // done to the first column, whose rows are h×w, or c×h×w
  int step_count;
  uint64_t key, first;  // what is drawn for row i is that of picture `first` + i of this key
} FeedBatch;

// `workers` threads; 0: batches are made where they are taken.
Feed *nb_feed_open(int workers, Error *err);
void nb_feed_close(Feed *f);  // NULL is fine; waits for what a thread does to a row

// Puts a batch behind the others.
bool nb_feed_submit(Feed *f, const FeedBatch *batch, Error *err);

// The first batch, in `out` a tensor for each column; waits for it, and takes part.  A tensor that has been written
// since is read again.  Where it fails the batch is gone, but after an interrupt.
bool nb_feed_take(Feed *f, Tensor **out, Error *err);

int nb_feed_columns(const Feed *f);  // of the first batch; 0: there is none

// All steps on a batch of pictures, now, by the pool: x is contiguous, batch × (channels ×) h × w.
Tensor *nb_pictures_apply(const Tensor *x, const PictureStep *steps, int count, uint64_t key, Error *err);

#endif
