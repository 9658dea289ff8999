// SPDX-License-Identifier: MIT
// Reading and writing in order: bytes and the elements of tensors.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "files_private.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

// Bytes moved between two looks at the interrupt flag.
static const uint64_t CHUNK = (uint64_t)16 << 20;
enum { BUFFER = 1 << 18 };

// ---- a plain file ----

static bool plain_some(Input *in, void *data, size_t size, size_t *got, Error *err) {
  ssize_t n;
  do n = read(in->fd, data, size);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return nb_fail(err, NB_ERROR_FILE, "cannot read %s after byte %llu: %s", in->path, (unsigned long long)in->at,
                   strerror(errno));
  *got = (size_t)n;
  return true;
}

static void plain_close(Input *in) {
  if (in->fd >= 0) close(in->fd);
}

static const InputKind plain = {plain_some, plain_close};

bool nb_input_open(Input *in, const char *path, Error *err) {
  struct stat st;
  *in = (Input){.path = path, .fd = -1};
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nb_fail(err, NB_ERROR_FILE, "cannot open %s: %s", path, strerror(errno));
  in->fd = fd;
  in->kind = &plain;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    nb_input_close(in);
    return nb_fail(err, NB_ERROR_FILE, "cannot read %s: it is %s, not a file", path,
                   S_ISDIR(st.st_mode) ? "a folder" : "a device or a pipe");
  }
  in->size = (uint64_t)st.st_size;
  return true;
}

// ---- what gzip packed ----

static bool gzip_some(Input *in, void *data, size_t size, size_t *got, Error *err) {
  int n = gzread(in->state, data, (unsigned)size), code = Z_OK;
  const char *message = gzerror(in->state, &code);
  // zlib tells of data that stops short only beside the end.
  if (n <= 0 && code == Z_BUF_ERROR)
    return nb_fail(err, NB_ERROR_FILE, "%s is truncated: its gzip data has no end; %llu bytes could be unpacked",
                   in->path, (unsigned long long)in->at);
  if (n < 0 || (n == 0 && code != Z_OK))
    return nb_fail(err, NB_ERROR_FILE, "%s is damaged: gzip data cannot be unpacked after byte %llu: %s", in->path,
                   (unsigned long long)in->at, code == Z_ERRNO ? strerror(errno) : message);
  *got = (size_t)n;
  return true;
}

static void gzip_close(Input *in) {
  gzclose(in->state);
}

static const InputKind gzip = {gzip_some, gzip_close};

bool nb_input_unpack(Input *in, Error *err) {
  unsigned char magic[2];
  if (pread(in->fd, magic, 2, 0) != 2 || magic[0] != 0x1f || magic[1] != 0x8b) return true;
  gzFile gz = gzdopen(in->fd, "rb");
  if (!gz) return nb_fail(err, NB_ERROR_MEMORY, "not enough memory to unpack %s", in->path);
  gzbuffer(gz, BUFFER);
  in->kind = &gzip;
  in->state = gz;
  in->packed = true;
  in->fd = -1;
  return true;
}

// ---- reading ----

bool nb_input_some(Input *in, void *data, size_t size, size_t *got, Error *err) {
  if (!nb_poll(err)) return false;
  if (!in->kind->some(in, data, size < CHUNK ? size : (size_t)CHUNK, got, err)) return false;
  in->at += *got;
  return true;
}

bool nb_input_read(Input *in, void *data, uint64_t size, Error *err) {
  char *to = data;
  while (size > 0) {
    size_t got = 0;
    if (!nb_input_some(in, to, (size_t)size, &got, err)) return false;
    if (got == 0)
      return nb_fail(err, NB_ERROR_FILE, "%s is truncated: it ends after byte %llu where %llu more are expected",
                     in->path, (unsigned long long)in->at, (unsigned long long)size);
    to += got;
    size -= got;
  }
  return true;
}

