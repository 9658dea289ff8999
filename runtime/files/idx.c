// SPDX-License-Identifier: MIT
// IDX, the format of MNIST and its kin: two zero bytes, the type, the number of dimensions, each size as a
// big-endian 32-bit number, then the elements, big-endian too.
#include "files_private.h"

// Nothing that deflate packs is smaller than this part of it (RFC 1951: 258 bytes in 2 bits).
enum { DEFLATE_RATIO = 1032 };

static bool read_header(Input *in, const Stored **wire, Layout *l, Error *err) {
  unsigned char head[4], sizes[4 * NB_MAX_DIMS];
  if (!nb_input_read(in, head, 4, err)) return false;
  if (head[0] != 0 || head[1] != 0)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s is no IDX file: it should start with two zero bytes, it starts with %02x %02x", in->path,
                   head[0], head[1]);
  *wire = NULL;
  for (int i = 0; i < nb_stored_count; i++)
    if (nb_stored_types[i].idx && nb_stored_types[i].idx == head[2]) *wire = &nb_stored_types[i];
  if (!*wire)
    return nb_fail(err, NB_ERROR_FILE, "%s: byte 3 should be an IDX type (08, 09, 0b, 0c, 0d or 0e), it is %02x",
                   in->path, head[2]);
  if (head[3] < 1 || head[3] > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_FILE, "%s: byte 4 should be the number of dimensions, 1 to %d, it is %d", in->path,
                   NB_MAX_DIMS, head[3]);
  if (!nb_input_read(in, sizes, 4u * head[3], err)) return false;
  *l = (Layout){.dtype = (*wire)->dtype, .ndim = head[3]};
  for (int d = 0; d < l->ndim; d++) {
    const unsigned char *s = sizes + 4 * d;
    l->shape[d] = (int64_t)s[0] << 24 | (int64_t)s[1] << 16 | (int64_t)s[2] << 8 | s[3];
  }
  return true;
}

// The file must be able to hold what its header declares, before memory is asked for.
static bool check_size(const Input *in, const Stored *w, const Layout *l, Error *err) {
  char text[NB_SHAPE_TEXT];
  uint64_t bytes = 0, head = 4 + 4 * (uint64_t)l->ndim;
  bool fits = nb_stored_bytes(w, l, &bytes);
  if (in->packed && fits && bytes / DEFLATE_RATIO <= in->size) return true;
  if (in->packed || !fits)
    return nb_fail(err, NB_ERROR_FILE, "%s: the header declares %s elements, more than a file of %llu bytes can hold",
                   in->path, nb_shape_text(l, text), (unsigned long long)in->size);
  if (bytes + head == in->size) return true;
  return nb_fail(err, NB_ERROR_FILE,
                 "%s %s: the header declares %s elements, so that %llu bytes are expected, it has %llu", in->path,
                 in->size < bytes + head ? "is truncated" : "has bytes left over", nb_shape_text(l, text),
                 (unsigned long long)(bytes + head), (unsigned long long)in->size);
}

bool nb_idx_head(Input *in, const Stored **wire, Layout *l, Error *err) {
  return read_header(in, wire, l, err) && check_size(in, *wire, l, err);
}

Tensor *nb_idx_read(const char *path, Error *err) {
  Input in;
  const Stored *wire = NULL;
  Layout l;
  Tensor *t = NULL;
  if (!nb_input_open(&in, path, err)) return NULL;
  if (nb_input_unpack(&in, err) && read_header(&in, &wire, &l, err) && check_size(&in, wire, &l, err) &&
      (t = nb_tensor_new(&l, err)) && !(nb_input_tensor(&in, wire, true, t, err) && nb_input_end(&in, err)))
    nb_tensor_release(&t);
  nb_input_close(&in);
  return t;
}
