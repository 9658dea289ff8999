// SPDX-License-Identifier: MIT
// Text that grows, by doubling.
#ifndef NABLUA_TEXT_H
#define NABLUA_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Text {
  char *data;  // ends with NUL, which `length` does not count; NULL before the first addition
  size_t length, capacity;
  bool failed;  // there was no memory, and what was added since is lost: to be looked at once, at the end
} Text;

void text_add(Text *t, const char *data, size_t length);
void text_put(Text *t, const char *string);
void text_free(Text *t);

#endif
