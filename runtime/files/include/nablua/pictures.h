// SPDX-License-Identifier: MIT
// What is done to pictures before a net sees them: each step on one picture, with random numbers of its own.
//
// Nothing here allocates once a plan is made, so that threads beside the one that computes can do it.
#ifndef NABLUA_PICTURES_H
#define NABLUA_PICTURES_H

#include "nablua/error.h"
#include "nablua/tensor.h"

enum { NB_PICTURE_STEPS = 32 };

typedef enum PictureKind {
  NB_PICTURE_TO_FLOAT,      // u8 0..255 → f32 0..1
  NB_PICTURE_NORMALIZE,     // (x − mean)/std: lists of one number, or one for each channel
  NB_PICTURE_CENTER_CROP,   // a height and a width
  NB_PICTURE_RANDOM_CROP,   // a height, a width, and zeros around before
  NB_PICTURE_RESIZE,        // a height and a width; a triangle filter as wide as a place of the coarser size
  NB_PICTURE_FLIP_COLUMNS,  // with a probability
  NB_PICTURE_FLIP_ROWS,
  NB_PICTURE_ERASE,   // probability, least and largest share of the area, value
  NB_PICTURE_AFFINE,  // largest angle in degrees, share that is moved, least and largest factor
  NB_PICTURE_JITTER,  // brightness, contrast, saturation
} PictureKind;

typedef struct PictureStep {
  PictureKind kind;
  double v[4];
  const double *mean, *std;  // borrowed by a plan; of NORMALIZE
  int64_t means, stds;
} PictureStep;

// Sizes of a picture on its way: channels × height × width.
typedef struct PictureSizes {
  int64_t c, h, w;
  DType dtype;  // what its numbers stand for: u8 is rounded and kept within 0..255
} PictureSizes;

typedef struct PicturePlan {
  int count;
  PictureStep steps[NB_PICTURE_STEPS];
  PictureSizes sizes[NB_PICTURE_STEPS + 1];  // before each step, and after the last
  bool twice;                                // computes in f64: what is f64 or i64 stays exact
  size_t room;                               // bytes that a run needs
} PicturePlan;

// The plan of `count` steps on pictures of these sizes; false with a sentence where they do not fit.
bool nb_pictures_plan(const PictureStep *steps, int count, PictureSizes from, PicturePlan *plan, Error *err);

bool nb_pictures_random(PictureKind kind);  // whether it draws

// Does all steps on one picture.  What is drawn depends on `key` and on its number alone; `scratch` has plan->room
// bytes.
void nb_pictures_run(const PicturePlan *plan, const void *in, void *out, uint64_t key, uint64_t number, void *scratch);

#endif
