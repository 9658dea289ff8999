// SPDX-License-Identifier: MIT
// What the file formats share: reading in order, replacing atomically, elements as files store them.
#ifndef NABLUA_FILES_PRIVATE_H
#define NABLUA_FILES_PRIVATE_H

#include "nablua/files.h"
#include "nablua/replace.h"

// An element type of a file; whole numbers of other widths are read as i64, half floats as f32.
typedef struct Stored {
  const char *name;  // safetensors' name
  char npy[4];       // NumPy's name, without the byte order
  uint8_t idx;       // IDX's number, 0 where it has none
  size_t size;
  DType dtype;
  void (*convert)(void *out, const unsigned char *in, int64_t n);  // NULL: the bytes are the values
} Stored;

extern const Stored nb_stored_types[];
extern const int nb_stored_count;

// The type a tensor of `dtype` is written as.
const Stored *nb_stored_as(DType dtype);

// Multiplies sizes; false when the product (of those that are not 0) passes 2^62 bytes.
bool nb_stored_bytes(const Stored *w, const Layout *l, uint64_t *bytes);

// What is read in order: a file, what gzip packed in one, or a member of an archive.
typedef struct Input {
  const char *path;  // for messages
  const struct InputKind *kind;
  void *state;    // the kind's own
  int fd;         // of a file
  uint64_t size;  // of the file on disk, or of the archive's member
  uint64_t at;    // bytes read so far, unpacked
  bool packed;    // `size` counts packed bytes
} Input;

typedef struct InputKind {
  // Reads up to `size` bytes; *got = 0 tells the end.
  bool (*some)(Input *in, void *data, size_t size, size_t *got, Error *err);
  void (*close)(Input *in);
} InputKind;

bool nb_input_open(Input *in, const char *path, Error *err);

// Continues through zlib when the file starts as gzip does; called before the first read.
bool nb_input_unpack(Input *in, Error *err);

// Reads exactly `size` bytes.
bool nb_input_read(Input *in, void *data, uint64_t size, Error *err);

// Reads up to `size` bytes: at least one unless the file ends, which *got = 0 tells.
bool nb_input_some(Input *in, void *data, size_t size, size_t *got, Error *err);

// Fills a fresh contiguous tensor; `swap` reverses the bytes of each element.
bool nb_input_tensor(Input *in, const Stored *w, bool swap, Tensor *t, Error *err);

// False with a sentence when there are further bytes.
bool nb_input_end(Input *in, Error *err);

void nb_input_close(Input *in);

// What is written in order: a file being replaced, or a member of an archive in it.
typedef struct Output {
  Replacement file;
  // Takes what is written where it is not the file's own bytes, with a state of its own.
  bool (*filter)(struct Output *out, const void *data, size_t size, Error *err);
  void *state;
} Output;

bool nb_output_open(Output *out, const char *path, Error *err);
bool nb_output_write(Output *out, const void *data, uint64_t size, Error *err);

// Writes the elements in row-major order whatever the strides.
bool nb_output_tensor(Output *out, const Tensor *t, Error *err);

// When `ok`, puts the file in its place; else, or when that fails, the old one stays.  Returns whether all went well.
bool nb_output_close(Output *out, bool ok, Error *err);

// ---- heads of files ----

// Read the head of an npy file in C order, or of an IDX file that is not packed: how its elements are stored, and the
// shape.  The elements follow; the file has as many as it says.
bool nb_npy_head(Input *in, const Stored **wire, bool *swap, Layout *l, Error *err);
bool nb_idx_head(Input *in, const Stored **wire, Layout *l, Error *err);

// Turns n stored elements, which lie in `from` where they are of another size and else in `to` itself, into ours.
void nb_stored_convert(const Stored *w, bool swap, void *to, unsigned char *from, int64_t n);

// ---- pictures ----

// What pictures become: u8, channels × height × width.
typedef struct PictureForm {
  int channels;
  int64_t height, width;
  bool converts, resizes;  // pictures of other channels, of other sizes; else they are refused
} PictureForm;

// Decodes a PNG or JPEG file into `to`; on any thread.  An interrupt makes it fail without being answered.
bool nb_picture_decode(const char *path, const PictureForm *form, void *to, Error *err);

// ---- npy within other files ----

Tensor *nb_npy_read_from(Input *in, Error *err);
bool nb_npy_write_to(Output *out, const Tensor *t, Error *err);
uint64_t nb_npy_size(const Tensor *t);  // bytes that the writer will write

// ---- zip archives ----

typedef struct ZipMember {
  const char *name;
  uint64_t local, data;   // where its header and its bytes begin
  uint64_t packed, size;  // bytes in the file, and unpacked
  uint32_t crc;
  bool deflated;
  size_t entry_size;  // of its record in the directory
} ZipMember;

typedef struct Zip {
  Input in;
  size_t count, names_size;
  ZipMember *members;  // in the file's order; none overlaps another
  char *names;
  char title[1200];  // of the member being read, for messages
} Zip;

// Opens an archive and checks its directory.  On failure `zip` is closed.
bool nb_zip_open(Zip *zip, const char *path, Error *err);
void nb_zip_close(Zip *zip);

// Makes `in` read a member, one at a time, until it is closed; nb_zip_end checks its checksum after its last byte.
bool nb_zip_enter(Zip *zip, const ZipMember *m, Input *in, Error *err);
bool nb_zip_end(Input *in, Error *err);

// Between these all that is written goes into the member, whose name, size and `deflated` are set; the second completes
// it.  nb_zip_abandon frees one that could not be completed; without one it does nothing.
bool nb_zip_begin(Output *out, ZipMember *m, Error *err);
bool nb_zip_finish(Output *out, ZipMember *m, Error *err);
void nb_zip_abandon(Output *out);

bool nb_zip_directory(Output *out, const ZipMember *members, size_t count, Error *err);

#endif
