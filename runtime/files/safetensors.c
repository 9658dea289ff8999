// SPDX-License-Identifier: MIT
// safetensors: the header's length as a little-endian 64-bit number, a JSON header, then the bytes of all
// tensors, which the header's offsets cover exactly:
//
//   {"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, ..., "__metadata__":{"key":"text"}}
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files_private.h"
#include "nablua/memory.h"
#include "nablua/printable.h"

static const uint64_t LONGEST_HEADER = 100000000;
static const char METADATA[] = "__metadata__";

// Parsed JSON takes at most about this many times its text's memory.
enum { JSON_GROWTH = 24 };

// Where a tensor's bytes lie, counted from the end of the header.
typedef struct Span {
  size_t index;  // among the file's tensors
  const Stored *wire;
  Layout layout;
  uint64_t begin, end;
} Span;

// A file being read.
typedef struct Reader {
  Input in;
  TensorFile *file;
  uint64_t data;  // bytes after the header
  Span *spans;
  size_t capacity;
} Reader;

// Of a name from the file, as messages show it.
enum { NAME_TEXT = 100 };

static bool read_header(Reader *r, Error *err) {
  unsigned char bytes[8];
  uint64_t length = 0;
  Input *in = &r->in;
  if (in->size < 8)
    return nb_fail(err, NB_ERROR_FILE, "%s is no safetensors file: 8 bytes of length are expected first, it has %llu",
                   in->path, (unsigned long long)in->size);
  if (!nb_input_read(in, bytes, 8, err)) return false;
  for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
  if (length > LONGEST_HEADER)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s is no safetensors file: its first 8 bytes say that the header has %llu bytes, at most %llu are "
                   "allowed",
                   in->path, (unsigned long long)length, (unsigned long long)LONGEST_HEADER);
  if (length > in->size - 8)
    return nb_fail(err, NB_ERROR_FILE, "%s is truncated: its header should have %llu bytes, the file has %llu",
                   in->path, (unsigned long long)length, (unsigned long long)in->size);
  r->data = in->size - 8 - length;
  MemoryStats memory = nb_memory_stats();
  if (length * JSON_GROWTH > memory.limit - (memory.live < memory.limit ? memory.live : memory.limit))
    return nb_fail(err, NB_ERROR_MEMORY, "not enough memory for the header of %s, which has %llu bytes", in->path,
                   (unsigned long long)length);
  char *text = nb_alloc(length, err);
  if (!text) return false;
  bool ok = nb_input_read(in, text, length, err);
  if (ok) {
    json_error_t problem;
    char buffer[NAME_TEXT];
    r->file->header = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    if (!r->file->header)
      ok = nb_fail(err, NB_ERROR_FILE, "%s: the header is not valid JSON at byte %d: %s", in->path,
                   8 + problem.position, nb_printable(problem.text, buffer, NAME_TEXT));
    else if (!json_is_object((json_t *)r->file->header))
      ok = nb_fail(err, NB_ERROR_FILE, "%s: the header should be a JSON object", in->path);
  }
  nb_free(text, length);
  return ok;
}

static bool bad_entry(const Reader *r, const char *name, const char *expected, Error *err) {
  char text[NAME_TEXT];
  return nb_fail(err, NB_ERROR_FILE, "%s: tensor \"%s\" should have %s", r->in.path,
                 nb_printable(name, text, NAME_TEXT), expected);
}

static bool parse_dtype(const Reader *r, const char *name, json_t *entry, Span *s, Error *err) {
  char text[NAME_TEXT], dtype_text[NAME_TEXT];
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  if (!dtype) return bad_entry(r, name, "a dtype", err);
  for (int i = 0; i < nb_stored_count; i++)
    if (strcmp(nb_stored_types[i].name, dtype) == 0) s->wire = &nb_stored_types[i];
  if (!s->wire)
    return nb_fail(
        err, NB_ERROR_FILE,
        "%s: tensor \"%s\" has dtype %s; what can be read is F64 F32 F16 BF16 I64 I32 I16 I8 U32 U16 U8 BOOL",
        r->in.path, nb_printable(name, text, NAME_TEXT), nb_printable(dtype, dtype_text, NAME_TEXT));
  s->layout.dtype = s->wire->dtype;
  return true;
}

