// SPDX-License-Identifier: MIT
// Text that grows.
#ifndef NABLUA_BYTES_H
#define NABLUA_BYTES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Bytes {
  char *data;  // ends with NUL, which `length` does not count; NULL before the first addition
  size_t length, capacity;
  bool failed;  // there was no memory, and what was added since is lost
} Bytes;

void bytes_add(Bytes *b, const char *data, size_t length);
void bytes_free(Bytes *b);

#endif
