// SPDX-License-Identifier: MIT
// Pictures: PNG through libpng, JPEG through libjpeg-turbo, into bytes of shape channels × height × width; pixels as
// PNG.
//
// Both libraries report errors by a jump; each jumps only within the one function that calls it, and all memory is
// held by the Picture outside.
#include <stdio.h>
// (jpeglib.h needs it before)
#include <jerror.h>
#include <jpeglib.h>
#include <png.h>
#include <setjmp.h>
#include <string.h>

#include "files_private.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/pictures.h"

// What a picture's bytes can be at most, for each byte of its file: deflate's limit, and somewhat above what one bit
// for each block of a JPEG gives.
enum { RATIO = 2048, MOST_SCANS = 200 };

typedef struct Picture {
  const char *path;
  bool beside;          // on any thread, not only that which computes
  unsigned char *file;  // the whole file
  size_t file_size, at;
  uint32_t width, height;
  unsigned channels;      // 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
  bool cmyk;              // the four channels are these inks, as Adobe writes them: 255 is none
  unsigned char *pixels;  // height × width × channels
  size_t bytes;
  unsigned char **rows;
  Error *err;
} Picture;

static void *take(const Picture *p, size_t bytes) {
  return p->beside ? nb_alloc_beside(bytes, p->err) : nb_alloc(bytes, p->err);
}

static void give(const Picture *p, void *block, size_t bytes) {
  p->beside ? nb_free_beside(block, bytes) : nb_free(block, bytes);
}

// Only who computes answers to an interrupt; others just stop.
static bool goes_on(const Picture *p) {
  if (!p->beside) return nb_poll(p->err);
  return !nb_interrupted() || nb_fail(p->err, NB_ERROR_INTERRUPT, "interrupted");
}

static bool damaged(Picture *p, const char *message) {
  return nb_fail(p->err, NB_ERROR_FILE, "%s is damaged: %s", p->path, message);
}

// Makes room for the pixels, when the file can hold that many.
static bool make_room(Picture *p) {
  uint64_t row = (uint64_t)p->width * p->channels;
  if (row == 0 || p->height == 0) return damaged(p, "it has no pixels");
  if (row > UINT64_MAX / p->height || row * p->height / RATIO > p->file_size)
    return nb_fail(p->err, NB_ERROR_FILE,
                   "%s: its header declares %lu×%lu pixels, more than a file of %zu bytes can hold", p->path,
                   (unsigned long)p->width, (unsigned long)p->height, p->file_size);
  p->bytes = (size_t)(row * p->height);
  if (!(p->pixels = take(p, p->bytes)) || !(p->rows = take(p, p->height * sizeof *p->rows))) return false;
  for (uint32_t y = 0; y < p->height; y++) p->rows[y] = p->pixels + y * (size_t)row;
  return true;
}

// ---- PNG ----

static void png_failed(png_structp png, png_const_charp message) {
  damaged(png_get_error_ptr(png), message);
  png_longjmp(png, 1);
}

static void png_ignore(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static void png_bytes(png_structp png, png_bytep to, size_t size) {
  Picture *p = png_get_io_ptr(png);
  if (size > p->file_size - p->at) png_error(png, "it ends too early");
  if (!goes_on(p)) png_longjmp(png, 1);
  memcpy(to, p->file + p->at, size);
  p->at += size;
}

static bool decode_png(Picture *p, png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, p, png_bytes);
  png_read_info(png, info);
  int type = png_get_color_type(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
  if (png_get_bit_depth(png, info) == 16) png_set_scale_16(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  p->width = png_get_image_width(png, info);
  p->height = png_get_image_height(png, info);
  p->channels = png_get_channels(png, info);
  if (!make_room(p)) return false;
  png_read_image(png, p->rows);
  png_read_end(png, NULL);
  return true;
}

static bool read_png(Picture *p) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, p, png_failed, png_ignore);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  bool ok = info ? decode_png(p, png, info) : nb_fail(p->err, NB_ERROR_MEMORY, "not enough memory to read %s", p->path);
  png_destroy_read_struct(&png, &info, NULL);
  return ok;
}

// ---- JPEG ----

typedef struct Decoder {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  jmp_buf jump;
  Picture *picture;
} Decoder;

static void jpeg_failed(j_common_ptr jpeg) {
  char message[JMSG_LENGTH_MAX];
  Decoder *d = jpeg->client_data;
  jpeg->err->format_message(jpeg, message);
  damaged(d->picture, message);
  longjmp(d->jump, 1);
}