static bool parse_shape(const Reader *r, const char *name, json_t *entry, Span *s, Error *err) {
  json_t *shape = json_object_get(entry, "shape");
  if (!json_is_array(shape)) return bad_entry(r, name, "a shape", err);
  if (json_array_size(shape) > NB_MAX_DIMS) return bad_entry(r, name, "at most 8 dimensions", err);
  s->layout.ndim = (int)json_array_size(shape);
  for (int d = 0; d < s->layout.ndim; d++) {
    json_t *size = json_array_get(shape, (size_t)d);
    s->layout.shape[d] = json_integer_value(size);
    if (!json_is_integer(size) || s->layout.shape[d] < 0)
      return bad_entry(r, name, "a shape of whole numbers that are not negative", err);
  }
  return true;
}

static bool parse_offsets(const Reader *r, const char *name, json_t *entry, Span *s, Error *err) {
  char text[NAME_TEXT], shape[NB_SHAPE_TEXT];
  json_t *offsets = json_object_get(entry, "data_offsets");
  json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  uint64_t bytes = 0;
  if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
      json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
    return bad_entry(r, name, "data_offsets [begin, end], whole numbers in order", err);
  s->begin = (uint64_t)json_integer_value(begin);
  s->end = (uint64_t)json_integer_value(end);
  if (s->end > r->data)
    return nb_fail(
        err, NB_ERROR_FILE,
        "%s: tensor \"%s\" should end within the %llu bytes of data, its data_offsets end at %llu (a truncated "
        "file?)",
        r->in.path, nb_printable(name, text, NAME_TEXT), (unsigned long long)r->data, (unsigned long long)s->end);
  if (!nb_stored_bytes(s->wire, &s->layout, &bytes) || bytes != s->end - s->begin)
    return nb_fail(err, NB_ERROR_FILE, "%s: tensor \"%s\" of %s %s should have %llu bytes, its data_offsets span %llu",
                   r->in.path, nb_printable(name, text, NAME_TEXT), nb_shape_text(&s->layout, shape), s->wire->name,
                   (unsigned long long)bytes, (unsigned long long)(s->end - s->begin));
  return true;
}

static bool parse_notes(Reader *r, json_t *metadata, Error *err) {
  const char *key;
  json_t *value;
  TensorFile *file = r->file;
  size_t count = json_object_size(metadata);
  if (json_is_null(metadata)) return true;  // as the reference reader has it
  if (!json_is_object(metadata))
    return nb_fail(err, NB_ERROR_FILE, "%s: __metadata__ should be an object of strings", r->in.path);
  if (!(file->notes = nb_alloc(count * sizeof *file->notes, err))) return false;
  file->note_count = count;
  size_t i = 0;
  json_object_foreach(metadata, key, value) {
    if (!json_is_string(value)) {
      char text[NAME_TEXT];
      return nb_fail(err, NB_ERROR_FILE, "%s: __metadata__ should hold strings, \"%s\" is none", r->in.path,
                     nb_printable(key, text, NAME_TEXT));
    }
    file->notes[i++] = (Note){key, json_string_value(value), json_string_length(value)};
  }
  return true;
}

static bool parse_entries(Reader *r, Error *err) {
  const char *name;
  json_t *entry, *header = r->file->header;
  TensorFile *file = r->file;
  size_t count = json_object_size(header) - (json_object_get(header, METADATA) ? 1 : 0), i = 0;
  if (!(file->tensors = nb_alloc(count * sizeof *file->tensors, err))) return false;
  memset(file->tensors, 0, count * sizeof *file->tensors);
  file->count = count;
  if (!(r->spans = nb_alloc(count * sizeof *r->spans, err))) return false;
  r->capacity = count;
  json_object_foreach(header, name, entry) {
    if (strcmp(name, METADATA) == 0) {
      if (!parse_notes(r, entry, err)) return false;
      continue;
    }
    Span *s = &r->spans[i];
    *s = (Span){.index = i};
    if (!json_is_object(entry)) return bad_entry(r, name, "an object with dtype, shape and data_offsets", err);
    if (!parse_dtype(r, name, entry, s, err) || !parse_shape(r, name, entry, s, err) ||
        !parse_offsets(r, name, entry, s, err))
      return false;
    file->tensors[i++].name = name;
  }
  return true;
}

