// SPDX-License-Identifier: MIT
// Reading files in order and replacing files atomically.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "files_private.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

// Bytes moved between two looks at the interrupt flag.
static const uint64_t CHUNK = (uint64_t)16 << 20;
enum { BUFFER = 1 << 18 };

// ---- reading ----

bool nb_input_open(Input *in, const char *path, Error *err) {
  struct stat st;
  *in = (Input){.path = path, .fd = -1};
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nb_fail(err, NB_ERROR_FILE, "cannot open %s: %s", path, strerror(errno));
  in->fd = fd;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    nb_input_close(in);
    return nb_fail(err, NB_ERROR_FILE, "cannot read %s: it is %s, not a file", path,
                   S_ISDIR(st.st_mode) ? "a folder" : "a device or a pipe");
  }
  in->size = (uint64_t)st.st_size;
  return true;
}

bool nb_input_unpack(Input *in, Error *err) {
  unsigned char magic[2];
  if (pread(in->fd, magic, 2, 0) != 2 || magic[0] != 0x1f || magic[1] != 0x8b) return true;
  gzFile gz = gzdopen(in->fd, "rb");
  if (!gz) return nb_fail(err, NB_ERROR_MEMORY, "not enough memory to unpack %s", in->path);
  gzbuffer(gz, BUFFER);
  in->gz = gz;
  in->fd = -1;
  return true;
}

static bool read_failed(const Input *in, uint64_t missing, Error *err) {
  int zlib_error = Z_OK;
  const char *message = in->gz ? gzerror(in->gz, &zlib_error) : "";
  if (in->gz && zlib_error != Z_OK && zlib_error != Z_BUF_ERROR)
    return nb_fail(err, NB_ERROR_FILE, "%s is damaged: gzip data cannot be unpacked after byte %llu: %s", in->path,
                   (unsigned long long)in->at, zlib_error == Z_ERRNO ? strerror(errno) : message);
  return nb_fail(err, NB_ERROR_FILE, "%s is truncated: it ends after byte %llu where %llu more are expected", in->path,
                 (unsigned long long)in->at, (unsigned long long)missing);
}

// One piece of at most CHUNK bytes: the count, 0 at the end, negative on failure.
static int64_t read_piece(Input *in, void *data, uint64_t size) {
  size_t piece = (size_t)(size < CHUNK ? size : CHUNK);
  if (in->gz) return gzread(in->gz, data, (unsigned)piece);
  ssize_t got;
  do got = read(in->fd, data, piece);
  while (got < 0 && errno == EINTR);
  return got;
}

bool nb_input_some(Input *in, void *data, size_t size, size_t *got, Error *err) {
  if (!nb_poll(err)) return false;
  if (in->unpack) {
    if (!nb_zip_some(in, data, size, got, err)) return false;
    in->at += *got;
    return true;
  }
  int64_t n = read_piece(in, data, size);
  if (n < 0 && !in->gz)
    return nb_fail(err, NB_ERROR_FILE, "cannot read %s after byte %llu: %s", in->path, (unsigned long long)in->at,
                   strerror(errno));
  // zlib tells of data that stops short only beside the end.
  int code = Z_OK;
  if (n == 0 && in->gz) gzerror(in->gz, &code);
  if (code == Z_BUF_ERROR)
    return nb_fail(err, NB_ERROR_FILE, "%s is truncated: its gzip data has no end; %llu bytes could be unpacked",
                   in->path, (unsigned long long)in->at);
  if (n < 0 || code != Z_OK) return read_failed(in, 1, err);
  *got = (size_t)n;
  in->at += (uint64_t)n;
  return true;
}