// Of the warnings (level -1) those that pixels are missing are errors.
static void jpeg_warned(j_common_ptr jpeg, int level) {
  if (level < 0 && (jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JWRN_HIT_MARKER)) jpeg_failed(jpeg);
}

// A small file can hold thousands of passes over a large picture.
static void jpeg_progressed(j_common_ptr jpeg) {
  Decoder *d = jpeg->client_data;
  if (!goes_on(d->picture)) longjmp(d->jump, 1);
  if (d->jpeg.input_scan_number <= MOST_SCANS) return;
  damaged(d->picture, "it has more than 200 scans");
  longjmp(d->jump, 1);
}

static bool decode_jpeg(Decoder *d) {
  Picture *p = d->picture;
  struct jpeg_decompress_struct *jpeg = &d->jpeg;
  if (setjmp(d->jump)) return false;
  jpeg_create_decompress(jpeg);
  jpeg->progress = &d->progress;
  jpeg_mem_src(jpeg, p->file, p->file_size);
  jpeg_read_header(jpeg, TRUE);
  if (jpeg->num_components == 1) {
    jpeg->out_color_space = JCS_GRAYSCALE;
  } else if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK) {
    jpeg->out_color_space = JCS_CMYK;
    p->cmyk = true;
  } else {
    jpeg->out_color_space = JCS_RGB;
  }
  p->width = jpeg->image_width;
  p->height = jpeg->image_height;
  p->channels = jpeg->out_color_space == JCS_GRAYSCALE ? 1 : p->cmyk ? 4 : 3;
  if (!make_room(p)) return false;
  jpeg_start_decompress(jpeg);
  while (jpeg->output_scanline < jpeg->output_height)
    jpeg_read_scanlines(jpeg, p->rows + jpeg->output_scanline, jpeg->output_height - jpeg->output_scanline);
  jpeg_finish_decompress(jpeg);
  return true;
}

static bool read_jpeg(Picture *p) {
  Decoder *d = take(p, sizeof *d);
  if (!d) return false;
  memset(d, 0, sizeof *d);
  d->picture = p;
  d->jpeg.err = jpeg_std_error(&d->errors);
  d->jpeg.client_data = d;
  d->errors.error_exit = jpeg_failed;
  d->errors.emit_message = jpeg_warned;
  d->progress.progress_monitor = jpeg_progressed;
  bool ok = decode_jpeg(d);
  jpeg_destroy_decompress(&d->jpeg);
  give(p, d, sizeof *d);
  return ok;
}

// ---- channels ----