static int by_place(const void *a, const void *b) {
  const Span *s = a, *t = b;
  if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
  return (s->end > t->end) - (s->end < t->end);
}

// Sorts the spans by place and demands that each starts where the one before ends.
static bool check_cover(Reader *r, Error *err) {
  char text[NAME_TEXT];
  uint64_t at = 0;
  qsort(r->spans, r->capacity, sizeof *r->spans, by_place);
  for (size_t i = 0; i < r->capacity; i++) {
    const Span *s = &r->spans[i];
    if (s->begin != at)
      return nb_fail(err, NB_ERROR_FILE, "%s: tensor \"%s\" should start at byte %llu of the data%s, it starts at %llu",
                     r->in.path, nb_printable(r->file->tensors[s->index].name, text, NAME_TEXT), (unsigned long long)at,
                     s->begin < at ? ", where the one before ends" : ", without a gap", (unsigned long long)s->begin);
    at = s->end;
  }
  if (at == r->data) return true;
  return nb_fail(err, NB_ERROR_FILE, "%s has bytes left over: its tensors take %llu bytes of data, it has %llu",
                 r->in.path, (unsigned long long)at, (unsigned long long)r->data);
}

static bool read_tensors(Reader *r, Error *err) {
  for (size_t i = 0; i < r->capacity; i++) {
    const Span *s = &r->spans[i];
    Tensor **slot = &r->file->tensors[s->index].tensor;
    if (!(*slot = nb_tensor_new(&s->layout, err))) return false;
    if (!nb_input_tensor(&r->in, s->wire, false, *slot, err)) return false;
  }
  return true;
}

bool nb_safetensors_read(const char *path, TensorFile *file, Error *err) {
  Reader r = {.file = file};
  *file = (TensorFile){0};
  if (!nb_input_open(&r.in, path, err)) return false;
  bool ok = read_header(&r, err) && parse_entries(&r, err) && check_cover(&r, err) && read_tensors(&r, err);
  nb_free(r.spans, r.capacity * sizeof *r.spans);
  nb_input_close(&r.in);
  if (!ok) nb_tensor_file_close(file);
  return ok;
}

void nb_tensor_file_close(TensorFile *file) {
  for (size_t i = 0; i < file->count; i++) nb_tensor_release(&file->tensors[i].tensor);
  nb_free(file->tensors, file->count * sizeof *file->tensors);
  nb_free(file->notes, file->note_count * sizeof *file->notes);
  json_decref(file->header);
  nb_free(file->texts, file->texts_size);
  *file = (TensorFile){0};
}

// ---- writing ----

static size_t element_size(const Tensor *t) {
  return nb_dtype_size(t->layout.dtype);
}

static bool no_memory(const char *path, Error *err) {
  return nb_fail(err, NB_ERROR_MEMORY, "not enough memory for the header of %s", path);
}

static bool add_notes(const char *path, json_t *header, const Note *notes, size_t count, Error *err) {
  if (count == 0) return true;
  json_t *metadata = json_object();
  if (json_object_set_new(header, METADATA, metadata) != 0) return no_memory(path, err);
  for (size_t i = 0; i < count; i++) {
    if (json_object_set_new(metadata, notes[i].key, json_stringn(notes[i].value, notes[i].length)) != 0) {
      char text[NAME_TEXT];
      return nb_fail(err, NB_ERROR_ARGUMENT, "cannot write %s: metadata must be UTF-8 text, \"%s\" is not", path,
                     nb_printable(notes[i].key, text, NAME_TEXT));
    }
  }
  return true;
}

