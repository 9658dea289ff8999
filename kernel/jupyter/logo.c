// SPDX-License-Identifier: MIT
// The logo, ∇ on a blue disc beside a small moon: as a text, and drawn.
#include <math.h>
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "install.h"

// In units of a 64×64 square; the drawing below has the same shapes.
const char logo_svg[] =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\">"
    "<circle cx=\"30\" cy=\"34\" r=\"26\" fill=\"#1b2a7a\"/>"
    "<circle cx=\"55\" cy=\"9\" r=\"8\" fill=\"#1b2a7a\"/>"
    "<path d=\"M11 20H49L30 54ZM22 26L30 41L38 26Z\" fill=\"#fff\" fill-rule=\"evenodd\"/>"
    "</svg>\n";

typedef struct Point {
  double x, y;
} Point;

static bool in_disc(Point p, double x, double y, double radius) {
  return hypot(p.x - x, p.y - y) <= radius;
}

// Inside the triangle whose upper side is flat, from left to right, and whose tip points down.
static bool in_nabla(Point p, double left, double right, double top, double tip) {
  double middle = (left + right) / 2, share = (tip - p.y) / (tip - top);
  return share >= 0 && share <= 1 && fabs(p.x - middle) <= share * (right - left) / 2;
}

// The colour at a point with its opacity, each from 0 to 1.
static void color_at(Point p, double rgba[4]) {
  static const double blue[4] = {0x1b / 255.0, 0x2a / 255.0, 0x7a / 255.0, 1}, white[4] = {1, 1, 1, 1}, none[4] = {0};
  bool disc = in_disc(p, 30, 34, 26) || in_disc(p, 55, 9, 8);
  bool nabla = in_nabla(p, 11, 49, 20, 54) && !in_nabla(p, 22, 38, 26, 41);
  memcpy(rgba, nabla ? white : disc ? blue : none, sizeof blue);
}

// The pixel whose left upper corner is x, y of `pixels`: the mean of its samples.
static void draw_pixel(unsigned char *out, int x, int y, int pixels) {
  enum { FINE = 4 };  // samples each way
  double sum[4] = {0}, rgba[4], scale = 64.0 / pixels;
  for (int i = 0; i < FINE * FINE; i++) {
    color_at(
        (Point){(x + (i % FINE + 0.5) / (double)FINE) * scale, (y + ((double)(i / FINE) + 0.5) / (double)FINE) * scale},
        rgba);
    for (int c = 0; c < 3; c++) sum[c] += rgba[c] * rgba[3];
    sum[3] += rgba[3];
  }
  for (int c = 0; c < 3; c++) out[c] = (unsigned char)(sum[3] > 0 ? 255 * sum[c] / sum[3] : 0);
  out[3] = (unsigned char)(255 * sum[3] / (FINE * FINE));
}

unsigned char *logo_png(int pixels, size_t *length) {
  png_image head = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGBA};
  head.flags = PNG_IMAGE_FLAG_FAST;  // without filters, which make plain areas longer
  head.width = head.height = (png_uint_32)pixels;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(head);
  unsigned char *image = malloc(PNG_IMAGE_SIZE(head)), *file = malloc(size);
  for (int i = 0; image && i < pixels * pixels; i++) draw_pixel(image + 4 * (size_t)i, i % pixels, i / pixels, pixels);
  if (!image || !file || !png_image_write_to_memory(&head, file, &size, 0, image, 0, NULL)) {
    free(file);
    file = NULL;
  }
  free(image);
  *length = size;
  return file;
}
