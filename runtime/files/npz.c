// SPDX-License-Identifier: MIT
// NumPy's .npz: a zip archive whose member NAME.npy is the array NAME.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files_private.h"
#include "nablua/memory.h"

enum { SUFFIX = 4 };  // ".npy"

// The names without their suffix, in order, each once.
static int by_name(const void *a, const void *b) {
  return strcmp(((const NamedTensor *)a)->name, ((const NamedTensor *)b)->name);
}

static bool take_names(const Zip *zip, TensorFile *file, Error *err) {
  char *to;
  if (!(file->tensors = nb_alloc(zip->count * sizeof *file->tensors, err))) return false;
  memset(file->tensors, 0, zip->count * sizeof *file->tensors);
  file->count = zip->count;
  file->texts_size = zip->names_size + 1;
  if (!(to = file->texts = nb_alloc(file->texts_size, err))) return false;
  for (size_t i = 0; i < zip->count; i++) {
    size_t length = strlen(zip->members[i].name);
    if (length < SUFFIX || strcmp(zip->members[i].name + length - SUFFIX, ".npy") != 0)
      return nb_fail(err, NB_ERROR_FILE, "%s: member \"%.100s\" should be an array, with a name that ends in .npy",
                     zip->in.path, zip->members[i].name);
    memcpy(to, zip->members[i].name, length - SUFFIX);
    to[length - SUFFIX] = '\0';
    file->tensors[i].name = to;
    to += length - SUFFIX + 1;
  }
  return true;
}

static bool check_names(const Zip *zip, TensorFile *file, Error *err) {
  qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
  for (size_t i = 1; i < file->count; i++)
    if (strcmp(file->tensors[i].name, file->tensors[i - 1].name) == 0)
      return nb_fail(err, NB_ERROR_FILE, "%s has two arrays with the name \"%.100s\"", zip->in.path,
                     file->tensors[i].name);
  return true;
}

static Tensor *read_member(Zip *zip, const ZipMember *m, Error *err) {
  Input in;
  if (!nb_zip_enter(zip, m, &in, err)) return NULL;
  Tensor *t = nb_npy_read_from(&in, err);
  if (t && !nb_zip_end(&in, err)) nb_tensor_release(&t);
  nb_input_close(&in);
  return t;
}

bool nb_npz_read(const char *path, TensorFile *file, Error *err) {
  Zip zip;
  *file = (TensorFile){0};
  if (!nb_zip_open(&zip, path, err)) return false;
  bool ok = take_names(&zip, file, err);
  for (size_t i = 0; ok && i < zip.count; i++) ok = (file->tensors[i].tensor = read_member(&zip, &zip.members[i], err));
  ok = ok && check_names(&zip, file, err);
  nb_zip_close(&zip);
  if (!ok) nb_tensor_file_close(file);
  return ok;
}

static bool write_member(Output *out, ZipMember *m, const Tensor *t, Error *err) {
  m->size = nb_npy_size(t);
  bool ok = nb_zip_begin(out, m, err) && nb_npy_write_to(out, t, err) && nb_zip_finish(out, m, err);
  nb_zip_abandon(out);
  return ok;
}

bool nb_npz_write(const char *path, const NamedTensor *tensors, size_t count, bool compress, Error *err) {
  size_t size = 0;
  Output out;
  for (size_t i = 0; i < count; i++) {
    if (strlen(tensors[i].name) > 60000)
      return nb_fail(err, NB_ERROR_ARGUMENT, "cannot write %s: the name \"%.60s...\" is too long", path,
                     tensors[i].name);
    size += strlen(tensors[i].name) + SUFFIX + 1;
  }
  char *names = nb_alloc(size, err), *name = names;
  ZipMember *members = names ? nb_alloc(count * sizeof *members, err) : NULL;
  bool ok = members && nb_output_open(&out, path, err);
  bool opened = ok;
  for (size_t i = 0; ok && i < count; i++) {
    members[i] = (ZipMember){.name = name, .deflated = compress};
    name += snprintf(name, size - (size_t)(name - names), "%s.npy", tensors[i].name) + 1;
    ok = write_member(&out, &members[i], tensors[i].tensor, err);
  }
  if (opened) ok = nb_output_close(&out, ok && nb_zip_directory(&out, members, count, err), err);
  nb_free(members, count * sizeof *members);
  nb_free(names, size);
  return ok;
}
