// SPDX-License-Identifier: MIT
// What the file formats share: reading in order, replacing atomically, elements as files store them.
#ifndef NABLUA_IO_PRIVATE_H
#define NABLUA_IO_PRIVATE_H

#include <limits.h>

#include "nablua/io.h"

// An element type of a file; whole numbers of other widths are read as i64, half floats as f32.
typedef struct Wire {
  const char *name;  // safetensors' name
  char npy[4];       // NumPy's name, without the byte order
  uint8_t idx;       // IDX's number, 0 where it has none
  size_t size;
  DType dtype;
  void (*convert)(void *out, const unsigned char *in, int64_t n);  // NULL: the bytes are the values
} Wire;

extern const Wire nb_wires[];
extern const int nb_wire_count;

// The type a tensor of `dtype` is written as.
const Wire *nb_wire_of(DType dtype);

// Multiplies sizes; false when the product (of those that are not 0) passes 2^62 bytes.
bool nb_wire_bytes(const Wire *w, const Layout *l, uint64_t *bytes);

// A file being read from its beginning to its end.
typedef struct Input {
  const char *path;
  int fd;
  void *gz;       // zlib's, when the file is compressed
  uint64_t size;  // of the file on disk
  uint64_t at;    // bytes read so far, unpacked
} Input;

bool nb_input_open(Input *in, const char *path, Error *err);

// Continues through zlib when the file starts as gzip does; called before the first read.
bool nb_input_unpack(Input *in, Error *err);

// Reads exactly `size` bytes.
bool nb_input_read(Input *in, void *data, uint64_t size, Error *err);

// Reads up to `size` bytes: at least one unless the file ends, which *got = 0 tells.
bool nb_input_some(Input *in, void *data, size_t size, size_t *got, Error *err);

// Fills a fresh contiguous tensor; `swap` reverses the bytes of each element.
bool nb_input_tensor(Input *in, const Wire *w, bool swap, Tensor *t, Error *err);

// False with a sentence when there are further bytes.
bool nb_input_end(Input *in, Error *err);

void nb_input_close(Input *in);

// A file being replaced.
typedef struct Output {
  const char *path;       // as given, for messages
  int fd;                 // of the temporary file
  char target[PATH_MAX];  // where a symbolic link leads
  char temporary[PATH_MAX + 64];
} Output;

bool nb_output_open(Output *out, const char *path, Error *err);
bool nb_output_write(Output *out, const void *data, uint64_t size, Error *err);

// Writes the elements in row-major order whatever the strides.
bool nb_output_tensor(Output *out, const Tensor *t, Error *err);

// When `ok`, syncs and renames the temporary file; else, or when that fails, removes it.  Returns whether
// the file is in place.
bool nb_output_close(Output *out, bool ok, Error *err);

#endif