static bool add_entry(const char *path, json_t *header, const NamedTensor *item, uint64_t begin, Error *err) {
  char text[NAME_TEXT];
  const Layout *l = &item->tensor->layout;
  uint64_t end = begin + (uint64_t)nb_layout_numel(l) * nb_dtype_size(l->dtype);
  if (strcmp(item->name, METADATA) == 0 || json_object_get(header, item->name))
    return nb_fail(err, NB_ERROR_ARGUMENT, "cannot write %s: the name \"%s\" is %s", path,
                   nb_printable(item->name, text, NAME_TEXT),
                   strcmp(item->name, METADATA) == 0 ? "reserved by the format" : "there twice");
  json_t *shape = json_array();
  for (int d = 0; d < l->ndim; d++) json_array_append_new(shape, json_integer(l->shape[d]));
  json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", nb_stored_as(l->dtype)->name, "shape", shape,
                            "data_offsets", (json_int_t)begin, (json_int_t)end);
  if (!entry) return no_memory(path, err);
  if (json_object_set_new(header, item->name, entry) != 0)
    return nb_fail(err, NB_ERROR_ARGUMENT, "cannot write %s: names must be UTF-8 text, \"%s\" is not", path,
                   nb_printable(item->name, text, NAME_TEXT));
  return true;
}

static const size_t SIZES[] = {8, 4, 1};
enum { SIZE_COUNT = 3 };

static bool add_entries(const char *path, json_t *header, const NamedTensor *tensors, size_t count, Error *err) {
  uint64_t place[SIZE_COUNT] = {0};  // where the next tensor of each element size goes
  for (size_t i = 0; i < count; i++)
    for (int k = 1; k < SIZE_COUNT; k++)
      if (element_size(tensors[i].tensor) > SIZES[k])
        place[k] += (uint64_t)nb_layout_numel(&tensors[i].tensor->layout) * element_size(tensors[i].tensor);
  for (size_t i = 0; i < count; i++) {
    int k = 0;
    while (SIZES[k] != element_size(tensors[i].tensor)) k++;
    if (!add_entry(path, header, &tensors[i], place[k], err)) return false;
    place[k] += (uint64_t)nb_layout_numel(&tensors[i].tensor->layout) * SIZES[k];
  }
  return true;
}

// Length, header and spaces up to a multiple of 8 bytes.
static bool write_header(Output *out, const json_t *header, Error *err) {
  size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT), padded = (length + 7) / 8 * 8;
  if (length == 0) return no_memory(out->file.path, err);
  if (padded > LONGEST_HEADER)
    return nb_fail(err, NB_ERROR_ARGUMENT, "cannot write %s: its header would have %zu bytes, at most %llu are allowed",
                   out->file.path, padded, (unsigned long long)LONGEST_HEADER);
  char *text = nb_alloc(8 + padded, err);
  if (!text) return false;
  memset(text + 8, ' ', padded);
  for (int i = 0; i < 8; i++) text[i] = (char)(padded >> 8 * i & 255);
  bool ok = json_dumpb(header, text + 8, padded, JSON_COMPACT) == length || no_memory(out->file.path, err);
  ok = ok && nb_output_write(out, text, 8 + padded, err);
  nb_free(text, 8 + padded);
  return ok;
}

bool nb_safetensors_write(const char *path, const NamedTensor *tensors, size_t count, const Note *notes,
                          size_t note_count, Error *err) {
  Output out;
  json_t *header = json_object();
  bool ok = header || no_memory(path, err);
  ok = ok && add_notes(path, header, notes, note_count, err) && add_entries(path, header, tensors, count, err);
  if (ok && (ok = nb_output_open(&out, path, err))) {
    ok = write_header(&out, header, err);
    for (int k = 0; k < SIZE_COUNT; k++)
      for (size_t i = 0; ok && i < count; i++)
        if (element_size(tensors[i].tensor) == SIZES[k]) ok = nb_output_tensor(&out, tensors[i].tensor, err);
    ok = nb_output_close(&out, ok, err);
  }
  json_decref(header);
  return ok;
}
