// SPDX-License-Identifier: MIT
// UTF-8 as the Unicode standard has it: no surrogates, nothing overlong, nothing above U+10FFFF.
#include "unicode.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static bool begins(char c) {
  return ((unsigned char)c & 0xC0) != 0x80;
}

// The length of the character at `s`, 0 when there is none; `bad` gets how long the invalid run is, and `open` whether
// the text ended before the character did.
static size_t character(const unsigned char *s, size_t left, size_t *bad, bool *open) {
  unsigned char c = s[0], low = 0x80, high = 0xBF;
  size_t need;
  *bad = 1;
  *open = false;
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) {
    need = 2;
  } else if (c >= 0xE0 && c <= 0xEF) {
    need = 3;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
  } else if (c >= 0xF0 && c <= 0xF4) {
    need = 4;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (size_t i = 1; i < need; i++) {
    if (i == left) {
      *bad = i;
      *open = true;
      return 0;
    }
    if (s[i] < low || s[i] > high) {
      *bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return need;
}

// ---- what is valid ----

char *unicode_clean(const char *text, size_t length, size_t *new_length) {
  const unsigned char *s = (const unsigned char *)text;
  size_t at = 0, bad, n;
  bool open;
  while (at < length && (n = character(s + at, length - at, &bad, &open)) > 0) at += n;
  if (at == length) return NULL;
  char *clean = malloc(at + 3 * (length - at) + 1);  // each bad byte may become three
  if (!clean) return NULL;
  memcpy(clean, text, at);
  size_t to = at;
  while (at < length) {
    if ((n = character(s + at, length - at, &bad, &open)) > 0) {
      memcpy(clean + to, text + at, n);
      to += n;
      at += n;
    } else {
      memcpy(clean + to, "\xEF\xBF\xBD", 3);
      to += 3;
      at += bad;
    }
  }
  clean[to] = '\0';
  *new_length = to;
  return clean;
}

size_t unicode_open_tail(const char *text, size_t length) {
  for (size_t tail = 1; tail <= 3 && tail <= length; tail++) {
    const unsigned char *s = (const unsigned char *)text + length - tail;
    size_t bad;
    bool open;
    if (!begins((char)*s)) continue;
    return character(s, tail, &bad, &open) == 0 && open ? tail : 0;
  }
  return 0;
}

// ---- where characters begin ----

size_t unicode_cut(const char *text, size_t length) {
  while (length > 0 && !begins(text[length])) length--;
  return length;
}

size_t unicode_bytes(const char *text, size_t length, long long points) {
  size_t at = 0;
  for (; at < length && points > 0; points--) {
    at++;
    while (at < length && !begins(text[at])) at++;
  }
  return at;
}

long long unicode_points(const char *text, size_t bytes) {
  long long points = 0;
  for (size_t i = 0; i < bytes; i++) points += begins(text[i]);
  return points;
}

// ---- how wide they are ----

size_t unicode_character(const char *text, size_t length, int *columns) {
  static const unsigned char first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  const unsigned char *s = (const unsigned char *)text;
  size_t bad, n = character(s, length, &bad, &(bool){false});
  *columns = 1;
  if (n == 0 || *s == '\0') return 1;
  wchar_t point = s[0] & first_bits[n];
  for (size_t i = 1; i < n; i++) point = point << 6 | (s[i] & 0x3F);
  int width = wcwidth(point);
  if (width >= 0) *columns = width;
  return n;
}

int unicode_columns(const char *text) {
  int total = 0, columns;
  for (size_t left = strlen(text); left > 0; total += columns) {
    size_t n = unicode_character(text, left, &columns);
    text += n;
    left -= n;
  }
  return total;
}