static void swap_bytes(unsigned char *data, size_t size, int64_t n) {
  for (int64_t i = 0; i < n; i++, data += size) {
    for (size_t a = 0, b = size - 1; a < b; a++, b--) {
      unsigned char byte = data[a];
      data[a] = data[b];
      data[b] = byte;
    }
  }
}

void nb_stored_convert(const Stored *w, bool swap, void *to, unsigned char *from, int64_t n) {
  if (swap && w->size > 1) swap_bytes(from, w->size, n);
  if (w->convert) w->convert(to, from, n);
}

bool nb_input_tensor(Input *in, const Stored *w, bool swap, Tensor *t, Error *err) {
  int64_t n = nb_layout_numel(&t->layout);
  unsigned char *to = nb_tensor_data(t);
  if (w->size == nb_dtype_size(w->dtype)) {
    if (!nb_input_read(in, to, (uint64_t)n * w->size, err)) return false;
    nb_stored_convert(w, swap, to, to, n);
    return true;
  }
  unsigned char *buffer = nb_alloc(BUFFER, err);
  bool ok = buffer;
  while (ok && n > 0) {
    int64_t part = (int64_t)(BUFFER / w->size) < n ? (int64_t)(BUFFER / w->size) : n;
    ok = nb_input_read(in, buffer, (uint64_t)part * w->size, err);
    if (!ok) break;
    nb_stored_convert(w, swap, to, buffer, part);
    to += (size_t)part * nb_dtype_size(w->dtype);
    n -= part;
  }
  nb_free(buffer, BUFFER);
  return ok;
}

bool nb_input_end(Input *in, Error *err) {
  char byte;
  size_t got = 0;
  if (!in->kind->some(in, &byte, 1, &got, err)) return false;
  if (got == 0) return true;
  return nb_fail(err, NB_ERROR_FILE, "%s has bytes left over: its content should end after byte %llu", in->path,
                 (unsigned long long)in->at);
}

void nb_input_close(Input *in) {
  if (in->kind) in->kind->close(in);
  in->kind = NULL;
  in->fd = -1;
}

// ---- writing ----

bool nb_output_open(Output *out, const char *path, Error *err) {
  out->filter = NULL;
  out->state = NULL;
  return nb_replace_open(&out->file, path, NB_RIGHTS_KEPT, err);
}

bool nb_output_write(Output *out, const void *data, uint64_t size, Error *err) {
  const char *from = data;
  if (!out->filter) return nb_replace_write(&out->file, data, size, err);
  while (size > 0) {
    size_t piece = (size_t)(size < CHUNK ? size : CHUNK);
    if (!nb_poll(err) || !out->filter(out, from, piece, err)) return false;
    from += piece;
    size -= piece;
  }
  return true;
}

bool nb_output_tensor(Output *out, const Tensor *t, Error *err) {
  const Layout *l = &t->layout;
  size_t size = nb_dtype_size(l->dtype), used = 0;
  const char *data = nb_tensor_data(t);
  int64_t n = nb_layout_numel(l), at[NB_MAX_DIMS] = {0}, offset = 0;
  if (nb_layout_contiguous(l)) return nb_output_write(out, data, (uint64_t)n * size, err);
  char *buffer = nb_alloc(BUFFER, err);
  bool ok = buffer;
  for (int64_t i = 0; ok && i < n; i++) {
    memcpy(buffer + used, data + offset * (int64_t)size, size);
    used += size;
    for (int d = l->ndim - 1; d >= 0; d--) {
      offset += l->strides[d];
      if (++at[d] < l->shape[d]) break;
      offset -= at[d] * l->strides[d];
      at[d] = 0;
    }
    if (used == BUFFER || i == n - 1) {
      ok = nb_output_write(out, buffer, used, err);
      used = 0;
    }
  }
  nb_free(buffer, BUFFER);
  return ok;
}

bool nb_output_close(Output *out, bool ok, Error *err) {
  return nb_replace_close(&out->file, ok, err);
}
