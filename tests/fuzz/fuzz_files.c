// SPDX-License-Identifier: MIT
// Readers of files fed with anything: the first byte chooses the format, the rest is the file.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nablua/io.h"
#include "nablua/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[64];
  Error err;
  if (size == 0) return 0;
  int fd = memfd_create("fuzz", 0);
  if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (data[0] % 3 == 0) {
    TensorFile file;
    nb_safetensors_read(path, &file, &err);
    nb_safetensors_close(&file);
  } else {
    Tensor *t = data[0] % 3 == 1 ? nb_npy_read(path, &err) : nb_idx_read(path, &err);
    nb_tensor_release(&t);
  }
  close(fd);
  if (nb_memory_stats().live != 0) abort();
  return 0;
}
