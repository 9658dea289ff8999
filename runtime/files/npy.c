// SPDX-License-Identifier: MIT
// NumPy's .npy (numpy.lib.format): the bytes \x93NUMPY, the version, the header's length, the header, which is
// the text of a Python dictionary, then the elements.
#include <stdio.h>
#include <string.h>

#include "files_private.h"
#include "nablua/memory.h"

static const unsigned char MAGIC[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
enum { LONGEST_HEADER = 1 << 16, ALIGNMENT = 64 };

// The header's text being read, and what it said.
typedef struct Parser {
  const char *path, *at, *end;
  const Stored *wire;
  bool swap, fortran;
  bool has_descr, has_order, has_shape;
  Layout layout;
} Parser;

static bool unexpected(Parser *p, const char *expected, Error *err) {
  int left = (int)(p->end - p->at > 20 ? 20 : p->end - p->at);
  return nb_fail(err, NB_ERROR_FILE, "%s: the npy header should have %s at \"%.*s\"", p->path, expected, left, p->at);
}

static void skip_space(Parser *p) {
  while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r')) p->at++;
}

// Takes one character when it comes next.
static bool take(Parser *p, char c) {
  skip_space(p);
  if (p->at >= p->end || *p->at != c) return false;
  p->at++;
  return true;
}

static bool take_word(Parser *p, const char *word) {
  size_t n = strlen(word);
  skip_space(p);
  if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0) return false;
  p->at += n;
  return true;
}

// A Python string without escapes.
static bool take_string(Parser *p, char *out, size_t size) {
  skip_space(p);
  if (p->at >= p->end || (*p->at != '\'' && *p->at != '"')) return false;
  const char *start = p->at + 1, *stop = memchr(start, *p->at, (size_t)(p->end - start));
  if (!stop || (size_t)(stop - start) >= size || memchr(start, '\\', (size_t)(stop - start))) return false;
  memcpy(out, start, (size_t)(stop - start));
  out[stop - start] = '\0';
  p->at = stop + 1;
  return true;
}

static bool read_descr(Parser *p, Error *err) {
  char text[32] = "";
  const char *at = p->at;
  if (!take_string(p, text, sizeof text))
    return unexpected(p, "one element type (structured arrays cannot be read)", err);
  if (strchr("<>|=", text[0])) {
    p->swap = text[0] == '>';
    for (int i = 0; i < nb_stored_count; i++)
      if (nb_stored_types[i].npy[0] && strcmp(nb_stored_types[i].npy, text + 1) == 0) p->wire = &nb_stored_types[i];
  }
  if (p->wire) return true;
  p->at = at;
  return nb_fail(err, NB_ERROR_FILE,
                 "%s: elements of type \"%s\" cannot be read; there are b1 u1 i1 u2 i2 u4 i4 i8 f2 f4 f8; convert with "
                 "NumPy's astype",
                 p->path, text);
}

static bool read_shape(Parser *p, Error *err) {
  Layout *l = &p->layout;
  if (!take(p, '(')) return unexpected(p, "a shape in parentheses", err);
  while (!take(p, ')')) {
    int64_t size = 0;
    if (l->ndim == NB_MAX_DIMS)
      return nb_fail(err, NB_ERROR_FILE, "%s has more than %d dimensions, the most a tensor has", p->path, NB_MAX_DIMS);
    if (p->at >= p->end || *p->at < '0' || *p->at > '9') return unexpected(p, "a size", err);
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
      if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, *p->at - '0', &size))
        return unexpected(p, "a size below 2^63", err);
    take(p, 'L');  // Python 2 wrote long integers so
    l->shape[l->ndim++] = size;
    if (!take(p, ',') && !(p->at < p->end && *p->at == ')')) return unexpected(p, "a comma or ) after a size", err);
  }
  return true;
}

static bool read_entry(Parser *p, Error *err) {
  char key[32];
  if (!take_string(p, key, sizeof key) || !take(p, ':')) return unexpected(p, "a key and a colon", err);
  bool *has = strcmp(key, "descr") == 0           ? &p->has_descr
              : strcmp(key, "fortran_order") == 0 ? &p->has_order
              : strcmp(key, "shape") == 0         ? &p->has_shape
                                                  : NULL;
  if (!has || *has) return unexpected(p, "descr, fortran_order and shape once each before this", err);
  *has = true;
  if (has == &p->has_descr) return read_descr(p, err);
  if (has == &p->has_shape) return read_shape(p, err);
  p->fortran = take_word(p, "True");
  return p->fortran || take_word(p, "False") || unexpected(p, "True or False", err);
}

static bool parse_header(Parser *p, Error *err) {
  if (!take(p, '{')) return unexpected(p, "an opening brace", err);
  while (!take(p, '}')) {
    if (!read_entry(p, err)) return false;
    if (!take(p, ',') && !(p->at < p->end && *p->at == '}')) return unexpected(p, "a comma or a closing brace", err);
  }
  skip_space(p);
  if (p->at != p->end) return unexpected(p, "nothing after its closing brace", err);
  if (!p->has_descr || !p->has_order || !p->has_shape)
    return nb_fail(err, NB_ERROR_FILE, "%s: the npy header lacks %s", p->path,
                   !p->has_descr   ? "descr"
                   : !p->has_shape ? "shape"
                                   : "fortran_order");
  p->layout.dtype = p->wire->dtype;
  return true;
}

