// SPDX-License-Identifier: MIT
// Growing by doubling.
#include "bytes.h"

#include <stdlib.h>
#include <string.h>

void bytes_add(Bytes *b, const char *data, size_t length) {
  if (b->failed) return;
  if (b->length + length + 1 > b->capacity) {
    size_t capacity = (b->length + length + 1) * 2;
    char *bigger = realloc(b->data, capacity);
    if (!bigger) {
      b->failed = true;
      return;
    }
    b->data = bigger;
    b->capacity = capacity;
  }
  if (length > 0) memcpy(b->data + b->length, data, length);
  b->length += length;
  b->data[b->length] = '\0';
}

void bytes_free(Bytes *b) {
  free(b->data);
  *b = (Bytes){0};
}
