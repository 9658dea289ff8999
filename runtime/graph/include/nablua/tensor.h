// SPDX-License-Identifier: MIT
// Tensors: a shape and strides over shared storage, counted by reference.
//
//   Tensor ──► Storage ──► bytes          several tensors (views) may share one storage
//     │ node                              what made it, when that is on the tape
//     ▼
//   Node (tape.h)
//
// Ownership: functions borrow their arguments and return owned references ("borrow in, own out").
// Dimensions in C structures are 0-based; dimensions and indices that travel as operator arguments
// or as values inside index tensors are the user's: 1-based, negative from the end.
#ifndef NABLUA_TENSOR_H
#define NABLUA_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nablua/error.h"

enum { NB_MAX_DIMS = 8 };

// In the order of promotion: mixing two gives the later one.
typedef enum DType { NB_BOOL, NB_U8, NB_I64, NB_F32, NB_F64, NB_DTYPES } DType;

// A place in the user's code.  `source` is interned by whoever provides it and never freed.
typedef struct Site {
  const char *source;  // "train.lua", or NULL when unknown
  int line;
} Site;

typedef struct Tensor Tensor;

typedef struct Storage {
  int32_t refs;
  uint32_t version;  // rises with every write in place
  uint32_t history;  // rises with every write in place that was recorded on the tape
  bool within;       // the bytes were allocated behind this structure, with it
  bool ones;         // all elements are 1 while the version is 0: the seed of a backward walk
  size_t bytes;
  Site written;  // where the last write in place happened
  char *data;
  Tensor *owner;  // not owned: the tensor that was made with the storage, contiguous, while it lives
} Storage;

// What a shape rule computes: strides and offset count elements.
typedef struct Layout {
  DType dtype;
  int ndim;
  int64_t offset;
  int64_t shape[NB_MAX_DIMS];
  int64_t strides[NB_MAX_DIMS];
} Layout;

typedef struct Node Node;

struct Tensor {
  int32_t refs;
  bool requires_grad;  // a leaf's wish; what comes from operators says so by `node`
  bool retains_grad;   // an intermediate's wish to keep its gradient
  bool is_view;        // made from the storage's owner by operators: what is written into one is written into the other
  bool is_blind;       // such a view, made while gradients were off: it does not know the owner's history
  int output;          // which output of `node` this is
  uint32_t history;    // storage->history when this tensor's own history was last current
  Layout layout;
  Storage *storage;    // NULL only in shapes kept by the tape without their data
  Node *node;          // owned; NULL for leaves and constants
  struct Hook *hooks;  // a leaf's, owned; those of other tensors are their node's
  Tensor *grad;        // owned
  char *name;          // owned; NULL when unnamed
};

size_t nb_dtype_size(DType dtype);
const char *nb_dtype_name(DType dtype);               // "f32"
bool nb_dtype_parse(const char *name, DType *dtype);  // false when there is no such dtype
bool nb_dtype_is_float(DType dtype);
DType nb_dtype_promote(DType a, DType b);

bool nb_layout_has(const Layout *l, const int64_t *shape, int ndim);  // these sizes
int64_t nb_layout_numel(const Layout *l);
bool nb_layout_contiguous(const Layout *l);
bool nb_layout_is_single(const Layout *l);  // one element for all

// Writes row-major strides for the shape that `l` has, and offset 0.
void nb_layout_pack(Layout *l);

// False with a sentence when the shape has a negative size or more bytes than can be addressed.
bool nb_layout_check(const Layout *l, Error *err);

// "2×3×4"; "scalar" for no dimensions.  Returns `buffer`.
enum { NB_SHAPE_TEXT = 160 };
const char *nb_shape_text(const Layout *l, char buffer[NB_SHAPE_TEXT]);

// A fresh contiguous tensor of the layout's dtype and shape (its strides are ignored), uninitialised.
Tensor *nb_tensor_new(const Layout *l, Error *err);

// A tensor over the same storage with another layout; no history, requires no gradient.
Tensor *nb_tensor_alias(const Tensor *t, const Layout *l, Error *err);

// A tensor that has only a layout, for the tape.
Tensor *nb_tensor_shape_only(const Layout *l, Error *err);

// A 0-d tensor holding `value`; of a whole number with all its bits.
Tensor *nb_tensor_scalar(double value, DType dtype, Error *err);
Tensor *nb_tensor_whole(int64_t value, DType dtype, Error *err);

// Lets go of the storage's bytes, whose address becomes NULL, and not of the storage.
void nb_storage_drop_data(Storage *s);

Tensor *nb_tensor_retain(Tensor *t);
void nb_tensor_release(Tensor **t);  // sets *t to NULL; a NULL *t is ignored

// Names a tensor; a NULL name removes it.
bool nb_tensor_set_name(Tensor *t, const char *name, Error *err);

// Called before the bytes of a storage change that existed before: by operators that work in place, optimizers and
// replays.  Raises the version and notes who writes; listeners of writes may copy what was there.  False, with nothing
// changed, when one of them cannot.
bool nb_storage_write(Storage *s, Site site, Error *err);

// The rest of it, for those who write into several at once and have told of all before the first.
static inline void nb_storage_change(Storage *s, Site site) {
  s->version++;
  s->written = site;
}

// The first element's address.
void *nb_tensor_data(const Tensor *t);

// The value at an element offset from the first element, as a number.
double nb_tensor_get(const Tensor *t, int64_t offset);
void nb_tensor_set(const Tensor *t, int64_t offset, double value);

// The same of whole numbers with all their bits; what is no whole number is the nearest.
int64_t nb_tensor_get_whole(const Tensor *t, int64_t offset);
void nb_tensor_set_whole(const Tensor *t, int64_t offset, int64_t value);

// True when the gradient flows through it: it is a leaf that wants one, or comes from one.
bool nb_tensor_tracked(const Tensor *t);

// True when both look at the same elements of the same storage in the same way.
bool nb_tensor_same(const Tensor *a, const Tensor *b);

#endif
