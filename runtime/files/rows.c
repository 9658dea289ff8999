// SPDX-License-Identifier: MIT
// Rows of files that are larger than memory: the file stays open, and what is asked for is read from its place; or
// pictures, each of which is a row.
//
// Reading by pread, not by mapping: a file that gets shorter meanwhile is an error with a sentence, not a signal.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "files_private.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

struct RowFile {
  int refs;
  Input in;
  char *path;  // owned, as in.path is read after the opening
  size_t path_size;
  const Stored *wire;
  bool swap;
  Layout layout;
  uint64_t start;      // where the first row lies in the file
  uint64_t row_bytes;  // as stored
  // Of pictures, which are not open: where each path begins in `path`.
  size_t *paths;
  PictureForm form;
};

// Bytes read between two looks at the interrupt flag.
enum { PART = 1 << 24 };

static bool read_head(RowFile *f, Error *err) {
  unsigned char magic[4] = {0};
  ssize_t got = pread(f->in.fd, magic, sizeof magic, 0);
  if (got == 4 && magic[0] == 0x1f && magic[1] == 0x8b)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s is packed by gzip, so that its rows have no places; unpack it first (gunzip -k)", f->path);
  bool is_npy = got == 4 && magic[0] == 0x93;
  bool ok = is_npy ? nb_npy_head(&f->in, &f->wire, &f->swap, &f->layout, err)
                   : nb_idx_head(&f->in, &f->wire, &f->layout, err);
  if (!ok) return false;
  if (!is_npy) f->swap = true;
  if (f->layout.ndim == 0) return nb_fail(err, NB_ERROR_FILE, "%s holds one number, which has no rows", f->path);
  f->start = f->in.at;
  f->row_bytes = f->wire->size;
  for (int d = 1; d < f->layout.ndim; d++) f->row_bytes *= (uint64_t)f->layout.shape[d];
  return true;
}

RowFile *nb_rows_open(const char *path, Error *err) {
  size_t size = strlen(path) + 1;
  RowFile *f = nb_alloc(sizeof *f, err);
  if (!f) return NULL;
  *f = (RowFile){.refs = 1, .in = {.fd = -1}, .path_size = size};
  if (!(f->path = nb_alloc(size, err))) {
    nb_free(f, sizeof *f);
    return NULL;
  }
  memcpy(f->path, path, size);
  if (nb_input_open(&f->in, f->path, err) && read_head(f, err)) return f;
  nb_rows_close(f);
  return NULL;
}

// The paths one behind another, and where each begins.
static bool keep_paths(RowFile *f, const char *const *paths, int64_t count, Error *err) {
  size_t at = 0;
  for (int64_t i = 0; i < count; i++) f->path_size += strlen(paths[i]) + 1;
  f->layout.shape[0] = count;
  if (!(f->path = nb_alloc(f->path_size, err)) || !(f->paths = nb_alloc((size_t)count * sizeof *f->paths, err)))
    return false;
  for (int64_t i = 0; i < count; i++) {
    size_t size = strlen(paths[i]) + 1;
    memcpy(f->path + at, paths[i], size);
    f->paths[i] = at;
    at += size;
  }
  return true;
}

// What is not given is that of the first picture.
static bool find_form(RowFile *f, Error *err) {
  PictureForm *form = &f->form;
  form->converts = form->channels > 0;
  form->resizes = form->height > 0 && form->width > 0;
  if (!form->converts || !form->resizes) {
    Tensor *first = nb_image_read(f->path, form->channels, err);
    if (!first) return false;
    const int64_t *shape = first->layout.shape;
    form->channels = (int)shape[0];
    if (!form->resizes) form->height = shape[1], form->width = shape[2];
    nb_tensor_release(&first);
  }
  f->layout =
      (Layout){.dtype = NB_U8, .ndim = 4, .shape = {f->layout.shape[0], form->channels, form->height, form->width}};
  return nb_layout_check(&f->layout, err);
}

RowFile *nb_rows_of_pictures(const char *const *paths, int64_t count, int channels, int64_t height, int64_t width,
                             Error *err) {
  RowFile *f = nb_alloc(sizeof *f, err);
  if (!f) return NULL;
  *f = (RowFile){.refs = 1, .in = {.fd = -1}, .form = {.channels = channels, .height = height, .width = width}};
  if (keep_paths(f, paths, count, err) && find_form(f, err)) return f;
  nb_rows_close(f);
  return NULL;
}