// Reads the header's text and parses it.
static bool read_header(Input *in, Parser *p, Error *err) {
  unsigned char head[8], length_bytes[4] = {0};
  if (!nb_input_read(in, head, 8, err)) return false;
  if (memcmp(head, MAGIC, 6) != 0)
    return nb_fail(err, NB_ERROR_FILE, "%s is no npy file: it should start with \\x93NUMPY", in->path);
  if (head[6] < 1 || head[6] > 3)
    return nb_fail(err, NB_ERROR_FILE, "%s: npy format %d.%d is unknown; there are 1.0, 2.0 and 3.0", in->path, head[6],
                   head[7]);
  if (!nb_input_read(in, length_bytes, head[6] == 1 ? 2 : 4, err)) return false;
  uint32_t length = (uint32_t)length_bytes[0] | (uint32_t)length_bytes[1] << 8 | (uint32_t)length_bytes[2] << 16 |
                    (uint32_t)length_bytes[3] << 24;
  if (length > LONGEST_HEADER || length > in->size)
    return nb_fail(err, NB_ERROR_FILE, "%s: the npy header should be at most %llu bytes long, byte 9 says %lu",
                   in->path, (unsigned long long)(in->size < LONGEST_HEADER ? in->size : LONGEST_HEADER),
                   (unsigned long)length);
  char *text = nb_alloc(length, err);
  if (!text) return false;
  *p = (Parser){.path = in->path, .at = text, .end = text + length};
  bool ok = nb_input_read(in, text, length, err) && parse_header(p, err);
  nb_free(text, length);
  return ok;
}

static bool check_size(const Input *in, const Parser *p, Error *err) {
  char text[NB_SHAPE_TEXT];
  uint64_t bytes = 0;
  if (!nb_stored_bytes(p->wire, &p->layout, &bytes))
    return nb_fail(err, NB_ERROR_FILE, "%s: the header declares %s elements, more than any file can hold", in->path,
                   nb_shape_text(&p->layout, text));
  if (in->at + bytes == in->size) return true;
  return nb_fail(err, NB_ERROR_FILE,
                 "%s %s: its header declares %s elements, so that %llu bytes are expected, it has %llu", in->path,
                 in->size < in->at + bytes ? "is truncated" : "has bytes left over", nb_shape_text(&p->layout, text),
                 (unsigned long long)(in->at + bytes), (unsigned long long)in->size);
}

// In Fortran order the first dimension runs fastest.
static Tensor *as_fortran(Tensor *t, Error *err) {
  Layout l = t->layout;
  int64_t stride = 1;
  for (int d = 0; d < l.ndim; d++) {
    l.strides[d] = stride;
    if (l.shape[d] > 1) stride *= l.shape[d];
  }
  Tensor *view = nb_tensor_alias(t, &l, err);
  nb_tensor_release(&t);
  return view;
}

bool nb_npy_head(Input *in, const Stored **wire, bool *swap, Layout *l, Error *err) {
  Parser p;
  if (!read_header(in, &p, err) || !check_size(in, &p, err)) return false;
  if (p.fortran && p.layout.ndim > 1)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s is in Fortran order, whose samples do not lie together; save it from NumPy's ascontiguousarray",
                   in->path);
  *wire = p.wire;
  *swap = p.swap;
  *l = p.layout;
  return true;
}

Tensor *nb_npy_read_from(Input *in, Error *err) {
  Parser p;
  Tensor *t = NULL;
  if (read_header(in, &p, err) && check_size(in, &p, err) && (t = nb_tensor_new(&p.layout, err)) &&
      !nb_input_tensor(in, p.wire, p.swap, t, err))
    nb_tensor_release(&t);
  return t && p.fortran && t->layout.ndim > 1 ? as_fortran(t, err) : t;
}

Tensor *nb_npy_read(const char *path, Error *err) {
  Input in;
  if (!nb_input_open(&in, path, err)) return NULL;
  Tensor *t = nb_npy_read_from(&in, err);
  nb_input_close(&in);
  return t;
}

// Writes the header into `text`, which must hold 512 bytes; returns its length.
static size_t format_header(char *text, const Tensor *t) {
  enum { SIZE = 512 };
  const Stored *w = nb_stored_as(t->layout.dtype);
  size_t used = sizeof MAGIC + 4;  // room for magic, version and length
  memcpy(text, MAGIC, sizeof MAGIC);
  used += (size_t)snprintf(text + used, SIZE - used, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                           w->size == 1 ? '|' : '<', w->npy);
  for (int d = 0; d < t->layout.ndim; d++)
    used += (size_t)snprintf(text + used, SIZE - used, d ? " %lld," : "%lld,", (long long)t->layout.shape[d]);
  if (t->layout.ndim > 1) used--;  // (3,) but (3, 4)
  used += (size_t)snprintf(text + used, SIZE - used, "), }");
  while ((used + 1) % ALIGNMENT) text[used++] = ' ';
  text[used++] = '\n';
  text[6] = 1;
  text[7] = 0;
  text[8] = (char)((used - 10) & 255);
  text[9] = (char)((used - 10) >> 8);
  return used;
}

uint64_t nb_npy_size(const Tensor *t) {
  char text[512];
  return format_header(text, t) + (uint64_t)nb_layout_numel(&t->layout) * nb_dtype_size(t->layout.dtype);
}

bool nb_npy_write_to(Output *out, const Tensor *t, Error *err) {
  char text[512];
  return nb_output_write(out, text, format_header(text, t), err) && nb_output_tensor(out, t, err);
}

bool nb_npy_write(const char *path, const Tensor *t, Error *err) {
  Output out;
  if (!nb_output_open(&out, path, err)) return false;
  return nb_output_close(&out, nb_npy_write_to(&out, t, err), err);
}
