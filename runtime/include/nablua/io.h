// SPDX-License-Identifier: MIT
// Files of tensors: safetensors, npy and IDX.
//
// A file is checked against its own header before anything is allocated: what it declares must be
// what it holds, to the byte.  Writing goes to a temporary file in the same folder, which is synced and
// renamed over the target; whatever fails, what was there before is whole.
// Errors are one sentence with the file's path and what was expected where.
#ifndef NABLUA_IO_H
#define NABLUA_IO_H

#include "nablua/tensor.h"

typedef struct NamedTensor {
  const char *name;  // UTF-8
  Tensor *tensor;
} NamedTensor;

typedef struct Note {
  const char *key, *value;  // UTF-8
  size_t length;            // of the value, which may hold zero bytes
} Note;

// What a safetensors file holds.  Whoever takes a tensor out leaves NULL in its place.
typedef struct TensorFile {
  size_t count, note_count;
  NamedTensor *tensors;  // in the order of the header
  Note *notes;           // __metadata__
  void *header;          // owns the texts
} TensorFile;

// Reads a whole safetensors file.  F32 F64 I64 U8 BOOL come as they are, F16 and BF16 as f32, I8 I16
// I32 U16 U32 as i64.  On failure `file` is empty.
bool nb_safetensors_read(const char *path, TensorFile *file, Error *err);

// Releases what a TensorFile still holds; an empty one is fine.
void nb_safetensors_close(TensorFile *file);

// Replaces the file at `path`.  The header keeps the given order; the data lies larger dtypes first, so
// that all of it is aligned.  Tensors may have any strides.
bool nb_safetensors_write(const char *path, const NamedTensor *tensors, size_t count, const Note *notes,
                          size_t note_count, Error *err);

// Reads a NumPy array (format 1 to 3, C or Fortran order, either byte order): b1 u1 i8 f4 f8 as they are,
// f2 as f32, the other whole numbers as i64.  Fortran order gives a transposed view.
Tensor *nb_npy_read(const char *path, Error *err);
bool nb_npy_write(const char *path, const Tensor *t, Error *err);

// Reads an IDX file (the format of MNIST), plain or compressed by gzip: unsigned bytes as u8, other whole
// numbers as i64, floats as they are.
Tensor *nb_idx_read(const char *path, Error *err);

#endif
