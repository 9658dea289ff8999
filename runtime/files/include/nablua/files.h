// SPDX-License-Identifier: MIT
// Files of tensors: safetensors, npy, npz, IDX, CSV, PNG, JPEG.
//
// A file is checked against its own header before anything is allocated: what it declares must be
// what it holds, to the byte.  Writing goes to a temporary file in the same folder, which is synced and
// renamed over the target; whatever fails, what was there before is whole.
// Errors are one sentence with the file's path and what was expected where.
#ifndef NABLUA_FILES_H
#define NABLUA_FILES_H

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
  void *header;          // owns the texts, or
  char *texts;           // does, with this size
  size_t texts_size;
} TensorFile;

// Releases what a TensorFile still holds; an empty one is fine.
void nb_tensor_file_close(TensorFile *file);

// Reads a whole safetensors file.  F32 F64 I64 U8 BOOL come as they are, F16 and BF16 as f32, I8 I16
// I32 U16 U32 as i64.  On failure `file` is empty.
bool nb_safetensors_read(const char *path, TensorFile *file, Error *err);

// Replaces the file at `path`.  The header keeps the given order; the data lies larger dtypes first, so
// that all of it is aligned.  Tensors may have any strides.
bool nb_safetensors_write(const char *path, const NamedTensor *tensors, size_t count, const Note *notes,
                          size_t note_count, Error *err);

// Reads a NumPy array (format 1 to 3, C or Fortran order, either byte order): b1 u1 i8 f4 f8 as they are,
// f2 as f32, the other whole numbers as i64.  Fortran order gives a transposed view.
Tensor *nb_npy_read(const char *path, Error *err);
bool nb_npy_write(const char *path, const Tensor *t, Error *err);

// Reads an archive of NumPy arrays, compressed or not; names come in order, without ".npy".  On failure `file` is
// empty.
bool nb_npz_read(const char *path, TensorFile *file, Error *err);
bool nb_npz_write(const char *path, const NamedTensor *tensors, size_t count, bool compress, Error *err);

// Reads an IDX file (the format of MNIST), plain or compressed by gzip: unsigned bytes as u8, other whole
// numbers as i64, floats as they are.
Tensor *nb_idx_read(const char *path, Error *err);

// An npy file (in C order) or an IDX file that stays open, of which some rows of the first dimension are read at a
// time: only those take memory.
typedef struct RowFile RowFile;
RowFile *nb_rows_open(const char *path, Error *err);

// The same of PNG and JPEG files, at least one: a row is a picture, u8, channels × height × width, decoded when it is
// asked for.  Channels and sizes that are 0 are those of the first, which others must have.
RowFile *nb_rows_of_pictures(const char *const *paths, int64_t count, int channels, int64_t height, int64_t width,
                             Error *err);

RowFile *nb_rows_retain(RowFile *f);             // for one more call of nb_rows_close
void nb_rows_close(RowFile *f);                  // NULL is fine
const Layout *nb_rows_layout(const RowFile *f);  // the dtype and shape of the whole

// The rows at n places, counted from 1, as a tensor of n rows: places may come in any order, and again.  Rows that lie
// one after the other are read together.
Tensor *nb_rows_read(RowFile *f, const int64_t *places, int64_t n, Error *err);

// One row into `to`, by any thread; `scratch` has nb_rows_bytes bytes.  Of pictures an interrupt makes it fail, without
// being answered.
size_t nb_rows_bytes(const RowFile *f);
bool nb_rows_read_one(const RowFile *f, int64_t place, void *to, void *scratch, Error *err);

// Reads a PNG or JPEG picture, whichever it is: u8, channels × height × width.  Channels: 1 grey, 2 grey and alpha,
// 3 RGB, 4 RGB and alpha; 0 takes those of the file.  Palettes become RGB, 16 bits become 8, CMYK becomes RGB.
Tensor *nb_image_read(const char *path, int channels, Error *err);

// Pixels as a PNG: `pixels` is u8, contiguous, of shape height × width × 3 or 4 (the last is opacity).  Writes at most
// `room` bytes, which nb_png_room says, to `to`; *size becomes their number.
size_t nb_png_room(const Tensor *pixels);
bool nb_png_write(const Tensor *pixels, void *to, size_t room, size_t *size, Error *err);

// ---- CSV ----

