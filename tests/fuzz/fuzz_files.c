// SPDX-License-Identifier: MIT
// Readers of files fed with anything: the first byte chooses the format, the rest is the file.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nablua/files.h"
#include "nablua/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_archive(const char *path, bool (*read)(const char *, TensorFile *, Error *)) {
  Error err;
  TensorFile file;
  read(path, &file, &err);
  nb_tensor_file_close(&file);
}

// The format's byte also chooses among the options: what they leave open is guessed.
static void read_csv(const char *path, unsigned choice) {
  static const char *const missing[] = {"", "NA"};
  static const CsvHeading headings[] = {NB_CSV_GUESS, NB_CSV_NAMES, NB_CSV_DATA, NB_CSV_GUESS};
  Error err;
  CsvFile file;
  CsvOptions o = {.quote = '"', .heading = headings[choice % 4], .missing = missing, .missing_count = 2};
  o.delimiter = choice / 4 % 4 == 3 ? ' ' : '\0';
  if (choice / 16 % 2) o.decimal = ',';
  if (choice == 31) o.thousands = "_";
  if (!nb_csv_open(path, &o, &file, &err)) return;
  for (size_t i = 0; i < file.count; i++) file.columns[i].kind = i % 4 == 3 ? NB_CSV_TEXT : NB_CSV_AUTO;
  int64_t most = choice % 3 ? INT64_MAX : 1 + choice / 3;  // in pieces, too
  while (nb_csv_read_some(&file, most, choice % 2, &err) && file.rows > 0) continue;
  nb_csv_close(&file);
}

static void read_tensor(Tensor *t) {
  nb_tensor_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[64];
  Error err;
  if (size == 0) return 0;
  int fd = memfd_create("fuzz", 0);
  if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  nb_memory_set_limit((size_t)256 << 20);
  switch (data[0] % 8) {
    case 0:
      read_archive(path, nb_safetensors_read);
      break;
    case 1:
      read_archive(path, nb_npz_read);
      break;
    case 2:
      read_tensor(nb_npy_read(path, &err));
      break;
    case 3:
      read_tensor(nb_idx_read(path, &err));
      break;
    case 4:
    case 5:
      read_tensor(nb_image_read(path, data[0] / 8 % 5, &err));
      break;
    default:
      read_csv(path, data[0] / 8);
  }
  close(fd);
  if (nb_memory_stats().live != 0) abort();
  return 0;
}
