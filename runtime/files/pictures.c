// SPDX-License-Identifier: MIT
// Pictures before a net sees them: plans of steps, and a run of one on one picture.
#include "nablua/pictures.h"

#include <math.h>
#include <string.h>

#include "nablua/random.h"

#define PI 3.14159265358979323846

enum { BLOCKS_A_STEP = 2 };

// Eight numbers from 0 up to 1 for a step on a picture: a place of their own in the stream of this key.
static void draw(uint64_t key, uint64_t number, int step, double u[8]) {
  RandomState state = {key, (number * NB_PICTURE_STEPS + (uint64_t)step) * BLOCKS_A_STEP};
  for (int b = 0; b < BLOCKS_A_STEP; b++) {
    uint64_t words[2];
    nb_random_block(state, (uint64_t)b, words);
    for (int i = 0; i < 4; i++) u[4 * b + i] = (double)(uint32_t)(words[i / 2] >> (i % 2 ? 32 : 0)) * 0x1p-32;
  }
}

#define LOAD(type)                                                    \
  for (int64_t i = 0; i < n; i++) to[i] = (T)((const type *)from)[i]; \
  break
#define STORE(type)                                                \
  for (int64_t i = 0; i < n; i++) ((type *)to)[i] = (type)from[i]; \
  break

#define T float
#define NAME(x) x##_f32
#define rint_f32 rintf
static void load_f32(const void *from, DType dtype, int64_t n, T *to) {
  if (dtype == NB_F32) memcpy(to, from, (size_t)n * sizeof *to);
  for (int64_t i = 0; dtype != NB_F32 && i < n; i++) to[i] = (T)((const uint8_t *)from)[i];
}
static void store_f32(const T *from, DType dtype, int64_t n, void *to) {
  if (dtype == NB_F32) memcpy(to, from, (size_t)n * sizeof *from);
  for (int64_t i = 0; dtype != NB_F32 && i < n; i++) ((uint8_t *)to)[i] = (uint8_t)from[i];
}
#include "pictures_steps.h"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_f64
#define rint_f64 rint
static void load_f64(const void *from, DType dtype, int64_t n, T *to) {
  switch (dtype) {
    case NB_F64:
      LOAD(double);
    case NB_I64:
      LOAD(int64_t);
    default:
      break;
  }
}
static void store_f64(const T *from, DType dtype, int64_t n, void *to) {
  switch (dtype) {
    case NB_F64:
      STORE(double);
    case NB_I64:
      STORE(int64_t);
    default:
      break;
  }
}
#include "pictures_steps.h"
#undef T
#undef NAME

bool nb_pictures_random(PictureKind kind) {
  return kind == NB_PICTURE_RANDOM_CROP || kind >= NB_PICTURE_FLIP_COLUMNS;
}

static bool fits(const PictureSizes *s, int64_t padding, int64_t h, int64_t w, Error *err) {
  if (s->h + 2 * padding >= h && s->w + 2 * padding >= w) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "the pictures are %lld×%lld, smaller than %lld×%lld",
                 (long long)(s->h + 2 * padding), (long long)(s->w + 2 * padding), (long long)h, (long long)w);
}

static bool of_channels(const PictureSizes *s, const char *name, int64_t count, Error *err) {
  if (count == 1 || count == s->c) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "%s must be one number or one for each of %lld channels, got %lld", name,
                 (long long)s->c, (long long)count);
}

static bool is_float(const PictureSizes *s, const char *what, Error *err) {
  if (nb_dtype_is_float(s->dtype)) return true;
  return nb_fail(err, NB_ERROR_ARGUMENT, "needs %s, got %s; data.transforms.ToFloat() goes before it", what,
                 nb_dtype_name(s->dtype));
}

static bool sizes_after(const PictureStep *step, const PictureSizes *from, PictureSizes *to, Error *err) {
  int64_t h = (int64_t)step->v[0], w = (int64_t)step->v[1];
  *to = *from;
  switch (step->kind) {
    case NB_PICTURE_TO_FLOAT:
      if (from->dtype == NB_U8) to->dtype = NB_F32;
      return true;
    case NB_PICTURE_NORMALIZE:
      return is_float(from, "f32 or f64", err) && of_channels(from, "mean", step->means, err) &&
             of_channels(from, "std", step->stds, err);
    case NB_PICTURE_CENTER_CROP:
    case NB_PICTURE_RANDOM_CROP:
      to->h = h, to->w = w;
      return fits(from, step->kind == NB_PICTURE_RANDOM_CROP ? (int64_t)step->v[2] : 0, h, w, err);
    case NB_PICTURE_RESIZE:
      if (from->h * from->w == 0) return nb_fail(err, NB_ERROR_ARGUMENT, "the pictures are empty");
      to->h = h, to->w = w;
      if (from->dtype == NB_I64) return is_float(from, "u8, f32 or f64", err);
      return true;
    case NB_PICTURE_JITTER:
      return is_float(from, "numbers 0..1", err);
    case NB_PICTURE_ERASE:
      if (!nb_dtype_is_float(from->dtype) &&
          (step->v[3] != rint(step->v[3]) || (from->dtype == NB_U8 && (step->v[3] < 0 || step->v[3] > 255))))
        return nb_fail(err, NB_ERROR_ARGUMENT, "value %g does not fit into pictures of %s", step->v[3],
                       nb_dtype_name(from->dtype));
      return true;
    case NB_PICTURE_AFFINE:
      if (from->dtype == NB_I64) return is_float(from, "u8, f32 or f64", err);
      return true;
    default:
      return true;
  }
}

bool nb_pictures_plan(const PictureStep *steps, int count, PictureSizes from, PicturePlan *plan, Error *err) {
  if (count > NB_PICTURE_STEPS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "at most %d transforms go one after the other, got %d", NB_PICTURE_STEPS,
                   count);
  if (from.dtype == NB_BOOL)
    return nb_fail(err, NB_ERROR_ARGUMENT, "pictures must be numbers, got bool; :to(\"u8\") makes them");
  *plan = (PicturePlan){.count = count, .twice = from.dtype == NB_F64 || from.dtype == NB_I64};
  plan->sizes[0] = from;
  size_t most = (size_t)(from.c * from.h * from.w);
  for (int i = 0; i < count; i++) {
    PictureSizes *to = &plan->sizes[i + 1];
    plan->steps[i] = steps[i];
    if (!sizes_after(&steps[i], &plan->sizes[i], to, err)) return false;
    size_t size = (size_t)(to->c * to->h * to->w), half = (size_t)(to->c * to->h * plan->sizes[i].w);
    if (size > most) most = size;
    if (half > most) most = half;
  }
  plan->room = 3 * (most + 1) * (plan->twice ? sizeof(double) : sizeof(float));
  return true;
}

void nb_pictures_run(const PicturePlan *plan, const void *in, void *out, uint64_t key, uint64_t number, void *scratch) {
  (plan->twice ? run_f64 : run_f32)(plan, in, out, key, number, scratch);
}
