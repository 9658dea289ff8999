// SPDX-License-Identifier: MIT
// The printable form of text that others wrote.
#include "nablua/printable.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "nablua/characters.h"

enum { PIECE = 16 };

// C1 controls, and what turns the direction of reading or breaks lines unseen.
static bool steers(uint32_t c) {
  return (c >= 0x80 && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

// The printable form of what `text` begins with; returns the bytes of the text that it stands for.
static size_t next_piece(const char *text, size_t left, bool message, char piece[PIECE]) {
  Utf8 u = nb_utf8_at(text, left);
  uint32_t c = u.code;
  size_t size = u.size;
  if (size == 0 || (size == 1 && (c < 32 || c == 127))) {
    const char *known = size == 1 && c ? strchr("\nn\tt\rr", (int)c) : NULL;
    if (message && (c == '\n' || c == '\t') && size == 1)
      snprintf(piece, PIECE, "%c", (char)c);
    else if (known)
      snprintf(piece, PIECE, "\\%c", known[1]);
    else
      snprintf(piece, PIECE, "\\x%02x", (unsigned char)*text);
    return 1;
  }
  if (steers(c))
    snprintf(piece, PIECE, "\\u{%x}", (unsigned)c);
  else
    snprintf(piece, PIECE, "%.*s", (int)size, text);
  return size;
}

static size_t write_printable(const char *text, size_t length, bool message, char *out, size_t size) {
  size_t used = 0, safe = 0;  // up to `safe` there is room for "..." behind
  char piece[PIECE];
  for (size_t at = 0; at < length;) {
    at += next_piece(text + at, length - at, message, piece);
    size_t more = strlen(piece);
    if (used + more >= size) {
      memcpy(out + safe, "...", 4);
      return safe + 3;
    }
    memcpy(out + used, piece, more);
    used += more;
    if (used + 4 <= size) safe = used;
  }
  out[used] = '\0';
  return used;
}

char *nb_printable(const char *text, char *out, size_t size) {
  write_printable(text, strlen(text), false, out, size);
  return out;
}

size_t nb_printable_message(const char *text, size_t length, char *out, size_t size) {
  return write_printable(text, length, true, out, size);
}

bool nb_is_printable(const char *text, size_t length) {
  char piece[PIECE];
  for (size_t at = 0; at < length;) {
    unsigned char c = (unsigned char)text[at];
    if (c >= 32 && c < 127) {
      at++;
      continue;
    }
    size_t taken = next_piece(text + at, length - at, true, piece);
    if (strlen(piece) != taken || memcmp(piece, text + at, taken) != 0) return false;
    at += taken;
  }
  return true;
}
