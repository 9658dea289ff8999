// SPDX-License-Identifier: MIT
// Adding to a text that grows.
#include "text.h"

#include <stdlib.h>
#include <string.h>

void text_add(Text *t, const char *data, size_t length) {
  if (t->failed) return;
  if (t->length + length + 1 > t->capacity) {
    size_t capacity = (t->length + length + 1) * 2;
    char *bigger = realloc(t->data, capacity);
    if (!bigger) {
      t->failed = true;
      return;
    }
    t->data = bigger;
    t->capacity = capacity;
  }
  if (length > 0) memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = '\0';
}

void text_put(Text *t, const char *string) {
  text_add(t, string, strlen(string));
}

void text_free(Text *t) {
  free(t->data);
  *t = (Text){0};
}