// The weights of ITU-R BT.601, in 65536ths.
static unsigned char grey_of(const unsigned char *rgb) {
  return (unsigned char)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

static void from_inks(unsigned char *pixel) {
  for (int c = 0; c < 3; c++) pixel[c] = (unsigned char)((pixel[c] * pixel[3] + 127) / 255);
  pixel[3] = 255;
}

// One pixel of `from` channels as one of `to`.
static void convert(const unsigned char *in, unsigned from, unsigned char *out, unsigned to) {
  bool color = from >= 3;
  unsigned char alpha = from == 2 ? in[1] : from == 4 ? in[3] : 255;
  if (to <= 2)
    out[0] = color ? grey_of(in) : in[0];
  else
    for (unsigned c = 0; c < 3; c++) out[c] = color ? in[c] : in[0];
  if (to == 2 || to == 4) out[to - 1] = alpha;
}

// How many channels it has where nobody wants others.
static unsigned own_channels(const Picture *p) {
  return p->cmyk ? 3 : p->channels;
}

// The pixels as channels × height × width.
static void spread(Picture *p, unsigned to, unsigned char *out) {
  unsigned from = p->channels;
  unsigned char *in = p->pixels, pixel[4];
  size_t plane = (size_t)p->width * p->height;
  for (size_t i = 0; i < plane; i++, in += from) {
    if (p->cmyk) from_inks(in);
    convert(in, from, pixel, to);
    for (unsigned c = 0; c < to; c++) out[c * plane + i] = pixel[c];
  }
}

static Tensor *to_tensor(Picture *p, unsigned channels) {
  unsigned to = channels ? channels : own_channels(p);
  Layout l = {.dtype = NB_U8, .ndim = 3, .shape = {to, p->height, p->width}};
  Tensor *t = nb_tensor_new(&l, p->err);
  if (t) spread(p, to, nb_tensor_data(t));
  return t;
}

// The pixels as the form has them; made its size where it resizes.
static bool to_form(Picture *p, const PictureForm *f, unsigned char *out) {
  unsigned to = (unsigned)f->channels;
  bool fits = p->height == f->height && p->width == f->width;
  if ((!fits && !f->resizes) || (!f->converts && own_channels(p) != to))
    return nb_fail(p->err, NB_ERROR_FILE,
                   "%s is %u×%lu×%lu, the first picture is %u×%lld×%lld (channels × height × width); size= and "
                   "channels= make them alike",
                   p->path, own_channels(p), (unsigned long)p->height, (unsigned long)p->width, to,
                   (long long)f->height, (long long)f->width);
  if (fits) return spread(p, to, out), true;
  PicturePlan plan;
  PictureStep step = {.kind = NB_PICTURE_RESIZE, .v = {(double)f->height, (double)f->width}};
  PictureSizes sizes = {to, p->height, p->width, NB_U8};
  if (!nb_pictures_plan(&step, 1, sizes, &plan, p->err)) return false;
  size_t plain = (size_t)p->height * p->width * to, bytes = plan.room + plain;
  unsigned char *scratch = take(p, bytes);
  if (!scratch) return false;
  spread(p, to, scratch + plan.room);
  nb_pictures_run(&plan, scratch + plan.room, out, 0, 0, scratch);
  give(p, scratch, bytes);
  return true;
}

// The whole file; without nb_input_read, which answers to an interrupt itself.
static bool read_file(Picture *p) {
  Input in;
  size_t got = 1;
  if (!nb_input_open(&in, p->path, p->err)) return false;
  p->file_size = (size_t)in.size;
  bool ok = (p->file = take(p, p->file_size));
  for (size_t at = 0; ok && at < p->file_size; at += got) {
    ok = goes_on(p) && in.kind->some(&in, p->file + at, p->file_size - at, &got, p->err);
    if (ok && got == 0) ok = damaged(p, "it became shorter while it was read");
  }
  nb_input_close(&in);
  return ok;
}

static bool decode(Picture *p) {
  static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, jpeg[] = {0xff, 0xd8, 0xff};
  if (p->file_size >= sizeof png && memcmp(p->file, png, sizeof png) == 0) return read_png(p);
  if (p->file_size >= sizeof jpeg && memcmp(p->file, jpeg, sizeof jpeg) == 0) return read_jpeg(p);
  return nb_fail(p->err, NB_ERROR_FILE, "%s is neither a PNG nor a JPEG file", p->path);
}

static void release(Picture *p) {
  give(p, p->rows, p->height * sizeof *p->rows);
  give(p, p->pixels, p->bytes);
  give(p, p->file, p->file_size);
}

Tensor *nb_image_read(const char *path, int channels, Error *err) {
  Picture p = {.path = path, .err = err};
  Tensor *t = read_file(&p) && decode(&p) ? to_tensor(&p, (unsigned)channels) : NULL;
  release(&p);
  return t;
}

bool nb_picture_decode(const char *path, const PictureForm *form, void *to, Error *err) {
  Picture p = {.path = path, .beside = true, .err = err};
  bool ok = read_file(&p) && decode(&p) && to_form(&p, form, to);
  release(&p);
  return ok;
}

// ---- writing ----

static png_image image_of(const Tensor *pixels) {
  const int64_t *shape = pixels->layout.shape;
  return (png_image){.version = PNG_IMAGE_VERSION,
                     .height = (png_uint_32)shape[0],
                     .width = (png_uint_32)shape[1],
                     .format = shape[2] == 4 ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB};
}

size_t nb_png_room(const Tensor *pixels) {
  png_image image = image_of(pixels);
  return PNG_IMAGE_PNG_SIZE_MAX(image);
}

bool nb_png_write(const Tensor *pixels, void *to, size_t room, size_t *size, Error *err) {
  png_image image = image_of(pixels);
  png_alloc_size_t used = room;
  bool ok = png_image_write_to_memory(&image, to, &used, 0, nb_tensor_data(pixels), 0, NULL) != 0;
  *size = ok ? used : 0;
  return ok || nb_fail(err, NB_ERROR_FILE, "cannot write %lux%lu pixels as PNG: %s", (unsigned long)image.width,
                       (unsigned long)image.height, image.message);
}
