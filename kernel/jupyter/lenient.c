// SPDX-License-Identifier: MIT
// Mending what a strict reader refuses, after it has: most messages are read once.
#include "lenient.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

// The code unit of an escape such as \ud83d at `at`; -1 where there is none.
static long code_unit(const char *data, size_t length, size_t at) {
  char digits[5] = "";
  if (at + 6 > length || data[at] != '\\' || data[at + 1] != 'u') return -1;
  memcpy(digits, data + at + 2, 4);
  return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

static bool is_high(long unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}

static bool is_low(long unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// Copies the string that begins at `at`; where it ends.
static size_t mend_string(const char *data, size_t length, size_t at, Text *out) {
  text_add(out, data + at++, 1);
  while (at < length && data[at] != '"') {
    long unit = code_unit(data, length, at);
    size_t taken = data[at] == '\\' ? 2 : 1;
    if (is_high(unit) && is_low(code_unit(data, length, at + 6))) {
      taken = 12;
    } else if (is_high(unit) || is_low(unit)) {
      text_put(out, "\\ufffd");
      at += 6;
      continue;
    }
    if (taken > length - at) taken = length - at;
    text_add(out, data + at, taken);
    at += taken;
  }
  if (at < length) text_add(out, data + at++, 1);
  return at;
}

// Whether the word is an integer that no machine's word holds.
static bool is_too_large(const char *word) {
  errno = 0;
  strtoll(word, NULL, 10);
  return errno == ERANGE && !strpbrk(word, ".eE");
}

// Writes the word of letters, digits and signs that begins at `at`, a number or a name; where it ends.
static size_t mend_word(const char *data, size_t length, size_t at, Text *out) {
  static const char letters[] = "+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  size_t n = 0;
  while (at + n < length && data[at + n] && strchr(letters, data[at + n])) n++;
  if (n == 0) {
    text_add(out, data + at, 1);
    return at + 1;
  }
  Text word = {0};
  char number[32];
  text_add(&word, data + at, n);
  if (word.failed) {
    out->failed = true;
    return length;
  }
  bool digits = strchr("-0123456789", *word.data) != NULL;
  double value = digits ? strtod(word.data, NULL) : 0;
  if (strcmp(word.data, "NaN") == 0 || strcmp(word.data, "Infinity") == 0 || !isfinite(value)) {
    text_put(out, "null");
  } else if (digits && is_too_large(word.data)) {
    snprintf(number, sizeof number, "%.17e", value);
    text_put(out, number);
  } else {
    text_add(out, word.data, n);
  }
  text_free(&word);
  return at + n;
}

json_t *json_lenient(const char *data, size_t length) {
  json_t *j = json_loadb(data, length, JSON_ALLOW_NUL, NULL);
  if (j || length == 0) return j;
  Text out = {0};
  for (size_t at = 0; at < length && !out.failed;)
    at = data[at] == '"' ? mend_string(data, length, at, &out) : mend_word(data, length, at, &out);
  if (!out.failed) j = json_loadb(out.data, out.length, JSON_ALLOW_NUL, NULL);
  text_free(&out);
  return j;
}