bool nb_input_read(Input *in, void *data, uint64_t size, Error *err) {
  char *to = data;
  while (size > 0) {
    size_t got = 0;
    if (!nb_input_some(in, to, (size_t)(size < CHUNK ? size : CHUNK), &got, err)) return false;
    if (got == 0) return read_failed(in, size, err);
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

bool nb_input_tensor(Input *in, const Wire *w, bool swap, Tensor *t, Error *err) {
  int64_t n = nb_layout_numel(&t->layout);
  unsigned char *to = nb_tensor_data(t);
  if (w->size == nb_dtype_size(w->dtype)) {
    if (!nb_input_read(in, to, (uint64_t)n * w->size, err)) return false;
    if (swap && w->size > 1) swap_bytes(to, w->size, n);
    if (w->convert) w->convert(to, to, n);
    return true;
  }
  unsigned char *buffer = nb_alloc(BUFFER, err);
  bool ok = buffer;
  while (ok && n > 0) {
    int64_t part = (int64_t)(BUFFER / w->size) < n ? (int64_t)(BUFFER / w->size) : n;
    ok = nb_input_read(in, buffer, (uint64_t)part * w->size, err);
    if (!ok) break;
    if (swap) swap_bytes(buffer, w->size, part);
    w->convert(to, buffer, part);
    to += (size_t)part * nb_dtype_size(w->dtype);
    n -= part;
  }
  nb_free(buffer, BUFFER);
  return ok;
}

bool nb_input_end(Input *in, Error *err) {
  char byte;
  int64_t got = read_piece(in, &byte, 1);
  if (got < 0) return read_failed(in, 0, err);
  int zlib_error = Z_OK;
  if (in->gz) gzerror(in->gz, &zlib_error);
  if (got == 0 && zlib_error == Z_BUF_ERROR)  // the checksum at the end is missing
    return nb_fail(err, NB_ERROR_FILE, "%s is truncated: its gzip data has no end", in->path);
  if (got == 0) return true;
  return nb_fail(err, NB_ERROR_FILE, "%s has bytes left over: its content should end after byte %llu", in->path,
                 (unsigned long long)in->at);
}

void nb_input_close(Input *in) {
  if (in->gz) gzclose(in->gz);
  if (in->fd >= 0) close(in->fd);
  in->gz = NULL;
  in->fd = -1;
}

// ---- writing ----

static bool cannot_write(const Output *out, int code, Error *err) {
  return nb_fail(err, NB_ERROR_FILE, "cannot write %s: %s", out->path, strerror(code));
}

// Makes an empty file in the target's folder under a name that nobody uses.
static int create_temporary(Output *out) {
  static unsigned counter;
  const char *slash = strrchr(out->target, '/');
  int folder = slash ? (int)(slash - out->target) + 1 : 0;
  for (int i = 0; i < 100; i++) {
    snprintf(out->temporary, sizeof out->temporary, "%.*s.nablua-%ld-%u.tmp", folder, out->target, (long)getpid(),
             counter++);
    int fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

bool nb_output_open(Output *out, const char *path, Error *err) {
  struct stat st;
  out->path = path;
  out->fd = -1;
  out->at = 0;
  out->pack = NULL;
  bool exists = stat(path, &st) == 0;
  if (strlen(path) >= sizeof out->target) return cannot_write(out, ENAMETOOLONG, err);
  if (!*path || path[strlen(path) - 1] == '/') return cannot_write(out, *path ? EISDIR : ENOENT, err);
  memcpy(out->target, path, strlen(path) + 1);
  if (exists) {
    if (!S_ISREG(st.st_mode))
      return nb_fail(err, NB_ERROR_FILE, "cannot write %s: it is %s, not a file", path,
                     S_ISDIR(st.st_mode) ? "a folder" : "a device or a pipe");
    // Renaming would replace a file that its owner protected, and a link instead of what it leads to.
    if (access(path, W_OK) != 0 || !realpath(path, out->target)) return cannot_write(out, errno, err);
  }
  out->fd = create_temporary(out);
  if (out->fd < 0) return cannot_write(out, errno, err);
  if (exists && fchmod(out->fd, st.st_mode & 07777) != 0 && errno != EPERM) {
    int code = errno;
    nb_output_close(out, false, err);
    return cannot_write(out, code, err);
  }
  return true;
}

// write(2), except that the limit on file sizes is an error and not the signal that ends the process.
static ssize_t write_quietly(int fd, const void *data, size_t size) {
  sigset_t limit, before, pending;
  sigemptyset(&limit);
  sigaddset(&limit, SIGXFSZ);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &limit, &before);
  ssize_t done = write(fd, data, size);
  int code = errno;
  if (done < 0 && code == EFBIG && !sigismember(&pending, SIGXFSZ))
    sigtimedwait(&limit, NULL, &(struct timespec){0, 0});
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = code;
  return done;
}

bool nb_output_write(Output *out, const void *data, uint64_t size, Error *err) {
  const char *from = data;
  while (size > 0) {
    size_t piece = (size_t)(size < CHUNK ? size : CHUNK);
    if (!nb_poll(err)) return false;
    if (out->pack) {
      if (!nb_zip_pack(out, from, piece, err)) return false;
      from += piece;
      size -= piece;
      continue;
    }
    ssize_t done = write_quietly(out->fd, from, piece);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return cannot_write(out, errno, err);
    from += done;
    size -= (uint64_t)done;
    out->at += (uint64_t)done;
  }
  return true;
}

bool nb_output_patch(Output *out, uint64_t at, const void *data, size_t size, Error *err) {
  const char *from = data;
  while (size > 0) {
    ssize_t done = pwrite(out->fd, from, size, (off_t)at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return cannot_write(out, errno, err);
    from += done;
    at += (uint64_t)done;
    size -= (size_t)done;
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

// The new name survives a power cut once its folder is on disk too.  Some file systems cannot sync a
// folder and some folders cannot be read: then the system decides when.
static void sync_folder(const Output *out) {
  char folder[PATH_MAX];
  const char *slash = strrchr(out->target, '/');
  snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - out->target) + 1 : 1, slash ? out->target : ".");
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

bool nb_output_close(Output *out, bool ok, Error *err) {
  if (out->fd < 0) return false;
  if (ok && fsync(out->fd) != 0) ok = cannot_write(out, errno, err);
  if (close(out->fd) != 0 && ok) ok = cannot_write(out, errno, err);
  out->fd = -1;
  if (ok && rename(out->temporary, out->target) != 0) ok = cannot_write(out, errno, err);
  if (!ok) {
    unlink(out->temporary);
    return false;
  }
  sync_folder(out);
  return true;
}
