// SPDX-License-Identifier: MIT
// Text in UTF-8: made valid, cut between characters, measured in columns.
#include "unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nablua/characters.h"
#include "nablua/printable.h"

static bool begins(char c) {
  return ((unsigned char)c & 0xC0) != 0x80;
}

// ---- what is valid ----

char *unicode_clean(const char *text, size_t length, size_t *new_length) {
  size_t at = 0;
  for (size_t n = 1; at < length && n > 0; at += n) n = nb_utf8_at(text + at, length - at).size;
  if (at == length) return NULL;
  char *clean = malloc(at + 3 * (length - at) + 1);  // each bad byte may become three
  if (!clean) return NULL;
  memcpy(clean, text, at);
  size_t to = at;
  while (at < length) {
    Utf8 u = nb_utf8_at(text + at, length - at);
    memcpy(clean + to, u.size ? text + at : "\xEF\xBF\xBD", u.size ? u.size : 3);
    to += u.size ? u.size : 3;
    at += u.size ? u.size : u.bad;
  }
  clean[to] = '\0';
  *new_length = to;
  return clean;
}

size_t unicode_open_tail(const char *text, size_t length) {
  for (size_t tail = 1; tail <= 3 && tail <= length; tail++) {
    const char *s = text + length - tail;
    if (!begins(*s)) continue;
    return nb_utf8_at(s, tail).open ? tail : 0;
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
  Utf8 u = nb_utf8_at(text, length);
  *columns = 1;
  if (u.size == 0 || u.code == 0) return 1;
  *columns = nb_code_columns(u.code);
  return u.size;
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

size_t unicode_shown(const char *text, size_t length, bool ascii, char shown[16]) {
  unsigned char c = (unsigned char)*text;
  if (c >= ' ' && c < 127) return 0;
  if (c < ' ' || c == 127) return (size_t)snprintf(shown, 16, "^%c", c ^ 64);
  size_t size = nb_utf8_at(text, length).size;
  if (ascii || size == 0) return (size_t)snprintf(shown, 16, "\\x%02x", c);
  return nb_is_printable(text, size) ? 0 : nb_printable_message(text, size, shown, 16);
}
