// SPDX-License-Identifier: MIT
// Convolution of batches of images as matrix products, and its two transposes.
//
// With x the input, w the weight and y the output of one convolution,
//   y = conv_forward(x, w)     x = conv_input(y, w)     w = conv_weight(x, y)
// are the three partial maps of the same trilinear form: the gradients of each are the other two.
//
// The pixels under the kernel are laid out as columns ("im2col"), for a block of images at a time:
//
//            images × out_height × out_width ──►
//   ┌───────┐   ┌──────────────────────────────┐
//   │w      │ · │ channels × rows × columns    │  =  y, whose rows are sorted back to images
//   └───────┘   └──────────────────────────────┘
#ifndef NABLUA_CONVOLVE_H
#define NABLUA_CONVOLVE_H

#include "nablua/tensor.h"

typedef struct Conv {
  DType dtype;                              // f32 or f64
  int64_t images, channels, height, width;  // x
  int64_t filters, rows, columns, groups;   // w: filters × channels/groups × rows × columns
  int64_t out_height, out_width;            // y: images × filters × out_height × out_width
  int64_t stride[2], padding[2], dilation[2];
} Conv;

// All arrays are contiguous; `bias` has one number for each filter (forward) or channel (input), or is NULL.
// False when there is no memory for the columns, or after an interrupt.
bool conv_forward(const Conv *v, const void *x, const void *w, const void *bias, void *y, Error *err);
bool conv_input(const Conv *v, const void *y, const void *w, const void *bias, void *x, Error *err);
bool conv_weight(const Conv *v, const void *x, const void *y, void *w, Error *err);

// The columns of `images` images from x on: channels·rows·columns lines of images·out_height·out_width.
void conv_columns(const Conv *v, int64_t images, const void *x, void *columns);

// The transpose: adds every column back to its pixel; x starts from bias or 0.
void conv_pixels(const Conv *v, int64_t images, const void *columns, const void *bias, void *x);

#endif