RowFile *nb_rows_retain(RowFile *f) {
  f->refs++;
  return f;
}

void nb_rows_close(RowFile *f) {
  if (!f || --f->refs > 0) return;
  if (f->in.kind) nb_input_close(&f->in);
  nb_free(f->paths, (size_t)f->layout.shape[0] * sizeof *f->paths);
  nb_free(f->path, f->path_size);
  nb_free(f, sizeof *f);
}

const Layout *nb_rows_layout(const RowFile *f) {
  return &f->layout;
}

size_t nb_rows_bytes(const RowFile *f) {
  return (size_t)f->row_bytes;
}

// Reads `size` bytes that lie at an offset of the file; `polls` on the thread that computes.
static bool read_at(const RowFile *f, bool polls, unsigned char *to, uint64_t size, uint64_t offset, Error *err) {
  while (size > 0) {
    if (polls && !nb_poll(err)) return false;
    ssize_t n = pread(f->in.fd, to, size < PART ? (size_t)size : PART, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return nb_fail(err, NB_ERROR_FILE, "cannot read %s: %s", f->path, strerror(errno));
    if (n == 0)
      return nb_fail(err, NB_ERROR_FILE, "%s has become shorter since it was opened: it ends at byte %llu", f->path,
                     (unsigned long long)offset);
    to += n;
    size -= (uint64_t)n;
    offset += (uint64_t)n;
  }
  return true;
}

// How many of the places from the first on follow each other.
static int64_t run_length(const int64_t *places, int64_t n) {
  int64_t length = 1;
  while (length < n && places[length] == places[0] + length) length++;
  return length;
}

static bool check_places(const RowFile *f, const int64_t *places, int64_t n, Error *err) {
  for (int64_t i = 0; i < n; i++)
    if (places[i] < 1 || places[i] > f->layout.shape[0])
      return nb_fail(err, NB_ERROR_ARGUMENT, "%s%s: there is no row %lld, rows count from 1 to %lld", f->path,
                     f->paths ? " and others" : "", (long long)places[i], (long long)f->layout.shape[0]);
  return true;
}

static bool read_pictures(const RowFile *f, const int64_t *places, Tensor *t, Error *err) {
  int64_t n = t->layout.shape[0], size = n ? nb_layout_numel(&t->layout) / n : 0;
  for (int64_t i = 0; i < n; i++)
    if (!nb_poll(err) || !nb_rows_read_one(f, places[i], (char *)nb_tensor_data(t) + i * size, NULL, err)) return false;
  return true;
}

Tensor *nb_rows_read(RowFile *f, const int64_t *places, int64_t n, Error *err) {
  Layout l = f->layout;
  l.shape[0] = n;
  if (!check_places(f, places, n, err)) return NULL;
  Tensor *t = nb_tensor_new(&l, err);
  if (t && f->paths && !read_pictures(f, places, t, err)) nb_tensor_release(&t);
  if (!t || f->paths) return t;
  size_t raw = (size_t)n * (size_t)f->row_bytes + 1;  // so that there is something to free where there are no rows
  bool direct = f->wire->size == nb_dtype_size(l.dtype);
  unsigned char *to = direct ? nb_tensor_data(t) : nb_alloc(raw, err);
  bool ok = to;
  for (int64_t i = 0, run; ok && i < n; i += run) {
    run = run_length(places + i, n - i);
    ok = read_at(f, true, to + (size_t)i * f->row_bytes, (uint64_t)run * f->row_bytes,
                 f->start + (uint64_t)(places[i] - 1) * f->row_bytes, err);
  }
  if (ok) nb_stored_convert(f->wire, f->swap, nb_tensor_data(t), to, nb_layout_numel(&l));
  if (!direct && to) nb_free(to, raw);
  if (!ok) nb_tensor_release(&t);
  return t;
}

bool nb_rows_read_one(const RowFile *f, int64_t place, void *to, void *scratch, Error *err) {
  int64_t n = 1;
  if (f->paths) return nb_picture_decode(f->path + f->paths[place - 1], &f->form, to, err);
  for (int d = 1; d < f->layout.ndim; d++) n *= f->layout.shape[d];
  bool direct = f->wire->size == nb_dtype_size(f->layout.dtype);
  unsigned char *raw = direct ? to : scratch;
  if (!read_at(f, false, raw, f->row_bytes, f->start + (uint64_t)(place - 1) * f->row_bytes, err)) return false;
  nb_stored_convert(f->wire, f->swap, to, raw, n);
  return true;
}
