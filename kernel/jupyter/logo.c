// SPDX-License-Identifier: MIT
// The logo, ∇ on a blue disc beside a small moon: as a text, and drawn.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "kernel.h"

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

static void put_u32(unsigned char *at, unsigned long value) {
  for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (24 - 8 * i));
}

// Appends a chunk of a PNG file.
static unsigned char *put_chunk(unsigned char *at, const char *type, const unsigned char *data, size_t length) {
  put_u32(at, length);
  memcpy(at + 4, type, 4);
  if (length) memcpy(at + 8, data, length);
  put_u32(at + 8 + length, crc32(0, at + 4, (uInt)length + 4));
  return at + 12 + length;
}

unsigned char *logo_png(int pixels, size_t *length) {
  enum { FINE = 4 };  // samples of a pixel, each way
  size_t row = (size_t)pixels * 4 + 1, size = row * (size_t)pixels;
  uLongf packed = compressBound(size);
  unsigned char *image = calloc(size, 1), *data = malloc(packed), *file = malloc(packed + 100);
  for (int y = 0; image && y < pixels; y++) {
    for (int x = 0; x < pixels; x++) {
      double sum[4] = {0}, rgba[4];
      for (int i = 0; i < FINE * FINE; i++) {
        double scale = 64.0 / pixels;
        color_at((Point){(x + (i % FINE + 0.5) / FINE) * scale, (y + (i / FINE + 0.5) / FINE) * scale}, rgba);
        for (int c = 0; c < 3; c++) sum[c] += rgba[c] * rgba[3];
        sum[3] += rgba[3];
      }
      unsigned char *out = image + (size_t)y * row + 1 + 4 * (size_t)x;
      for (int c = 0; c < 3; c++) out[c] = (unsigned char)(sum[3] > 0 ? 255 * sum[c] / sum[3] : 0);
      out[3] = (unsigned char)(255 * sum[3] / (FINE * FINE));
    }
  }
  bool ok = image && data && file && compress(data, &packed, image, size) == Z_OK;
  if (ok) {
    unsigned char head[13] = {[8] = 8, [9] = 6};  // eight bits each of red, green, blue, opacity
    put_u32(head, (unsigned long)pixels);
    put_u32(head + 4, (unsigned long)pixels);
    memcpy(file, "\x89PNG\r\n\x1a\n", 8);
    unsigned char *end = put_chunk(file + 8, "IHDR", head, sizeof head);
    end = put_chunk(end, "IDAT", data, packed);
    end = put_chunk(end, "IEND", NULL, 0);
    *length = (size_t)(end - file);
  } else {
    free(file);
    file = NULL;
  }
  free(image);
  free(data);
  return file;
}
