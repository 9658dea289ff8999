// SPDX-License-Identifier: MIT
// Characters of UTF-8, and their columns.
#include "nablua/characters.h"

#include <locale.h>
#include <wchar.h>

size_t nb_utf8_read(const char *text, size_t left, uint32_t *code) {
  const unsigned char *s = (const unsigned char *)text;
  if (left == 0) return 0;
  if (*s < 0x80) {
    *code = *s;
    return 1;
  }
  size_t length = *s >= 0xc2 && *s < 0xe0 ? 2 : *s >= 0xe0 && *s < 0xf0 ? 3 : *s >= 0xf0 && *s < 0xf5 ? 4 : 0;
  if (length == 0 || length > left) return 0;
  // The second byte's range excludes what is overlong, surrogates, and what lies beyond Unicode.
  unsigned low = *s == 0xe0 ? 0xa0 : *s == 0xf0 ? 0x90 : 0x80, high = *s == 0xed ? 0x9f : *s == 0xf4 ? 0x8f : 0xbf;
  uint32_t value = *s & (0x7fu >> length);
  for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
    if (s[i] < low || s[i] > high) return 0;
    value = value << 6 | (s[i] & 0x3fu);
  }
  *code = value;
  return length;
}

bool nb_utf8_valid(const char *text, size_t length) {
  uint32_t code;
  size_t n = 0;
  for (size_t i = 0; i < length; i += n)
    if ((n = nb_utf8_read(text + i, length - i, &code)) == 0) return false;
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