typedef enum CsvKind {
  NB_CSV_AUTO,    // as the values look: the first one decides
  NB_CSV_NUMBER,  // every value must be a number
  NB_CSV_TEXT,    // every value is a label, whatever it looks like
  NB_CSV_SKIP     // the column is not read
} CsvKind;

typedef enum CsvHeading {
  NB_CSV_GUESS,   // found by looking at the first lines
  NB_CSV_NAMES,   // the first line holds names
  NB_CSV_DATA,    // there is no heading
  NB_CSV_COUNTS,  // it counts rows and columns and names classes, as scikit-learn's do; only ever found
} CsvHeading;

typedef struct CsvOptions {
  char delimiter;         // ' ' is any run of blanks; 0 finds ',', ';', tab, '|' or blanks
  char quote;             // 0: there are no quoted fields
  char decimal;           // before a number's fraction; 0 finds '.' or ','
  const char *thousands;  // between groups of a number's digits, "" nothing, at most 7 bytes; NULL finds it
  CsvHeading heading;     // not NB_CSV_COUNTS
  uint64_t skip;          // lines to pass over before that
  const char *const *missing;
  size_t missing_count;
} CsvOptions;

typedef struct CsvLabels CsvLabels;

// A way of writing numbers.
typedef struct CsvForm {
  char decimal, thousands[8];
} CsvForm;

typedef struct CsvColumn {
  const char *name;      // NULL without a heading
  CsvKind kind;          // the caller chooses between open and read
  Tensor *values;        // f64: the numbers, NaN where missing; of labels their index from 1, 0 where missing
  CsvLabels *labels;     // in the order of their appearance; NULL for numbers
  bool closed, given;    // others than these are refused; they were given before reading
  uint64_t first_value;  // lines of the file, 0 when there is none
  uint64_t first_missing;
  int64_t missing;  // how many values are
  // how the numbers are written, once that is known
  CsvForm form;
  bool form_known, percent;
  bool doubtful;           // the same text would be another number elsewhere
  int64_t typographic;     // numbers whose minus is a dash of print
  int64_t dashes;          // of the missing values those that are written as "-", "." or "None"
  int64_t texts, numeric;  // labels, and those of them that look like numbers
  uint64_t first_numeric;
} CsvColumn;

// A table of text being read: nb_csv_open fills all but the rows and the columns' values; the caller may then choose
// kinds, and call a heading of data one of names, which is passed over; nb_csv_read fills the rest.
typedef struct CsvFile {
  size_t count;
  CsvColumn *columns;
  int64_t rows;
  char delimiter;
  CsvHeading heading;  // never NB_CSV_GUESS
  bool doubtful;       // the heading might be something else
  bool row_names;      // the first column has no heading and holds the names of the rows
  bool trailing;       // lines end with a delimiter
  int64_t announced;   // rows, by a heading of counts
  uint64_t known_to;   // the line up to which labels were gathered, where they are closed
  struct CsvReader *reader;
} CsvFile;

// Opens a file, plain or compressed by gzip, and looks at its first lines.  Cells are separated by one character, may
// be quoted ("" inside stands for one quote) and then hold line ends; blanks around unquoted cells and empty lines do
// not count.  The options' texts must live until nb_csv_read has returned.  On failure `file` is empty.
bool nb_csv_open(const char *path, const CsvOptions *options, CsvFile *file, Error *err);

// Reads to the end; a row of another length, or a value of another kind than its column's, is an error with the line.
bool nb_csv_read(CsvFile *file, Error *err);

// The same for at most `most` rows from where the last call ended, so that a file larger than memory comes in pieces;
// rows is 0 at the end.  What the first piece shows holds for the rest: another kind of value is refused, and where it
// `closes`, a label that no line before has.  Missing values are counted anew for each piece.
bool nb_csv_read_some(CsvFile *file, int64_t most, bool closes, Error *err);

// Gives a column, before anything is read, its labels in their order; others are refused.
bool nb_csv_give_labels(CsvColumn *c, const char *const *labels, size_t count, Error *err);

size_t nb_csv_label_count(const CsvLabels *labels);
const char *nb_csv_label(const CsvLabels *labels, size_t index);  // from 0; UTF-8

// Releases what a CsvFile still holds; an empty one is fine.
void nb_csv_close(CsvFile *file);

#endif
