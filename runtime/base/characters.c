// SPDX-License-Identifier: MIT
// Characters of UTF-8, and their columns.
#include "nablua/characters.h"

#include <locale.h>
#include <wchar.h>

Utf8 nb_utf8_at(const char *text, size_t left) {
  const unsigned char *s = (const unsigned char *)text;
  unsigned char first = s[0];
  size_t size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  Utf8 u = {.bad = 1};
  if (size == 0) return u;
  unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  u.code = size == 1 ? first : first & (0x7Fu >> size);
  for (size_t i = 1; i < size; i++, low = 0x80, high = 0xBF) {
    u.bad = i;
    u.open = i == left;
    if (u.open || s[i] < low || s[i] > high) return u;
    u.code = u.code << 6 | (s[i] & 0x3Fu);
  }
  u.size = size;
  return u;
}

bool nb_utf8_valid(const char *text, size_t length) {
  for (size_t at = 0, size; at < length; at += size)
    if ((size = nb_utf8_at(text + at, length - at).size) == 0) return false;
  return true;
}

// By the C library's tables, which it shows only to a locale that knows Unicode; a stock interpreter has none.
int nb_code_columns(uint32_t code) {
  static locale_t unicode;
  if (code < 0x300) return 1;
  if (!unicode && !(unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0))) return 1;
  locale_t before = uselocale(unicode);
  int columns = wcwidth((wchar_t)code);
  uselocale(before);
  return columns < 0 ? 1 : columns;
}
