// SPDX-License-Identifier: MIT
// Text that came from outside: whether it is UTF-8, and how messages show it.
#include <stdio.h>
#include <string.h>

#include "files_private.h"

// The length of the well-formed character of UTF-8 at `text` (Unicode 15, table 3-7), 0 when there is none.
static int character(const unsigned char *text, unsigned *code) {
  int more = *text < 0x80                    ? 0
             : *text >= 0xc2 && *text < 0xe0 ? 1
             : *text >= 0xe0 && *text < 0xf0 ? 2
             : *text >= 0xf0 && *text < 0xf5 ? 3
                                             : -1;
  if (more < 0) return 0;
  unsigned low = *text == 0xe0 ? 0xa0 : *text == 0xf0 ? 0x90 : 0x80;
  unsigned high = *text == 0xed ? 0x9f : *text == 0xf4 ? 0x8f : 0xbf;
  *code = more ? *text & (0x3fu >> more) : *text;
  for (int i = 1; i <= more; i++, low = 0x80, high = 0xbf) {
    if (text[i] < low || text[i] > high) return 0;
    *code = *code << 6 | (text[i] & 0x3fu);
  }
  return more + 1;
}

bool nb_text_is_utf8(const char *text) {
  unsigned code;
  for (const unsigned char *s = (const unsigned char *)text; *s;) {
    int length = character(s, &code);
    if (!length) return false;
    s += length;
  }
  return true;
}

// What would move a terminal's cursor, change its colours, or the direction in which a line is read.
static bool harmful(unsigned code) {
  return code < 32 || (code >= 127 && code < 160) || code == 0x061c || (code >= 0x200e && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

const char *nb_text_shown(const char *text, char *buffer, size_t size) {
  size_t used = 0;
  for (const unsigned char *s = (const unsigned char *)text; *s;) {
    char piece[16];
    unsigned code = 0;
    int length = character(s, &code);
    int n = !length                       ? snprintf(piece, sizeof piece, "\\x%02x", *s)
            : code == '\n'                ? snprintf(piece, sizeof piece, "\\n")
            : harmful(code) && code < 128 ? snprintf(piece, sizeof piece, "\\x%02x", code)
            : harmful(code)               ? snprintf(piece, sizeof piece, "\\u{%x}", code)
                                          : snprintf(piece, sizeof piece, "%.*s", length, (const char *)s);
    if (used + (size_t)n + 4 > size) {
      memcpy(buffer + used, "...", 3);
      used += 3;
      break;
    }
    memcpy(buffer + used, piece, (size_t)n);
    used += (size_t)n;
    s += length ? length : 1;
  }
  buffer[used] = '\0';
  return buffer;
}
